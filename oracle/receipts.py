"""A member's receipt for a period, and how anybody checks it offline: what the meter signed, what was reported, who signed that.

The check needs nothing but the receipt. What it cannot know is which oracle the community has on chain: it shows the address of
the contract, the config digest and the report's hash, to be compared with the chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from eth_utils.address import to_checksum_address
from pydantic import Field

from backend.domain.errors import MalformedInput, ReadingRejected, UnknownReference
from backend.domain.readings import IntervalReading, Quality
from backend.domain.values import Value
from backend.settlement.encoding import (
    OracleReport,
    domain_separator,
    oracle_config_digest,
    readings_leaf,
    typed_data_digest,
)
from backend.settlement.forward import ForwardTrade
from backend.settlement.trees import ACCOUNT_DEPTH, PositionalTree, hash_node

from .assembly import AssembledReport, ReportedSlot
from .config import OracleConfig
from .directory import Address, MeterDirectory
from .signing import recover
from .store import ReadingStore
from .trade_books import TradedPeriod
from .wire import (
    RECORD_BYTES,
    TRADED_BYTES,
    VECTOR_BYTES,
    address_bytes,
    records,
    recover_signers,
    unpack_vector,
)


class ReceiptSigner(Value):
    """`signers[]`: who may sign for the meter by the oracle's registry, and what holds the key."""

    signer: Address
    kind: Literal["meter", "gateway", "collector"]
    from_interval: Annotated[int, Field(ge=0, lt=2**63)] = 0
    until_interval: Annotated[int, Field(ge=0, lt=2**63)] | None = None


class ReceiptTrade(Value):
    """`trades[]`: one of the member's trades before delivery, as both sides signed it."""

    interval: Annotated[int, Field(ge=0, lt=2**64)]
    seller_slot: Annotated[int, Field(ge=0, lt=2**20)]
    buyer_slot: Annotated[int, Field(ge=0, lt=2**20)]
    energy_wh: Annotated[int, Field(gt=0, lt=2**64)]
    price_nano_per_wh: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    fee_nano_per_wh: Annotated[int, Field(ge=0, lt=2**64)]


class Receipt(Value):
    """The file `peerwatt/reading-receipt/1`; bytes are hexadecimal."""

    format: Literal["peerwatt/reading-receipt/1"] = "peerwatt/reading-receipt/1"
    chain_id: Annotated[int, Field(ge=0)]
    clearing_house: Address
    oracle_contract: Address
    threshold: Annotated[int, Field(ge=1)]
    committee: tuple[Address, ...]
    meter: Address
    slot: Annotated[int, Field(ge=0, lt=2**20)]
    period: Annotated[int, Field(ge=0, lt=2**64)]
    version: Annotated[int, Field(ge=0, lt=2**32)]
    first_interval: Annotated[int, Field(ge=0, lt=2**64)]
    interval_count: Annotated[int, Field(ge=1, lt=2**32)]
    readings_root: str
    totals_hash: str
    vector: str
    salt: str
    proof: tuple[str, ...]
    signatures: tuple[str, ...]
    readings: tuple[str, ...]
    signers: tuple[ReceiptSigner, ...] = ()
    trades: tuple[ReceiptTrade, ...] = ()
    is_fee_account: bool = False


@dataclass(frozen=True, slots=True)
class ReceiptCheck:
    """What checking a receipt showed.

    Attributes:
        faults: what is wrong; none if the receipt holds.
        report_hash: EIP-712 struct hash of the report, as the chain has it.
        config_digest: of chain, contract and committee, as the chain has it.
        measured, substituted, missing: how many intervals.
        import_wh, export_wh: their sums, as reported: what was sold before delivery counts as import, what was bought as export.
        sold_wh, bought_wh: before delivery.
        traded_nano: what its trades brought; None where nobody trades before delivery.
        signed_by: who signed readings, by address; the meter itself or somebody for it.
        unchecked: intervals reported as measured although a register fell: rollover or exchange, which the registry of meters
            tells and the receipt does not.
        substituted_unchecked: intervals reported as substituted whose value does not follow from registers in the receipt.
        signers: what the receipt says of those who signed readings: to be compared with the registry of meters on chain.
    """

    faults: tuple[str, ...]
    report_hash: str
    config_digest: str
    measured: int
    substituted: int
    missing: int
    import_wh: int
    export_wh: int
    sold_wh: int
    bought_wh: int
    traded_nano: int | None
    signed_by: tuple[str, ...]
    unchecked: tuple[int, ...]
    substituted_unchecked: tuple[int, ...] = ()
    signers: tuple[ReceiptSigner, ...] = ()


def make_receipts(
    config: OracleConfig,
    assembled: AssembledReport,
    store: ReadingStore,
    directory: MeterDirectory | None = None,
    traded: TradedPeriod | None = None,
) -> Iterable[Receipt]:
    """A receipt for every slot of a report, with the signed readings that this store has and that were not taken back.

    Args:
        config: of the oracle.
        assembled: the report.
        store: of one signer.
        directory: who may sign for which meter; without it the receipts do not say.
        traded: the trades that the report counts, where members trade before delivery.

    Raises:
        UnknownReference: the configuration does not know a slot of the report.
    """
    report = assembled.report
    tree = PositionalTree(
        {
            slot: readings_leaf(slot, item.vector, item.salt)
            for slot, item in assembled.slots.items()
        }
    )
    committee = config.committee(report.period)
    meters = {item.slot: item.meter for item in config.members(report.period)}
    intervals = range(report.first_interval - 1, report.first_interval + report.interval_count)
    gone = store.retractions()
    for slot, item in sorted(assembled.slots.items()):
        if slot not in meters:
            raise UnknownReference(
                "members",
                slot,
                "a reported slot is not configured",
                "use the configuration of the signers",
            )
        meter = address_bytes(meters[slot])
        yield Receipt(
            chain_id=config.file.chain_id,
            clearing_house=to_checksum_address(config.file.clearing_house),
            oracle_contract=to_checksum_address(config.file.oracle_contract),
            threshold=committee.threshold,
            committee=committee.signers,
            meter=meters[slot],
            slot=slot,
            period=report.period,
            version=report.version,
            first_interval=report.first_interval,
            interval_count=report.interval_count,
            readings_root=_hex(report.readings_root),
            totals_hash=_hex(report.totals_hash),
            vector=_hex(item.vector),
            salt=_hex(item.salt),
            proof=tuple(_hex(part) for part in tree.proof(slot)),
            signatures=tuple(_hex(part) for part in assembled.signatures),
            readings=tuple(
                _hex(row.packed())
                for row in store.readings(intervals, meter, meter)
                if (row.meter, row.hash, row.signer) not in gone
            ),
            signers=_grants(directory, meter, intervals),
            trades=tuple(
                ReceiptTrade(**asdict(one))
                for one in (traded.trades if traded else ())
                if slot in (one.seller_slot, one.buyer_slot)
            ),
            is_fee_account=traded is not None and slot == traded.fee_slot,
        )


def _grants(
    directory: MeterDirectory | None, meter: bytes, intervals: range
) -> tuple[ReceiptSigner, ...]:
    record = directory and directory.record(meter)
    return tuple(
        ReceiptSigner(
            signer=to_checksum_address(grant.signer),
            kind=grant.kind.value,
            from_interval=grant.from_interval,
            until_interval=grant.until_interval,
        )
        for grant in (record.grants if record else ())
        if any(grant.covers(interval) for interval in (intervals[0], intervals[-1]))
    )


def check_receipt(receipt: Receipt) -> ReceiptCheck:
    """Checks a receipt: tree, signatures of the committee, signatures of the readings, and the energy between them.

    Raises:
        MalformedInput: a field is not hexadecimal, or of another length.
    """
    domain = domain_separator(receipt.chain_id, receipt.oracle_contract)
    digest = oracle_config_digest(
        receipt.chain_id,
        receipt.clearing_house,
        receipt.oracle_contract,
        receipt.threshold,
        sorted((to_checksum_address(item) for item in receipt.committee), key=address_bytes),
    )
    report = OracleReport(
        receipt.period,
        receipt.version,
        receipt.first_interval,
        receipt.interval_count,
        _bytes(receipt.readings_root, "readings_root", 32),
        _bytes(receipt.totals_hash, "totals_hash", 32),
        digest,
    )
    vector = _vector(receipt)
    item = ReportedSlot(receipt.slot, _bytes(receipt.salt, "salt", 32), vector)
    faults = [*_tree_faults(receipt, item), *_committee_faults(receipt, report, domain)]
    readings, traded_nano = unpack_vector(vector, receipt.interval_count)
    signed_by, unchecked, substituted, reading_faults = _reading_faults(receipt, readings, domain)
    sold, bought = _traded_wh(receipt)
    return ReceiptCheck(
        (*faults, *_trade_faults(receipt, traded_nano), *reading_faults),
        _hex(report.struct_hash()),
        _hex(digest),
        sum(entry.quality is Quality.MEASURED for entry in readings),
        sum(entry.quality is Quality.SUBSTITUTED for entry in readings),
        sum(entry.quality is Quality.MISSING for entry in readings),
        sum(entry.import_wh for entry in readings),
        sum(entry.export_wh for entry in readings),
        sum(sold.values()),
        sum(bought.values()),
        traded_nano,
        signed_by,
        unchecked,
        substituted,
        tuple(entry for entry in receipt.signers if to_checksum_address(entry.signer) in signed_by),
    )


def _tree_faults(receipt: Receipt, item: ReportedSlot) -> Iterable[str]:
    if len(receipt.proof) != ACCOUNT_DEPTH:
        yield f"proof: {len(receipt.proof)} entries instead of {ACCOUNT_DEPTH}"
        return
    node = readings_leaf(item.slot, item.vector, item.salt)
    for height, part in enumerate(receipt.proof):
        sibling = _bytes(part, f"proof[{height}]", 32)
        is_right = item.slot >> height & 1
        node = hash_node(sibling, node) if is_right else hash_node(node, sibling)
    if _hex(node) != receipt.readings_root.lower():
        yield "the readings are not in the report: leaf and proof do not lead to the readings root"


def _committee_faults(receipt: Receipt, report: OracleReport, domain: bytes) -> Iterable[str]:
    allowed = {to_checksum_address(item) for item in receipt.committee}
    digest = typed_data_digest(domain, report.struct_hash())
    signers = set()
    for index, text in enumerate(receipt.signatures):
        try:
            signer = recover(digest, _bytes(text, f"signatures[{index}]", 65))
        except ReadingRejected as error:
            yield f"signatures[{index}]: {error.message}"
            continue
        if signer in allowed:
            signers.add(signer)
        else:
            yield f"signatures[{index}]: made by {signer}, who is not of the committee"
    if len(signers) < receipt.threshold:
        yield f"{len(signers)} of the {receipt.threshold} signatures needed"


def _traded_wh(receipt: Receipt) -> tuple[Counter[int], Counter[int]]:
    """What the member sold and bought before delivery, by interval."""
    sold, bought = Counter[int](), Counter[int]()
    for one in receipt.trades:
        if one.seller_slot == receipt.slot:
            sold[one.interval] += one.energy_wh
        if one.buyer_slot == receipt.slot:
            bought[one.interval] += one.energy_wh
    return sold, bought


def _trade_faults(receipt: Receipt, traded_nano: int | None) -> Iterable[str]:
    inside = range(receipt.first_interval, receipt.first_interval + receipt.interval_count)
    brought = 0
    for index, one in enumerate(receipt.trades):
        trade = ForwardTrade(**one.model_dump())
        sides = trade.seller_slot == receipt.slot, trade.buyer_slot == receipt.slot
        if sum(sides) != 1 or trade.interval not in inside:
            yield f"trades[{index}]: not one of this member and period"
            continue
        brought += trade.energy_wh * (
            trade.earned_nano_per_wh if sides[0] else -trade.paid_nano_per_wh
        )
    # The account of the fees gets what all trades pay, which its owner alone must not see.
    if brought != (traded_nano or 0) and not receipt.is_fee_account:
        yield f"trades: they brought {brought} nano, reported is {traded_nano}"


def _reading_faults(
    receipt: Receipt, reported_readings: Sequence[IntervalReading], domain: bytes
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...], list[str]]:
    data = b"".join(
        _bytes(text, f"readings[{index}]", RECORD_BYTES)
        for index, text in enumerate(receipt.readings)
    )
    faults, signers = [], set()
    unchecked, substituted = [], []
    registers: dict[int, set[tuple[int, int]]] = {}
    meter = address_bytes(receipt.meter)
    for record, (_, signer) in zip(records(data), recover_signers(domain, data), strict=True):
        if not any(signer) or record.meter != meter:
            faults.append(f"reading of interval {record.interval}: not signed, or of another meter")
            continue
        signers.add(to_checksum_address(signer))
        registers.setdefault(record.interval, set()).add(record[2:4])
    sold, bought = _traded_wh(receipt)
    for interval, reported in enumerate(reported_readings, receipt.first_interval):
        if reported.quality is Quality.MISSING:
            continue
        steps = {
            (later[0] - earlier[0], later[1] - earlier[1])
            for earlier in registers.get(interval - 1, ())
            for later in registers.get(interval, ())
        }
        metered = reported.import_wh - sold[interval], reported.export_wh - bought[interval]
        if reported.quality is Quality.SUBSTITUTED:
            if metered not in steps:
                substituted.append(interval)
        elif not steps:
            faults.append(f"interval {interval}: reported as measured, but no registers are shown")
        elif any(min(step) < 0 for step in steps):
            unchecked.append(interval)
        elif metered not in steps:
            faults.append(
                f"interval {interval}: reported is not what the signed registers grew by and what was traded"
            )
    return tuple(sorted(signers)), tuple(unchecked), tuple(substituted), faults


def explain(check: ReceiptCheck, meter: str) -> Mapping[str, Any]:
    """The check as plain values, for people and programs."""
    own = to_checksum_address(meter)
    return {
        "right": not check.faults,
        "faults": list(check.faults),
        "report_hash": check.report_hash,
        "config_digest": check.config_digest,
        "measured": check.measured,
        "substituted": check.substituted,
        "missing": check.missing,
        "import_wh": check.import_wh,
        "export_wh": check.export_wh,
        "sold_wh": check.sold_wh,
        "bought_wh": check.bought_wh,
        "traded_nano": check.traded_nano,
        "signed_by_the_meter_itself": list(check.signed_by) == [own],
        "signed_by": list(check.signed_by),
        "signers": [entry.model_dump() for entry in check.signers],
        "unchecked": list(check.unchecked),
        "substituted_unchecked": list(check.substituted_unchecked),
    }


def _vector(receipt: Receipt) -> bytes:
    """The vector; behind it stands what trades brought, where members trade before delivery."""
    length = VECTOR_BYTES * receipt.interval_count
    longer = len(receipt.vector.removeprefix("0x")) > 2 * length
    return _bytes(receipt.vector, "vector", length + TRADED_BYTES * longer)


def _bytes(text: str, field: str, length: int) -> bytes:
    try:
        data = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        data = b""
    if len(data) != length:
        raise MalformedInput(
            field,
            text[:80],
            f"not {length} bytes in hexadecimal",
            "take the receipt as it was issued",
        )
    return data


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
