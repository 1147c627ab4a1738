"""What is taken, known already, or refused, and why; the message as bytes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.errors import InputError, MalformedInput, ReadingRejected
from backend.domain.readings import Quality, RegisterReading, SignedReading
from backend.settlement.encoding import meter_reading_hash, typed_data_digest
from oracle.directory import FileDirectory, OwnKeys, SignerKind, refusal
from oracle.intake import Acknowledgement, Intake, count_codes
from oracle.meter import Meter
from oracle.signing import address_of, private_key, recover, sign_reading, sign_retraction
from oracle.store import ReadingStore
from oracle.wire import (
    RECORD_BYTES,
    address_bytes,
    pack,
    pack_all,
    records,
    recover_signers,
    struct_hash,
    unpack,
)
from tests.support.community import PAPER, secret

DOMAIN = PAPER.domain
KEY = private_key(secret("meter", 3))
GATEWAY = private_key(secret("gateway"))
NOW = 1_700_000_000
NEWEST = NOW // 900 - 1
SILENT = "0x" + "5e" * 20


def intake(store: ReadingStore, directory: FileDirectory | None = None) -> Intake:
    return Intake(store, directory or OwnKeys(), DOMAIN, clock=lambda: NOW)


def honest(count: int = 3) -> list[SignedReading]:
    meter = Meter(KEY, DOMAIN, 100, 5)
    return list(meter.run(NEWEST - count + 1, (7,) * count, (0,) * count))


def spoiled(**fields: int) -> SignedReading:
    return sign_reading(KEY, DOMAIN, replace(honest()[0].reading, **fields))  # type: ignore[arg-type]


class TestWire:
    @given(
        reading=st.builds(
            RegisterReading,
            st.just(address_of(KEY)),
            *[st.integers(0, 2**64 - 1)] * 4,
            quality=st.sampled_from(Quality),
        ),
        signature=st.binary(min_size=65, max_size=65),
    )
    def test_there_and_back(self, reading: RegisterReading, signature: bytes) -> None:
        signed = SignedReading(reading, signature)
        packed = pack(signed)
        assert len(packed) == RECORD_BYTES == 118
        assert unpack(packed) == signed
        (record,) = records(packed)
        assert struct_hash(record) == meter_reading_hash(reading)

    def test_signers_are_the_ones_that_the_slow_way_finds(self) -> None:
        readings = [*honest(), replace(honest()[0], signature=bytes(65))]
        found = recover_signers(DOMAIN, pack_all(readings))
        assert [signer for _, signer in found] == [address_bytes(address_of(KEY))] * 3 + [bytes(20)]

    @pytest.mark.parametrize("data", [b"x", bytes(RECORD_BYTES + 1)])
    def test_another_length(self, data: bytes) -> None:
        with pytest.raises(MalformedInput):
            records(data)
        with pytest.raises(MalformedInput):
            unpack(data)

    def test_an_unknown_quality(self) -> None:
        data = pack(honest()[0])
        with pytest.raises(MalformedInput, match="quality"):
            unpack(data[:52] + b"\x03" + data[53:])

    def test_a_number_that_does_not_fit(self) -> None:
        with pytest.raises(MalformedInput):
            pack(replace(honest()[0], reading=replace(honest()[0].reading, sequence=2**64)))


class TestTaking:
    def test_new_known_and_refused(self, store: ReadingStore) -> None:
        there = intake(store)
        good = honest()
        assert there.take(pack_all(good)) == Acknowledgement(taken=3)
        bad = replace(good[0], signature=good[1].signature)
        done = there.take(pack_all([good[2], bad]), "gateway")
        assert (done.taken, done.known) == (0, 1)
        assert [(item.index, item.code) for item in done.refused] == [(1, "signer")]
        (kept,) = store.rejections()
        assert (kept.source, kept.message) == ("gateway", pack(bad))
        assert kept.reason == done.refused[0].reason
        stored = list(store.readings(range(NEWEST - 2, NEWEST + 1)))
        assert [item.packed() for item in stored] == [pack(item) for item in good]

    @pytest.mark.parametrize(
        ("reading", "code"),
        [
            (spoiled(interval=NEWEST + 1), "clock"),
            (spoiled(import_register_wh=2**63), "range"),
            (spoiled(sequence=2**63), "range"),
            (spoiled(interval=2**64 - 1), "range"),
            (replace(honest()[0], signature=bytes(65)), "signature"),
            (sign_reading(GATEWAY, DOMAIN, honest()[0].reading), "signer"),
            (sign_reading(KEY, bytes(32), honest()[0].reading), "signer"),
        ],
        ids=["clock", "register", "sequence", "interval", "signature", "key", "domain"],
    )
    def test_refusals(self, store: ReadingStore, reading: SignedReading, code: str) -> None:
        there = intake(store)
        for _ in range(2):
            assert count_codes(there.take(pack(reading)).refused) == {code: 1}
        assert store.rejection_counts() == {code: 1}
        assert store.newest_interval() is None

    def test_an_unknown_quality_is_refused(self, store: ReadingStore) -> None:
        data = pack(honest()[0])
        done = intake(store).take(data[:52] + b"\x07" + data[53:])
        assert done.refused[0].code == "quality"

    def test_a_reading_as_its_interval_ends_is_taken_within_the_tolerance(
        self, store: ReadingStore
    ) -> None:
        reading = pack(spoiled(interval=NEWEST + 1))
        there = intake(store)
        ends = (NEWEST + 2) * 900
        there.clock = lambda: ends - 31
        assert there.take(reading).taken == 0
        there.clock = lambda: ends - 30
        assert there.take(reading).taken == 1

    def test_half_a_record_stores_nothing(self, store: ReadingStore) -> None:
        with pytest.raises(MalformedInput):
            intake(store).take(pack_all(honest())[:-1])
        assert store.newest_interval() is None

    def test_workers_find_the_same(self, store: ReadingStore) -> None:
        there = intake(store)
        with ThreadPoolExecutor(3) as there.workers:
            there.worker_count = 3
            bad = replace(honest()[0], signature=bytes(65))
            done = there.take(pack_all([bad, *honest(7)]))
        assert (done.taken, len(done.refused)) == (7, 1)
        assert done.refused[0].index == 0

    def test_a_retraction(self, store: ReadingStore) -> None:
        there = intake(store)
        reading = honest()[0].reading
        wrong = meter_reading_hash(reading)
        meter = address_bytes(reading.meter)
        signature = sign_retraction(KEY, DOMAIN, reading)
        assert there.take_retraction(meter, wrong, signature).taken == 1
        assert there.take_retraction(meter, wrong, signature).known == 1
        assert store.retractions() == {(meter, wrong, meter)}
        with pytest.raises(ReadingRejected):
            there.take_retraction(meter, wrong, bytes(65))


def directory(tmp_path: Path, *signers: dict[str, object], meter: str = SILENT) -> FileDirectory:
    path = tmp_path / "meters.json"
    entry = {"meter": meter, "signers": list(signers)}
    path.write_text(json.dumps({"format": "peerwatt/meters/1", "meters": [entry]}))
    return FileDirectory(path)


def one_meter(signers: str, more: str = "") -> str:
    return f'{{"meters": [{{"meter": "{SILENT}", "signers": [{signers}]{more}}}]}}'


class TestDirectory:
    def test_a_meter_that_cannot_sign(self, store: ReadingStore, tmp_path: Path) -> None:
        """The gateway signs, and the reading says so: its signer is not its meter."""
        held = {
            "signer": address_of(GATEWAY),
            "kind": "gateway",
            "from_interval": NEWEST - 1,
            "until_interval": NEWEST,
        }
        meters = directory(tmp_path, held)
        there = intake(store, meters)
        for interval, taken in ((NEWEST - 2, 0), (NEWEST - 1, 1), (NEWEST, 0)):
            reading = RegisterReading(to_checksum_address(SILENT), interval, 1, 2, 3)
            done = there.take(pack(sign_reading(GATEWAY, DOMAIN, reading)))
            assert done.taken == taken
        found = meters.record(address_bytes(SILENT))
        assert found is not None
        assert found.grants[0].kind is SignerKind.GATEWAY
        (stored,) = store.readings([NEWEST - 1])
        assert stored.signer != stored.meter

    def test_a_revoked_right_counts_in_no_interval(self, tmp_path: Path) -> None:
        meters = directory(
            tmp_path, {"signer": address_of(GATEWAY), "kind": "gateway", "revoked": True}
        )
        signer, meter = address_bytes(address_of(GATEWAY)), address_bytes(SILENT)
        assert "revoked" in str(refusal(meters, meter, signer, 5))
        assert "not registered" in str(refusal(meters, signer, signer, 5))
        assert "nor by anybody" in str(refusal(meters, meter, meter, 5))

    def test_is_read_again_when_it_changes(self, tmp_path: Path) -> None:
        meters = directory(tmp_path)
        assert not meters.reload()
        path = tmp_path / "meters.json"
        path.write_text('{"meters": []}')
        assert meters.reload()
        assert meters.record(address_bytes(SILENT)) is None

    @pytest.mark.parametrize(
        "text",
        [
            "[]",
            '{"meters": [{"meter": "0x12", "signers": []}]}',
            one_meter('{"signer": "x", "kind": "meter"}'),
            one_meter("", ', "register_modulus_wh": 0'),
            one_meter("").replace("]}]}", f']}}, {{"meter": "{SILENT}", "signers": []}}]}}'),
        ],
    )
    def test_a_file_that_is_none_changes_nothing(self, tmp_path: Path, text: str) -> None:
        meters = directory(tmp_path)
        (tmp_path / "meters.json").write_text(text)
        with pytest.raises(InputError):
            meters.reload()
        assert meters.record(address_bytes(SILENT)) is not None

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(MalformedInput):
            FileDirectory(tmp_path / "none.json")


def test_a_reading_signed_by_a_wallet_is_the_same(store: ReadingStore) -> None:
    """The struct that wallets sign is the one that the records are hashed as."""
    signed = honest()[0]
    ((digest, _),) = recover_signers(DOMAIN, pack(signed))
    assert recover(typed_data_digest(DOMAIN, digest), signed.signature) == address_of(KEY)
    assert intake(store).take(pack(signed)).taken == 1
