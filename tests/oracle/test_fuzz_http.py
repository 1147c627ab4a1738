"""Answers over HTTP that are broken anywhere, from the status line to the last byte: smart-me's cloud, a cache of it, a folder on a NAS.

None crashes, none is taken for what it is not, each refusal says why. What is cut off is never taken at all.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backend.domain.errors import InputError, SourceUnavailable
from backend.domain.values import parse_json
from oracle.sources.base import Item, Refusal, Sighting, Source
from oracle.sources.files import FileFormat, Files
from oracle.sources.smart_me import SmartMe, decode_devices, decode_push, decode_values
from tests.support.fuzz import MESSAGES, all_stand_in, check_items, run, written_wh
from tests.support.raw_http import answering

DATA = Path(__file__).parent / "data"
DEVICES = (DATA / "smart-me-devices.json").read_bytes()
GUID = "3bd0fce9-9f8e-4183-b3d1-0c1622a22ca1"
VALUES = b'{"Date": "2026-06-21T11:59:59Z", "CounterReadingUnit": "kWh", "CounterReadingImport": 1.5, "CounterReadingExport": 2}'
TABLE = b"meter;time;import;export;unit\na;2026-06-21T12:00:00Z;1,25;7;kWh\nb;2026-06-21T12:00:00Z;31000;0;Wh\n"
LINES = b"\n".join(json.dumps(item).encode() for item in json.loads(DEVICES)[:2]) + b"\n"
# Hypothesis draws fewer; its messages are better aimed.
EXAMPLES = max(50, MESSAGES // 10)


class OneRound(Event):
    """Stops whoever waits for the next round."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


def whole(content: bytes, *headers: bytes) -> bytes:
    """An answer as servers give it."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(content), *headers, b"", content]
    return b"\r\n".join(lines)


def chunked(content: bytes) -> bytes:
    """The same in two chunks, which end with a line."""
    middle = content.index(b"\n", len(content) // 3) + 1
    parts = (content[:middle], content[middle:], b"")
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def with_right_length(message: bytes) -> bytes:
    """What it says of its length is put right, so that what is changed behind the head is reached."""
    head, separator, content = message.partition(b"\r\n\r\n")
    right = b"Content-Length: %d" % len(content)
    return re.sub(rb"Content-Length: [0-9]+", right, head) + separator + content


class Server:
    """Gives at paths that begin with `part` what the test sets, and right answers elsewhere."""

    def __init__(self, part: str, others: dict[str, bytes]) -> None:
        self.part, self.others, self.answer = part, others, b""

    def __call__(self, connection: Any, path: str) -> None:
        first = path.split("?", maxsplit=1)[0].split("/")[1]
        connection.sendall(self.answer if first == self.part else self.others.get(first, b""))


def items_of(source: Source) -> Iterator[Item]:
    """What a source delivers in one round; a failure that it tells as a refusal."""
    try:
        for delivery in source.deliveries(OneRound()):
            yield from delivery.items
    except SourceUnavailable as error:
        yield Refusal("", "unavailable" if error.remedy else "", error.message)


def smart_me(url: str) -> Source:
    """It was asked last a quarter of an hour ago, so that it asks for what it missed too."""
    source = SmartMe(None, url, poll_seconds=1)
    source._asked_at = time.time() - 900
    return source


def folder(url: str) -> Source:
    return Files(url, FileFormat(ZoneInfo("UTC")))


CASES: dict[str, tuple[Callable[[str], Source], str, dict[str, bytes], tuple[bytes, ...]]] = {
    "devices": (
        smart_me,
        "Devices",
        {"MeterValues": whole(VALUES)},
        (whole(DEVICES), chunked(DEVICES)),
    ),
    "values": (smart_me, "MeterValues", {"Devices": whole(DEVICES)}, (whole(VALUES),)),
    "index": (
        folder,
        "index.txt",
        {"a.csv": whole(TABLE), "b.jsonl": whole(LINES)},
        (whole(b"a.csv\nb.jsonl\n"), chunked(b"a.csv\nb.jsonl\nc.csv\n")),
    ),
    "table": (
        folder,
        "a.csv",
        {"index.txt": whole(b"a.csv\n")},
        (whole(TABLE, b'ETag: "5"'), chunked(TABLE)),
    ),
    "lines": (folder, "b.jsonl", {"index.txt": whole(b"b.jsonl\n")}, (whole(LINES),)),
}


@pytest.mark.parametrize("name", CASES)
def test_answers_changed_anywhere(name: str) -> None:
    opened, part, others, seeds = CASES[name]
    server = Server(part, others)
    elsewhere = written_wh(b" ".join(others.values()))
    with answering(server) as url:
        numbers = count()

        def decode(message: bytes) -> Iterable[Item]:
            server.answer = message if next(numbers) % 2 else with_right_length(message)
            return items_of(opened(url))

        # Of an index only files come that are there, or not.
        _, taken = run([*seeds], decode, kinds=2 if name == "index" else 3)
    for message, items in taken:
        assert all_stand_in(items, written_wh(message) | elsewhere), message


@pytest.mark.parametrize("name", CASES)
def test_answers_cut_off_anywhere(name: str) -> None:
    """Of an answer that lacks its last byte nothing is taken, so that no register loses digits."""
    opened, part, others, seeds = CASES[name]
    server = Server(part, others)
    # What comes from elsewhere is not cut off.
    right = {*decode_devices(DEVICES)} if "Devices" in others else set()
    # At every place would be thousands: at all of the last ones, where numbers stand, and some of the others.
    with answering(server) as url:
        for seed in seeds:
            # The last chunk is the one of no bytes.
            end = seed.rindex(b"0\r\n\r\n") + 1 if b"chunked" in seed else len(seed)
            for length in sorted({*range(0, end, max(1, end // 60)), *range(end - 40, end)}):
                server.answer = seed[:length]
                found = list(items_of(opened(url)))
                assert not {item for item in found if isinstance(item, Sighting)} - right
                assert any(isinstance(item, Refusal) for item in found), length


def test_an_answer_whose_end_nobody_tells_is_none() -> None:
    """As servers of old gave them: whether all of it came cannot be seen."""
    server = Server("a.csv", {"index.txt": whole(b"a.csv\n")})
    server.answer = b"HTTP/1.0 200 OK\r\n\r\n" + TABLE
    with answering(server) as url:
        (refused,) = items_of(folder(url))
    assert isinstance(refused, Refusal)
    assert "does not say how long" in refused.reason


def test_redirects_headers_and_statuses_without_end() -> None:
    """Each is one failure that names its cause, and needs no more memory than its limits."""
    endless = b"x" * 70_000
    many = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    heads = [
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: \xff\xfe\r\nContent-Length: 99999999999\r\n\r\n"
        + endless,
        b"HTTP/1.1 200 " + endless,
        b"HTTP/1.1 200 OK\r\nX: " + endless,
        b"HTTP/1.1 200 OK\r\n" + many + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 500,
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 5\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]",
        b"HTTP/1.1 999 ?\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 -1 ?\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"",
    ]
    server = Server("Devices", {})
    with answering(server) as url:
        for head in heads:
            server.answer = head
            tested = SmartMe(None, url).test_connection()
            assert not tested.works
            assert "mend:" in tested.detail


def test_a_server_that_names_other_files_than_tables() -> None:
    """Whatever stands in the index, nothing is asked for outside of the folder, and other files not at all."""
    asked: list[str] = []
    names = [
        "../a.csv",
        "/etc/passwd.csv",
        "a.csv?x=1",
        "%2e%2e/b.csv",
        "c.exe",
        "\0.csv",
        "\u20ac.csv",
        "d.CSV",
    ]
    numbers = count()

    def handle(connection: Any, path: str) -> None:
        asked.append(path)
        listing = "\n".join(names).encode()
        connection.sendall(whole(listing if next(numbers) == 0 else TABLE))

    with answering(handle) as url:
        assert {item.device for item in items_of(folder(url + "/readings"))} == {"a", "b"}
    assert all(path.startswith("/readings/") and ".." not in path for path in asked)
    assert len(asked) == 1 + 3


# --- Any JSON, and any bytes -------------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
NUMBERS = (
    st.integers(-5, 2**66)
    | st.floats(allow_nan=True)
    | st.decimals(0, 10**9, places=3).map(float)
    | st.sampled_from(["1.5", "1,5", " 7 ", "1e3", "0x10", "\u0663"])
)
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2110, 1, 1)).map(
    datetime.isoformat
) | st.sampled_from(
    ["2026-06-21T12:00:00Z", "2026-06-21T12:00:00+05:30", "2026-06-21", "24:00", "2026-W25-7"]
)
FIELDS = {
    "Id": st.uuids().map(str) | st.just(GUID),
    "DeviceEnergyType": st.sampled_from([1, 1, 1, "MeterTypeElectricity", 2, "1", True]),
    "ValueDate": TIMES,
    "Date": TIMES,
    "CounterReadingUnit": st.sampled_from(["kWh", "Wh", "MWh", " kwh ", "kW", "kvarh"]),
    "CounterReadingImport": NUMBERS,
    "CounterReadingExport": NUMBERS,
}


@st.composite
def devices(draw: st.DrawFn) -> dict[str, Any]:
    """An object that is nearly one of the interface's: fields missing, written differently, or anything at all."""
    made: dict[str, Any] = {}
    for name, values in FIELDS.items():
        if draw(st.integers(0, 19)):
            written = draw(st.sampled_from([name, name[0].lower() + name[1:]]))
            made[written] = draw(values if draw(st.integers(0, 9)) else ANYTHING)
    return made


def exact_wh(value: object, unit: str) -> int:
    """Watt-hours of a number as it stands in the message, computed another way."""
    factor = {"wh": 1, "kwh": 10**3, "mwh": 10**6}[unit.strip().lower()]
    text = repr(value) if isinstance(value, float) else str(value).strip()
    return int((Decimal(text) * factor).to_integral_value(ROUND_FLOOR))


def check_device(item: Sighting, entry: dict[str, Any], time_field: str, device: str) -> None:
    """What was taken is what the object says, and nothing that it does not."""
    fields = {name.lower(): value for name, value in entry.items()}
    moment = datetime.fromisoformat(fields[time_field])
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    assert abs(item.time_ms - moment.timestamp() * 1000) <= 1
    assert item.device == device
    for name, register in (("import", item.import_wh), ("export", item.export_wh)):
        value = fields.get("counterreading" + name)
        if value is None:
            assert register is None
        else:
            assert register == exact_wh(value, fields["counterreadingunit"])


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(devices() | ANYTHING, max_size=4) | ANYTHING)
@example([{"Id": GUID, "DeviceEnergyType": 1, "ValueDate": "2026-06-21T12:00:00Z"}, None])
def test_any_json_as_devices(answer: Any) -> None:
    items = decode_devices(json.dumps(answer).encode())
    check_items(items)
    taken = [item for item in items if isinstance(item, Sighting)]
    if not isinstance(answer, list):
        assert not taken
        assert items
        return
    meters = []
    for entry in answer:
        fields = (
            {name.lower(): value for name, value in entry.items()}
            if isinstance(entry, dict)
            else {}
        )
        if fields.get("deviceenergytype") in (1, "MeterTypeElectricity"):
            meters.append(entry)
        elif not isinstance(entry, dict):
            meters.append(None)
    # One item for each meter, in order; what is no object is refused, other devices are passed over.
    if len(items) == 1 and isinstance(items[0], Refusal) and len(meters) != 1:
        assert items[0].code == "format"
        return
    assert len(items) == len(meters)
    for item, entry in zip(items, meters, strict=True):
        if isinstance(item, Sighting):
            assert entry is not None
            found = {name.lower(): value for name, value in entry.items()}
            check_device(item, entry, "valuedate", str(UUID(found["id"])))


@settings(max_examples=EXAMPLES, deadline=None)
@given(devices() | ANYTHING)
def test_any_json_as_values(answer: Any) -> None:
    (item,) = decode_values(json.dumps(answer).encode(), GUID)
    check_items([item])
    if isinstance(item, Sighting):
        check_device(item, answer, "date", GUID)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=300))
@example(b"\xef\xbb\xbf[]")
@example(b"[" * 100_000)
@example(b"1" * 5000)
def test_any_bytes(message: bytes) -> None:
    """Registers need numbers that stand there; where a parser of JSON sees no list of objects, nothing is taken."""
    try:
        is_list = isinstance(parse_json(message, "message"), list)
    except InputError:
        is_list = False
    found = decode_devices(message)
    assert check_items(found).total() == len(found)
    assert is_list or [item.code for item in found if isinstance(item, Refusal)] == ["format"]
    for items in (decode_values(message, GUID), decode_push(message)):
        assert all_stand_in(items, written_wh(message) | {None})
        check_items(items)
    for suffix in ("csv", "jsonl", "ocmf"):
        try:
            items = tuple(FileFormat(ZoneInfo("UTC")).decode(f"x.{suffix}", message))
        except InputError:
            continue
        check_items(items)
        assert all_stand_in(items, written_wh(message))
