"""Communities of one installation that share what they must not are refused, each by its field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.domain.errors import DuplicateIdentifier
from backend.operator.config import load_configuration

TARIFF = {
    "share_millionths": 0,
    "network": {"nodes": [{"id": "a", "access_fee_nano_per_wh": 0}], "edges": []},
    "tariff_classes": [
        {"id": "h", "import_price_nano_per_wh": 2, "export_price_nano_per_wh": 1},
    ],
    "groups": [["a", "h"]],
}


def community(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "network": "anvil",
        "address_book": f"{name}.book.json",
        "database": f"sqlite:///{name}.sqlite",
        "keystore": f"{name}.key.json",
        "password_file": "password",
        "salt_file": "salt",
        "signers": [{"url": "http://127.0.0.1:1", "token_file": "token"}],
        "bundles": {"folder": "bundles"},
        "tariffs": [TARIFF],
        "members": [],
    } | changes


def load(folder: Path, **changes: Any) -> None:
    """A configuration of two communities, the second one changed."""
    for name, digit in (("valley", "1"), ("hill", "2"), ("relay", "3")):
        (folder / f"{name}.key.json").write_text(json.dumps({"address": digit * 40}))
    (folder / "copy.key.json").write_text(json.dumps({"address": "0x" + "1" * 40}))
    (folder / "url").write_text("postgresql://peerwatt:one@db/valley\n")
    (folder / "same-url").write_text("postgresql://peerwatt:two@db/valley\n")
    (folder / "schema").write_text(
        "postgresql://peerwatt:one@db/valley?options=-csearch_path%3Dhill"
    )
    communities = [community("valley"), community("hill") | changes]
    if "database_file" in changes:
        communities[0] |= {"database": None, "database_file": "url"}
        communities[1] |= {"database": None}
    path = folder / "coordinator.json"
    path.write_text(json.dumps({"communities": communities}))
    load_configuration(path)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"keystore": "valley.key.json"}, "communities[1].keystore"),
        ({"keystore": "copy.key.json"}, "communities[1].keystore"),
        ({"relay_keystore": "valley.key.json"}, "communities[1].relay_keystore"),
        ({"relay_keystore": "hill.key.json"}, "communities[1].relay_keystore"),
        # Not there yet, and the same all the same once they are.
        ({"database": "sqlite:///valley.sqlite"}, "communities[1].database"),
        ({"database": "sqlite:///./valley.sqlite"}, "communities[1].database"),
        ({"database_file": "same-url"}, "communities[1].database"),
    ],
)
def test_one_key_or_database_for_two(changes: dict[str, Any], field: str, tmp_path: Path) -> None:
    with pytest.raises(DuplicateIdentifier) as refused:
        load(tmp_path, **changes)
    assert refused.value.field == field
    assert "two" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"relay_keystore": "relay.key.json"},
        {"database_file": "schema"},
        # The same key on another chain counts other nonces.
        {"keystore": "copy.key.json", "network": "gnosis"},
        # What is not there yet is said when the community is opened.
        {"keystore": "away.json", "network": "away.json"},
    ],
)
def test_what_each_has_for_itself(changes: dict[str, Any], tmp_path: Path) -> None:
    load(tmp_path, **changes)
