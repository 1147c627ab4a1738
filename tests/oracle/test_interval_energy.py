"""Tables with the energy of intervals: whatever order their rows come in, what is measured in the end is what they say."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.community import Member
from backend.domain.readings import Quality
from oracle.collector import Collector, Device
from oracle.intake import Intake
from oracle.interval_energy import RISE_WH, MadeRegisters
from oracle.node import OracleNode
from oracle.sources.base import IntervalEnergy, Refusal, Sighting, Unusable
from oracle.sources.tabular import decode_csv
from oracle.store import ReadingStore
from oracle.upload import import_file
from oracle.validation import energy_of
from tests.oracle.test_collector import KEY, METER, Anybody
from tests.support.community import PAPER
from tests.support.oracle import (
    Signer,
    address_of,
    key,
    past_period,
    signer_addresses,
    write_keystore,
)

PERIOD = past_period(2)
LENGTH_MS = 900_000
NOW = (PERIOD.first_interval + 96) * 900 + 3600.0
Row = tuple[int, int, int]  # interval of the day, import, export


def item(row: Row, quality: Quality = Quality.MEASURED) -> IntervalEnergy:
    start_ms = (PERIOD.first_interval + row[0]) * LENGTH_MS
    return IntervalEnergy("a", start_ms, start_ms + LENGTH_MS, row[1], row[2], quality, row[0])


def collector(store: ReadingStore, refused: list[Refusal]) -> Collector:
    intake = Intake(store, Anybody(), PAPER.domain, clock=lambda: NOW)
    devices = {("tables", "a"): Device(METER)}
    return Collector(KEY, intake, devices, clock=lambda: NOW, on_refusal=refused.append)


def measured(store: ReadingStore) -> dict[int, tuple[int, int, Quality]]:
    """Energy by interval of the day, as a signer finds it."""
    member = Member(3, "", "", to_checksum_address(METER), "a", "household", 20_000)
    rows = store.readings(range(PERIOD.first_interval - 1, PERIOD.first_interval + 96))
    found = energy_of(member, PERIOD, [row.record() for row in rows], None)
    return {
        index: (value.import_wh, value.export_wh, value.quality)
        for index, value in enumerate(found.readings)
        if value.quality is not Quality.MISSING
    }


energies = st.integers(0, 20_000)


@given(st.data())
def test_in_any_order_and_in_any_files(data: st.DataObject) -> None:
    """A day in pieces: everything counts as it is but what lies at a joint that was closed late; nothing else ever counts."""
    intervals = data.draw(st.lists(st.integers(0, 95), unique=True, min_size=1, max_size=30))
    rows = [(at, data.draw(energies), data.draw(energies)) for at in intervals]
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=3))
    edges = [0, *sorted(cuts), len(rows)]
    refused: list[Refusal] = []
    store = ReadingStore("sqlite://")
    made = collector(store, refused)
    for start, end in pairwise(edges):
        part = [item(row) for row in rows[start:end]]
        new = made.accept("tables", part)
        # Twice is once.
        again = len(refused)
        assert made.accept("tables", part) == 0
        del refused[again:]
        assert new + len([r for r in refused if r.row in [x.row for x in part]]) == len(part)
    made.sign_due()
    lost = {refusal.row for refusal in refused}
    assert {refusal.code for refusal in refused} <= {"contradiction"}
    assert len(lost) <= len(edges) - 2
    expected = {at: (taken, given, Quality.MEASURED) for at, taken, given in rows if at not in lost}
    assert measured(store) == expected
    store.close()


def test_a_hole_is_missing_and_its_neighbours_are_not(store: ReadingStore) -> None:
    made = collector(store, [])
    made.accept("tables", [item((at, 100 + at, 7)) for at in range(96) if at not in (10, 50, 51)])
    made.sign_due()
    assert sorted(set(range(96)) - set(measured(store))) == [10, 50, 51]
    # A hole is closed from one side; where its other side meets what stands already, one interval stays missing.
    refused: list[Refusal] = []
    later = collector(store, refused)
    assert later.accept("tables", [item((at, 1, 0)) for at in (51, 50)]) == 1
    assert [(entry.row, entry.code) for entry in refused] == [(51, "contradiction")]
    later.sign_due()
    assert sorted(set(range(96)) - set(measured(store))) == [10, 51]


def test_another_value_is_refused_and_a_substituted_one_says_so(store: ReadingStore) -> None:
    refused: list[Refusal] = []
    made = collector(store, refused)
    made.accept("tables", [item((at, 100, 0)) for at in range(5)])
    made.accept("tables", [item((5, 100, 0), Quality.SUBSTITUTED)])
    assert made.accept("tables", [item((3, 101, 0))]) == 0
    assert refused[-1].code == "contradiction"
    assert refused[-1].reason.startswith("row 3: ")
    made.sign_due()
    found = measured(store)
    assert [found[at][2] for at in range(6)] == [Quality.MEASURED] * 5 + [Quality.SUBSTITUTED]


@pytest.mark.parametrize(
    ("start", "end", "taken", "code"),
    [(1, LENGTH_MS + 1, 0, "clock"), (0, 4 * LENGTH_MS, 0, "clock"), (0, -LENGTH_MS, 0, "clock"),
     (0, LENGTH_MS, RISE_WH, "range")],
)  # fmt: skip
def test_what_is_no_interval(start: int, end: int, taken: int, code: str) -> None:
    with pytest.raises(Unusable) as raised:
        MadeRegisters(LENGTH_MS, ()).add(start, end, taken, 0)
    assert raised.value.code == code


def test_tables_say_which_they_are() -> None:
    times = b"2026-06-21T12:00:00Z,2026-06-21T12:15:00Z"
    text = b"meter,start,end,import_kwh,export_kwh,quality\na," + times + b",0.0125,1,\n"
    text += b"a," + times + b",,,missing\na," + times + b",,,\nb," + times + b",1,,substituted\n"
    first, empty, last = decode_csv(text)
    assert isinstance(first, IntervalEnergy)
    assert first.end_ms - first.start_ms == LENGTH_MS
    # 12.5 Wh, halves to the even one.
    assert (first.import_wh, first.export_wh, first.row) == (12, 1000, 2)
    assert isinstance(empty, Refusal)
    assert empty.code == "direction"
    assert isinstance(last, IntervalEnergy)
    assert (last.export_wh, last.quality) == (None, Quality.SUBSTITUTED)
    (register,) = decode_csv(b"meter,time,import_kwh\na,2026-06-21T12:00:00Z,0.0129\n")
    assert isinstance(register, Sighting)


def test_the_command_takes_them(tmp_path: Path) -> None:
    """From a file to a period, every quarter-hour measured; rows in disorder, one of them hourly."""
    signer = Signer(tmp_path, 0)
    meter = address_of(key("meter", 3))
    devices = [{"source": "files", "device": "house-3", "meter": meter, "has_export": False}]
    signer.write(signer_addresses(), collector={"keystore": "collector.json", "devices": devices})
    write_keystore(tmp_path / "collector.json", key("collector"))
    grant = {"signer": address_of(key("collector")), "kind": "collector"}
    (tmp_path / "meters.json").write_text(
        json.dumps({"meters": [{"meter": meter, "signers": [grant]}]})
    )
    start = datetime.fromtimestamp(PERIOD.first_interval * 900, UTC)
    rows = [
        f"house-3;{(start + timedelta(minutes=15 * at)).isoformat()};"
        f"{(start + timedelta(minutes=15 * at + 15)).isoformat()};0,{100 + at}"
        for at in range(96)
    ]
    rows.append(f"house-3;{start.isoformat()};{(start + timedelta(hours=1)).isoformat()};4")
    random.Random(1).shuffle(rows)
    file = tmp_path / "day.csv"
    file.write_text("\n".join(["meter;start;end;import_kwh", *rows]))
    done = import_file(signer.path, file, "files")
    assert (done.new, done.known, done.signed) == (96, 0, 97)
    assert [entry.code for entry in done.refused] == ["clock"]
    node = OracleNode.open(signer.config)
    (found,) = [each for each in node.readings.validated(PERIOD) if each.member.slot == 3]
    node.store.close()
    assert [value.import_wh for value in found.readings] == [100 + at for at in range(96)]
    assert {value.quality for value in found.readings} == {Quality.MEASURED}
    again = import_file(signer.path, file, "files")
    assert (again.new, again.known, again.signed) == (0, 96, 0)
