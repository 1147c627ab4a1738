"""What is submitted tells nothing of a member that its group's totals do not tell."""

from __future__ import annotations

from dataclasses import fields, replace

from contracts.bindings import OracleConfig, submission_tuple
from tests.support.community import Community, energy_of, period_number


def test_swapped_readings_change_nothing_but_hashes(paper: Community) -> None:
    """Two members of one group take each other's place: all that anybody sees stays, but roots, hashes and signatures."""
    period = period_number(0)
    one = paper.paper_batch(period, energy_of(0))
    groups: dict[tuple[str, str], list[int]] = {}
    for slot, item in one.member_periods.items():
        groups.setdefault((item.member.node, item.member.tariff_class), []).append(slot)
    first, second = next(slots for slots in groups.values() if len(slots) > 1)[:2]
    readings = {slot: item.readings for slot, item in one.member_periods.items()}
    assert readings[first] != readings[second]
    energy = dict(energy_of(0))
    energy[first], energy[second] = energy[second], energy[first]
    other = paper.paper_batch(period, energy)
    assert other.member_periods[first].readings == readings[second]

    config = OracleConfig(1, ("0x" + "11" * 20,))
    seen, swapped = (
        submission_tuple(batch, paper.market, paper.tariff.share_millionths, config)
        for batch in (one, other)
    )
    # Report, configuration, signatures, tariff, clearing, ledger, trades root, bundle hash.
    assert seen[1:5] == swapped[1:5]
    assert seen[5][0] == swapped[5][0] and seen[5][2:] == swapped[5][2:]
    assert seen[5][2] == bytes(32), "the root's children show no part of the money"
    hashes = {"readings_root", "report_hash", "ledger_root", "trades_root", "bundle_hash"}
    plain = {field.name for field in fields(one.header)} - hashes
    blank = dict.fromkeys(hashes, bytes(32))
    assert replace(one.header, **blank) == replace(other.header, **blank)
    assert plain
