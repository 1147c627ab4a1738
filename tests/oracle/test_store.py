"""What is acknowledged is there, once, whatever order it came in; on SQLite and PostgreSQL alike."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.domain.errors import MalformedInput, StoreUnavailable
from oracle.intake import rejection
from oracle.store import (
    Added,
    Observation,
    ReadingStore,
    StoredReading,
    StoredRejection,
    StoredRetraction,
)
from tests.support.oracle import locked

METERS = [bytes([number]) * 20 for number in (1, 2, 255)]


def row(interval: int, meter: int = 0, variant: int = 0, register: int = 5) -> StoredReading:
    return StoredReading(
        interval,
        METERS[meter],
        bytes([variant]) * 32,
        METERS[meter],
        register,
        0,
        interval,
        0,
        b"s" * 65,
        1_700_000_000,
    )


ROWS = [row(interval, meter) for interval in (7, 8, 9) for meter in range(3)]


def test_adds_once_and_keeps_the_first(store: ReadingStore) -> None:
    assert store.add(ROWS) == Added(readings=9)
    assert store.add([*ROWS[2:5], row(8, 0, variant=1)]) == Added(readings=1)
    again = ROWS[0]._replace(received_at=1, signature=b"t" * 65)
    assert store.add([again]) == Added()
    assert list(store.readings(range(7, 10))) == sorted([*ROWS, row(8, 0, variant=1)])


def test_a_store_opened_again_has_everything(store_url: str) -> None:
    first = ReadingStore(store_url)
    refused = rejection("mqtt", "meter-1", "unit", "unit: no unit", b"\x00\xff" * 4000, 5, 7)
    taken_back = StoredRetraction(METERS[0], b"h" * 32, METERS[1], b"s" * 65)
    seen = Observation(METERS[1], 1_000, 4, 5, 1)
    first.add(ROWS, [refused], [taken_back], [seen])
    first.add_report(3, 0, b"h" * 32, METERS[0], "{}")
    first.close()
    second = ReadingStore(store_url)
    assert list(second.readings([7, 8, 9])) == ROWS
    assert second.rejections() == [refused._replace(message=refused.message[:4096])]
    assert second.rejection_counts() == {"unit": 1}
    assert second.retractions() == {taken_back[:3]}
    assert second.all_retractions() == [taken_back]
    assert second.observations(METERS[1], 0, 1_000) == [seen]
    assert second.observations(METERS[1], 0, 999) == []
    assert second.report(3, 0) == "{}"
    assert second.report(3, 1) is None
    assert second.prune_observations(1_001) == 1
    second.close()


@pytest.mark.parametrize("order", range(3))
def test_order_and_repetition_leave_no_trace(store: ReadingStore, order: int) -> None:
    shuffled = [*ROWS, *ROWS]
    random.Random(order).shuffle(shuffled)
    for start in range(0, len(shuffled), 4):
        store.add(shuffled[start : start + 4])
    assert list(store.readings([7, 8, 9])) == ROWS


def test_meters_by_range(store: ReadingStore) -> None:
    store.add(ROWS)
    assert [item.meter for item in store.readings([8], METERS[1], METERS[2])] == METERS[1:]
    assert store.counts(8, 20) == {8: 3, 9: 3}
    assert store.newest_interval() == 9


def test_all_or_nothing(store: ReadingStore) -> None:
    """One row that does not fit takes the others of its batch with it."""
    too_large = row(8)._replace(import_register_wh=2**70)
    with pytest.raises((StoreUnavailable, OverflowError)):
        store.add([*ROWS, too_large])
    assert list(store.readings([7, 8, 9])) == []
    assert store.newest_interval() is None


def test_one_report_for_a_period_and_version(store: ReadingStore) -> None:
    store.add_report(3, 0, b"h" * 32, METERS[0], "first")
    with pytest.raises(StoreUnavailable):
        store.add_report(3, 0, b"i" * 32, METERS[0], "second")
    assert store.report(3, 0) == "first"


def test_many_writers_at_once(store: ReadingStore) -> None:
    """Threads that write the same rows in different orders neither deadlock nor double."""
    failures: list[Exception] = []

    def write(seed: int) -> None:
        mine = [*ROWS]
        random.Random(seed).shuffle(mine)
        try:
            for start in range(0, 9, 3):
                store.add(mine[start : start + 3])
        except StoreUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(store.readings([7, 8, 9])) == ROWS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(
    picks=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 2)), max_size=20)
)
def test_is_a_set(store_url: str, picks: list[tuple[int, int, int]]) -> None:
    """After any sequence of additions the store holds each reading once, and says which were new."""
    store = ReadingStore(store_url)
    present = set(store.readings(range(6)))
    for pick in picks:
        reading = row(*pick)
        assert store.add([reading]).readings == (reading not in present)
        present.add(reading)
    assert set(store.readings(range(6))) == present
    store.close()


def test_a_locked_database_is_an_error_and_nothing_is_half_written(store_url: str) -> None:
    store = ReadingStore(store_url, busy_timeout_seconds=0.05)
    with locked(store_url), pytest.raises(StoreUnavailable, match="lock"):
        store.add(ROWS)
    assert store.add(ROWS).readings == 9
    store.close()


@pytest.mark.parametrize("url", ["nonsense", "nodatabase://x", "mysql+nodriver://x"])
def test_an_unsuitable_url(url: str) -> None:
    with pytest.raises(MalformedInput) as raised:
        ReadingStore(url)
    assert raised.value.field == "store"


def test_an_unreachable_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        ReadingStore(f"sqlite:///{tmp_path / 'nowhere' / 'x.sqlite'}")


def test_the_password_of_a_url_is_not_shown() -> None:
    with pytest.raises(MalformedInput) as raised:
        ReadingStore("oracle+nodriver://user:geheim@host/x")
    assert "geheim" not in str(raised.value)


def test_old_rejections_go_and_so_do_more_than_the_quota(store: ReadingStore) -> None:
    def made(number: int) -> StoredRejection:
        return StoredRejection(number.to_bytes(4, "big"), "s", "d", None, "c", "r", b"", number)

    store.add(rejections=[made(number) for number in range(100)])
    assert store.prune_rejections(10) == 10
    assert store.prune_rejections(0, keep=50) == 40
    assert store.prune_rejections(0, keep=50) == 0
    assert [item.received_at for item in store.rejections()] == [*range(99, 49, -1)]
