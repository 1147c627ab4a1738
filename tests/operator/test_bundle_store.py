"""Bundles by their content: in a folder and in a real S3 server; erasure of one member leaves everybody else's proofs valid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from eth_hash.auto import keccak
from moto.server import ThreadedMotoServer

from backend.audit.hashing import from_hex, plain_root_above, readings_leaf
from backend.domain.errors import BundleStoreFailed, BundleUnavailable
from backend.ledger.bundles import ERASED_FORMAT
from backend.operator.bundle_store import BundleStore, FolderStore, ObjectStore, S3Store
from backend.operator.statements import make_statement
from backend.settlement.batch import Batch
from backend.settlement.bundle import Bundle
from tests.support.community import PAPER, Community, energy_of, period_number

ERASED = 4


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A server that speaks S3, in this process but over HTTP."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bundles")
    yield url
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "bundles")
    url = request.getfixturevalue("s3")
    return S3Store("bundles", tmp_path.name, url, "id", "secret")


@pytest.fixture
def published(paper: Community) -> tuple[Batch, Bundle]:
    period = period_number(0)
    batch = paper.paper_batch(period, energy_of(0))
    return batch, paper.bundle(batch, period, PAPER)


def proof_holds(batch: Batch, part: dict[str, Any]) -> bool:
    """Whether a member's readings are in the oracle's tree, by the auditor's own hashing."""
    leaf = readings_leaf(part["slot"], from_hex(part["readings"]), from_hex(part["readings_salt"]))
    proof = [from_hex(item) for item in part["readings_proof"]]
    # Empty siblings at the end are left out of the file.
    proof += [bytes(32)] * (20 - len(proof))
    return plain_root_above(leaf, part["slot"], proof) == batch.header.readings_root


def test_what_is_published_is_found_by_its_hash(
    objects: ObjectStore, published: tuple[Batch, Bundle]
) -> None:
    batch, bundle = published
    store = BundleStore(objects)
    assert store.public(bundle.hash) is None
    assert store.personal(bundle.hash, 3) is None
    with pytest.raises(BundleUnavailable):
        store.leaves(batch.header)
    store.publish(bundle)
    store.publish(bundle)
    assert store.public(bundle.hash) == bundle.public
    assert {slot: store.personal(bundle.hash, slot) for slot in bundle.personal} == bundle.personal
    assert store.leaves(batch.header) == dict(batch.leaves)


def test_erasing_a_member_leaves_everybody_elses_proofs_valid(
    objects: ObjectStore, published: tuple[Batch, Bundle], tmp_path: Path
) -> None:
    batch, bundle = published
    store = BundleStore(objects)
    store.publish(bundle)
    store.add_statements(
        bundle.hash,
        {slot: make_statement(bundle.public, part) for slot, part in bundle.personal.items()},
    )
    assert store.erase(bundle.hash, ERASED)
    assert not store.erase(bundle.hash, ERASED)
    assert store.personal(bundle.hash, ERASED) is None
    assert store.statement(bundle.hash, ERASED) is None
    assert store.whole_slots(batch.header) == set(bundle.personal) - {ERASED}
    # The public part, and so the hash on the chain, is what it was; nobody else's part has changed.
    assert store.public(bundle.hash) == bundle.public
    for slot, part in bundle.personal.items():
        if slot == ERASED:
            continue
        assert store.personal(bundle.hash, slot) == part
        data = json.loads(part)
        if "readings" in data:
            assert proof_holds(batch, data)
    # The ledger can still be rebuilt, and its root is still the chain's.
    assert store.leaves(batch.header) == dict(batch.leaves)
    written = list(store.export(batch.header, tmp_path / "export", None))
    left = json.loads((tmp_path / "export/1/personal" / f"{ERASED}.json").read_text())
    assert left["format"] == ERASED_FORMAT
    assert set(left) == {
        "format", "batch_number", "slot", "amount_nano", "cumulative_nano", "readings_commitment", "ledger_salt"
    }  # fmt: skip
    # Nothing of its readings is anywhere.
    own = json.loads(bundle.personal[ERASED])
    everything = b"".join(path.read_bytes() for path in written)
    for secret in (own["readings"], own["readings_salt"], own["member"]):
        assert secret.encode() not in everything


def test_what_was_tampered_with_is_noticed(published: tuple[Batch, Bundle], tmp_path: Path) -> None:
    batch, bundle = published
    store = BundleStore(FolderStore(tmp_path))
    store.publish(bundle)
    named = json.loads(bundle.public)["personal_hashes"]["3"]
    path = tmp_path / "personal" / f"{named[2:]}.json"
    path.write_bytes(path.read_bytes().replace(b'"slot":3', b'"slot":4'))
    with pytest.raises(BundleUnavailable, match="slot 3"):
        store.leaves(batch.header)


def test_a_false_account_of_an_erased_member_is_noticed(
    published: tuple[Batch, Bundle], tmp_path: Path
) -> None:
    """The hash of what is left is nowhere; the ledger root decides."""
    batch, bundle = published
    store = BundleStore(FolderStore(tmp_path))
    store.publish(bundle)
    store.erase(bundle.hash, 3)
    (path,) = (tmp_path / "erased").iterdir()
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"amount_nano": data["amount_nano"] + 1}))
    with pytest.raises(BundleUnavailable, match="ledger root"):
        store.leaves(batch.header)


def test_a_statement_says_what_the_personal_part_comes_to(
    paper: Community, published: tuple[Batch, Bundle]
) -> None:
    batch, bundle = published
    for slot in (3, 4, 5, 6, 7):
        data = json.loads(make_statement(bundle.public, bundle.personal[slot]))
        assert data["due_nano"] == data["amount_nano"] == batch.due_nano[slot]
        energy = energy_of(0)[slot]
        assert data["import_wh"] == sum(taken for taken, _ in energy)
        prices = paper.market.groups[
            paper.market.group_index[paper.member(slot).node, paper.member(slot).tariff_class]
        ]
        outside = sum(
            (given - taken)
            * (
                prices.import_price_nano_per_wh
                if given < taken
                else prices.export_price_nano_per_wh
            )
            for taken, given in energy
        )
        assert data["outside_nano"] == outside
        # Nobody is worse off than outside.
        assert data["saved_nano"] == batch.due_nano[slot] - outside >= 0
    supplier = json.loads(make_statement(bundle.public, bundle.personal[0]))
    assert "due_nano" not in supplier


def test_a_store_that_fails_says_so(tmp_path: Path, published: tuple[Batch, Bundle]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleStoreFailed):
        BundleStore(FolderStore(tmp_path / "file")).publish(published[1])
    gone = S3Store("bundles", "", "http://127.0.0.1:1", "id", "secret")
    with pytest.raises(BundleStoreFailed):
        gone.get("public/x")
    assert keccak(published[1].public) == published[1].hash
