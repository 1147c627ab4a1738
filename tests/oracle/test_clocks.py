"""Clocks of signers compared: whose goes wrong is named, whoever asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.errors import QuorumNotReached
from oracle.clocks import ClockReading, describe_clock, read_clock, wrong_clocks
from tests.support.oracle import Signer, assembly, packed, past_period, running, signer_addresses


def answering(body: object) -> bytes:
    return json.dumps(body).encode()


def test_a_clock_is_read_in_the_middle_of_asking() -> None:
    times = iter((100.0, 104.0))
    found = read_clock(lambda path: answering({"time": 112.0}), lambda: next(times))
    assert found == ClockReading(10.0, 2.0)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"time": "x"}', b'{"time": NaN}', b'{"time": 1' + b"0" * 400 + b"}"],
)
def test_a_signer_that_tells_no_time(body: bytes) -> None:
    assert read_clock(lambda path: body) is None


@given(
    st.lists(st.floats(-5, 5), min_size=2, max_size=6),
    st.floats(-1e6, 1e6).filter(lambda ahead: abs(ahead) > 60),
    st.floats(0, 2),
)
def test_one_wrong_clock_among_right_ones_is_the_one_that_is_named(
    right: list[float], ahead: float, uncertainty: float
) -> None:
    clocks = {str(index): ClockReading(offset, uncertainty) for index, offset in enumerate(right)}
    assert wrong_clocks(clocks, 30) == {}
    found = wrong_clocks(clocks | {"odd": ClockReading(ahead, uncertainty)}, 30)
    assert list(found) == ["odd"]
    assert abs(found["odd"] - ahead) <= 5
    assert ("ahead" in describe_clock(found["odd"])) == (ahead > 0)


@given(st.floats(-1e6, 1e6), st.lists(st.floats(-5, 5), min_size=3, max_size=6))
def test_the_askers_own_clock_accuses_nobody(own: float, right: list[float]) -> None:
    clocks = {str(index): ClockReading(own + offset, 0) for index, offset in enumerate(right)}
    assert wrong_clocks(clocks, 30) == {}


def test_what_takes_long_to_ask_is_not_accused() -> None:
    clocks = {str(index): ClockReading(0, 0) for index in range(3)}
    clocks |= {"far": ClockReading(40, 15), "odd": ClockReading(40, 1)}
    assert list(wrong_clocks(clocks, 30)) == ["odd"]


@pytest.mark.xdist_group("clocks")
def test_a_signer_with_a_slow_clock(tmp_path: Path) -> None:
    """Its process lives ten days ago: its own signature is lost, and the report says why."""
    period = past_period(3)
    with running(tmp_path, 2) as signers:
        slow = Signer(tmp_path / "slow", 2)
        slow.write(signer_addresses())
        slow.start(ahead_seconds=-864_000)
        try:
            slow.wait()
            for signer in signers:
                signer.send(packed(period))
            assert {item["code"] for item in slow.send(packed(period))["refused"]} == {"clock"}
            found = assembly([*signers, slow]).report(period.number)
            assert len(found.signatures) == 2
            assert found.failures[slow.url].startswith("answers 409")
            assert "is not over" in found.failures[slow.url]
            assert list(found.clocks) == [slow.url]
            assert found.clocks[slow.url] == pytest.approx(-864_000, abs=30)
            with pytest.raises(QuorumNotReached, match=r"clock is 86\d{4} s behind the others"):
                assembly([signers[0], slow]).report(past_period(4).number)
        finally:
            slow.stop()
