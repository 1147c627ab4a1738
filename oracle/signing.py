"""Keys and EIP-712 signatures of meters and oracle signers (secp256k1, by libsecp256k1)."""

from __future__ import annotations

from coincurve import PublicKey

# The C extension itself: the general wrapper costs several times the hash.
from eth_hash.backends.pysha3 import keccak256
from eth_keys.datatypes import PrivateKey
from eth_utils.address import to_checksum_address

from backend.domain.errors import MalformedInput, ReadingRejected
from backend.domain.readings import RegisterReading, SignedReading
from backend.settlement.encoding import (
    OracleReport,
    address_word,
    meter_reading_hash,
    tag,
    typed_data_digest,
)

_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER = (_CURVE_ORDER // 2).to_bytes(32, "big")
SIGNATURE_BYTES = 65
ADDRESS_BYTES = 20
RETRACTION_TYPE = "ReadingRetraction(address meter,bytes32 reading)"
_RETRACTION_TYPEHASH = tag(RETRACTION_TYPE)


def private_key(secret: bytes) -> PrivateKey:
    """A private key from its 32 bytes.

    Raises:
        MalformedInput: not 32 bytes, zero, or not below the order of the curve; the secret is not shown.
    """
    if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < _CURVE_ORDER:
        raise MalformedInput(
            "private_key",
            f"<{len(secret)} bytes>",
            "not a secp256k1 private key",
            "give 32 bytes (64 hexadecimal digits), not zero and below the order of the curve",
        )
    return PrivateKey(secret)


def address_of(key: PrivateKey) -> str:
    """Checksummed address of a key."""
    return str(key.public_key.to_checksum_address())


def sign_digest(key: PrivateKey, digest: bytes) -> bytes:
    """R || s || v with v 27 or 28, as `ecrecover` takes it; deterministic (RFC 6979)."""
    signature: bytes = key.sign_msg_hash(digest).to_bytes()
    return signature[:64] + bytes([27 + signature[64]])


def recover(digest: bytes, signature: bytes) -> str:
    """Who signed.

    Returns:
        Checksummed address.

    Raises:
        ReadingRejected: no valid signature; a high s (EIP-2) counts as none, so that a signature has one form only.
    """
    return to_checksum_address(recover_address(digest, signature))


def recover_address(digest: bytes, signature: bytes) -> bytes:
    """As `recover`, the address as 20 bytes; what thousands of readings a second go through.

    Recovering, not verifying against a key known beforehand: that would leave v unchecked, and the contracts recover.
    """
    remedy = "sign the EIP-712 digest anew and send r || s || v"
    if len(signature) != SIGNATURE_BYTES:
        raise ReadingRejected(
            f"signature has {len(signature)} bytes instead of {SIGNATURE_BYTES}", remedy
        )
    v = signature[64] - 27
    # Big-endian bytes of one length compare as the numbers do.
    if signature[32:64] > _HALF_ORDER or v not in (0, 1):
        raise ReadingRejected("signature is not in canonical form", remedy)
    try:
        key = PublicKey.from_signature_and_message(signature[:64] + bytes([v]), digest, hasher=None)
    except ValueError as error:
        raise ReadingRejected(f"signature is not valid: {error}", remedy) from None
    return keccak256(key.format(compressed=False)[1:])[12:]


def sign_reading(key: PrivateKey, domain: bytes, reading: RegisterReading) -> SignedReading:
    """A meter's signature over its reading.

    Args:
        domain: EIP-712 domain separator of the community's ReadingOracle contract.
    """
    return SignedReading(
        reading, sign_digest(key, typed_data_digest(domain, meter_reading_hash(reading)))
    )


def sign_report(key: PrivateKey, domain: bytes, report: OracleReport) -> bytes:
    """An oracle signer's signature over a report."""
    return sign_digest(key, typed_data_digest(domain, report.struct_hash()))


def retraction_hash(meter: str, reading_hash: bytes) -> bytes:
    """EIP-712 struct hash of a retraction: meter, and struct hash of the reading it takes back."""
    return keccak256(_RETRACTION_TYPEHASH + address_word(meter) + reading_hash)


def retraction_digest(domain: bytes, meter: str, reading_hash: bytes) -> bytes:
    """What is signed to take back a reading."""
    return typed_data_digest(domain, retraction_hash(meter, reading_hash))


def sign_retraction(key: PrivateKey, domain: bytes, reading: RegisterReading) -> bytes:
    """A signature that takes back a reading, so that another for the same interval counts."""
    return sign_digest(key, retraction_digest(domain, reading.meter, meter_reading_hash(reading)))
