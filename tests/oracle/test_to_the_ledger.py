"""From signed registers by way of three signer processes to the contracts on a chain, once with everything going wrong that may.

Readings come several times, in any order and not to all; a signer is killed; a reading comes a day late; a meter that cannot sign is read
wrongly and corrected. What the ledger books in the end is what the meters' energy is worth, once.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from eth_keys.datatypes import PrivateKey
from typer.testing import CliRunner

from backend.chain.client import ChainClient
from backend.cli import app
from backend.domain.errors import QuorumNotReached
from backend.domain.intervals import Period
from backend.domain.readings import IntervalReading, Quality, RegisterReading, SignedReading
from backend.settlement.batch import Batch, MemberPeriod
from backend.settlement.encoding import typed_data_digest
from oracle.assembly import AssembledReport, Assembly
from oracle.signing import address_of, sign_digest, sign_reading
from oracle.wire import pack_all
from tests.support.community import THRESHOLD, LiveCommunity, deploy_example, signer_keys
from tests.support.json_rpc import Node, serving
from tests.support.oracle import Signer, key, past_period, write_keystore

PERIOD = past_period(4)
DAY = range(PERIOD.first_interval, PERIOD.first_interval + PERIOD.interval_count)
# Its meter has no key; the gateway beside it has.
BY_GATEWAY = 7
LATE_SLOT, LATE = 4, DAY[50]
# Its meter has no key either: a collector reads tables and signs. In the first one a register is wrong, just before the sun rises and prices change.
COLLECTED_SLOT, WRONG, WRONG_BY_WH = 6, DAY[35], 45


def energy_wh(slot: int, interval: int) -> tuple[int, int]:
    """Import and export; slots 3 and 5 have roofs."""
    has_sun = slot in (3, 5) and 36 <= interval % 96 < 68
    return (0, 500 + 13 * slot) if has_sun else (60 + 7 * slot + interval % 11, 0)


def signing_key(community: LiveCommunity, slot: int) -> PrivateKey:
    others = {BY_GATEWAY: key("gateway"), COLLECTED_SLOT: key("collector")}
    return others.get(slot) or community.paper.meter_key(slot)


def registers(community: LiveCommunity, slot: int) -> list[SignedReading]:
    """A member's signed registers, from the start of the day to its end."""
    taken, given, found = 50_000, 9_000, []
    for interval in range(DAY.start - 1, DAY.stop):
        if interval in DAY:
            more = energy_wh(slot, interval)
            taken, given = taken + more[0], given + more[1]
        reading = RegisterReading(
            community.paper.member(slot).meter, interval, taken, given, interval
        )
        found.append(sign_reading(signing_key(community, slot), community.place.domain, reading))
    return found


@contextmanager
def signers_of(
    community: LiveCommunity, node: Node, folder: Path, new_store: Callable[[], str]
) -> Iterator[list[Signer]]:
    """The community's three signers, as processes that know chain and meters from the node only; the first one collects."""
    place, paper = community.place, community.paper
    started = [Signer(folder / str(index), index) for index in range(3)]
    for signer in started:
        signer.write(
            place.signers,
            store=new_store(),
            chain_id=place.chain_id,
            clearing_house=place.clearing_house,
            oracle_contract=place.reading_oracle,
            network=paper.network.model_dump(mode="json"),
            tariff_classes=[item.model_dump(mode="json") for item in paper.tariff_classes],
            members=[
                {
                    "slot": item.slot,
                    "meter": item.meter,
                    "node": item.node,
                    "tariff_class": item.tariff_class,
                    "fuse_limit_wh": item.fuse_limit_wh,
                }
                for item in paper.members
            ],
            meter_registry={
                "contract": community.contracts.addresses["MeterRegistry"],
                "rpc_url": node.url,
                "confirmations": 0,
            },
        )
        write_keystore(signer.folder / "keys" / "first.json", signer_keys()[signer.index])
        (signer.folder / "meters.json").write_text('{"meters": []}')
        if signer.index == 0:
            collect(signer, paper.member(COLLECTED_SLOT).meter)
        salts = {slot: salt.hex() for slot, salt in paper.salt_keys().items()}
        (signer.folder / "salts.json").write_text(json.dumps(salts))
        signer.start()
    try:
        for signer in started:
            signer.wait()
        yield started
    finally:
        for signer in started:
            signer.stop()


def collect(signer: Signer, meter: str) -> None:
    """Configures the collector."""
    write_keystore(signer.folder / "collector.json", key("collector"))
    device = {"source": "tables", "device": "house", "meter": meter}
    signer.change(collector={"keystore": "collector.json", "devices": [device]})


def upload(signer: Signer, read: Sequence[RegisterReading], *options: str) -> dict[str, Any]:
    """Gives the collector a table of registers."""
    lines = ["meter,time,import_wh,export_wh"]
    for item in read:
        moment = datetime.fromtimestamp((item.interval + 1) * 900, UTC).isoformat()
        lines.append(f"house,{moment},{item.import_register_wh},{item.export_register_wh}")
    table = signer.folder / "registers.csv"
    table.write_text("\n".join(lines) + "\n")
    arguments = ["oracle", "import", str(signer.path), str(table), "--source", "tables", "--json"]
    done = CliRunner().invoke(app, [*arguments, *options])
    assert done.exit_code == 0, done.output
    data: dict[str, Any] = json.loads(done.stdout)
    return data


def report_of(signers: Sequence[Signer], version: int) -> AssembledReport:
    config = signers[0].config
    clients = [item.client for item in signers]
    return Assembly(clients, config.domain, config.committee(PERIOD.number)).report(
        PERIOD.number, version
    )


def batch_of(
    community: LiveCommunity, found: AssembledReport, corrected: Batch | None = None
) -> Batch:
    periods = found.member_periods(community.paper.members)
    return community.paper.batch(
        PERIOD,
        found.report,
        found.signatures,
        periods,
        corrected,
        community.place,
        community.paper.clear(PERIOD, periods),
        corrected,
    )


def truth(community: LiveCommunity, period: Period) -> tuple[MemberPeriod, ...]:
    """What the meters measured, without any oracle."""
    return tuple(
        MemberPeriod(
            item,
            tuple(IntervalReading(*energy_wh(item.slot, at), Quality.MEASURED) for at in DAY),
            bytes(32),
        )
        for item in community.paper.members
    )


def test_from_the_meters_to_the_ledger(new_store: Callable[[], str], tmp_path: Path) -> None:
    chance = random.Random(8)
    community = deploy_example(ChainClient.open(None), PERIOD.first_interval, PERIOD.number)
    members = community.paper.members
    slots = [item.slot for item in members]
    keys = [address_of(signing_key(community, slot)) for slot in slots]
    community.send(community.contracts.activate_meters(keys, slots, DAY.start - 1))
    everything = [
        item for slot in slots if slot != COLLECTED_SLOT for item in registers(community, slot)
    ]
    collected = [item.reading for item in registers(community, COLLECTED_SLOT)]
    right = next(item for item in collected if item.interval == WRONG)
    wrong = replace(right, import_register_wh=right.import_register_wh + WRONG_BY_WH)
    meter = community.paper.member(LATE_SLOT).meter
    late = [
        item for item in everything if (item.reading.meter, item.reading.interval) == (meter, LATE)
    ]
    early = [item for item in everything if item not in late]
    with (
        serving(community.client.web3) as node,
        signers_of(community, node, tmp_path, new_store) as signers,
    ):
        # At least once, in any order, and not everything to everybody.
        for signer in signers:
            for _ in range(2):
                part = chance.sample(early, len(early) * 9 // 10)
                assert signer.send(pack_all(part))["refused"] == []
        signers[0].send(pack_all(early))
        table = [wrong if item == right else item for item in collected]
        assert upload(signers[0], table)["signed"] == len(collected)
        assert upload(signers[0], table)["signed"] == 0
        signers[1].kill()
        signers[1].start()
        signers[1].wait()
        first_report = report_of(signers, 0)
        assert first_report.disagreements == ()
        assert report_of(signers, 0).report == first_report.report
        missing = [
            (slot, DAY[index])
            for slot in slots
            for index, item in enumerate(first_report.slots[slot].readings())
            if item.quality is not Quality.MEASURED
        ]
        assert missing == [(LATE_SLOT, LATE), (LATE_SLOT, LATE + 1)]

        with node.lock:
            first = batch_of(community, first_report)
            check_the_quorum(community, first)
            community.submit_final(first)
            assert community.recorded(1) == first.header.hash()
            # Sent again it is refused: a period is settled once.
            assert community.submission_refused(first) is not None

        for signer in signers[1:]:
            for _ in range(2):
                signer.send(pack_all(late))
        second_report = report_of(signers, 1)
        with node.lock:
            second = batch_of(community, second_report, first)
            check_the_quorum(community, second, first)
            community.submit_final(second, corrected=first)
            assert community.recorded(2) == second.header.hash()
            assert community.submission_refused(second, first) is not None

        # The collector's first signer alone is told; the others hear of it with the next report.
        done = upload(signers[0], [right], "--correct")
        assert (done["taken_back"], done["signed"]) == (1, 1)
        signers[2].kill()
        signers[2].start()
        signers[2].wait()
        third_report = report_of(signers, 2)
        assert third_report.disagreements == ()
        assert third_report.failures == {}
        assert changes(second_report, third_report) == {
            (COLLECTED_SLOT, WRONG): -WRONG_BY_WH,
            (COLLECTED_SLOT, WRONG + 1): WRONG_BY_WH,
        }
        with pytest.raises(QuorumNotReached, match="would change nothing"):
            report_of(signers, 3)
        with node.lock:
            third = batch_of(community, third_report, second)
            check_the_quorum(community, third, second)
            community.submit(third, corrected=second)
            assert community.recorded(3) == third.header.hash()
            assert community.submission_refused(third, second) is not None

    assert (third.header.period, third.header.version) == (PERIOD.number, 2)
    # What all batches book together is what the measured energy is worth.
    periods = truth(community, PERIOD)
    expected = community.paper.batch(
        PERIOD,
        replace(third_report.report, version=0),
        third_report.signatures,
        periods,
        None,
        community.place,
        community.paper.clear(PERIOD, periods),
    )
    for slot, due in expected.due_nano.items():
        assert third.leaves[slot].cumulative_nano == due
    assert second.leaves[LATE_SLOT].amount_nano != 0
    assert third.leaves[COLLECTED_SLOT].amount_nano != 0
    assert sum(leaf.cumulative_nano for leaf in third.leaves.values()) == 0


def changes(earlier: AssembledReport, later: AssembledReport) -> dict[tuple[int, int], int]:
    """By slot and interval what the import grew by."""
    return {
        (slot, DAY[index]): new.import_wh - old.import_wh
        for slot in earlier.slots
        for index, (old, new) in enumerate(
            zip(earlier.slots[slot].readings(), later.slots[slot].readings(), strict=True)
        )
        if old != new
    }


def check_the_quorum(
    community: LiveCommunity, batch: Batch, corrected: Batch | None = None
) -> None:
    """The contract counts for itself."""
    signed = typed_data_digest(community.place.domain, batch.report.struct_hash())
    other = sign_digest(key("stranger"), signed)
    own = batch.signatures
    assert len(own) == THRESHOLD
    for signatures, refused in (
        (own[:1], "TooFewSignatures"),
        ((own[0], own[0]), "SignaturesNotAscending"),
        (tuple(reversed(own)), "SignaturesNotAscending"),
        ((*own, other), None),
        ((own[0], other), None),
    ):
        found = community.submission_refused(replace(batch, signatures=signatures), corrected)
        assert found is not None
        # Where the stranger's address comes in the order is chance.
        assert found[0] in ({refused} if refused else {"UnknownSigner", "SignaturesNotAscending"})
    report = replace(batch.report, totals_hash=bytes(32))
    assert community.submission_refused(replace(batch, report=report), corrected) is not None
    assert community.submission_refused(batch, corrected) is None
