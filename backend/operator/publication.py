"""Publishing bundles to a folder: one folder a period, `public.json` and `personal/SLOT.json`."""

from __future__ import annotations

from pathlib import Path

from backend.durable_files import make_folder, sync_folder, write_atomically
from backend.settlement.bundle import Bundle


def publish_bundle(folder: Path, bundle: Bundle) -> None:
    """Writes a bundle; the public part last, so that where it is, everything is.

    Args:
        folder: of the period; what an earlier attempt left there is replaced.
        bundle: what to publish.
    """
    personal = folder / "personal"
    make_folder(personal)
    for path in personal.glob("*.json"):
        if int(path.stem) not in bundle.personal:
            path.unlink()
    for slot, part in bundle.personal.items():
        write_atomically(personal / f"{slot}.json", part, sync_name=False)
    sync_folder(personal)
    write_atomically(folder / "public.json", bundle.public)
