"""Meters that publish on an MQTT broker: Tasmota, Shelly, DSMR telegrams.

Subscribed with QoS 1 and a session that the broker keeps, and acknowledged only after the sightings are on disk: what is
published while we are away, or just before we are killed, is delivered when we are back.
"""

from __future__ import annotations

import queue
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import Field

from backend.domain.errors import MalformedInput, SourceUnavailable
from backend.domain.values import Value

from .base import ConnectionTest, Delivery, Item, failed_test, time_zone
from .http import secret
from .payloads import decode_dsmr, decode_shelly, decode_tasmota

_CONNECT_SECONDS = 10
_QUEUE_LIMIT = 10_000
_BATCH_LIMIT = 2_000
PAYLOADS = ("tasmota", "shelly", "dsmr")


@dataclass(frozen=True, slots=True)
class Subscription:
    """A topic and what is published on it.

    Attributes:
        topic: filter, such as `tele/+/SENSOR`, `+/events/rpc` or `dsmr/telegram`.
        payload: of `PAYLOADS`.
        zone: of the devices' clocks, where they send no offset (Tasmota).
        import_field, export_field: paths of the registers in Tasmota's message; no export field for a meter without.
    """

    topic: str
    payload: str
    zone: ZoneInfo | None = None
    import_field: str = "ENERGY.Total"
    export_field: str | None = "ENERGY.ExportActive"

    def decode(self, topic: str, message: bytes, received_ms: int) -> tuple[Item, ...]:
        """The items of a message."""
        if self.payload == "shelly":
            return decode_shelly(message)
        if self.payload == "dsmr":
            return decode_dsmr(message)
        return decode_tasmota(
            message,
            _device(self.topic, topic),
            received_ms,
            self.zone,
            self.import_field,
            self.export_field,
        )


class SubscriptionSettings(Value):
    """`subscriptions[]` of a source of kind `mqtt`."""

    topic: str
    payload: Literal["tasmota", "shelly", "dsmr"]
    time_zone: str | None = None
    import_field: str = "ENERGY.Total"
    export_field: str | None = "ENERGY.ExportActive"


class Settings(Value):
    """Fields of a source of kind `mqtt`."""

    host: str
    port: Annotated[int, Field(gt=0, lt=65536)] = 1883
    subscriptions: Annotated[tuple[SubscriptionSettings, ...], Field(min_length=1)]
    client_id: str = "peerwatt-oracle"
    username: str | None = None
    password_file: str | None = None
    tls: bool = False

    def open(self, name: str, folder: Path) -> Mqtt:
        """The source."""
        return Mqtt(
            self.host,
            self.port,
            tuple(
                Subscription(
                    item.topic,
                    item.payload,
                    time_zone(item.time_zone),
                    item.import_field,
                    item.export_field,
                )
                for item in self.subscriptions
            ),
            self.client_id,
            self.username,
            secret(folder, self.password_file),
            self.tls,
            name,
        )


class Mqtt:
    """A broker.

    Args:
        host: of the broker.
        port: 1883, with TLS 8883.
        subscriptions: what to listen to.
        client_id: names the session the broker keeps; one oracle, one name.
        username, password: credentials, if the broker asks for any.
        tls: whether to encrypt, with the system's certificates.
        name: of the source.

    Raises:
        MalformedInput: an unknown payload, or a filter that is none.
    """

    def __init__(
        self,
        host: str,
        port: int,
        subscriptions: tuple[Subscription, ...],
        client_id: str,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        name: str = "mqtt",
    ) -> None:
        for item in subscriptions:
            if item.payload not in PAYLOADS:
                raise MalformedInput(
                    "payload", item.payload, "unknown", f"choose of {', '.join(PAYLOADS)}"
                )
        self.name = name
        self._where = f"{host}:{port}"
        self._host, self._port = host, port
        self._subscriptions = subscriptions
        self._client_id = client_id
        self._credentials = (username, password)
        self._tls = tls

    def test_connection(self) -> ConnectionTest:
        """Connects, subscribes to everything, and says which topics spoke within a second."""
        heard: set[str] = set()
        client = self._client(self._client_id + "-test", keep=False)
        client.on_message = lambda c, data, message: heard.add(message.topic)
        try:
            self._connect(client)
        except SourceUnavailable as error:
            return failed_test(error)
        time.sleep(1)
        client.disconnect()
        client.loop_stop()
        detail = f"{self._where} takes the subscriptions; {len(heard)} topics spoke within a second"
        return ConnectionTest(True, detail, tuple(sorted(heard)))

    def deliveries(self, stop: Event) -> Iterator[Delivery]:
        """Messages as they come, several at a time when many wait; acknowledged to the broker one by one."""
        waiting: queue.Queue[tuple[paho.MQTTMessage, int]] = queue.Queue(_QUEUE_LIMIT)
        lost = Event()
        client = self._client(self._client_id, keep=True)
        # Blocks the network loop while the store is slow: the broker then holds messages back.
        client.on_message = lambda c, data, message: waiting.put((message, int(time.time() * 1000)))
        self._connect(client, lost)
        try:
            while not stop.is_set() and not (lost.is_set() and waiting.empty()):
                batch = _take(waiting)
                if batch:
                    items = tuple(
                        item for message, at in batch for item in self._decode(message, at)
                    )
                    yield Delivery(items, partial(_acknowledge, client, batch))
        finally:
            client.disconnect()
            client.loop_stop()
        if lost.is_set() and not stop.is_set():
            raise SourceUnavailable(f"{self._where} closed the connection", "it is tried again")

    def _decode(self, message: paho.MQTTMessage, received_ms: int) -> tuple[Item, ...]:
        for item in self._subscriptions:
            if paho.topic_matches_sub(item.topic, message.topic):
                return item.decode(message.topic, bytes(message.payload), received_ms)
        return ()

    def _client(self, client_id: str, *, keep: bool) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=not keep,
            manual_ack=keep,
            reconnect_on_failure=False,
        )
        username, password = self._credentials
        if username is not None:
            client.username_pw_set(username, password)
        if self._tls:
            client.tls_set_context(ssl.create_default_context())
        return client

    def _connect(self, client: paho.Client, lost: Event | None = None) -> None:
        """Connects and subscribes; starts the thread of the network.

        Raises:
            SourceUnavailable: no broker, or it refuses.
        """
        answers: queue.Queue[str] = queue.Queue()

        def on_connect(c: paho.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
            if reason.is_failure:
                answers.put(f"refuses the connection: {reason}")
                return
            c.subscribe([(item.topic, 1) for item in self._subscriptions])

        def on_subscribe(
            c: paho.Client, data: Any, mid: int, reasons: Any, properties: Any
        ) -> None:
            refused = [reason for reason in reasons if reason.is_failure]
            answers.put(f"refuses a subscription: {refused[0]}" if refused else "")

        client.on_connect = on_connect
        client.on_subscribe = on_subscribe
        if lost is not None:
            client.on_disconnect = lambda *arguments: lost.set()
        try:
            client.connect(self._host, self._port, keepalive=30)
            client.loop_start()
            problem = answers.get(timeout=_CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            problem = f"cannot be reached: {error}"
        except queue.Empty:
            problem = f"does not answer within {_CONNECT_SECONDS} s"
        if problem:
            client.disconnect()
            client.loop_stop()
            raise SourceUnavailable(
                f"broker {self._where} {problem}", "check address, credentials and rights"
            )


def _take(waiting: queue.Queue[tuple[paho.MQTTMessage, int]]) -> list[tuple[paho.MQTTMessage, int]]:
    try:
        batch = [waiting.get(timeout=0.2)]
    except queue.Empty:
        return []
    while len(batch) < _BATCH_LIMIT:
        try:
            batch.append(waiting.get_nowait())
        except queue.Empty:
            break
    return batch


def _acknowledge(client: paho.Client, batch: list[tuple[paho.MQTTMessage, int]]) -> None:
    for message, _ in batch:
        if message.qos:
            client.ack(message.mid, message.qos)


def _device(pattern: str, topic: str) -> str:
    """What the wildcards of a filter stand for; the topic if there are none."""
    parts, levels = pattern.split("/"), topic.split("/")
    found = [level for part, level in zip(parts, levels, strict=False) if part == "+"]
    return "/".join(found) or topic
