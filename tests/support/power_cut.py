"""What a disk would have after a power cut: of a file's bytes and a folder's names only what was synced, whatever else the system still holds."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """Remembers what is synced while it watches (`watched`)."""

    def __init__(self) -> None:
        self._sync = os.fsync
        self._lock = threading.Lock()
        # By number of the inode: a file's time of writing, a folder's names with the inodes that they had.
        self._files: dict[int, int] = {}
        self._folders: dict[int, dict[str, int]] = {}

    def sync(self, handle: int) -> None:
        """Stands for `os.fsync`, and does that too."""
        with self._lock:
            found = os.fstat(handle)
            names = _names(Path(f"/proc/self/fd/{handle}"))
            self._sync(handle)
            if names is None:
                self._files[found.st_ino] = found.st_mtime_ns
            else:
                self._folders[found.st_ino] = names

    def left(self, folder: Path) -> set[str]:
        """Paths of the files below a folder that would be there: whole ones, and, marked with `!`, any that were removed or are torn."""
        found: set[str] = set()
        for name, inode in self._folders.get(folder.stat().st_ino, {}).items():
            path = folder / name
            if not path.exists() or path.stat().st_ino != inode:
                found.add(f"!{name}")
            elif path.is_dir():
                found |= {f"{name}/{below}" for below in self.left(path)}
            elif self._files.get(inode) == path.stat().st_mtime_ns:
                found.add(name)
            else:
                found.add(f"!{name}")
        return found


def present(folder: Path) -> set[str]:
    """Paths of the files below a folder as programs see them now."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@contextmanager
def watched() -> Iterator[Disk]:
    """A disk that watches what this process syncs."""
    disk = Disk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", disk.sync)
        yield disk


def _names(folder: Path) -> dict[str, int] | None:
    return {item.name: item.inode() for item in os.scandir(folder)} if folder.is_dir() else None
