"""Everything that the chain alone shows of a batch."""

from __future__ import annotations

from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from .chain_reader import ChainReader, SubmittedBatch
from .hashing import ledger_node, split_sums, tagged
from .intervals import AuditTariff, IntervalResults, check_intervals, unpack_intervals
from .verdict import Checks

_REPORT_TYPE = [
    {"name": "period", "type": "uint64"},
    {"name": "version", "type": "uint32"},
    {"name": "firstInterval", "type": "uint64"},
    {"name": "intervalCount", "type": "uint32"},
    {"name": "readingsRoot", "type": "bytes32"},
    {"name": "totalsHash", "type": "bytes32"},
    {"name": "configDigest", "type": "bytes32"},
]


def check_chain(
    reader: ChainReader, batch: SubmittedBatch, previous: bytes, checks: Checks
) -> tuple[IntervalResults | None, AuditTariff]:
    """Everything that the chain alone shows."""
    header, submission = batch.header, batch.submission
    record = reader.clearing_house.functions.recordOf(header["period"]).call()
    checks.equal("the recorded hash is the header's", bytes(record[0]), batch.header_hash)
    checks.equal("the batch names the one before it", bytes(header["previousBatch"]), previous)
    _check_report(reader, batch, checks)

    raw = submission["tariff"]
    tariff_hash = tagged(
        "peerwatt.tariff.v1",
        ["uint32", "uint32", "bytes32", "bytes32"],
        [
            raw["shareMillionths"],
            raw["nodeCount"],
            keccak(b"".join(raw["groups"])),
            keccak(b"".join(raw["edges"])),
        ],
    )
    in_force = bytes(reader.tariff_book.functions.tariffHashAt(header["period"]).call())
    checks.equal("the tariff is the one in force", tariff_hash, in_force)
    checks.equal("the header names the tariff", bytes(header["tariffHash"]), tariff_hash)

    tariff = AuditTariff.unpack(dict(raw))
    try:
        intervals = unpack_intervals(
            bytes(submission["intervals"]), tariff, header["intervalCount"]
        )
    except ValueError as error:
        checks.add("the interval records are complete", False, detail=str(error))
        return None, tariff
    results = check_intervals(intervals, tariff, checks)
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
    packed = b"".join(
        discount.to_bytes(8, "big") + premium.to_bytes(8, "big")
        for discount, premium in results.steps
    )
    checks.equal("the prices follow from the rule", bytes(header["pricesHash"]), keccak(packed))
    ledger = submission["ledger"]
    left = (bytes(ledger["left"]), *split_sums(ledger["leftSums"]))
    right = (bytes(ledger["right"]), *split_sums(ledger["rightSums"]))
    checks.equal(
        "all accounts together receive nothing", (left[1] + right[1], left[2] + right[2]), (0, 0)
    )
    checks.equal(
        "the ledger root is its children's", bytes(header["ledgerRoot"]), ledger_node(left, right)
    )
    return results, tariff


def _check_report(reader: ChainReader, batch: SubmittedBatch, checks: Checks) -> None:
    report = batch.submission["report"]
    message = {part["name"]: report[part["name"]] for part in _REPORT_TYPE}
    signable = encode_typed_data(
        domain_data={
            "name": "Peerwatt",
            "version": "1",
            "chainId": reader.chain_id,
            "verifyingContract": reader.oracle.address,
        },
        message_types={"OracleReport": _REPORT_TYPE},
        message_data=message,
    )
    checks.equal(
        "the header names the oracle's report",
        bytes(batch.header["reportHash"]),
        keccak(keccak(text=_type_text()) + _encoded(message)),
    )
    signers = set(reader.oracle.functions.signers().call())
    threshold = reader.oracle.functions.threshold().call()
    found = {
        Account.recover_message(signable, signature=bytes(signature))
        for signature in batch.submission["signatures"]
    }
    checks.add(
        f"at least {threshold} of {len(signers)} oracle signers signed the report",
        found <= signers and len(found) >= threshold,
        count=len(found),
        detail=f"signed by {sorted(found)}",
    )
    checks.equal(
        "report and header name the same readings",
        bytes(report["readingsRoot"]),
        bytes(batch.header["readingsRoot"]),
    )


def _type_text() -> str:
    fields = ",".join(f"{part['type']} {part['name']}" for part in _REPORT_TYPE)
    return f"OracleReport({fields})"


def _encoded(message: dict[str, Any]) -> bytes:
    return b"".join(
        value if isinstance(value, bytes) else int(value).to_bytes(32, "big")
        for value in message.values()
    )


def check_vault(reader: ChainReader, cumulative: dict[int, int], checks: Checks) -> None:
    """Whether the vault could pay everything that can be withdrawn, all at once."""
    assert reader.vault is not None
    functions = reader.vault.functions
    token = reader.at("TestToken", functions.token().call())
    held = token.functions.balanceOf(reader.vault.address).call()
    owed = sum(functions.withdrawable(slot, amount).call() for slot, amount in cumulative.items())
    checks.add(
        "the vault holds at least what can be withdrawn",
        held >= owed,
        detail=f"{held} tokens held, {owed} withdrawable",
    )
