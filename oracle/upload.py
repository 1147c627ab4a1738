"""Bulk upload: a file of registers read once, signed by the configured collector, each refused row told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from backend.domain.errors import MalformedInput

from .collector import Collector
from .config import load_config
from .keystore import load_key
from .node import OracleNode
from .sources.base import IntervalEnergy, Item, Page, Refusal, time_zone
from .sources.files import SUFFIXES, FileFormat, Files
from .sources.http import secret
from .sources.ocmf import public_key
from .store import MissingPages


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file.

    Attributes:
        new: sightings that were not known.
        known: those that were.
        signed: readings made of them.
        refused: rows that cannot be used.
        taken_back: readings whose place corrections take.
        missing_pages: gaps between the numbered records of the source's devices.
    """

    new: int
    known: int
    signed: int
    refused: tuple[Refusal, ...]
    taken_back: int = 0
    missing_pages: tuple[MissingPages, ...] = ()


def import_file(
    config_path: Path, file: Path, source: str, is_correction: bool = False
) -> Imported:
    """Reads a file as the source of that name would.

    Args:
        config_path: of the oracle.
        file: `.csv`, `.xlsx`, `.ocmf` or `.jsonl`.
        source: whose devices they are; its zone and public keys are used if it is configured.
        is_correction: the registers take the place of what was there; readings made of that are taken back.

    Raises:
        InputError: the configuration has no collector, or the file is none.
        StoreUnavailable: not all was stored; importing again is right.
    """
    config = load_config(config_path)
    if config.file.collector is None:
        raise MalformedInput(
            "collector", None, "not configured", "name the collector's keystore and its devices"
        )
    if not file.is_file() or file.suffix.lower() not in SUFFIXES:
        raise MalformedInput(
            str(file), file.suffix, "no file of readings", f"name a file of {', '.join(SUFFIXES)}"
        )
    entry = next(
        (item for item in config.file.sources if item.get("name", item.get("kind")) == source), {}
    )
    keys = {serial: public_key(text) for serial, text in entry.get("public_keys", {}).items()}
    reader = Files(str(file), FileFormat(time_zone(entry.get("time_zone")), keys), name=source)
    node = OracleNode.open(config)
    refused: list[Refusal] = []
    collector = Collector(
        load_key(
            config.path(config.file.collector.keystore),
            secret(config.folder, config.file.password_file) or "",
        ),
        node.intake,
        config.devices(),
        config.file.collector.tolerance_seconds,
        config.file.correction_days,
        on_refusal=refused.append,
    )
    try:
        new = total = taken_back = 0
        for delivery in reader.deliveries(Event()):
            items = [item for item in delivery.items if not isinstance(item, Page)]
            total += len(items)
            if is_correction:
                _check_registers(items, file)
                taken_back += collector.correct(source, items)
            else:
                new += collector.accept(source, delivery.items)
        signed = collector.sign_due()
        missing = tuple(item for item in node.store.missing_pages() if item.source == source)
    finally:
        node.store.close()
    known = 0 if is_correction else total - new - len(refused)
    new = total - len(refused) if is_correction else new
    return Imported(new, known, signed, tuple(refused), taken_back, missing)


def _check_registers(items: Iterable[Item], file: Path) -> None:
    """Energies by time follow from one another: a corrected one would move every register after it."""
    if any(isinstance(item, IntervalEnergy) for item in items):
        raise MalformedInput(
            str(file),
            "start, end",
            "energies by time cannot correct anything",
            "give registers at times, column `time`",
        )
