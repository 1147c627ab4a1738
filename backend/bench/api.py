"""`peerwatt bench api`: a thousand members' dashboards polled from one process, beside a route that does nothing.

The server is a process of its own, as `peerwatt serve` starts it, on a community of as many members: half a day that runs, in the
previewer's own tables; another process writes them, as the coordinator does. Everybody has signed in. Every dashboard asks for the member's start page every ten seconds, as the
portal does, with the tag of what it has; meanwhile an interval ends, so that every page has to be made anew once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import requests

from .table import row

POLL_SECONDS = 10
TARGET_SECONDS = 0.2
_START_SECONDS = 600


def bench_api(members: int, seconds: int, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Runs the measurement.

    Args:
        members: how many dashboards are open.
        seconds: how long they are polled; several times `POLL_SECONDS`.
        progress: told what is being done.

    Returns:
        Rows as `table.row` makes them.
    """
    with tempfile.TemporaryDirectory() as folder:
        progress(f"a community of {members} members, half a day running")
        port = _free_port()
        program = [sys.executable, "-m", "backend.bench.api_server", folder, str(members)]
        quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
        server = subprocess.Popen([*program, str(port)], env=quiet)
        coordinator: subprocess.Popen[str] | None = None
        try:
            origin = f"http://127.0.0.1:{port}"
            _wait(origin, server)
            coordinator = subprocess.Popen(
                program, env=quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert coordinator.stdin is not None and coordinator.stdout is not None
            coordinator.stdout.readline()
            tokens = json.loads((Path(folder) / "tokens.json").read_text())
            before = _processor_seconds(server.pid)
            empty = _measure(origin, tokens, "/bench/empty", seconds, progress)
            between = _processor_seconds(server.pid)
            found = _measure(origin, tokens, None, seconds, progress, coordinator.stdin)
            after = _processor_seconds(server.pid)
        finally:
            server.terminate()
            server.wait(30)
            if coordinator is not None:
                coordinator.terminate()
                coordinator.wait(30)
    ratio = _p99(found.times) / _p99(empty.times)
    rate = members / POLL_SECONDS
    # Other work on the machine lengthens the clock's times, and these not.
    each = (after - between) / len(found.times)
    bare = (between - before) / len(empty.times)
    note = (
        f"{len(found.times)} requests, {rate:.0f} a second; {found.fresh} full pages, {found.same} unchanged; "
        f"median {statistics.median(found.times) * 1e3:.1f} ms, largest {max(found.times) * 1e3:.0f} ms; "
        f"p99 is {ratio:.1f} times the empty route's; processor {each * 1e3:.1f} ms a request ({each * rate:.0%} of a core), "
        f"of the empty route {bare * 1e3:.1f} ms; load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
    )
    met = _p99(found.times) < TARGET_SECONDS and not found.failed and not empty.failed
    return [
        row(
            f"p99 of {members} dashboards polled every {POLL_SECONDS} s, beside an empty route",
            _p99(found.times),
            _p99(empty.times),
            "p99 < 200 ms",
            met,
            note + (f"; FAILED {found.failed}" if found.failed else ""),
        )
    ]


class _Found:
    """What polling saw."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.fresh = 0
        self.same = 0
        self.failed = 0


def _measure(
    origin: str,
    tokens: list[list[Any]],
    path: str | None,
    seconds: int,
    progress: Callable[[str], None],
    coordinator: IO[str] | None = None,
) -> _Found:
    progress(f"polling {path or 'the start pages'} for {seconds} s")
    # This process is the clock: a full garbage collection here would be counted as the server's.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        return asyncio.run(_poll(origin, tokens, path, seconds, coordinator))
    finally:
        gc.enable()
        gc.unfreeze()


async def _poll(
    origin: str,
    tokens: list[list[Any]],
    path: str | None,
    seconds: int,
    coordinator: IO[str] | None,
) -> _Found:
    found = _Found()
    end = time.monotonic() + seconds
    step = POLL_SECONDS / len(tokens)

    async def dashboard(number: int, slot: int, token: str) -> None:
        await asyncio.sleep(number * step)
        tag = ""
        host, _, port = origin.partition("://")[2].partition(":")
        place = path or f"/api/v1/communities/bench/members/{slot}/today"
        reader, writer = await asyncio.open_connection(host, int(port))
        due = time.monotonic()
        while due < end:
            started = time.perf_counter()
            status, tag = await _ask(reader, writer, place, token, tag)
            found.times.append(time.perf_counter() - started)
            found.fresh += status == 200
            found.same += status == 304
            found.failed += status not in (200, 304)
            due += POLL_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        writer.close()

    async def next_interval(coordinator: IO[str]) -> None:
        """In the middle of it all an interval ends."""
        await asyncio.sleep(seconds / 2)
        coordinator.write("\n")
        coordinator.flush()

    tasks = [dashboard(number, slot, token) for number, (slot, token) in enumerate(tokens)]
    await asyncio.gather(*tasks, *([next_interval(coordinator)] if coordinator else []))
    return found


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, token: str, tag: str
) -> tuple[int, str]:
    """One request on a connection that stays open; a client library would cost more than the server."""
    lines = [f"GET {path} HTTP/1.1", "Host: bench", f"Authorization: Bearer {token}"]
    if tag:
        lines.append(f"If-None-Match: {tag}")
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
    }
    length = int(headers.get("content-length", "0"))
    if length:
        await reader.readexactly(length)
    return int(head[0].split()[1]), headers.get("etag", tag)


def _processor_seconds(process: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _p99(times: list[float]) -> float:
    return sorted(times)[min(len(times) - 1, len(times) * 99 // 100)]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(origin: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}")
        try:
            if requests.get(f"{origin}/bench/empty", timeout=5).status_code == 200:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise RuntimeError("the server does not start")
