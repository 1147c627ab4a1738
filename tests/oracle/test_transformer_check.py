"""The transformer's meter bounds the members': honest days pass, what is hidden or invented is flagged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from backend.cli import app
from backend.domain.intervals import Period
from backend.domain.readings import RegisterReading, SignedReading
from backend.grid.cases import SCENARIOS, day_net_w
from backend.grid.power_flow import GridPowerFlow
from oracle.node import OracleNode
from oracle.signing import address_of, sign_reading
from oracle.transformer_check import StatedLosses, TransformerGap, transformer_gaps
from oracle.wire import pack_all
from tests.support.community import PAPER
from tests.support.grid_cases import feeder, village
from tests.support.oracle import SLOTS, Signer, day_of, key, past_period, signer_addresses
from tests.support.oracle import energy_wh as member_energy_wh
from tests.support.oracle import readings as member_readings

# Iron and what else always flows: 1.2 kW is 300 Wh in a quarter-hour.
STATED = StatedLosses(fixed_wh=310, permille_of_throughput=80)


def registers(energy_wh: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[list[int]]:
    """What counters show that are read in whole Wh at each interval's end."""
    return np.diff(np.floor(np.cumsum(energy_wh, axis=0)), axis=0, prepend=0).astype(int).tolist()


def day() -> tuple[list[int], list[int], list[list[int]], list[list[int]]]:
    """A winter day with the losses that the AC power flow has."""
    powers = day_net_w(SCENARIOS["winter-evening"], feeder())
    source = GridPowerFlow(village()).run(powers).source_w[:, None] / 4
    come, gone = registers(source.clip(min=0)), registers((-source).clip(min=0))
    imported, exported = registers((-powers / 4).clip(min=0)), registers((powers / 4).clip(min=0))
    return [row[0] for row in come], [row[0] for row in gone], imported, exported


def test_a_days_real_losses_are_within_the_stated_ones() -> None:
    assert transformer_gaps(*day(), STATED) == []


def test_losses_stated_too_low_are_seen() -> None:
    gaps = transformer_gaps(*day(), StatedLosses(fixed_wh=310, permille_of_throughput=0))
    assert gaps
    assert all(gap.gap_wh > 0 for gap in gaps)


@pytest.mark.parametrize(("change", "sign"), [(-0.2, 1), (0.2, -1)])
def test_a_meter_that_lies_in_the_evening_is_flagged(change: float, sign: int) -> None:
    come, gone, imported, exported = day()
    for interval in range(76, 80):
        imported[interval] = [round(wh * (1 + change)) for wh in imported[interval]]
    gaps = transformer_gaps(come, gone, imported, exported, STATED)
    assert [gap.interval for gap in gaps] == [76, 77, 78, 79]
    assert all(gap.gap_wh * sign > 0 for gap in gaps)


def test_by_hand() -> None:
    # 1000 in; members take 700 and feed in 100, others take 300: 100 left for losses, of 20 + 10 % of 800 stated.
    stated = StatedLosses(20, 100, rounding_wh=0)
    assert transformer_gaps([1000], [0], [[700, 0]], [[0, 100]], stated, [300]) == []
    (gap,) = transformer_gaps([1001], [0], [[700, 0]], [[0, 100]], stated, [300])
    assert gap == TransformerGap(0, losses_wh=101, allowed_wh=100, gap_wh=1)
    (gap,) = transformer_gaps([890], [0], [[700, 0]], [[0, 100]], stated, [300])
    assert gap == TransformerGap(0, losses_wh=-10, allowed_wh=100, gap_wh=-10)
    assert (
        transformer_gaps([890], [0], [[700, 0]], [[0, 100]], StatedLosses(20, 100, 10), [300]) == []
    )


def test_series_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="intervals"):
        transformer_gaps([1], [0], [], [[0]], STATED)
    with pytest.raises(ValueError, match="imports"):
        transformer_gaps([1], [0], [[1]], [[0, 0]], STATED)
    with pytest.raises(ValueError, match="negative"):
        StatedLosses(-1, 0)


PERIOD = past_period(3)
TRANSFORMER, NEIGHBOUR = key("transformer"), key("neighbour")
NEIGHBOUR_WH, LOST_WH = 50, 25


def meter_readings(made: Any, period: Period, energy: list[int]) -> list[SignedReading]:
    """A meter that only ever counted this day's import."""
    first, total = period.first_interval, 0
    found = []
    for sequence, wh in enumerate((0, *energy)):
        total += wh
        reading = RegisterReading(address_of(made), first - 1 + sequence, total, 0, sequence)
        found.append(sign_reading(made, PAPER.domain, reading))
    return found


def configured(folder: Path, **changes: Any) -> Signer:
    """A signer of four members, one neighbour who is none, and the transformer above them."""
    signer = Signer(folder, 0)
    signer.write(signer_addresses())
    meters = json.loads((folder / "meters.json").read_text())
    for made in (TRANSFORMER, NEIGHBOUR):
        grant = {"signer": address_of(made), "kind": "meter"}
        meters["meters"].append({"meter": address_of(made), "signers": [grant]})
    (folder / "meters.json").write_text(json.dumps(meters))
    entry = {
        "meter": address_of(TRANSFORMER),
        "fuse_limit_wh": 150_000,
        "fixed_loss_wh": 20,
        "loss_permille": 20,
        "others": [{"meter": address_of(NEIGHBOUR), "fuse_limit_wh": 10_000}],
    }
    signer.change(transformer=entry | changes)
    return signer


def take(signer: Signer, through_wh: list[int], *, left_out: int = 0) -> None:
    """The day's readings: of the first member the first few are left out."""
    node = OracleNode.open(signer.config)
    for slot in SLOTS:
        node.intake.take(pack_all(member_readings(PERIOD, slot)[left_out if slot == 3 else 0 :]))
    node.intake.take(pack_all(meter_readings(NEIGHBOUR, PERIOD, [NEIGHBOUR_WH] * 96)))
    node.intake.take(pack_all(meter_readings(TRANSFORMER, PERIOD, through_wh)))
    node.store.close()


def asked(signer: Signer) -> tuple[int, dict[str, Any]]:
    arguments = ["oracle", "transformer", str(signer.path), "--day", day_of(PERIOD), "--json"]
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, json.loads(done.stdout)


def taken_wh() -> list[int]:
    """What the four members took, less what they fed in, interval by interval."""
    found = []
    for interval in range(PERIOD.first_interval, PERIOD.end_interval):
        each = [member_energy_wh(slot, interval) for slot in SLOTS]
        found.append(sum(taken - given for taken, given in each))
    return found


def test_the_oracle_holds_a_day_against_the_transformers_meter(tmp_path: Path) -> None:
    signer = configured(tmp_path)
    honest = [wh + NEIGHBOUR_WH + LOST_WH for wh in taken_wh()]
    hidden = [
        wh + (40 if index == 30 else -40 if index == 31 else 0) for index, wh in enumerate(honest)
    ]
    take(signer, hidden, left_out=11)
    code, found = asked(signer)
    first = PERIOD.first_interval
    assert code == 1
    assert found["checked"] == 85
    assert found["unchecked"] == {str(first + index): 1 for index in range(11)}
    more, less = found["gaps"]
    # 20 Wh and 2 % of about 400 Wh, and one for each of six meters.
    assert (more["interval"], more["losses_wh"]) == (first + 30, LOST_WH + 40)
    assert more["gap_wh"] == LOST_WH + 40 - more["allowed_wh"] - 6
    assert (less["interval"], less["losses_wh"]) == (first + 31, LOST_WH - 40)
    assert less["gap_wh"] == LOST_WH - 40 + 6


def test_an_honest_day_passes(tmp_path: Path) -> None:
    signer = configured(tmp_path)
    take(signer, [wh + NEIGHBOUR_WH + LOST_WH for wh in taken_wh()])
    assert asked(signer) == (
        0,
        {"period": PERIOD.number, "checked": 96, "gaps": [], "unchecked": {}},
    )
    shown = CliRunner().invoke(
        app, ["oracle", "transformer", str(signer.path), "--day", day_of(PERIOD)]
    )
    assert "96 intervals checked, 0 outside" in shown.stdout


def test_without_a_transformer_it_says_what_to_add(tmp_path: Path) -> None:
    signer = Signer(tmp_path, 0)
    signer.write(signer_addresses())
    code, found = asked(signer)
    assert code == 2
    assert "transformer" in found["error"]["message"]


def test_a_meter_cannot_be_a_members_and_the_transformers(tmp_path: Path) -> None:
    signer = configured(tmp_path, meter=address_of(key("meter", 3)))
    code, found = asked(signer)
    assert (code, found["error"]["code"]) == (2, "input.duplicate")
