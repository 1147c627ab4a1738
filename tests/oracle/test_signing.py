"""Keys and signatures: EIP-712 as every wallet computes it, one form for each signature, no secret in any message."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.errors import InputError, MalformedInput, ReadingRejected
from backend.domain.readings import Quality, RegisterReading
from backend.settlement.encoding import (
    OracleReport,
    domain_separator,
    meter_reading_hash,
    typed_data_digest,
)
from oracle.signing import (
    SIGNATURE_BYTES,
    address_of,
    private_key,
    recover,
    retraction_digest,
    sign_digest,
    sign_reading,
    sign_report,
    sign_retraction,
)
from tests.support.community import secret
from tests.support.strategies import reports, unsigned

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DIGEST = keccak(b"something signed")
ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda data: "0x" + data.hex())


def wallet_message(
    chain_id: int, contract: str, primary: str, fields: list[tuple[str, str]], message: dict
) -> bytes:
    """The digest that a wallet shows and signs, from the names of the fields."""
    encoded = encode_typed_data(
        full_message={
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                primary: [{"name": name, "type": kind} for kind, name in fields],
            },
            "primaryType": primary,
            "domain": {
                "name": "Peerwatt",
                "version": "1",
                "chainId": chain_id,
                "verifyingContract": contract,
            },
            "message": message,
        }
    )
    return keccak(b"\x19" + encoded.version + encoded.header + encoded.body)


METER_READING = [
    ("address", "meter"),
    ("uint64", "interval"),
    ("uint64", "importRegisterWh"),
    ("uint64", "exportRegisterWh"),
    ("uint64", "sequence"),
    ("uint8", "quality"),
]
RETRACTION = [("address", "meter"), ("bytes32", "reading")]
ORACLE_REPORT = [
    ("uint64", "period"),
    ("uint32", "version"),
    ("uint64", "firstInterval"),
    ("uint32", "intervalCount"),
    ("bytes32", "readingsRoot"),
    ("bytes32", "totalsHash"),
    ("bytes32", "configDigest"),
]


@given(
    chain_id=unsigned(64),
    contract=ADDRESSES,
    meter=ADDRESSES,
    interval=unsigned(64),
    imported=unsigned(64),
    exported=unsigned(64),
    sequence=unsigned(64),
    quality=st.sampled_from(list(Quality)),
)
def test_a_readings_digest_is_the_wallets(
    chain_id: int,
    contract: str,
    meter: str,
    interval: int,
    imported: int,
    exported: int,
    sequence: int,
    quality: Quality,
) -> None:
    reading = RegisterReading(meter, interval, imported, exported, sequence, quality)
    ours = typed_data_digest(domain_separator(chain_id, contract), meter_reading_hash(reading))
    assert ours == wallet_message(
        chain_id,
        contract,
        "MeterReading",
        METER_READING,
        {
            "meter": meter,
            "interval": interval,
            "importRegisterWh": imported,
            "exportRegisterWh": exported,
            "sequence": sequence,
            "quality": int(quality),
        },
    )


@given(chain_id=unsigned(64), contract=ADDRESSES, report=reports())
def test_a_reports_digest_is_the_wallets(
    chain_id: int, contract: str, report: OracleReport
) -> None:
    ours = typed_data_digest(domain_separator(chain_id, contract), report.struct_hash())
    assert ours == wallet_message(
        chain_id,
        contract,
        "OracleReport",
        ORACLE_REPORT,
        {
            "period": report.period,
            "version": report.version,
            "firstInterval": report.first_interval,
            "intervalCount": report.interval_count,
            "readingsRoot": report.readings_root,
            "totalsHash": report.totals_hash,
            "configDigest": report.config_digest,
        },
    )


@given(data=st.binary(min_size=32, max_size=32), index=st.integers(0, 50))
def test_whoever_signed_is_recovered_by_us_and_by_others(data: bytes, index: int) -> None:
    key = private_key(secret("signing", index))
    signature = sign_digest(key, data)
    assert len(signature) == SIGNATURE_BYTES
    assert signature[64] in {27, 28}
    assert recover(data, signature) == address_of(key)
    assert Account._recover_hash(data, signature=signature) == address_of(key)
    assert sign_digest(key, data) == signature


def test_signatures_are_made_for_one_place_only() -> None:
    key = private_key(secret("meter"))
    reading = RegisterReading(address_of(key), 5, 6, 7, 8)
    here = domain_separator(1, "0x" + "11" * 20)
    for elsewhere in (domain_separator(2, "0x" + "11" * 20), domain_separator(1, "0x" + "12" * 20)):
        signed = sign_reading(key, elsewhere, reading)
        digest = typed_data_digest(here, meter_reading_hash(reading))
        assert recover(digest, signed.signature) != address_of(key)
    report = OracleReport(1, 0, 2, 3, DIGEST, DIGEST, DIGEST)
    signature = sign_report(key, here, report)
    assert recover(typed_data_digest(here, report.struct_hash()), signature) == address_of(key)
    other = replace(report, version=1)
    assert recover(typed_data_digest(here, other.struct_hash()), signature) != address_of(key)


def test_the_mirrored_signature_is_none() -> None:
    """(r, n - s) with the other v is as valid on the curve; only the lower s counts, so nobody can make a second one."""
    key = private_key(secret("meter"))
    signature = sign_digest(key, DIGEST)
    s = int.from_bytes(signature[32:64], "big")
    mirrored = signature[:32] + (CURVE_ORDER - s).to_bytes(32, "big")
    for v in (27, 28):
        with pytest.raises(ReadingRejected, match="canonical"):
            recover(DIGEST, mirrored + bytes([v]))


@pytest.mark.parametrize("length", [0, 1, 64, 66, 130])
def test_a_signature_of_another_length_is_none(length: int) -> None:
    with pytest.raises(ReadingRejected, match=f"signature has {length} bytes instead of 65"):
        recover(DIGEST, bytes(length))


@pytest.mark.parametrize("v", [0, 1, 26, 29, 35, 36, 255])
def test_another_recovery_number_is_none(v: int) -> None:
    signature = sign_digest(private_key(secret("meter")), DIGEST)
    with pytest.raises(ReadingRejected, match="canonical"):
        recover(DIGEST, signature[:64] + bytes([v]))


@pytest.mark.parametrize(
    ("r", "s"),
    [
        (0, 1),
        (1, 0),
        (0, 0),
        (CURVE_ORDER, 1),
        (2**256 - 1, 1),
        (5, 1),  # no point of the curve has this x
    ],
)
@pytest.mark.parametrize("v", [27, 28])
def test_numbers_that_are_no_signature(r: int, s: int, v: int) -> None:
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v])
    with pytest.raises(ReadingRejected) as raised:
        recover(DIGEST, signature)
    assert raised.value.remedy


@given(signature=st.binary(min_size=65, max_size=65), digest=st.binary(min_size=32, max_size=32))
def test_any_65_bytes_give_an_address_or_a_rejection(signature: bytes, digest: bytes) -> None:
    for v in (27, 28):
        with suppress(ReadingRejected):
            assert recover(digest, signature[:64] + bytes([v])).startswith("0x")


class TestPrivateKeys:
    def test_the_smallest_and_the_largest(self) -> None:
        one = private_key((1).to_bytes(32, "big"))
        assert address_of(one) == "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
        private_key((CURVE_ORDER - 1).to_bytes(32, "big"))

    @pytest.mark.parametrize(
        "given_secret",
        [
            b"",
            b"\x5a" * 31,
            b"\x5a" * 33,
            b"5a" * 32,
            bytes(32),
            CURVE_ORDER.to_bytes(32, "big"),
            b"\xff" * 32,
        ],
        ids=["empty", "short", "long", "hex text", "zero", "order", "above"],
    )
    def test_an_unsuitable_one_is_refused_without_being_shown(self, given_secret: bytes) -> None:
        with pytest.raises(MalformedInput) as raised:
            private_key(given_secret)
        error = raised.value
        assert isinstance(error, InputError)
        assert error.field == "private_key"
        assert "private_key" in error.message
        told = f"{error.message} {error.remedy} {error.as_dict()} {error.args} {error.value!r}"
        if given_secret.strip(b"\0"):
            assert given_secret.hex() not in told
            assert repr(given_secret) not in told
            assert str(int.from_bytes(given_secret, "big")) not in told
        assert f"{len(given_secret)} bytes" in error.message


def test_a_retraction_is_what_a_wallet_signs() -> None:
    key = private_key(secret("meter", 3))
    reading = RegisterReading(address_of(key), 7, 1, 2, 3)
    contract = "0x" + "0a" * 20
    domain = domain_separator(5, contract)
    message = {"meter": reading.meter, "reading": meter_reading_hash(reading)}
    digest = wallet_message(5, contract, "ReadingRetraction", RETRACTION, message)
    assert retraction_digest(domain, reading.meter, meter_reading_hash(reading)) == digest
    assert recover(digest, sign_retraction(key, domain, reading)) == reading.meter
