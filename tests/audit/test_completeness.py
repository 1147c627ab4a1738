"""Every lie is refused or overturned by a challenge that the auditor finds by itself; no challenge overturns an honest batch.

The contracts decide, executed on a node; the auditor sees only what a coordinator shows. `PEERWATT_MUTATIONS` says how many lies
and how many challenges are tried (1500 of each by default; 10000 take some minutes). The same number gives the same ones.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from eth_abi.abi import decode
from eth_abi.exceptions import EncodingError
from eth_utils.abi import collapse_if_tuple

from backend.audit.disputes import Challenge, Published, find_challenges
from backend.audit.facts import SubmittedBatch, header_hash
from backend.settlement.batch import Batch
from backend.settlement.encoding import EMPTY, LedgerLeaf
from contracts.bindings import entry_tuple, evidence_tuple, head_tuple, leaf_tuple, ledger_proof

from .court import ANVIL, calldata, function_abi, running_node
from .fields import changed
from .honest import (
    CHALLENGE_SECONDS,
    DEMAND_BOND_WEI,
    HAMLET,
    HEADER,
    RING,
    SUBMISSION,
    Target,
    Town,
    key_of,
    named,
    unnamed,
)
from .liar import Liar, Lie

COUNT = int(os.environ.get("PEERWATT_MUTATIONS", "1500"))
PLANS = (RING, HAMLET)
BATCHES = sum(len(plan.batches) for plan in PLANS)
OUTSIDER = key_of("outsider").address
THIRD = CHALLENGE_SECONDS // 3

pytestmark = pytest.mark.skipif(
    not ANVIL.exists(), reason="no anvil: npm could not install contracts/package.json"
)


@pytest.fixture(scope="module")
def node() -> Iterator[str]:
    """A node of its own."""
    with running_node() as url:
        yield url


def targets(node: str, seed: int) -> Iterator[Target]:
    """All honest batches, each on the state before it."""
    for plan in PLANS:
        yield from Town(node, plan, seed).targets()


def shares() -> Iterator[int]:
    """How many of `COUNT` fall to each batch."""
    for number in range(BATCHES):
        yield COUNT * (number + 1) // BATCHES - COUNT * number // BATCHES


# --- Completeness ------------------------------------------------------------------------------------------------------


def accepted(target: Target, lie: Lie, receipt: dict[str, Any]) -> SubmittedBatch:
    """The batch as the contract recorded it, from its event."""
    data = bytes.fromhex(receipt["logs"][-1]["data"][2:])
    (values,) = decode([collapse_if_tuple(HEADER)], data)
    header = named(HEADER, values)
    return SubmittedBatch(header, lie.submission, header_hash(header), 0, lie.corrected_header)


def is_harmless(target: Target, lie: Lie, batch: SubmittedBatch) -> bool:
    """Whether an accepted batch does what the honest one does, so that there is nothing to overturn.

    The oracle's word, the prices and what supplier, DSO and fund receive must be the same, and the ledger must be a tree in
    which every account has the same money and commits to the same readings. What may differ:

    - the clearing: the contract has seen the proof that it is optimal, and prices and sums are the same;
    - salts, and accounts without money, at slots that were given out but need not be settled, which commit to nothing: they
      move no money;
    - the depth of the ledger: every account has its slot, its proof is only longer;
    - the roots of trades and bundle, which no contract reads: data that was promised and is not there can be demanded;
    - signatures: others of the same signers under the same report.
    """
    honest = target.batch.header
    kept = {
        "reportHash": honest.report_hash,
        "readingsRoot": honest.readings_root,
        "tariffHash": honest.tariff_hash,
        "pricesHash": honest.prices_hash,
        "supplierNano": honest.supplier_nano,
        "networkFeesNano": honest.network_fees_nano,
        "fundNano": honest.fund_nano,
        "previousBatch": honest.previous_batch,
        "correctedBatch": honest.corrected_batch,
        "ledgerRoot": lie.batch.ledger.root.hash,
        "ledgerDepth": lie.batch.ledger.depth,
    }
    if any(batch.header[name] != value for name, value in kept.items()) or not lie.is_tree:
        return False
    nobody = {"amount_nano": 0, "cumulative_nano": 0, "readings_commitment": EMPTY}
    for slot in target.batch.leaves.keys() | lie.batch.leaves.keys():
        right, given = target.batch.leaves.get(slot), lie.batch.leaves.get(slot)
        if given is None and target.is_active(slot, honest.period):
            return False
        if given is not None and (given.slot != slot or slot > max(target.members)):
            return False
        for name, nothing in nobody.items():
            if getattr(right, name, nothing) != getattr(given, name, nothing):
                return False
    return True


def is_answered(target: Target, lie: Lie, batch: SubmittedBatch, challenge: Challenge) -> bool:
    """Demands data, lets the liar answer as well as it can, and voids the batch if it cannot; all of it is undone."""
    court, follow_up = target.court, challenge.then
    assert follow_up is not None
    slot = challenge.arguments[1]
    with court.undone():
        data = calldata("Challenges", challenge.function, challenge.arguments)
        court.commit("Challenges", data, OUTSIDER, challenge.value_wei)
        answer = lie.answer(slot)
        if answer is not None:
            given = (challenge.arguments[0], *answer)
            sender = target.town.coordinator.address
            if court.call("Challenges", "answerDemand", given, sender).succeeded:
                names = ("isEmpty", "leaf", "proof")
                leaf_names = ("slot", "sums", "readingsCommitment", "salt")
                entry = dict(zip(names, answer[0], strict=True))
                target.answers.append(
                    entry | {"leaf": dict(zip(leaf_names, entry["leaf"], strict=True))}
                )
                return True
        court.advance(THIRD + 1)
        outcome = court.call("Challenges", follow_up.function, follow_up.arguments, OUTSIDER)
        assert outcome.succeeded, (challenge.what, outcome.error)
    return False


def overturns(target: Target, batch: SubmittedBatch, challenge: Challenge) -> None:
    """The challenge is sent; the chain must not stand by the batch any more. Undone."""
    court = target.court
    with court.undone():
        data = calldata("Challenges", challenge.function, challenge.arguments)
        court.commit("Challenges", data, OUTSIDER, challenge.value_wei)
        if challenge.then is not None:
            court.advance(THIRD + 1)
            then = challenge.then
            court.commit(
                "Challenges", calldata("Challenges", then.function, then.arguments), OUTSIDER
            )
        assert court.read("ClearingHouse", "headNumber") == batch.number - 1


def find_and_try(target: Target, lie: Lie, batch: SubmittedBatch) -> list[Challenge]:
    """What the auditor finds, asking for what it does not see; every challenge that is one has been executed."""
    parts = target.town.parts(lie.batch)
    # Readings come from the oracle: the coordinator can keep a ledger from the members, but not what their own meters said.
    readings = {
        slot: {name: part[name] for name in part if name.startswith("readings")}
        for slot, part in target.town.parts(target.batch).items()
        if "readings" in part
    }
    published = Published(batch, readings | {slot: parts[slot] for slot in lie.shown})
    target.answers.clear()
    asked: set[int] = set()
    while True:
        found = find_challenges(target, published, target.previous, target.corrected)
        proved = []
        for challenge in found:
            if challenge.function == "demandData":
                slot = challenge.arguments[1]
                assert slot not in asked, f"{challenge.what}, although it was answered"
                if is_answered(target, lie, batch, challenge):
                    asked.add(slot)
                    continue
            elif challenge.then is None:
                outcome = target.court.call(
                    "Challenges", challenge.function, challenge.arguments, OUTSIDER
                )
                assert outcome.succeeded, (challenge.what, outcome.error)
            proved.append(challenge)
        if proved or not found:
            return proved


def judge(target: Target, lie: Lie) -> str:
    """What becomes of a lie: refused and why, overturned and by which challenge, or harmless.

    Raises:
        AssertionError: it stands, or an innocent batch falls, or the auditor accuses wrongly.
    """
    court = target.court
    function, arguments = lie.call()
    try:
        data = calldata("ClearingHouse", function, arguments)
    except EncodingError:
        return "not to be written down"
    sender = target.town.coordinator.address
    outcome = court.attempt("ClearingHouse", data, sender)
    if not outcome.succeeded:
        return f"refused: {outcome.error}"
    with court.undone():
        batch = accepted(target, lie, court.commit("ClearingHouse", data, sender))
        proved = find_and_try(target, lie, batch)
        if is_harmless(target, lie, batch):
            assert not proved, f"{lie.what}: harmless, but {proved[0].what}"
            return "harmless"
        assert proved, f"{lie.what}: stands"
        overturns(target, batch, proved[0])
    return f"overturned: {proved[0].function}"


def test_every_lie_is_refused_or_overturned(node: str) -> None:
    liar = Liar(seed=4)
    verdicts: Counter[str] = Counter()
    for target, share in zip(targets(node, seed=1), shares(), strict=True):
        honest = Lie(
            "none",
            target.submission,
            target.corrected_header,
            target.batch,
            frozenset(target.batch.leaves),
        )
        assert judge(target, honest) == "harmless"
        for _ in range(share):
            verdicts[judge(target, liar.lie(target))] += 1
    report("lies", verdicts)
    for way in ("refused", "overturned", "harmless"):
        assert any(verdict.startswith(way) for verdict in verdicts), way
    if COUNT >= 1000:
        # Every way out of the dispute table was taken.
        used = {verdict.partition(": ")[2] for verdict in verdicts}
        assert used >= {
            "challengeAmount",
            "challengeCorrectedAmount",
            "challengeSystemAmount",
            "challengeInactive",
            "challengeOutside",
            "challengeMissing",
            "challengeCumulative",
            "challengeTreeSum",
            "challengeLeafSum",
            "demandData",
        }


def report(what: str, verdicts: Counter[str]) -> None:
    """Shown with `pytest -rP`."""
    print(f"{verdicts.total()} {what}")
    for verdict, count in verdicts.most_common():
        print(f"{count:6} {verdict}")


def test_an_account_without_cover_is_found(node: str) -> None:
    """Cover is nothing that a batch states: an honest batch falls where a member took its deposit away and nobody vouches."""
    for target in targets(node, seed=2):
        if target.batch.header.number == 2:
            break
    court, town = target.court, target.town
    coordinator, final = town.coordinator.address, town.batches[0]
    members = final.leaves.keys() & target.batch.member_periods.keys()
    debtor = min(members, key=lambda slot: target.batch.leaves[slot].amount_nano)
    assert target.batch.leaves[debtor].amount_nano < 0
    court.advance(CHALLENGE_SECONDS + 1)
    given = (head_tuple(final.header), leaf_of(final, debtor), ledger_proof(final, debtor))
    tokens = town.contracts.withdrawable(debtor, final)
    court.commit("Vault", calldata("Vault", "withdraw", (tokens, *given)), OUTSIDER)

    lie = Lie("none", target.submission, None, target.batch, frozenset(target.batch.leaves))
    function, arguments = lie.call()
    data = calldata("ClearingHouse", function, arguments)
    batch = accepted(target, lie, court.commit("ClearingHouse", data, coordinator))
    published = Published(batch, town.parts(target.batch))
    (found,) = find_challenges(target, published, target.previous)
    assert found.function == "demandCover" and f"slot {debtor}:" in found.what
    overturns(target, batch, found)

    with court.undone():
        # Once somebody vouches there is nothing to void.
        court.commit(
            "Challenges", calldata("Challenges", found.function, found.arguments), OUTSIDER
        )
        guarantor = key_of("deployer").address
        debt = 10**12
        for contract, name, arguments in (
            ("TestToken", "mint", (guarantor, debt)),
            ("TestToken", "approve", (court.addresses["Vault"], debt)),
            ("Vault", "depositGuarantee", (debt,)),
            ("Vault", "grantCredit", (debtor, debt)),
        ):
            court.commit(contract, calldata(contract, name, arguments), guarantor)
        court.advance(THIRD + 1)
        assert found.then is not None
        then = found.then
        outcome = court.call("Challenges", then.function, then.arguments, OUTSIDER)
        assert outcome.error == "NothingIsWrong"


# --- Soundness ---------------------------------------------------------------------------------------------------------


class Accuser:
    """Makes challenges of honest batches: any function, right and wrong arguments, up to three fields of them changed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def accuse(self, target: Target) -> tuple[str, tuple[Any, ...]]:
        """Function and arguments."""
        town, source = target.town, self.random
        batch = target.batch
        any_batch = source.choice([*town.batches, *[batch] * 8])
        slots = sorted(target.members)
        slot = source.choice([*slots, source.randrange(24)])
        other = slot if source.random() < 0.8 else source.choice(slots)
        before = town.batches[-1] if town.batches else batch
        settled = next((item for item in town.batches if is_corrected(item, batch)), before)
        if source.random() < 0.1:
            before, settled = source.choice([*town.batches, batch]), batch
        header = header_values_of(any_batch)
        tariff = unnamed(SUBMISSION["components"][3], target.submission["tariff"])
        leaf = (leaf_of(batch, slot), ledger_proof(batch, other))
        level = source.randrange(batch.ledger.depth)
        index = slot >> level
        node = batch.ledger.node(level, index)
        children = (
            [batch.ledger.node(level - 1, 2 * index + side) for side in (0, 1)] if level else []
        )
        words = [word for child in children for word in (child.hash, child.sums)] or [EMPTY] * 4
        made = {
            "challengeAmount": (evidence_tuple(batch, slot), tariff, *leaf),
            "challengeCorrectedAmount": (
                evidence_tuple(batch, slot),
                tariff,
                *leaf,
                header_values_of(settled),
                evidence_tuple(settled, other),
            ),
            "challengeSystemAmount": (
                *(leaf_of(batch, slot % 3), ledger_proof(batch, slot % 3)),
                header_values_of(settled),
            ),
            "challengeInactive": leaf,
            "challengeMissing": (slot, ledger_proof(batch, other)),
            "challengeCumulative": (
                entry_tuple(batch, slot),
                header_values_of(before),
                entry_tuple(before, other),
            ),
            "challengeTreeSum": (
                level,
                index,
                node.sums,
                words,
                batch.ledger.proof(index, level),
            ),
            "challengeLeafSum": (slot, leaf[0], leaf[0][1], leaf[1]),
            "voidUnanswered": (slot,),
            "demandCover": leaf,
            "voidUncovered": leaf,
        }
        function = source.choice(sorted(made))
        inputs = function_abi("Challenges", function)["inputs"]
        whole = {"type": "tuple", "components": inputs}
        value = named(whole, (header, *made[function]))
        for _ in range(source.choice((0, 1, 1, 2, 3))):
            value, _ = changed(whole, value, source)
        return function, unnamed(whole, value)


def is_corrected(item: Batch, batch: Batch) -> bool:
    return item.header.hash() == batch.header.corrected_batch


def header_values_of(batch: Batch) -> tuple[Any, ...]:
    return tuple(getattr(batch.header, name) for name in batch.header.__slots__)


def leaf_of(batch: Batch, slot: int) -> tuple[Any, ...]:
    return leaf_tuple(batch.leaves.get(slot) or LedgerLeaf(slot, 0, 0, EMPTY, EMPTY))


def test_no_challenge_overturns_an_honest_batch(node: str) -> None:
    accuser = Accuser(seed=5)
    verdicts: Counter[str] = Counter()
    for target, share in zip(targets(node, seed=3), shares(), strict=True):
        court, coordinator = target.court, target.town.coordinator.address
        honest = Lie("none", target.submission, target.corrected_header, target.batch, frozenset())
        function, arguments = honest.call()
        with court.undone():
            data = calldata("ClearingHouse", function, arguments)
            batch = accepted(target, honest, court.commit("ClearingHouse", data, coordinator))
            # Whatever slot is asked for, there is an answer, and then nothing to void.
            header = tuple(batch.header.values())
            for slot in range(1 << target.batch.ledger.depth):
                with court.undone():
                    asked = calldata("Challenges", "demandData", (header, slot))
                    court.commit("Challenges", asked, OUTSIDER, DEMAND_BOND_WEI)
                    answer = honest.answer(slot)
                    assert answer is not None
                    told = calldata("Challenges", "answerDemand", (header, *answer))
                    court.commit("Challenges", told, coordinator)
                    court.advance(THIRD + 1)
                    refused = court.call("Challenges", "voidUnanswered", (header, slot), OUTSIDER)
                    assert refused.error == "NotDemanded"
            # With nothing shown at all the auditor asks, is answered, and accuses nobody.
            assert find_and_try(target, honest, batch) == []
            for _ in range(share):
                name, given = accuser.accuse(target)
                try:
                    data = calldata("Challenges", name, given)
                except EncodingError:
                    verdicts[f"{name}: not to be written down"] += 1
                    continue
                outcome = court.attempt("Challenges", data, OUTSIDER)
                assert not outcome.succeeded, (name, given)
                verdicts[f"{name}: {outcome.error}"] += 1
    report("challenges", verdicts)
    assert verdicts.total() == COUNT
    assert any(verdict.endswith("NothingIsWrong") for verdict in verdicts)
