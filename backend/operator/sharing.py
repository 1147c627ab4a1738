"""What the communities of an installation must not share: keys on one chain, and databases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from backend.domain.errors import DuplicateIdentifier, InputError
from backend.domain.values import parse_json
from oracle.config import read_bytes

if TYPE_CHECKING:
    from .config import CommunityEntry, Configuration


def refuse_sharing(found: Configuration) -> None:
    """Each community counts its keys' nonces for itself, and takes its database for its own.

    Raises:
        DuplicateIdentifier: two have one key on one chain, or one database.
    """
    keys: dict[tuple[object, str], str] = {}
    databases: dict[str, str] = {}
    for index, entry in enumerate(found.file.communities):
        where = f"communities[{index}]"
        for name in ("keystore", "relay_keystore"):
            path = getattr(entry, name)
            if path is None:
                continue
            key = _chain_of(found, entry), _account_of(found.folder / path)
            if key in keys:
                raise DuplicateIdentifier(
                    f"{where}.{name}",
                    path,
                    f"is the key of {keys[key]} too, on the same chain",
                    "make a key for this alone: whoever sends with it counts its transactions",
                )
            keys[key] = f"{where}.{name}"
        database = _database_of(found, entry)
        if database in databases:
            raise DuplicateIdentifier(
                f"{where}.database",
                entry.name,
                f"has the database of {databases[database]}",
                "give each community a database, or a schema, of its own",
            )
        if database:
            databases[database] = where


def _chain_of(found: Configuration, entry: CommunityEntry) -> object:
    try:
        return found.network(entry).chain_id
    except InputError:
        return entry.network  # said when the community is opened


def _account_of(keystore: Path) -> str:
    """The account that a keystore says it is of, so that copies are the same; otherwise where it is."""
    try:
        data = parse_json(read_bytes(keystore), keystore)
    except InputError:
        data = None
    if isinstance(data, dict) and isinstance(data.get("address"), str):
        return str(data["address"]).lower().removeprefix("0x")
    return str(keystore.resolve())


def _database_of(found: Configuration, entry: CommunityEntry) -> str:
    """A database's URL without what does not matter; empty where there is none yet."""
    try:
        url = make_url(found.database_url(entry)).set(password=None)
    except (InputError, ArgumentError):
        return ""
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(Path(url.database).resolve()))
    return url.render_as_string()
