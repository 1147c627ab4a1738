"""From sightings to signed readings: the border, the straight line, and never two values for one interval."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.domain.errors import StoreUnavailable
from backend.domain.readings import Quality
from oracle.collector import Collector, Device, meter_address
from oracle.directory import MeterRecord, SignerGrant, SignerKind
from oracle.intake import Intake
from oracle.signing import address_of, private_key
from oracle.sources.base import Page, Refusal, Sighting
from oracle.sources.replay import SimbenchReplay
from oracle.store import ReadingStore, StoredReading
from oracle.wire import address_bytes, records
from tests.support.community import PAPER, secret
from tests.support.oracle import locked

KEY = private_key(secret("collector"))
SIGNER = address_bytes(address_of(KEY))
METER = meter_address("test", "a")
SOLAR = meter_address("test", "solar")
INTERVAL = 1_980_000
BORDER_MS = (INTERVAL + 1) * 900_000


class Anybody:
    """The collector may sign for every meter."""

    def record(self, meter: bytes) -> MeterRecord:
        return MeterRecord(meter, (SignerGrant(SIGNER, SignerKind.COLLECTOR),))

    def reload(self) -> bool:
        return False


@dataclass
class Bench:
    store: ReadingStore
    now: float = BORDER_MS / 1000 + 3600
    sent: list[bytes] = field(default_factory=list)

    def collector(self) -> Collector:
        return Collector(
            KEY,
            Intake(self.store, Anybody(), PAPER.domain, clock=lambda: self.now),
            {
                ("test", "a"): Device(METER),
                ("test", "solar"): Device(SOLAR, has_import=False),
            },
            clock=lambda: self.now,
            forward=self.sent.append,
        )

    def readings(self) -> list[StoredReading]:
        return list(self.store.readings(range(INTERVAL - 4, INTERVAL + 5), METER, METER))


@pytest.fixture
def bench(store: ReadingStore) -> Bench:
    return Bench(store)


def at(seconds: float, taken: int, given_away: int = 0) -> Sighting:
    return Sighting("a", BORDER_MS + int(seconds * 1000), taken, given_away)


def test_the_nearest_within_the_tolerance(bench: Bench) -> None:
    collector = bench.collector()
    assert collector.accept("test", [at(-31, 1), at(-20, 2), at(12, 3, 9), at(29, 4)]) == 4
    assert collector.sign_due() == 1
    (reading,) = bench.readings()
    assert reading.import_register_wh == 3
    assert reading.export_register_wh == 9
    assert (reading.quality, reading.sequence, reading.interval) == (0, INTERVAL, INTERVAL)
    assert (reading.meter, reading.signer) == (METER, SIGNER)
    (sent,) = records(bench.sent[0])
    assert sent == reading.record()


def test_a_straight_line_where_nothing_is_near(bench: Bench) -> None:
    collector = bench.collector()
    collector.accept("test", [at(-100, 1000), at(300, 1101, 7)])
    assert collector.sign_due() == 1
    (reading,) = bench.readings()
    assert (reading.import_register_wh, reading.export_register_wh) == (1025, 1)
    assert reading.quality == Quality.SUBSTITUTED


def test_one_side_is_not_enough_until_the_other_comes(bench: Bench) -> None:
    collector = bench.collector()
    collector.accept("test", [at(-100, 1000)])
    assert collector.sign_due() == 0
    collector.accept("test", [at(100, 1100)])
    assert collector.sign_due() == 1
    assert bench.readings()[0].import_register_wh == 1050


def test_a_border_is_not_signed_before_the_tolerance_is_over(bench: Bench) -> None:
    collector = bench.collector()
    bench.now = BORDER_MS / 1000 + 29
    collector.accept("test", [at(0, 5)])
    assert collector.sign_due() == 0
    bench.now += 1
    assert collector.sign_due() == 1


def test_never_two_values_for_one_interval(bench: Bench) -> None:
    """After a restart, with a nearer sighting than the one signed."""
    first = bench.collector()
    first.accept("test", [at(20, 5)])
    first.sign_due()
    again = bench.collector()
    again.resume()
    again.accept("test", [at(1, 4)])
    assert again.sign_due() == 0
    assert [item.import_register_wh for item in bench.readings()] == [5]


@pytest.mark.parametrize("days", [0, 9])
def test_a_restart_finishes_what_was_begun(bench: Bench, days: int) -> None:
    bench.collector().accept("test", [at(0, 5)])
    bench.now += days * 86_400
    again = bench.collector()
    again.resume()
    assert again.sign_due() == 1
    # Now nothing is left to do.
    last = bench.collector()
    last.resume()
    assert last.sign_due() == 0


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (Sighting("b", BORDER_MS, 1, 1), "unknown_device"),
        (Sighting("a", BORDER_MS, None, 1), "direction"),
        (Sighting("a", BORDER_MS, 1, None), "direction"),
        (Sighting("solar", BORDER_MS, 1, None), "direction"),
        (Sighting("a", BORDER_MS + 3_631_000, 1, 1), "clock"),
        (Sighting("a", BORDER_MS - 10 * 86_400_000, 1, 1), "late"),
        (Refusal("x\0\ud800", "unit", "unit: '\0\ud800'", b"\0"), "unit"),
    ],
)
def test_refusals_are_kept(bench: Bench, item: Sighting | Refusal, code: str) -> None:
    collector = bench.collector()
    assert collector.accept("test", [item]) == 0
    (kept,) = bench.store.rejections()
    assert (kept.code, kept.source) == (code, "test")
    assert collector.sign_due() == 0


def test_a_register_that_a_meter_does_not_have_is_zero(bench: Bench) -> None:
    collector = bench.collector()
    assert collector.accept("test", [Sighting("solar", BORDER_MS, None, 7)]) == 1
    collector.sign_due()
    (reading,) = bench.store.readings([INTERVAL], SOLAR, SOLAR)
    assert (reading.import_register_wh, reading.export_register_wh) == (0, 7)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(order=st.permutations([at(-40, 1), at(-10, 2), at(10, 3), at(40, 4), at(10, 5)]))
def test_the_order_does_not_matter(tmp_path: Path, order: list[Sighting]) -> None:
    store = ReadingStore("sqlite://")
    bench = Bench(store)
    collector = bench.collector()
    for item in order:
        collector.accept("test", [item])
    collector.sign_due()
    assert [row.import_register_wh for row in bench.readings()] == [2]
    store.close()


def test_a_store_that_fails_loses_nothing(store_url: str) -> None:
    store = ReadingStore(store_url, busy_timeout_seconds=0.05)
    bench = Bench(store)
    collector = bench.collector()
    collector.accept("test", [at(0, 5)])
    with locked(store_url), pytest.raises(StoreUnavailable):
        collector.sign_due()
    assert bench.sent == []
    assert collector.sign_due() == 1
    store.close()


def test_a_day_of_simbench_becomes_readings(bench: Bench) -> None:
    """Every household, every quarter-hour, nothing refused."""
    source = SimbenchReplay(5, 0, date(2016, 6, 29), date(2026, 6, 21))
    names = source.test_connection().devices
    collector = bench.collector()
    collector.devices = {
        ("simbench", name): Device(meter_address("simbench", name)) for name in names
    }
    bench.now = 1_782_086_400 + 60  # a minute into 2026-06-22, UTC
    for delivery in source.deliveries(Event()):
        collector.accept("simbench", delivery.items)
    assert collector.sign_due() == 5 * 97
    first = 1_782_000_000 // 900 - 1
    assert set(bench.store.counts(first, first + 96).values()) == {5}
    assert bench.store.rejections() == []


class TestCorrections:
    def test_a_corrected_register_takes_the_place_of_the_old_one(self, bench: Bench) -> None:
        collector = bench.collector()
        first = [at(0, 1000), at(900, 1500), at(1800, 1600)]
        bench.now = BORDER_MS / 1000 + 3600
        collector.accept("test", first)
        assert collector.sign_due() == 3
        # The larger of two, and the one farther away: neither order nor distance decides, the correction does.
        for value, distance in ((1400, 7), (1450, 1)):
            assert collector.correct("test", [at(900 + distance, value)]) == 1
            # What was there comes again, as when a file is read anew; it stays withdrawn.
            assert collector.accept("test", first) == 0
            assert collector.sign_due() == 1
            again = bench.collector()
            again.resume()
            assert again.sign_due() == 0
            gone = bench.store.retractions()
            valid = {
                row.interval - INTERVAL: row.import_register_wh
                for row in bench.readings()
                if (row.meter, row.hash, row.signer) not in gone
            }
            assert valid == {0: 1000, 1: value, 2: 1600}
        assert collector.correct("test", [at(901, 1450)]) == 0
        assert collector.sign_due() == 0

    def test_a_crash_after_taking_back_is_finished_by_the_next_start(self, bench: Bench) -> None:
        collector = bench.collector()
        collector.accept("test", [at(0, 1000)])
        assert collector.sign_due() == 1
        assert collector.correct("test", [at(0, 900)]) == 1
        again = bench.collector()
        again.resume()
        assert again.sign_due() == 1
        assert {row.import_register_wh for row in bench.readings()} == {1000, 900}

    def test_a_line_through_a_corrected_register(self, bench: Bench) -> None:
        collector = bench.collector()
        collector.accept("test", [at(-100, 1000), at(300, 1400)])
        assert collector.sign_due() == 1
        assert collector.correct("test", [at(300, 1200)]) == 1
        assert collector.sign_due() == 1
        assert {row.import_register_wh for row in bench.readings()} == {1100, 1050}

    def test_what_was_taken_back_does_not_come_again(self, bench: Bench) -> None:
        collector = bench.collector()
        collector.accept("test", [at(0, 1000)])
        collector.sign_due()
        collector.correct("test", [at(0, 900)])
        collector.sign_due()
        assert collector.correct("test", [at(0, 1000)]) == 0
        assert [item.code for item in bench.store.rejections()] == ["taken_back"]
        assert collector.sign_due() == 0


class TestPages:
    """Numbered records: what lies between two that came is missing until it comes."""

    def test_gaps_are_those_of_the_store(self, bench: Bench) -> None:
        def seen(*numbers: int, kind: str = "T") -> list[Page]:
            return [Page("a", kind, number) for number in numbers]

        assert bench.collector().accept("test", [*seen(1), at(0, 5)]) == 1
        # After a restart the gap shows all the same.
        bench.collector().accept("test", seen(5, 9))
        bench.collector().accept("test", seen(2, kind="F"))
        missing = [("test", "a", "T", 2, 4), ("test", "a", "T", 6, 8)]
        assert bench.store.missing_pages() == missing
        bench.collector().accept("test", seen(5, 9))
        assert bench.store.missing_pages() == missing
        # Late ones, in any order, close it.
        bench.collector().accept("test", seen(3))
        assert len(bench.store.missing_pages()) == 3
        bench.collector().accept("test", seen(4, 2, 8, 7, 6))
        assert bench.store.missing_pages() == []

    def test_a_store_that_fails_keeps_neither_page_nor_sighting(self, store_url: str) -> None:
        store = ReadingStore(store_url, busy_timeout_seconds=0.05)
        collector = Bench(store).collector()
        collector.accept("test", [Page("a", "T", 1), at(0, 5)])
        late = [Page("a", "T", 5), at(900, 6)]
        with locked(store_url), pytest.raises(StoreUnavailable):
            collector.accept("test", late)
        assert store.missing_pages() == []
        assert collector.accept("test", late) == 1
        assert [(item.first, item.last) for item in store.missing_pages()] == [(2, 4)]
        store.close()
