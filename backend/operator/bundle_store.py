"""Where bundles are kept: a folder, or an S3-compatible store. Every part is named by its own hash, so none ever changes.

    public/HASH.json     for everybody; HASH is the bundle hash that the batch names
    personal/HASH.json   for its owner; public.json has the hash
    statements/HASH.json for its owner: the same in words, by the hash of the personal part
    erased/HASH.json     what is left of a personal part that was erased

An object store that shows `public/` to everybody must keep the others to itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from eth_hash.auto import keccak

from backend.domain.errors import BundleStoreFailed, MalformedInput
from backend.durable_files import make_folder, sync_folder, unfinished, write_atomically
from backend.ledger.bundles import ReadPart, erased_part, stored_leaves, stored_report
from backend.ledger.cycle import StoredReport
from backend.settlement.bundle import Bundle
from backend.settlement.encoding import BatchHeader, LedgerLeaf


class ObjectStore(Protocol):
    """Keeps bytes under names."""

    def get(self, name: str) -> bytes | None:
        """What is kept; None if nothing is."""

    def put(self, name: str, data: bytes) -> None:
        """Keeps something; it is there when this returns."""

    def delete(self, name: str) -> None:
        """Removes something, if it is there; it is gone when this returns."""


class FolderStore:
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> bytes | None:
        """See `ObjectStore`."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(error) from error

    def put(self, name: str, data: bytes) -> None:
        """See `ObjectStore`."""
        path = self._folder / name
        try:
            make_folder(path.parent)
            write_atomically(path, data)
        except OSError as error:
            raise _failed(error) from error

    def delete(self, name: str) -> None:
        """See `ObjectStore`."""
        path = self._folder / name
        try:
            for item in (path, *unfinished(path)):
                item.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_folder(path.parent)
        except OSError as error:
            raise _failed(error) from error


class S3Store:
    """Objects in a bucket of Amazon S3 or a store that speaks its language (MinIO, Ceph, Garage).

    Args:
        bucket: which.
        prefix: in front of all names.
        endpoint_url: of the store; None for Amazon's.
        key_id, secret_key: credentials.
        region: as the store calls it.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        endpoint_url: str | None = None,
        key_id: str | None = None,
        secret_key: str | None = None,
        region: str = "us-east-1",
    ) -> None:
        try:
            import boto3
        except ModuleNotFoundError:
            raise MalformedInput(
                "bundles.s3", bucket, "boto3 is not installed", "install the extra `s3`"
            ) from None
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret_key,
            region_name=region,
        )

    def get(self, name: str) -> bytes | None:
        """See `ObjectStore`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            return bytes(found["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise _failed(error) from error
        except BotoCoreError as error:
            raise _failed(error) from error

    def put(self, name: str, data: bytes) -> None:
        """See `ObjectStore`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + name,
                Body=data,
                ContentType="application/json",
            )
        except (ClientError, BotoCoreError) as error:
            raise _failed(error) from error

    def delete(self, name: str) -> None:
        """See `ObjectStore`."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)
        except (ClientError, BotoCoreError) as error:
            raise _failed(error) from error


class BundleStore:
    """Bundles in an object store.

    Args:
        objects: where.
        writers: so many parts are written at once; a disk or store takes hundreds together nearly as quickly as one.
    """

    def __init__(self, objects: ObjectStore, writers: int = 16) -> None:
        self._objects = objects
        self._writers = writers

    def publish(self, bundle: Bundle) -> None:
        """Keeps a bundle; the public part last, so that where it is, everything is. Repeating it changes nothing.

        Raises:
            BundleStoreFailed: it could not be kept.
        """
        named = [(_name("personal", keccak(part)), part) for part in bundle.personal.values()]
        self._put_all(named)
        self._objects.put(_name("public", bundle.hash), bundle.public)

    def _put_all(self, named: Sequence[tuple[str, bytes]]) -> None:
        if self._writers == 1:
            for name, data in named:
                self._objects.put(name, data)
            return
        with ThreadPoolExecutor(self._writers) as pool:
            for _ in pool.map(lambda item: self._objects.put(*item), named):
                pass

    def public(self, bundle_hash: bytes) -> bytes | None:
        """A public part; None if it is not there."""
        return self._objects.get(_name("public", bundle_hash))

    def personal(self, bundle_hash: bytes, slot: int) -> bytes | None:
        """A slot's personal part; None if there is none (any more)."""
        found = self._personal_hash(bundle_hash, slot)
        return self._objects.get(_name("personal", found)) if found else None

    def leaves(self, header: BatchHeader) -> dict[int, LedgerLeaf]:
        """A batch's accounts.

        Raises:
            BundleUnavailable: a part is missing, or is not what the chain commits to.
        """
        return stored_leaves(
            self._reader(header), lambda h: self._objects.get(_name("erased", h)), header
        )

    def report(self, header: BatchHeader) -> StoredReport | None:
        """The report that a batch rests on, but for slots whose part is missing or was erased; None if it is not here."""
        return stored_report(self._reader(header), header)

    def _reader(self, header: BatchHeader) -> ReadPart:
        def read(part_hash: bytes) -> bytes | None:
            kind = "public" if part_hash == header.bundle_hash else "personal"
            return self._objects.get(_name(kind, part_hash))

        return read

    def add_statements(self, bundle_hash: bytes, statements: Mapping[int, bytes]) -> None:
        """Keeps statements by slot."""
        hashes = self._personal_hashes(bundle_hash)
        self._put_all(
            [(_name("statements", hashes[slot]), statements[slot]) for slot in statements]
        )

    def statement(self, bundle_hash: bytes, slot: int) -> bytes | None:
        """A slot's statement; None if there is none (yet, or any more)."""
        found = self._personal_hash(bundle_hash, slot)
        return self._objects.get(_name("statements", found)) if found else None

    def erase(self, bundle_hash: bytes, slot: int) -> bool:
        """Removes a slot's personal part and statement, but for the account in the ledger tree; returns whether there was one."""
        found = self._personal_hash(bundle_hash, slot)
        part = self._objects.get(_name("personal", found)) if found else None
        if found is None or part is None:
            return False
        self._objects.put(_name("erased", found), erased_part(part))
        self._objects.delete(_name("statements", found))
        self._objects.delete(_name("personal", found))
        return True

    def whole_slots(self, header: BatchHeader) -> frozenset[int]:
        """Slots whose personal part is there as it was published; one that was erased an auditor would take for altered."""
        slots = self._personal_hashes(header.bundle_hash)
        return frozenset(slot for slot in slots if self.personal(header.bundle_hash, slot))

    def export(
        self, header: BatchHeader, folder: Path, slots: frozenset[int] | None = frozenset()
    ) -> Iterator[Path]:
        """Writes a bundle as `peerwatt audit` reads it: `NUMBER/public.json`, `NUMBER/personal/SLOT.json`.

        Args:
            header: of the batch.
            folder: where to.
            slots: whose personal parts; None for all.
        """
        public = self.public(header.bundle_hash)
        if public is None:
            return
        target = folder / str(header.number)
        for text, part_hash in json.loads(public)["personal_hashes"].items():
            if slots is not None and int(text) not in slots:
                continue
            named = bytes.fromhex(part_hash[2:])
            part = self._objects.get(_name("personal", named)) or self._objects.get(
                _name("erased", named)
            )
            if part is not None:
                path = target / "personal" / f"{int(text)}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, part, sync_name=False)
                yield path
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "public.json", public)
        yield target / "public.json"

    def _personal_hash(self, bundle_hash: bytes, slot: int) -> bytes | None:
        return self._personal_hashes(bundle_hash).get(slot)

    def _personal_hashes(self, bundle_hash: bytes) -> dict[int, bytes]:
        hashes = json.loads(self.public(bundle_hash) or b"{}").get("personal_hashes", {})
        return {int(slot): bytes.fromhex(text[2:]) for slot, text in hashes.items()}


def _name(kind: str, part_hash: bytes) -> str:
    return f"{kind}/{part_hash.hex()}.json"


def _failed(error: Exception) -> BundleStoreFailed:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
    return BundleStoreFailed(
        f"bundles cannot be kept or read: {reason or type(error).__name__}",
        "see that folder or store is there, writable and not full; the coordinator goes on by itself",
    )
