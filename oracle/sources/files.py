"""Files of readings: one file, a folder on a NAS, or a folder behind HTTP.

As in the Svalin set-up, where a NAS beside the meters keeps what the cloud delivered and the oracle reads it there. Each file is
CSV, XLSX (`tabular.py`), `.ocmf` (a record a line, `ocmf.py`) or `.jsonl` (a smart-me device object a line, `smart_me.py`).
Folders are looked through again and again; a file that changed is read anew, and what was known already does no harm.
Behind HTTP the folder has a file `index.txt` with a name a line; the ETag spares fetching what did not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Annotated
from urllib.parse import quote
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from pydantic import Field

from backend.domain.errors import MalformedInput, PeerwattError, SourceUnavailable
from backend.domain.values import Value

from . import http
from .base import (
    ConnectionTest,
    Delivery,
    Item,
    Page,
    Refusal,
    failed_test,
    guarded,
    json_object,
    time_zone,
)
from .ocmf import decode_ocmf, public_key
from .smart_me import decode_device
from .tabular import decode_csv, decode_xlsx

SUFFIXES = (".csv", ".xlsx", ".ocmf", ".jsonl")
_FILE_LIMIT_BYTES = 512 * 1024 * 1024
_BATCH_ITEMS = 10_000
_INDEX = "index.txt"


@dataclass(slots=True)
class FileFormat:
    """How files are read.

    Attributes:
        zone: of times without offset in tables.
        keys: public keys of meters that sign their own records, by serial number.
    """

    zone: ZoneInfo | None = None
    keys: Mapping[str, EllipticCurvePublicKey] = field(default_factory=dict)

    def decode(self, name: str, data: bytes) -> Iterator[Item]:
        """The items of a file, by its suffix.

        Raises:
            MalformedInput: an unknown suffix, or a table without a header.
        """
        match Path(name).suffix.lower():
            case ".csv":
                return decode_csv(data, self.zone)
            case ".xlsx":
                return decode_xlsx(data, self.zone)
            case ".ocmf":
                return self._lines(data, lambda line: decode_ocmf(line, self.keys))
            case ".jsonl":
                return self._lines(data, _device_line)
        raise MalformedInput(
            name, Path(name).suffix, "unknown kind of file", f"name it {', '.join(SUFFIXES)}"
        )

    @staticmethod
    def _lines(data: bytes, decode: Callable[[bytes], tuple[Item, ...]]) -> Iterator[Item]:
        for number, line in enumerate(data.splitlines(), start=1):
            if not line.strip():
                continue
            for item in decode(line):
                if isinstance(item, Refusal):
                    reason = f"row {number}: {item.reason}"
                    yield Refusal(item.device, item.code, reason, item.message, number)
                else:
                    yield item


def _device_line(line: bytes) -> tuple[Item, ...]:
    def decode() -> Iterable[Item]:
        fields = {name.lower(): value for name, value in json_object(line).items()}
        return decode_device(fields)

    return guarded(decode, line)


def _begun_line(name: str, data: bytes) -> bytes:
    """The end of a table that somebody may still be writing into the folder: a register could have lost digits.

    In the other kinds of file a line that is cut off is none.
    """
    if Path(name).suffix.lower() != ".csv" or data.endswith((b"\n", b"\r")):
        return b""
    return data[max(data.rfind(b"\n"), data.rfind(b"\r")) + 1 :]


class Settings(Value):
    """Fields of a source of kind `files`."""

    location: str
    time_zone: str | None = None
    public_keys: Annotated[dict[str, str], Field(default_factory=dict)]
    username: str | None = None
    password_file: str | None = None
    poll_seconds: Annotated[float, Field(gt=0)] = 60

    def open(self, name: str, folder: Path) -> Files:
        """The source; a path is as seen from the configuration's folder."""
        keys = {serial: public_key(text) for serial, text in self.public_keys.items()}
        remote = self.location.startswith(("http://", "https://"))
        return Files(
            self.location if remote else str(folder / self.location),
            FileFormat(time_zone(self.time_zone), keys),
            self.poll_seconds,
            http.credentials(folder, None, self.username, self.password_file),
            name,
        )


class Files:
    """A file, or a folder, on disk or behind HTTP.

    Args:
        location: path or URL.
        form: how files are read.
        poll_seconds: how often a folder is looked through; a single file is read once.
        authorization: HTTP's header of that name.
        name: of the source.
    """

    def __init__(
        self,
        location: str,
        form: FileFormat,
        poll_seconds: float = 60,
        authorization: str | None = None,
        name: str = "files",
    ) -> None:
        self.name = name
        self._location = location.rstrip("/")
        self._form = form
        self._poll_seconds = poll_seconds
        self._authorization = authorization
        # What was read already, by file: size and time on disk, ETag behind HTTP.
        self._stamps: dict[str, str] = {}

    @property
    def _is_remote(self) -> bool:
        return self._location.startswith(("http://", "https://"))

    @property
    def _is_one_file(self) -> bool:
        return not self._is_remote and Path(self._location).is_file()

    def test_connection(self) -> ConnectionTest:
        """Lists the files, and reads the first items of the newest."""
        try:
            names = self._names()
            if not names:
                return ConnectionTest(False, f"{self._location}: no file of {', '.join(SUFFIXES)}")
            data, _ = self._fetch(names[-1])
            items = [
                item
                for item in islice(self._form.decode(names[-1], data or b""), 1000)
                if not isinstance(item, Page)
            ]
        except PeerwattError as error:
            return failed_test(error)
        refused = [item for item in items if isinstance(item, Refusal)]
        devices = {item.device for item in items if not isinstance(item, Refusal)}
        detail = f"{len(names)} files; {names[-1]}: {len(items) - len(refused)} of {len(items)} rows usable"
        if refused:
            detail += f", the first other one: {refused[0].reason}"
        return ConnectionTest(bool(devices), detail, tuple(sorted(devices)))

    def deliveries(self, stop: Event) -> Iterator[Delivery]:
        """The rows of every file that is new or changed."""
        while not stop.is_set():
            for name in self._names():
                yield from self._file(name)
            if self._is_one_file:
                return
            stop.wait(self._poll_seconds)

    def _file(self, name: str) -> Iterator[Delivery]:
        data, stamp = self._fetch(name)
        if data is None:
            return
        begun = b"" if self._is_one_file else _begun_line(name, data)
        try:
            items = self._form.decode(name, data[: len(data) - len(begun)])
            # The stamp is noted with the last batch: a file that was cut off is read again.
            while batch := tuple(islice(items, _BATCH_ITEMS)):
                yield Delivery(batch)
        except MalformedInput as error:
            yield Delivery((Refusal("", "format", f"{name}: {error.message}", data[:1024]),))
        if begun:
            reason = f"{name}: the last row does not end with a line break, as if it were still being written"
            yield Delivery((Refusal("", "cut_off", reason, begun),))
        self._stamps[name] = stamp

    def _names(self) -> list[str]:
        if self._is_remote:
            answer = http.get(f"{self._location}/{_INDEX}", self._authorization)
            if answer.status != 200:
                raise SourceUnavailable(
                    f"{http.shown(self._location)}/{_INDEX} answers {answer.status}",
                    "put the names of the files there, one a line",
                )
            names = [line.strip() for line in answer.body.decode("utf-8", "replace").splitlines()]
        else:
            path = Path(self._location)
            if path.is_file():
                return [path.name]
            try:
                names = [entry.name for entry in path.iterdir() if entry.is_file()]
            except OSError as error:
                raise SourceUnavailable(
                    f"{path}: {error.strerror}", "mount the folder, or mend its rights"
                ) from None
        return sorted(name for name in names if name.lower().endswith(SUFFIXES) and "/" not in name)

    def _fetch(self, name: str) -> tuple[bytes | None, str]:
        """A file's bytes and stamp; no bytes if it was read already."""
        known = self._stamps.get(name, "")
        if self._is_remote:
            answer = http.get(f"{self._location}/{quote(name)}", self._authorization, known)
            return (answer.body, answer.tag) if answer.status == 200 else (None, known)
        path = Path(self._location)
        path = path if path.is_file() else path / name
        try:
            status = path.stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
            if stamp == known:
                return None, known
            if status.st_size > _FILE_LIMIT_BYTES:
                raise MalformedInput(name, status.st_size, "larger than 512 MiB", "split it")
            return path.read_bytes(), stamp
        except OSError as error:
            raise SourceUnavailable(f"{path}: {error.strerror}", "mend its rights") from None
