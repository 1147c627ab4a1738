"""Everything that the chain alone shows of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_keys.exceptions import BadSignature

from .facts import CommunityFacts, SubmittedBatch, header_hash
from .hashing import ZERO, Node, keccak, ledger_node, split_sums, tagged
from .intervals import AuditTariff, IntervalResults, check_intervals, unpack_clearing
from .verdict import Checks

UNREADABLE = (
    "neither the transaction that submitted it nor its trace shows the call of submitBatch or submitCorrection: "
    "ask a node that answers debug_traceTransaction"
)
_REPORT_TYPE = [
    {"name": "period", "type": "uint64"},
    {"name": "version", "type": "uint32"},
    {"name": "firstInterval", "type": "uint64"},
    {"name": "intervalCount", "type": "uint32"},
    {"name": "readingsRoot", "type": "bytes32"},
    {"name": "totalsHash", "type": "bytes32"},
    {"name": "configDigest", "type": "bytes32"},
]


def genesis_hash(facts: CommunityFacts) -> bytes:
    """What the first batch names as the one before it."""
    return tagged(
        "peerwatt.genesis.v2",
        ["uint256", "address", "uint64", "uint64"],
        [
            facts.chain_id,
            facts.addresses["ClearingHouse"],
            facts.parameters["firstPeriod"],
            facts.parameters["firstInterval"],
        ],
    )


def check_chain(
    facts: CommunityFacts,
    batch: SubmittedBatch,
    before: Sequence[SubmittedBatch],
    checks: Checks,
) -> tuple[IntervalResults | None, AuditTariff | None]:
    """Everything that the chain alone shows.

    Args:
        facts: the community.
        batch: which batch.
        before: the standing batches before it, oldest first; the newest and those of its period are enough.
        checks: told every outcome.
    """
    header, submission = batch.header, batch.submission
    checks.equal("the recorded hash is the header's", batch.recorded_hash, batch.header_hash)
    _check_place(facts, batch, before, checks)
    final_at = batch.submitted_at + facts.parameters["challengeSeconds"]
    checks.add(
        "it is final exactly when the time for challenges is over",
        # Some nodes answer as of the second after the block.
        batch.final in {facts.frozen or facts.time + more >= final_at for more in (0, 1)},
        detail=f"final: {batch.final}; at {facts.time}, due at {final_at}",
    )
    if not submission:
        checks.add("the submission can be read", None, detail=UNREADABLE)
        return None, None
    _check_report(facts, batch, checks)

    raw = submission["tariff"]
    tariff_hash = _tariff_hash(raw)
    checks.equal("the tariff is the one in force", tariff_hash, batch.tariff_in_force)
    checks.equal("the header names the tariff", bytes(header["tariffHash"]), tariff_hash)

    tariff = AuditTariff.unpack(dict(raw))
    try:
        totals, intervals = unpack_clearing(
            bytes(submission["clearing"]), tariff, header["intervalCount"]
        )
    except ValueError as error:
        checks.add("the clearing is complete", False, detail=str(error))
        return None, tariff
    results = check_intervals(totals, intervals, tariff, checks)
    checks.equal(
        "the certificates' totals are the ones the oracle signed",
        keccak(results.totals),
        bytes(submission["report"]["totalsHash"]),
    )
    checks.equal(
        "supplier, DSO and fund receive what the certificates add up to",
        (header["supplierNano"], header["networkFeesNano"], header["fundNano"]),
        (results.supplier, results.fees, results.fund),
    )
    checks.equal(
        "the prices follow from the rule", bytes(header["pricesHash"]), keccak(results.prices)
    )
    ledger = submission["ledger"]
    left, right = _root_children(ledger)
    checks.equal(
        "all accounts together receive nothing", (left[1] + right[1], left[2] + right[2]), (0, 0)
    )
    checks.equal(
        "the ledger root is its children's",
        (bytes(header["ledgerRoot"]), header["ledgerDepth"]),
        (ledger_node(left, right), ledger["depth"]),
    )
    given = ("tradesRoot", "bundleHash", "previousBatch")
    checks.equal(
        "the header names the trades, the bundle and the batch before that were submitted",
        [bytes(header[name]) for name in given],
        [bytes(submission[name]) for name in given],
    )
    return results, tariff


def gives_header(header: dict[str, Any], arguments: Mapping[str, Any]) -> bool:
    """Whether a call of submitBatch or submitCorrection is the one that a header was made of: all of it that counts later.

    Raises:
        ValueError: the clearing is none; and whatever else comes of bytes that somebody made up.
    """
    given, report = arguments["submission"], arguments["submission"]["report"]
    ledger = given["ledger"]
    cheap = (
        _report_hash({part["name"]: report[part["name"]] for part in _REPORT_TYPE}),
        _tariff_hash(given["tariff"]),
        (ledger_node(*_root_children(ledger)), ledger["depth"]),
        (bytes(given["tradesRoot"]), bytes(given["bundleHash"])),
        header_hash(dict(arguments["corrected"])) if "corrected" in arguments else ZERO,
    )
    if cheap != (
        bytes(header["reportHash"]),
        bytes(header["tariffHash"]),
        (bytes(header["ledgerRoot"]), header["ledgerDepth"]),
        (bytes(header["tradesRoot"]), bytes(header["bundleHash"])),
        bytes(header["correctedBatch"]),
    ):
        return False
    tariff = AuditTariff.unpack(dict(given["tariff"]))
    totals, intervals = unpack_clearing(bytes(given["clearing"]), tariff, header["intervalCount"])
    results = check_intervals(totals, intervals, tariff, Checks())
    return (
        keccak(results.totals) == bytes(report["totalsHash"])
        and keccak(results.prices) == bytes(header["pricesHash"])
        and (results.supplier, results.fees, results.fund)
        == (header["supplierNano"], header["networkFeesNano"], header["fundNano"])
    )


def _root_children(ledger: Mapping[str, Any]) -> tuple[Node, Node]:
    left = (bytes(ledger["left"]), *split_sums(ledger["leftSums"]))
    right = (bytes(ledger["right"]), *split_sums(ledger["rightSums"]))
    return left, right


def _tariff_hash(raw: Mapping[str, Any]) -> bytes:
    return tagged(
        "peerwatt.tariff.v2",
        ["uint32", "uint32", "uint32", "bytes32", "bytes32"],
        [
            raw["shareMillionths"],
            raw["nodeCount"],
            raw["chordCount"],
            keccak(b"".join(raw["groups"])),
            keccak(b"".join(raw["edges"])),
        ],
    )


def _check_place(
    facts: CommunityFacts, batch: SubmittedBatch, before: Sequence[SubmittedBatch], checks: Checks
) -> None:
    """Whether the batch stands where it should: after the one before, on its period or the one it corrects."""
    header, given = batch.header, facts.parameters
    newest = before[-1] if before else None
    checks.equal(
        "the batch names the one before it",
        (header["number"], bytes(header["previousBatch"])),
        (newest.number + 1, newest.header_hash) if newest else (1, genesis_hash(facts)),
    )
    follows = ("period", "version", "firstInterval", "nextPeriod", "nextInterval")
    due = (
        (newest.header["nextPeriod"], newest.header["nextInterval"])
        if newest
        else (given["firstPeriod"], given["firstInterval"])
    )
    ends = header["firstInterval"] + header["intervalCount"]
    if batch.corrected is None:
        expected = (due[0], 0, due[1], due[0] + 1, ends)
        checks.equal(
            "the batch settles the next period",
            (*(header[name] for name in follows), bytes(header["correctedBatch"])),
            (*expected, ZERO),
        )
    else:
        _check_correction(facts, batch, before, due, checks)
    over_at = ends * given["intervalSeconds"]
    checks.add(
        "the period was over when the batch was submitted",
        batch.submitted_at >= over_at,
        detail=f"submitted at {batch.submitted_at}, over at {over_at}",
    )


def _check_correction(
    facts: CommunityFacts,
    batch: SubmittedBatch,
    before: Sequence[SubmittedBatch],
    due: tuple[int, int],
    checks: Checks,
) -> None:
    header, given = batch.header, facts.parameters
    versions = [item for item in before if item.header["period"] == header["period"]]
    last = versions[-1] if versions else None
    names = ("version", "firstInterval", "intervalCount", "nextPeriod", "nextInterval")
    found = (*(header[name] for name in names), bytes(header["correctedBatch"]))
    expected = last and (
        last.header["version"] + 1,
        last.header["firstInterval"],
        last.header["intervalCount"],
        *due,
        last.header_hash,
    )
    checks.equal("the batch corrects the period's newest version", found, expected)
    if last is None:
        return
    final_at = last.submitted_at + given["challengeSeconds"]
    ends = header["firstInterval"] + header["intervalCount"]
    latest = ends * given["intervalSeconds"] + given["correctionSeconds"]
    checks.add(
        "the corrected batch was final, and the time for corrections not over",
        final_at <= batch.submitted_at <= latest,
        detail=f"submitted at {batch.submitted_at}, not between {final_at} and {latest}",
    )


def _check_report(facts: CommunityFacts, batch: SubmittedBatch, checks: Checks) -> None:
    report, header = batch.submission["report"], batch.header
    message = {part["name"]: report[part["name"]] for part in _REPORT_TYPE}
    signable = encode_typed_data(
        domain_data={
            "name": "Peerwatt",
            "version": "1",
            "chainId": facts.chain_id,
            "verifyingContract": facts.addresses["ReadingOracle"],
        },
        message_types={"OracleReport": _REPORT_TYPE},
        message_data=message,
    )
    checks.equal(
        "the header names the oracle's report",
        bytes(header["reportHash"]),
        _report_hash(message),
    )
    config = batch.submission["config"]
    digest = tagged(
        "peerwatt.oracle.config.v2",
        ["uint256", "address", "address", "uint256", "address[]"],
        [
            facts.chain_id,
            facts.addresses["ClearingHouse"],
            facts.addresses["ReadingOracle"],
            config["threshold"],
            config["signers"],
        ],
    )
    checks.add(
        "the report names signers that were announced on this chain for this community",
        digest in facts.config_digests and bytes(report["configDigest"]) == digest,
        detail=f"found 0x{bytes(report['configDigest']).hex()}, the signers given make 0x{digest.hex()}",
    )
    signers, threshold = set(config["signers"]), config["threshold"]
    found, unreadable = set(), 0
    for signature in batch.submission["signatures"]:
        try:
            found.add(Account.recover_message(signable, signature=bytes(signature)))
        except (ValueError, BadSignature):
            unreadable += 1
    checks.add(
        f"at least {threshold} of {len(signers)} oracle signers signed the report",
        found <= signers and len(found) >= threshold and not unreadable,
        count=len(found),
        detail=f"signed by {sorted(found)}; {unreadable} signature(s) are none",
    )
    shared = ("period", "version", "firstInterval", "intervalCount", "readingsRoot")
    checks.equal(
        "report and header name the same period and readings",
        [report[name] for name in shared],
        [header[name] for name in shared],
    )


def _report_hash(message: dict[str, Any]) -> bytes:
    return keccak(keccak(_type_text().encode()) + _encoded(message))


def _type_text() -> str:
    fields = ",".join(f"{part['type']} {part['name']}" for part in _REPORT_TYPE)
    return f"OracleReport({fields})"


def _encoded(message: dict[str, Any]) -> bytes:
    return b"".join(
        value if isinstance(value, bytes) else int(value).to_bytes(32, "big")
        for value in message.values()
    )
