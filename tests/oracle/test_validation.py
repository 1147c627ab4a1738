"""From signed registers to energy: what is taken, what is not and why, whatever order readings come in."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.errors import ReadingRejected
from backend.domain.intervals import local_day
from backend.domain.readings import (
    MISSING_READING,
    IntervalReading,
    Quality,
    RegisterReading,
    SignedReading,
)
from backend.settlement.encoding import domain_separator
from oracle.directory import MeterExchange, MeterRecord, OwnKeys
from oracle.meter import Meter
from oracle.signing import private_key, sign_reading
from oracle.substitution import SubstitutionPolicy
from oracle.validation import ValidatedPeriod, check_reading, validate_period
from oracle.wire import address_bytes
from tests.support.community import PAPER, member_at, period_number, secret

PERIOD = period_number(0)
FIRST = PERIOD.first_interval
MEMBER = member_at(3, "west", "household", fuse_limit_wh=1000)
KEY = private_key(secret("meter", 3))
DOMAIN = PAPER.domain
ENERGY = ((100, 0), (0, 40), (7, 7), (1000, 0))


def registers(
    energy: Sequence[tuple[int, int]] = ENERGY, start: tuple[int, int] = (50_000, 9_000)
) -> list[SignedReading]:
    """What an honest meter sends: the registers at the start and after each interval."""
    meter = Meter(KEY, DOMAIN, *start)
    taken, given_away = zip(*energy, strict=True)
    return [meter.read(FIRST - 1), *meter.run(FIRST, taken, given_away)]


def measured(*energy: tuple[int, int]) -> tuple[IntervalReading, ...]:
    return tuple(IntervalReading(taken, given, Quality.MEASURED) for taken, given in energy)


def resigned(signed: SignedReading, **fields: int | str) -> SignedReading:
    """The reading with other fields, signed by the meter all the same."""
    return sign_reading(KEY, DOMAIN, replace(signed.reading, **fields))  # type: ignore[arg-type]


def validated(received: Sequence[SignedReading]) -> ValidatedPeriod:
    return validate_period(MEMBER, PERIOD, received, DOMAIN)


class TestEnergy:
    def test_is_what_the_registers_grew_by(self) -> None:
        found = validated(registers())
        assert found.readings == measured(*ENERGY)
        assert found.rejections == ()
        assert found.member is MEMBER

    @given(
        energy=st.lists(
            st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=4, max_size=4
        ),
        start=st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)),
        order=st.randoms(use_true_random=False),
    )
    def test_does_not_depend_on_the_order_of_arrival_or_on_repetition(
        self,
        energy: list[tuple[int, int]],
        start: tuple[int, int],
        order: st.DataObject,
    ) -> None:
        received = registers(energy, start)
        received += received[:3]
        order.shuffle(received)  # type: ignore[attr-defined]
        found = validated(received)
        assert found.readings == measured(*energy)
        assert found.rejections == ()

    def test_readings_of_other_periods_do_no_harm(self) -> None:
        meter = Meter(KEY, DOMAIN, 50_000, 9_000)
        longer = [meter.read(FIRST - 4), *meter.run(FIRST - 3, (1,) * 12, (0,) * 12)]
        assert validated(longer).readings == measured(*[(1, 0)] * 4)

    def test_without_the_register_before_the_period_the_first_interval_is_missing(self) -> None:
        found = validated(registers()[1:])
        assert found.readings == (MISSING_READING, *measured(*ENERGY[1:]))
        assert found.rejections == ()

    @pytest.mark.parametrize(("lost", "missing"), [(1, {0, 1}), (2, {1, 2}), (3, {2, 3}), (4, {3})])
    def test_a_lost_register_leaves_the_intervals_beside_it_missing(
        self, lost: int, missing: set[int]
    ) -> None:
        received = registers()
        del received[lost]
        readings = validated(received).readings
        honest = measured(*ENERGY)
        for index, reading in enumerate(readings):
            assert reading == (MISSING_READING if index in missing else honest[index])

    def test_nothing_received_means_all_missing(self) -> None:
        assert validated([]).readings == (MISSING_READING,) * 4


class TestRejections:
    """Every reason there is; each keeps the reading as evidence."""

    def rejected(self, spoiled: SignedReading, place: int = 2) -> str:
        """The reason why the reading at `place` is not taken when it is replaced by `spoiled`."""
        received = registers()
        received[place] = spoiled
        found = validated(received)
        (rejection,) = found.rejections
        assert rejection.signed == spoiled
        missing = {place - 1, place} & set(range(4))
        for index in missing:
            assert found.readings[index] == MISSING_READING
        return rejection.reason

    @pytest.mark.parametrize(
        "field", ["interval", "import_register_wh", "export_register_wh", "sequence"]
    )
    @pytest.mark.parametrize("value", [-1, 2**64])
    def test_a_number_out_of_range(self, field: str, value: int) -> None:
        spoiled = registers()[2]
        spoiled = replace(spoiled, reading=replace(spoiled.reading, **{field: value}))
        reason = self.rejected(spoiled)
        assert reason == f"{field}: {value} is outside 0..{2**64 - 1}"

    def test_another_meters_reading(self) -> None:
        other = Meter(private_key(secret("meter", 4)), DOMAIN, 50_000, 9_000)
        reason = self.rejected(other.read(FIRST + 1))
        assert reason == f"meter: {other.address} is not the member's meter {MEMBER.meter}"

    def test_a_reading_signed_by_somebody_else(self) -> None:
        stranger = private_key(secret("stranger"))
        spoiled = sign_reading(stranger, DOMAIN, registers()[2].reading)
        reason = self.rejected(spoiled)
        assert reason.startswith("signature: made by 0x")
        assert f"not by meter {MEMBER.meter}" in reason

    @pytest.mark.parametrize(
        ("change", "value"),
        [
            ("interval", FIRST + 2),
            ("import_register_wh", 50_101),
            ("export_register_wh", 0),
            ("sequence", 1),
            ("quality", Quality.SUBSTITUTED),
        ],
    )
    def test_a_reading_changed_after_it_was_signed(self, change: str, value: int) -> None:
        honest = registers()[2]
        spoiled = replace(honest, reading=replace(honest.reading, **{change: value}))
        assert spoiled != honest
        assert self.rejected(spoiled).startswith("signature: made by 0x")

    @pytest.mark.parametrize(
        "domain",
        [
            domain_separator(PAPER.chain_id + 1, PAPER.reading_oracle),
            domain_separator(PAPER.chain_id, "0x" + "0b" * 20),
        ],
        ids=["chain", "contract"],
    )
    def test_a_reading_meant_for_elsewhere(self, domain: bytes) -> None:
        spoiled = sign_reading(KEY, domain, registers()[2].reading)
        assert self.rejected(spoiled).startswith("signature: made by 0x")

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda signature: signature[:64], "signature has 64 bytes instead of 65"),
            (lambda signature: b"", "signature has 0 bytes instead of 65"),
            (
                lambda signature: signature[:64] + bytes([signature[64] - 27]),
                "signature is not in canonical form",
            ),
            (lambda signature: bytes(64) + b"\x1b", "signature is not valid"),
        ],
        ids=["short", "none", "recovery number", "zero"],
    )
    def test_a_malformed_signature(self, spoil: Callable[[bytes], bytes], reason: str) -> None:
        honest = registers()[2]
        found = self.rejected(replace(honest, signature=spoil(honest.signature)))
        assert found.startswith(reason)

    def test_readings_that_contradict_each_other_do_not_count_either_of_them(self) -> None:
        received = registers()
        other = resigned(received[2], import_register_wh=50_101)
        found = validated([*received, other])
        assert found.readings == (
            measured(ENERGY[0])[0],
            MISSING_READING,
            MISSING_READING,
            measured(ENERGY[3])[0],
        )
        assert {item.signed for item in found.rejections} == {received[2], other}
        assert {item.reason for item in found.rejections} == {
            f"interval {FIRST + 1}: contradicts another reading of this interval"
        }

    @pytest.mark.parametrize("field", ["import_register_wh", "export_register_wh"])
    def test_a_register_that_fell(self, field: str) -> None:
        received = registers()
        name = field.removesuffix("_register_wh")
        before = getattr(received[1].reading, field)
        received[2] = resigned(received[2], **{field: before - 1})
        found = validated(received)
        assert found.readings[1] == MISSING_READING
        assert found.rejections[0].reason == (
            f"interval {FIRST + 1}: {name} register fell from {before} to {before - 1} Wh"
        )
        assert found.rejections[0].signed.reading == received[2].reading

    @pytest.mark.parametrize("direction", [0, 1])
    def test_more_energy_than_the_fuse_carries(self, direction: int) -> None:
        energy = [list(pair) for pair in ENERGY]
        energy[2][direction] = MEMBER.fuse_limit_wh + 1
        found = validated(registers([(taken, given) for taken, given in energy]))
        assert found.readings[2] == MISSING_READING
        (rejection,) = found.rejections
        name = ("import", "export")[direction]
        assert rejection.reason == (
            f"interval {FIRST + 2}: {name} register grew by 1001 Wh, more than the fuse carries (1000 Wh)"
        )

    def test_as_much_as_the_fuse_carries_is_fine(self) -> None:
        assert validated(registers([(1000, 1000)] * 4)).rejections == ()

    @pytest.mark.parametrize("sequence", [1, 3, 90])
    def test_a_sequence_with_a_gap_or_a_repetition(self, sequence: int) -> None:
        received = registers()
        received[2] = resigned(received[2], sequence=sequence)
        found = validated(received)
        assert found.readings[1] == MISSING_READING
        assert found.rejections[0].reason == (
            f"interval {FIRST + 1}: sequence {sequence} does not follow 1"
        )

    def test_one_bad_reading_leaves_the_other_intervals_as_they_are(self) -> None:
        received = registers()
        received[2] = resigned(received[2], import_register_wh=0)
        readings = validated(received).readings
        assert readings[0] == measured(ENERGY[0])[0]
        assert readings[3] == measured(ENERGY[3])[0]


class TestOneReading:
    def test_a_good_one_is_given_back(self) -> None:
        signed = registers()[0]
        assert check_reading(signed, MEMBER.meter, DOMAIN) == signed.reading

    def test_a_rejection_says_what_to_do(self) -> None:
        signed = registers()[0]
        for spoiled, meter in (
            (replace(signed, reading=replace(signed.reading, sequence=-1)), MEMBER.meter),
            (signed, "0x" + "11" * 20),
            (sign_reading(private_key(secret("x")), DOMAIN, signed.reading), MEMBER.meter),
            (replace(signed, signature=b""), MEMBER.meter),
        ):
            with pytest.raises(ReadingRejected) as raised:
                check_reading(spoiled, meter, DOMAIN)
            assert raised.value.remedy
            assert raised.value.code == "oracle.reading_rejected"

    @given(
        reading=st.builds(
            RegisterReading,
            st.just(MEMBER.meter),
            st.integers(-1, 2**65),
            st.integers(-1, 2**65),
            st.integers(-1, 2**65),
            st.integers(-1, 2**65),
        ),
        signature=st.binary(max_size=70),
    )
    def test_nothing_but_a_rejection_is_raised(
        self, reading: RegisterReading, signature: bytes
    ) -> None:
        with pytest.raises(ReadingRejected):
            check_reading(SignedReading(reading, signature), MEMBER.meter, DOMAIN)


class TestOrderAndQuality:
    def test_contradicting_readings_give_the_same_in_any_order(self) -> None:
        """Signers receive over different ways; a meter that signs twice must not be able to divide them."""
        received = registers()
        other = resigned(received[2], import_register_wh=50_101)
        assert validated([*received, other]) == validated([other, *reversed(received)])

    def test_a_value_that_the_meter_calls_substituted_is_not_reported_as_measured(self) -> None:
        received = registers()
        received[2] = resigned(received[2], quality=Quality.SUBSTITUTED)
        readings = validated(received).readings
        assert [item.quality for item in readings] == [0, 1, 1, 0]
        assert [(item.import_wh, item.export_wh) for item in readings] == list(ENERGY)

    def test_a_value_that_the_meter_calls_missing_is_as_if_it_had_not_been_read(self) -> None:
        received = registers()
        received[2] = resigned(received[2], quality=Quality.MISSING, import_register_wh=0)
        found = validated(received)
        assert [item.quality for item in found.readings] == [0, 2, 2, 0]
        assert found.rejections == ()

    def test_a_register_that_fell_is_kept_with_its_signature(self) -> None:
        received = registers()
        received[2] = resigned(received[2], import_register_wh=0)
        assert validated(received).rejections[0].signed == received[2]

    def test_a_meter_read_again_at_the_border_of_two_periods_loses_nothing(self) -> None:
        """The demonstration reads each meter again before the next day; a signer that keeps both days has both readings."""
        meter = Meter(KEY, DOMAIN, 50_000, 9_000)
        before = [meter.read(FIRST - 5), *meter.run(FIRST - 4, (1,) * 4, (0,) * 4)]
        again = [meter.read(FIRST - 1), *meter.run(FIRST, (1,) * 4, (0,) * 4)]
        assert validated([*before, *again]).readings == measured(*[(1, 0)] * 4)

    @given(lost=st.sets(st.integers(0, 4)), order=st.randoms(use_true_random=False))
    def test_every_interval_that_is_not_measured_has_a_reason(
        self, lost: set[int], order: random.Random
    ) -> None:
        received = [item for place, item in enumerate(registers()) if place not in lost]
        order.shuffle(received)
        found = validated(received)
        for index, reading in enumerate(found.readings):
            assert (reading.quality is Quality.MEASURED) == (FIRST + index not in found.reasons)


class TestDevices:
    """Rollover and exchange, which the directory tells of."""

    MODULUS = 1_000_000

    def found(self, received: Sequence[SignedReading], **meter: Any) -> ValidatedPeriod:
        own = OwnKeys().record(address_bytes(MEMBER.meter))
        directory = OneMeter(replace(own, **meter))
        return validate_period(MEMBER, PERIOD, received, DOMAIN, directory)

    def test_registers_that_start_again_at_zero(self) -> None:
        received = registers(start=(self.MODULUS - 105, 9_000))
        wrapped = [
            resigned(item, import_register_wh=item.reading.import_register_wh % self.MODULUS)
            for item in received
        ]
        assert self.found(wrapped, register_modulus_wh=self.MODULUS).readings == measured(*ENERGY)
        assert validated(wrapped).readings[2] == MISSING_READING

    def test_a_fall_that_is_no_rollover_stays_a_fall(self) -> None:
        received = registers()
        received[2] = resigned(received[2], import_register_wh=50_000)
        found = self.found(received, register_modulus_wh=self.MODULUS)
        assert "fell" in found.reasons[FIRST + 1]

    @pytest.mark.parametrize("closing", [50_100, 50_104, 50_099])
    def test_a_meter_exchange(self, closing: int) -> None:
        """The old device ends in the second interval, the new one begins with registers and a sequence of its own."""
        old = registers()[:2]
        new = Meter(KEY, DOMAIN, 3, 0)
        new.import_register_wh += 20
        later = [new.read(FIRST + 1), *new.run(FIRST + 2, (7, 1000), (7, 0))]
        exchange = MeterExchange(FIRST + 1, closing, 9_002, 3, 0)
        found = self.found([*old, *later], exchanges=(exchange,))
        if closing < 50_100:
            assert "fell" in found.reasons[FIRST + 1]
        else:
            assert found.readings == measured(
                ENERGY[0], (closing - 50_100 + 20, 2), ENERGY[2], ENERGY[3]
            )
        assert "sequence" in validated([*old, *later]).reasons[FIRST + 1]


@dataclass(frozen=True)
class OneMeter:
    """A directory with one meter."""

    only: MeterRecord

    def record(self, meter: bytes) -> MeterRecord:
        return self.only

    def reload(self) -> bool:
        return False


class TestSubstitution:
    LINEAR = SubstitutionPolicy(("linear",), reference_shift_intervals=4)
    WEEKDAY = replace(LINEAR, rules=("weekday",))

    def found(
        self, received: Sequence[SignedReading], policy: SubstitutionPolicy
    ) -> ValidatedPeriod:
        return validate_period(MEMBER, PERIOD, received, DOMAIN, policy=policy)

    def without(self, *places: int) -> list[SignedReading]:
        return [item for place, item in enumerate(registers()) if place not in places]

    @given(
        energy=st.lists(
            st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=4, max_size=4
        ),
        lost=st.sets(st.integers(1, 3), min_size=1),
    )
    def test_linear_parts_add_up_to_what_the_registers_grew_by(
        self, energy: list[tuple[int, int]], lost: set[int]
    ) -> None:
        received = [item for place, item in enumerate(registers(energy)) if place not in lost]
        found = self.found(received, self.LINEAR)
        for direction in ("import_wh", "export_wh"):
            column = 0 if direction == "import_wh" else 1
            parts = [getattr(item, direction) for item in found.readings]
            assert sum(parts) == sum(pair[column] for pair in energy)
        assert Quality.MISSING not in {item.quality for item in found.readings}
        for index, item in enumerate(found.readings):
            beside_a_loss = {index, index + 1} & lost
            assert item.quality is (Quality.SUBSTITUTED if beside_a_loss else Quality.MEASURED)

    def test_linear_is_for_short_gaps_with_registers_on_both_sides(self) -> None:
        short = replace(self.LINEAR, linear_limit_intervals=1)
        assert self.found(self.without(2), short).readings[1] == MISSING_READING
        assert self.found(self.without(4), self.LINEAR).readings[3] == MISSING_READING

    def test_the_same_weekday_gives_the_shape_and_the_registers_the_sum(self) -> None:
        meter = Meter(KEY, DOMAIN, 0, 0)
        week_ago = [meter.read(FIRST - 5), *meter.run(FIRST - 4, (1, 30, 10, 5), (0, 0, 0, 0))]
        today = [*meter.run(FIRST, (1, 45, 16, 5), (0, 1, 2, 0))]
        del today[1]
        found = self.found([*week_ago, *today], self.WEEKDAY).readings
        assert [(item.import_wh, item.export_wh) for item in found] == [
            (1, 0),
            (45, 1),
            (16, 2),
            (5, 0),
        ]

    def test_an_open_gap_takes_the_same_weekday_as_it_was(self) -> None:
        meter = Meter(KEY, DOMAIN, 0, 0)
        week_ago = [meter.read(FIRST - 5), *meter.run(FIRST - 4, (1, 30, 10, 5), (0, 9, 0, 0))]
        today = [*meter.run(FIRST, (1, 45, 16, 5), (0, 0, 0, 0))][:2]
        found = self.found([*week_ago, *today], self.WEEKDAY).readings
        assert [(item.import_wh, item.export_wh) for item in found[2:]] == [(10, 0), (5, 0)]
        assert {item.quality for item in found[2:]} == {Quality.SUBSTITUTED}

    def test_without_a_measured_week_before_the_next_rule_comes(self) -> None:
        policy = replace(self.LINEAR, rules=("weekday", "zero"))
        found = self.found(self.without(2), policy)
        assert found.readings[1] == IntervalReading(0, 0, Quality.SUBSTITUTED)
        assert found.reasons[FIRST + 1].startswith("substituted: zero; no register")

    def test_a_register_that_jumped_is_not_interpolated_over(self) -> None:
        """What lies between the registers around a gap must itself be possible."""
        received = [
            resigned(
                item, import_register_wh=item.reading.import_register_wh + 10_000 * (place > 1)
            )
            for place, item in enumerate(registers())
        ]
        found = self.found(received, self.LINEAR)
        assert [item.quality for item in found.readings] == [0, 2, 0, 0]


@pytest.mark.parametrize(("day", "intervals"), [("2026-03-29", 92), ("2026-10-25", 100)])
def test_days_on_which_clocks_change(day: str, intervals: int) -> None:
    period = local_day(date.fromisoformat(day), "Europe/Copenhagen")
    assert period.interval_count == intervals
    meter = Meter(KEY, DOMAIN)
    received = [meter.read(period.first_interval - 1)]
    received += meter.run(period.first_interval, range(intervals), [0] * intervals)
    found = validate_period(MEMBER, period, received, DOMAIN)
    assert found.readings == measured(*((energy, 0) for energy in range(intervals)))
