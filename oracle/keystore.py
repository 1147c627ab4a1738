"""Keys of oracle signers and collectors: encrypted keystore files (Web3 Secret Storage, version 3), as every Ethereum tool writes them."""

from __future__ import annotations

from pathlib import Path

from eth_account import Account
from eth_keys.datatypes import PrivateKey

from backend.domain.errors import MalformedInput
from backend.domain.values import parse_json

from .config import read_bytes
from .signing import address_of, private_key
from .sources.http import secret


def load_key(path: Path, password: str) -> PrivateKey:
    """The key of a keystore file.

    Raises:
        MalformedInput: no keystore, or another password; neither key nor password is shown.
    """
    data = parse_json(read_bytes(path), path)
    try:
        return private_key(bytes(Account.decrypt(data, password)))
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError):
        raise MalformedInput(
            str(path),
            "<keystore>",
            "cannot be decrypted",
            "give a keystore of version 3 and the file with its password",
        ) from None


def load_keys(folder: Path, password_file: Path) -> dict[str, PrivateKey]:
    """The keys of all keystores in a folder, by address: during a rotation the old one and the new.

    Raises:
        MalformedInput: one cannot be read, or there is none.
    """
    password = secret(password_file.parent, password_file.name) or ""
    keys = [load_key(path, password) for path in sorted(folder.glob("*.json"))]
    if not keys:
        raise MalformedInput(
            str(folder), "<no file>", "has no keystore", "put *.json keystores into the folder"
        )
    return {address_of(key): key for key in keys}
