"""The browser's code agrees with every vector of docs/protocol.md that it needs, and its ABI with the contracts."""

from __future__ import annotations

from pathlib import Path

from contracts.artifact import artifact
from tests.support.node_door import run_script

VECTORS = Path(__file__).parents[1] / "vectors"
# What only meters, the oracle's signers or the coordinator write.
NOT_FOR_BROWSERS = {
    "edge-order",
    "forward-trades",
    "group-totals",
    "meter-reading",
    "oracle-config",
    "oracle-report",
    "reading-retraction",
}


def test_every_vector_a_browser_needs() -> None:
    found = run_script("vectors.mjs", str(VECTORS))
    assert {path.stem for path in VECTORS.glob("*.json")} == set(found) | NOT_FOR_BROWSERS
    for name, result in found.items():
        assert result["compared"] > 0, name
        assert result["wrong"] == [], name


def test_every_function_and_event_is_the_contracts() -> None:
    for contract, signatures in run_script("abi.mjs").items():
        known = {_signature(entry): entry for entry in artifact(contract)["abi"] if "name" in entry}
        for signature, parts in signatures.items():
            entry = known[signature]
            assert parts["inputs"] == _shape(entry["inputs"]), signature
            assert parts["outputs"] == _types(entry.get("outputs", [])), signature


def _signature(entry: dict[str, object]) -> str:
    return f"{entry['type']} {entry['name']}({','.join(_types(entry['inputs']))})"


def _types(inputs: object) -> list[str]:
    assert isinstance(inputs, list)
    return [_type(item) for item in inputs]


def _type(item: dict[str, object]) -> str:
    kind = str(item["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_types(item['components']))}){kind.removeprefix('tuple')}"


def _shape(inputs: object) -> list[list[object]]:
    """Names, types and what is indexed, of the arguments and of what is inside them."""
    assert isinstance(inputs, list)
    return [
        [
            item["name"],
            _type(item),
            bool(item.get("indexed")),
            _shape(item["components"]) if "components" in item else [],
        ]
        for item in inputs
    ]
