"""A real Mosquitto broker in a temporary folder, which can be stopped and started again and keeps its sessions on disk."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests import services

PROGRAM = services.mosquitto()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Broker:
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def in_folder(cls, folder: Path) -> Broker:
        if PROGRAM is None:
            services.absent("mosquitto")
        broker = cls(folder, free_port())
        folder.chmod(0o777)
        (folder / "passwords").write_text("")
        (folder / "mosquitto.conf").write_text(
            f"listener {broker.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/\nautosave_interval 1\nautosave_on_changes true\n"
            "max_queued_messages 0\nuser root\n"
        )
        return broker

    def start(self) -> None:
        assert PROGRAM is not None
        self.process = subprocess.Popen(
            [PROGRAM, "-c", str(self.folder / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("Mosquitto does not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def publish(self, messages: list[tuple[str, bytes]], qos: int = 1) -> None:
        """Returns when the broker has acknowledged all."""
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(1000)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        for info in [client.publish(topic, data, qos) for topic, data in messages]:
            info.wait_for_publish(10)
        client.disconnect()
        client.loop_stop()
