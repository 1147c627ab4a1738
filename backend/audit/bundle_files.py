"""Where an audit has bundles from: a folder, a web server, a member's own file. Nothing is read that is larger than it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import requests

from backend.domain.errors import MalformedInput

from .bundle_format import PERSONAL_FORMAT, Unreadable, parse, read_personal, read_public
from .facts import SubmittedBatch
from .forward import OWN_TRADES_FORMAT, read_book

PUBLIC_LIMIT_BYTES = 512 * 1024 * 1024
PERSONAL_LIMIT_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1 << 18


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
) -> BundleFiles:
    """Copies what a server shows of some batches into a folder.

    Args:
        url: below it are `NUMBER/public.json` and `NUMBER/personal/SLOT.json`.
        batches: which.
        only: slots whose personal parts are asked for; None for all.
        folder: an empty one.
        timeout_seconds: longest silence of the server.
        progress: told what is being done.
        books: first intervals of the trade books that are wanted.
    """
    refused: dict[str, str] = {}
    session = requests.Session()
    base = url if url.endswith("/") else url + "/"

    def fetch(name: str, limit: int) -> bytes | None:
        try:
            data = _download(session, urljoin(base, name), limit, timeout_seconds)
        except NotShown as reason:
            refused[name] = str(reason)
            return None
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return data

    def fetch_all(wanted: Iterable[str], *, persist: bool = False) -> bool:
        names = list(wanted)
        for place, name in enumerate(names):
            if fetch(name, PERSONAL_LIMIT_BYTES) is None and not persist:
                # Who is not shown one is not shown the others; nobody asks a server a thousand times in vain.
                refused.update(dict.fromkeys(names[place:], refused[name]))
                return False
        return not refused.keys() & set(names)

    for batch in batches:
        progress(f"fetching the bundle of batch {batch.number}")
        data = fetch(f"{batch.number}/public.json", PUBLIC_LIMIT_BYTES)
        if data is None:
            continue
        try:
            slots = set(read_public(data).personal_hashes)
        except Unreadable:
            continue  # named when it is checked
        fetch_all(
            f"{batch.number}/personal/{slot}.json"
            for slot in sorted(slots if only is None else slots & only)
        )
    if books:
        progress(f"fetching {len(books)} trade book(s)")
    # One that is hidden must not hide the others from somebody who may see them all.
    if not fetch_all((f"trade-books/{first}.json" for first in books), persist=only is None):
        for slot in sorted(only or ()):
            fetch_all((f"trade-books/{first}/{slot}.json" for first in books), persist=True)
    return BundleFiles(folder, refused=refused)


def _download(session: requests.Session, url: str, limit: int, timeout_seconds: float) -> bytes:
    data = bytearray()
    try:
        with session.get(url, timeout=timeout_seconds, stream=True) as answer:
            if answer.status_code != requests.codes.ok:
                raise NotShown(f"{url} answers {answer.status_code}")
            for chunk in answer.iter_content(_CHUNK_BYTES):
                data += chunk
                if len(data) > limit:
                    raise NotShown(f"{url} gives more than {limit} bytes; it was not read")
    except requests.Timeout:
        raise NotShown(f"{url} gives no answer within {timeout_seconds} s") from None
    except requests.RequestException as error:
        raise NotShown(f"{url}: {type(error).__name__}") from None
    return bytes(data)


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
