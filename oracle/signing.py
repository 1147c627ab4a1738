"""Keys and EIP-712 signatures of meters and oracle signers (secp256k1; eth-keys on libsecp256k1 where it is installed)."""

from __future__ import annotations

from eth_keys.datatypes import PrivateKey, Signature
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from backend.domain.errors import MalformedInput, ReadingRejected
from backend.domain.readings import RegisterReading, SignedReading
from backend.settlement.encoding import OracleReport, meter_reading_hash, typed_data_digest

_CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SIGNATURE_BYTES = 65


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
    remedy = "sign the EIP-712 digest anew and send r || s || v"
    if len(signature) != SIGNATURE_BYTES:
        raise ReadingRejected(
            f"signature has {len(signature)} bytes instead of {SIGNATURE_BYTES}", remedy
        )
    r, s, v = (
        int.from_bytes(signature[:32], "big"),
        int.from_bytes(signature[32:64], "big"),
        signature[64] - 27,
    )
    if s > _CURVE_ORDER // 2 or v not in (0, 1):
        raise ReadingRejected("signature is not in canonical form", remedy)
    try:
        key = Signature(vrs=(v, r, s)).recover_public_key_from_msg_hash(digest)
    except (BadSignature, ValidationError, ValueError) as error:
        raise ReadingRejected(f"signature is not valid: {error}", remedy) from None
    return str(key.to_checksum_address())


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
