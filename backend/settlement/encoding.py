"""The one byte encoding of everything that is hashed or signed (docs/protocol.md).

Integers are big-endian; signed ones two's complement. Words are 32 bytes, as Solidity's `abi.encode` lays them out, so each
hash here equals the contract's hash of the same value; `tests/contracts/test_libraries.py` holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from eth_hash.auto import keccak

from backend.domain.readings import IntervalReading, RegisterReading

EMPTY = bytes(32)


@cache
def tag(name: str) -> bytes:
    """The 32 bytes that keep one kind of preimage from passing for another."""
    return keccak(name.encode())


BATCH_TAG = tag("peerwatt.batch.v2")
BATCH_CONTENTS_TAG = tag("peerwatt.batch.contents.v2")
GENESIS_TAG = tag("peerwatt.genesis.v2")
ORACLE_CONFIG_TAG = tag("peerwatt.oracle.config.v2")
LEDGER_LEAF_TAG = tag("peerwatt.ledger.leaf.v1")
LEDGER_NODE_TAG = tag("peerwatt.ledger.node.v1")
READINGS_LEAF_TAG = tag("peerwatt.readings.leaf.v1")
TREE_NODE_TAG = tag("peerwatt.tree.node.v1")
TRADE_LEAF_TAG = tag("peerwatt.trade.leaf.v1")
SALT_TAG = tag("peerwatt.salt.v1")

DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
METER_READING_TYPE = (
    "MeterReading(address meter,uint64 interval,uint64 importRegisterWh,uint64 exportRegisterWh,"
    "uint64 sequence,uint8 quality)"
)
ORACLE_REPORT_TYPE = (
    "OracleReport(uint64 period,uint32 version,uint64 firstInterval,uint32 intervalCount,"
    "bytes32 readingsRoot,bytes32 totalsHash,bytes32 configDigest)"
)
MEMBERSHIP_TYPE = (
    "Membership(uint256 slot,address account,uint32 fromPeriod,uint16 node,uint8 tariffClass,"
    "uint8 collateralSteps)"
)
DEPARTURE_TYPE = "Departure(uint256 slot,uint32 untilPeriod)"
_METER_READING_TYPEHASH = tag(METER_READING_TYPE)
_ORACLE_REPORT_TYPEHASH = tag(ORACLE_REPORT_TYPE)


def word(value: int) -> bytes:
    """A non-negative integer as 32 bytes.

    Raises:
        OverflowError: negative, or more than 256 bits.
    """
    return value.to_bytes(32, "big")


def signed_word(value: int) -> bytes:
    """A signed integer as 32 bytes, sign-extended."""
    return value.to_bytes(32, "big", signed=True)


def address_word(address: str) -> bytes:
    """An address as 32 bytes, zeros in front."""
    return bytes.fromhex(address.removeprefix("0x")).rjust(32, b"\0")


# --- EIP-712 ---------------------------------------------------------------------------------------------------------


def domain_separator(chain_id: int, verifying_contract: str) -> bytes:
    """EIP-712 domain separator of name `Peerwatt`, version `1`."""
    return keccak(
        tag(DOMAIN_TYPE)
        + tag("Peerwatt")
        + tag("1")
        + word(chain_id)
        + address_word(verifying_contract)
    )


def typed_data_digest(domain: bytes, struct_hash: bytes) -> bytes:
    """What is signed: EIP-712's keccak256(0x1901 || domain separator || struct hash)."""
    return keccak(b"\x19\x01" + domain + struct_hash)


def meter_reading_hash(reading: RegisterReading) -> bytes:
    """EIP-712 struct hash of a meter's register reading."""
    return keccak(
        _METER_READING_TYPEHASH
        + address_word(reading.meter)
        + word(reading.interval)
        + word(reading.import_register_wh)
        + word(reading.export_register_wh)
        + word(reading.sequence)
        + word(reading.quality)
    )


@dataclass(frozen=True, slots=True)
class OracleReport:
    """What k of n oracle signers state about one period.

    Attributes:
        period: consecutive number.
        version: 0, or one more for each correction.
        first_interval: index since the Unix epoch.
        interval_count: number of intervals.
        readings_root: root of the readings tree.
        totals_hash: hash of the groups' demand and supply in each interval.
        config_digest: which chain, oracle contract, signers and threshold.
    """

    period: int
    version: int
    first_interval: int
    interval_count: int
    readings_root: bytes
    totals_hash: bytes
    config_digest: bytes

    def struct_hash(self) -> bytes:
        """EIP-712 struct hash."""
        return keccak(
            _ORACLE_REPORT_TYPEHASH
            + word(self.period)
            + word(self.version)
            + word(self.first_interval)
            + word(self.interval_count)
            + self.readings_root
            + self.totals_hash
            + self.config_digest
        )


def oracle_config_digest(
    chain_id: int, clearing_house: str, oracle_contract: str, threshold: int, signers: Sequence[str]
) -> bytes:
    """Digest of an oracle configuration, as `ReadingOracle` computes it.

    Args:
        signers: addresses in ascending order.
    """
    return keccak(
        ORACLE_CONFIG_TAG
        + word(chain_id)
        + address_word(clearing_house)
        + address_word(oracle_contract)
        + word(threshold)
        + word(6 * 32)  # where the array begins
        + word(len(signers))
        + b"".join(address_word(signer) for signer in signers)
    )


def membership_hash(
    slot: int,
    account: str,
    from_period: int,
    node: int,
    tariff_class: int,
    collateral_steps: int,
) -> bytes:
    """EIP-712 struct hash of what a member signs to be admitted."""
    return keccak(
        tag(MEMBERSHIP_TYPE)
        + word(slot)
        + address_word(account)
        + word(from_period)
        + word(node)
        + word(tariff_class)
        + word(collateral_steps)
    )


def departure_hash(slot: int, until_period: int) -> bytes:
    """EIP-712 struct hash of what a member signs to leave."""
    return keccak(tag(DEPARTURE_TYPE) + word(slot) + word(until_period))


# --- Readings --------------------------------------------------------------------------------------------------------


def pack_readings(readings: Iterable[IntervalReading], traded_nano: int | None = None) -> bytes:
    """Per interval 16 bytes: import uint56, export uint56, quality uint16; then int128 what trades brought, if there were any."""
    packed = b"".join(
        reading.import_wh.to_bytes(7, "big")
        + reading.export_wh.to_bytes(7, "big")
        + int(reading.quality).to_bytes(2, "big")
        for reading in readings
    )
    return packed if traded_nano is None else packed + traded_nano.to_bytes(16, "big", signed=True)


def readings_leaf(slot: int, packed_readings: bytes, salt: bytes) -> bytes:
    """A member's leaf in the readings tree."""
    return keccak(READINGS_LEAF_TAG + word(slot) + keccak(packed_readings) + salt)


# --- Ledger ----------------------------------------------------------------------------------------------------------


def pack_sums(amount_nano: int, cumulative_nano: int) -> bytes:
    """Two signed 128-bit sums in one word: this period's amount, cumulative amount."""
    return amount_nano.to_bytes(16, "big", signed=True) + cumulative_nano.to_bytes(
        16, "big", signed=True
    )


@dataclass(frozen=True, slots=True)
class LedgerLeaf:
    """One account in the ledger tree.

    Attributes:
        slot: the account's position.
        amount_nano: what it receives (negative: pays) in this period.
        cumulative_nano: what it has received since the community began.
        readings_commitment: its leaf in the readings tree; zero for an account without a meter.
        salt: 32 bytes.
    """

    slot: int
    amount_nano: int
    cumulative_nano: int
    readings_commitment: bytes
    salt: bytes

    @property
    def sums(self) -> bytes:
        """Amount and cumulative in one word."""
        return pack_sums(self.amount_nano, self.cumulative_nano)

    def hash(self) -> bytes:
        """The leaf's hash."""
        return keccak(
            LEDGER_LEAF_TAG + word(self.slot) + self.sums + self.readings_commitment + self.salt
        )


def trade_leaf(
    interval: int, seller_slot: int, buyer_slot: int, energy_wh: int, fee_nano: int, salt: bytes
) -> bytes:
    """A trade's leaf in the trades tree."""
    return keccak(
        TRADE_LEAF_TAG
        + word(interval)
        + word(seller_slot)
        + word(buyer_slot)
        + word(energy_wh)
        + word(fee_nano)
        + salt
    )


def derive_salt(key: bytes, purpose: str, period: int, version: int, index: int) -> bytes:
    """A salt that whoever holds `key` can make again and nobody else can guess; deleting the key erases."""
    return keccak(SALT_TAG + key + tag(purpose) + word(period) + word(version) + word(index))


# --- Batch -----------------------------------------------------------------------------------------------------------

# The last bytes of a batch hash are zero: the chain keeps the time of submission there.
_TIME_BYTES = 5


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """What a batch commits to; fields as in `contracts/src/types/Batch.sol`."""

    number: int
    period: int
    version: int
    first_interval: int
    interval_count: int
    next_period: int
    next_interval: int
    previous_batch: bytes
    corrected_batch: bytes
    report_hash: bytes
    readings_root: bytes
    tariff_hash: bytes
    prices_hash: bytes
    ledger_root: bytes
    ledger_depth: int
    trades_root: bytes
    bundle_hash: bytes
    supplier_nano: int
    network_fees_nano: int
    fund_nano: int

    def contents_hash(self) -> bytes:
        """Hash of all fields."""
        return keccak(
            BATCH_CONTENTS_TAG
            + word(self.number)
            + word(self.period)
            + word(self.version)
            + word(self.first_interval)
            + word(self.interval_count)
            + word(self.next_period)
            + word(self.next_interval)
            + self.previous_batch
            + self.corrected_batch
            + self.report_hash
            + self.readings_root
            + self.tariff_hash
            + self.prices_hash
            + self.ledger_root
            + word(self.ledger_depth)
            + self.trades_root
            + self.bundle_hash
            + signed_word(self.supplier_nano)
            + signed_word(self.network_fees_nano)
            + signed_word(self.fund_nano)
        )

    def hash(self) -> bytes:
        """The batch hash, which the chain stores: 27 bytes of keccak256, then five zero bytes."""
        whole = keccak(
            BATCH_TAG
            + word(self.number)
            + word(self.next_period)
            + self.ledger_root
            + word(self.ledger_depth)
            + self.contents_hash()
        )
        return whole[:-_TIME_BYTES] + bytes(_TIME_BYTES)


def genesis_hash(
    chain_id: int, clearing_house: str, first_period: int, first_interval: int
) -> bytes:
    """What the first batch names as the one before it."""
    return keccak(
        GENESIS_TAG
        + word(chain_id)
        + address_word(clearing_house)
        + word(first_period)
        + word(first_interval)
    )
