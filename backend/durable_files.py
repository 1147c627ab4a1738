"""Files that are there whole or not at all, whenever the process is killed, and still there when the power was cut afterwards.

Syncing a file brings its bytes to disk, not its name: that is in its folder, which has to be synced too (fsync(2)), and so has the
folder above it where the folder is new.
"""

from __future__ import annotations

import errno
import glob
import os
import threading
from pathlib import Path


def write_atomically(path: Path, data: bytes, *, sync_name: bool = True) -> None:
    """Writes a file; its folder must be there.

    Args:
        path: where to; what is there is replaced.
        data: all of it.
        sync_name: False where many are written and the caller calls `sync_folder` once, after the last.
    """
    # Of two that write the same file at once each has its own, and the last one's stands.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        # Where the disk is full it must not stay full of what could not be written.
        temporary.unlink(missing_ok=True)
        raise
    if sync_name:
        sync_folder(path.parent)


def unfinished(path: Path) -> list[Path]:
    """What processes left that were killed while they wrote a file: it may be as secret as the file."""
    return list(path.parent.glob(glob.escape(path.name) + ".*.part"))


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it that are missing."""
    missing = [item for item in (folder, *folder.parents) if not item.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Brings to disk which files a folder has, and has no more."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        # File systems over a network that have no such thing say so, and look after names themselves.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
