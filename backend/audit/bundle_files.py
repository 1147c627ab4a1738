"""Where an audit has bundles from: a folder, a web server, a member's own file. Nothing is read that is larger than it may be."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urljoin

from backend.domain.errors import MalformedInput
from backend.durable_files import write_atomically
from oracle import bounded_http

from .bundle_format import PERSONAL_FORMAT, Unreadable, parse, read_personal, read_public
from .facts import SubmittedBatch
from .forward import OWN_TRADES_FORMAT, read_book
from .hashing import keccak

PUBLIC_LIMIT_BYTES = 512 * 1024 * 1024
PERSONAL_LIMIT_BYTES = 64 * 1024 * 1024


class NotShown(Exception):
    """A part of a bundle that nobody showed; says why."""


@dataclass(frozen=True)
class BundleFiles:
    """The bundles at hand.

    Attributes:
        folder: with `NUMBER/public.json` and `NUMBER/personal/SLOT.json`, and where members trade before delivery
            `trade-books/FIRST_INTERVAL.json` and `trade-books/FIRST_INTERVAL/SLOT.json`; None without.
        own: files of personal parts that were given besides, by batch number and slot.
        own_books: files of own trades that were given besides, by first interval and slot.
        refused: why a part could not be fetched, by its path below the folder.
    """

    folder: Path | None
    own: Mapping[tuple[int, int], Path] = field(default_factory=dict)
    own_books: Mapping[tuple[int, int], Path] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def public(self, number: int) -> bytes:
        """The public part of a batch.

        Raises:
            NotShown: it is not there.
        """
        return self._read(f"{number}/public.json", PUBLIC_LIMIT_BYTES)

    def personal(self, number: int, slot: int) -> bytes:
        """An account's part.

        Raises:
            NotShown: it is not there.
        """
        given = self.own.get((number, slot))
        if given is not None:
            return _read_file(given, PERSONAL_LIMIT_BYTES, given.name)
        return self._read(f"{number}/personal/{slot}.json", PERSONAL_LIMIT_BYTES)

    def book(self, first_interval: int) -> bytes:
        """The trade book that was committed for some intervals.

        Raises:
            NotShown: it is not there.
        """
        return self._read(f"trade-books/{first_interval}.json", PUBLIC_LIMIT_BYTES)

    def own_trades(self, first_interval: int, slot: int) -> bytes:
        """An account's trades of it.

        Raises:
            NotShown: they are not there.
        """
        given = self.own_books.get((first_interval, slot))
        if given is not None:
            return _read_file(given, PERSONAL_LIMIT_BYTES, given.name)
        return self._read(f"trade-books/{first_interval}/{slot}.json", PERSONAL_LIMIT_BYTES)

    def _read(self, name: str, limit: int) -> bytes:
        if self.folder is None:
            raise NotShown("no bundle was given")
        if name in self.refused:
            raise NotShown(self.refused[name])
        return _read_file(self.folder / name, limit, name)


def _read_file(path: Path, limit: int, name: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise NotShown(f"{name} has {size} bytes, more than {limit}; it was not read")
        return path.read_bytes()
    except OSError as error:
        raise NotShown(f"{name}: {error.strerror}") from None


def fetch_bundles(
    url: str,
    batches: list[SubmittedBatch],
    only: frozenset[int] | None,
    folder: Path,
    timeout_seconds: float = 30,
    progress: Callable[[str], None] = lambda line: None,
    books: Sequence[int] = (),
    deadline: float = math.inf,
) -> BundleFiles:
    """Copies what a server shows of some batches into a folder. What is there already, and has the hash it must have, is not
    asked for again.

    Args:
        url: below it are `NUMBER/public.json` and `NUMBER/personal/SLOT.json`.
        batches: which.
        only: slots whose personal parts are asked for; None for all.
        folder: where to.
        timeout_seconds: longest silence of the server.
        progress: told what is being done.
        books: first intervals of the trade books that are wanted.
        deadline: when to give up, as `time.monotonic` counts; what is not there by then is not shown.
    """
    copy = _Copy(url if url.endswith("/") else url + "/", folder, timeout_seconds, deadline)
    for batch in batches:
        progress(f"fetching the bundle of batch {batch.number}")
        named = bytes(batch.header["bundleHash"])
        data = copy.fetch(f"{batch.number}/public.json", PUBLIC_LIMIT_BYTES, named)
        if data is None:
            continue
        try:
            hashes = read_public(data).personal_hashes
        except Unreadable:
            continue  # named when it is checked
        copy.fetch_all(
            {
                f"{batch.number}/personal/{slot}.json": hashes[slot]
                for slot in sorted(hashes if only is None else hashes.keys() & only)
            }
        )
    if books:
        progress(f"fetching {len(books)} trade book(s)")
    # One that is hidden must not hide the others from somebody who may see them all.
    wanted = {f"trade-books/{first}.json": None for first in books}
    if not copy.fetch_all(wanted, persist=only is None):
        for slot in sorted(only or ()):
            own = {f"trade-books/{first}/{slot}.json": None for first in books}
            copy.fetch_all(own, persist=True)
    return BundleFiles(folder, refused=copy.refused)


@dataclass
class _Copy:
    """A folder's copy of what a server shows.

    Attributes:
        refused: why a part could not be fetched, by its path below the folder.
    """

    base: str
    folder: Path
    timeout_seconds: float
    deadline: float
    refused: dict[str, str] = field(default_factory=dict)

    def fetch(self, name: str, limit: int, named: bytes | None) -> bytes | None:
        """One part; None if it is refused.

        Args:
            name: below the folder.
            limit: longest.
            named: hash that it should have; None where that is not known.
        """
        kept = self._kept(name, named)
        if kept is not None:
            return kept
        try:
            data = self._download(urljoin(self.base, name), limit)
        except NotShown as reason:
            self.refused[name] = str(reason)
            return None
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data, sync_name=False)
        return data

    def fetch_all(self, wanted: Mapping[str, bytes | None], *, persist: bool = False) -> bool:
        """Several parts by name with the hashes that they should have; whether all are there."""
        for name, named in wanted.items():
            if self.fetch(name, PERSONAL_LIMIT_BYTES, named) is None and not persist:
                # Who is not shown one is not shown the others; nobody asks a server a thousand times in vain.
                why = self.refused[name]
                missing = (other for other in wanted if self._kept(other, wanted[other]) is None)
                self.refused.update(dict.fromkeys(missing, why))
                return False
        return not self.refused.keys() & wanted.keys()

    def _kept(self, name: str, named: bytes | None) -> bytes | None:
        """What is in the folder, if it is that."""
        path = self.folder / name
        if named is None or not path.is_file():
            return None
        data = path.read_bytes()
        return data if keccak(data) == named else None

    def _download(self, url: str, limit: int) -> bytes:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise NotShown(f"{url}: not asked for, the server took too long over the others")
        try:
            answer = bounded_http.fetch(
                "GET", url, {}, timeout_seconds=left, limit_bytes=limit,
                silence_seconds=self.timeout_seconds,
            )  # fmt: skip
        except bounded_http.ExchangeFailed as error:
            raise NotShown(f"{url} {error}") from None
        if answer.status != HTTPStatus.OK:
            raise NotShown(f"{url} answers {answer.status}")
        return answer.body


@dataclass(frozen=True)
class MemberFiles:
    """What a member brings along.

    Attributes:
        slots: its slots, where its files name them.
        accounts: addresses of its wallets in lower case, where it brings their keystores.
        own: personal parts by batch number and slot.
        own_books: own trades before delivery by first interval and slot.
    """

    slots: frozenset[int]
    accounts: frozenset[str]
    own: dict[tuple[int, int], Path]
    own_books: dict[tuple[int, int], Path]


def read_member(path: Path) -> MemberFiles:
    """A member's own file: a personal part, its trades before delivery, a folder of these, or its wallet's keystore, which is not
    decrypted: it tells which account is meant.

    Raises:
        MalformedInput: it is none of these.
    """
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    slots, accounts = set(), set()
    own: dict[tuple[int, int], Path] = {}
    own_books: dict[tuple[int, int], Path] = {}
    for file in files:
        try:
            data = _read_file(file, PERSONAL_LIMIT_BYTES, file.name)
            value = parse(data)
            if isinstance(value, dict) and value.get("format") == PERSONAL_FORMAT:
                part = read_personal(data)
                slots.add(part.place[5])
                own[part.place[2], part.place[5]] = file
            elif isinstance(value, dict) and value.get("format") == OWN_TRADES_FORMAT:
                book = read_book(data)
                assert book.slot is not None
                slots.add(book.slot)
                own_books[book.first_interval, book.slot] = file
            elif isinstance(value, dict) and isinstance(value.get("address"), str):
                accounts.add("0x" + value["address"].lower().removeprefix("0x"))
            else:
                raise Unreadable("neither a personal part nor a keystore")
        except (NotShown, Unreadable, ValueError) as error:
            raise MalformedInput(
                str(file), str(error), "no member's file",
                "give your personal part of a bundle, a folder of them, or your wallet's keystore",
            ) from None  # fmt: skip
    if not files:
        raise MalformedInput(str(path), "", "has no file", "give your part of a bundle")
    return MemberFiles(frozenset(slots), frozenset(accounts), own, own_books)
