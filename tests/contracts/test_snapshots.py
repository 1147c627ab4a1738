"""Where each contract keeps what, and what each call costs: neither changes unless the committed snapshot does.

`python tests/contracts/test_snapshots.py` writes the storage layout anew; `forge test` writes the gas of contracts/snapshots/gas.json.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"
LAYOUT = CONTRACTS / "snapshots" / "storage-layout.json"

_NO_COMPILER = 3
_COMPILE = f"""
import json, sys
from pathlib import Path
from contracts import compiler
import solcx
request = compiler.standard_input()
request["settings"]["outputSelection"] = {{"*": {{"*": ["storageLayout"]}}}}
try:
    solc = compiler.find_solc(Path(sys.argv[1]), lambda line: None)
except compiler.CompilerNotFound as missing:
    print(missing)
    sys.exit({_NO_COMPILER})
output = solcx.compile_standard(request, solc_binary=solc)
layouts = {{
    name: output["contracts"][source][name]["storageLayout"]
    for name, source in compiler.DEPLOYED.items() if source.startswith("src/") and "/testing/" not in source
}}
Path(sys.argv[2]).write_text(json.dumps(layouts))
"""


def _layouts(folder: Path) -> dict[str, Any] | str:
    """Slots by contract, as the compiler lays them out, or why there is no compiler."""
    done = subprocess.run(
        [sys.executable, "-c", _COMPILE, str(folder), str(folder / "layout.json")],
        cwd=CONTRACTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == _NO_COMPILER:
        return done.stdout.strip()
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "layout.json").read_text())
    return {name: _plain(layout) for name, layout in sorted(found.items())}


def _plain(layout: dict[str, Any]) -> list[str]:
    """One line a variable and struct member, without the compiler's internal numbers."""
    types = layout["types"] or {}

    def line(item: dict[str, Any], indent: str = "") -> list[str]:
        kind = types[item["type"]]
        name = re.sub(r"\)\d+", ")", kind["label"])
        lines = [f"{indent}slot {item['slot']} byte {item['offset']}: {item['label']}, {name}"]
        inner = kind
        while "value" in inner or "base" in inner:
            inner = types[inner.get("value", inner.get("base"))]
        for member in inner.get("members", []):
            lines += line(member, indent + "  ")
        return lines

    return [text for item in layout["storage"] for text in line(item)]


def test_storage_layout_is_the_committed_one(tmp_path: Path) -> None:
    """Contracts are not upgradeable, so a change is harmless, but it is gas, and never an accident."""
    layouts = _layouts(tmp_path)
    if isinstance(layouts, str):
        pytest.skip(layouts)
    assert layouts == json.loads(LAYOUT.read_text())


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        LAYOUT.parent.mkdir(exist_ok=True)
        LAYOUT.write_text(json.dumps(_layouts(Path(scratch)), indent=1) + "\n")
