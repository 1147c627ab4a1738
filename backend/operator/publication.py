"""Publishing bundles to a folder: one folder a period, `public.json` and `personal/SLOT.json`."""

from __future__ import annotations

import os
from pathlib import Path

from backend.settlement.bundle import Bundle


def publish_bundle(folder: Path, bundle: Bundle) -> None:
    """Writes a bundle; the public part last, so that where it is, everything is.

    Args:
        folder: of the period; what an earlier attempt left there is replaced.
        bundle: what to publish.
    """
    personal = folder / "personal"
    personal.mkdir(parents=True, exist_ok=True)
    for path in personal.glob("*.json"):
        if int(path.stem) not in bundle.personal:
            path.unlink()
    for slot, part in bundle.personal.items():
        write_atomically(personal / f"{slot}.json", part)
    write_atomically(folder / "public.json", bundle.public)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file that is either there whole or not at all, whenever the process is killed."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
