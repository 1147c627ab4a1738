"""What is deployed is what the sources say: the committed artifacts are a fresh compile, small enough, and documented."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.abi import function_abi_to_4byte_selector

from contracts.artifact import artifact
from contracts.bindings import decode_revert
from contracts.compiler import (
    ARTIFACTS_FOLDER,
    CONTRACTS_FOLDER,
    DEPLOYED,
    EVM_VERSION,
    SOLC_VERSION,
    SOURCE_FOLDER,
)

# EIP-170 and EIP-3860.
CODE_LIMIT = 24_576
INITCODE_LIMIT = 49_152
TESTING_ONLY = {"LibraryHarness", "TestFeeToken", "TestWallet"}

_NO_COMPILER = 3
_COMPILE = f"""
import sys
from pathlib import Path
from contracts import compiler
folder = Path(sys.argv[1])
try:
    artifacts = compiler.compile_contracts(folder, lambda line: None)
except compiler.CompilerNotFound as missing:
    print(missing)
    sys.exit({_NO_COMPILER})
compiler.ARTIFACTS_FOLDER = folder
compiler.write_artifacts(artifacts)
"""


def test_committed_artifacts_are_a_fresh_compile(tmp_path: Path) -> None:
    """Bytecode, ABI and metadata of every contract, byte for byte; half a minute with the compiler of npm."""
    # In a process of its own: py-solc-x keeps a lock file open until the process ends.
    compiled = subprocess.run(
        [sys.executable, "-c", _COMPILE, str(tmp_path)],
        cwd=CONTRACTS_FOLDER.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if compiled.returncode == _NO_COMPILER:
        pytest.skip(compiled.stdout.strip())
    assert compiled.returncode == 0, compiled.stderr
    for name in DEPLOYED:
        fresh = (tmp_path / f"{name}.json").read_text()
        committed = (ARTIFACTS_FOLDER / f"{name}.json").read_text()
        assert committed == fresh, f"{name}: run python -m contracts.compiler and commit"


def test_there_is_one_artifact_for_each_contract() -> None:
    assert {path.stem for path in ARTIFACTS_FOLDER.glob("*.json")} == set(DEPLOYED)
    for name, source in DEPLOYED.items():
        assert artifact(name)["contractName"] == name
        assert artifact(name)["sourceName"] == source


def test_the_compiler_is_the_same_for_python_and_npm() -> None:
    package = json.loads((CONTRACTS_FOLDER / "package.json").read_text())
    lock = json.loads((CONTRACTS_FOLDER / "package-lock.json").read_text())
    assert package["dependencies"]["solc"] == SOLC_VERSION
    assert lock["packages"]["node_modules/solc"]["version"] == SOLC_VERSION
    for name in DEPLOYED:
        metadata = json.loads(artifact(name)["metadata"])
        assert metadata["compiler"]["version"].startswith(f"{SOLC_VERSION}+commit.")
        assert metadata["settings"]["evmVersion"] == EVM_VERSION


@pytest.mark.parametrize("name", DEPLOYED)
def test_the_sources_in_an_artifact_are_those_in_the_repository(name: str) -> None:
    """Needs no compiler: the metadata hold every source in full."""
    sources = json.loads(artifact(name)["metadata"])["sources"]
    ours = {path: entry["content"] for path, entry in sources.items() if path.startswith("src/")}
    assert ours or name == "AccessManager"
    for path, content in ours.items():
        assert (CONTRACTS_FOLDER / path).read_text() == content, path


@pytest.mark.parametrize("name", DEPLOYED)
def test_every_contract_is_small_enough_for_any_chain(name: str) -> None:
    deployed = len(bytes.fromhex(artifact(name)["deployedBytecode"][2:]))
    initcode = len(bytes.fromhex(artifact(name)["bytecode"][2:]))
    assert 0 < deployed <= CODE_LIMIT
    assert 0 < initcode <= INITCODE_LIMIT


@pytest.mark.parametrize("name", sorted(set(DEPLOYED) - TESTING_ONLY))
def test_python_decodes_every_error_a_contract_can_raise(name: str) -> None:
    blank: dict[str, Any] = {
        "address": "0x" + "11" * 20,
        "string": "",
        "bytes": b"",
        "bytes4": bytes(4),
        "bytes32": bytes(32),
    }
    for entry in artifact(name)["abi"]:
        if entry["type"] != "error":
            continue
        types = [item["type"] for item in entry["inputs"]]
        data = encode(types, [blank.get(kind, 0) for kind in types])
        refused = decode_revert(function_abi_to_4byte_selector(entry) + data)
        assert refused.error_name == entry["name"]
        assert set(refused.arguments) == {item["name"] for item in entry["inputs"]}
        assert entry["name"] in refused.message


def test_what_no_contract_raised_is_told_as_it_is() -> None:
    assert decode_revert(b"").error_name == "unknown"
    assert decode_revert(b"\x01\x02\x03").arguments == {"data": b"\x01\x02\x03"}
    text = bytes.fromhex("08c379a0") + (32).to_bytes(32, "big")
    text += (2).to_bytes(32, "big") + b"no".ljust(32, b"\0")
    assert decode_revert(text).arguments == {"message": "no"}
    panic = bytes.fromhex("4e487b71") + (0x11).to_bytes(32, "big")
    assert decode_revert(panic).message == "panic 0x11"


# --- NatSpec -----------------------------------------------------------------------------------------------------------

_DECLARATION = re.compile(
    r"(?P<doc>(?:^[ \t]*///[^\n]*\n)*)^[ \t]*(?P<kind>function|error|event)[ \t]+(?P<name>\w+)",
    re.MULTILINE,
)


def declarations(kind: str) -> Iterator[tuple[str, str]]:
    """Where and with which documentation each function, error or event is declared."""
    folders = [SOURCE_FOLDER / "interfaces"]
    if kind == "error":
        folders.append(SOURCE_FOLDER / "libraries")
    for folder in folders:
        for path in sorted(folder.glob("*.sol")):
            for found in _DECLARATION.finditer(path.read_text()):
                if found["kind"] == kind:
                    yield f"{path.stem}.{found['name']}", found["doc"].strip()


def test_the_declarations_are_found() -> None:
    assert len(list(declarations("function"))) > 60
    assert len(list(declarations("error"))) > 90
    assert (
        "IClearingHouse.withdrawBond",
        "/// @notice Returns the bond to its owner while no batch is open to challenge.",
    ) in list(declarations("function"))


@pytest.mark.parametrize("kind", ["function", "event"])
def test_every_function_and_event_of_an_interface_says_what_it_means(kind: str) -> None:
    silent = [where for where, doc in declarations(kind) if not re.search(r"@(notice|return)", doc)]
    assert silent == []


def test_every_error_says_when_it_is_raised() -> None:
    """A refusal's remedy sends the reader to these descriptions."""
    silent = [where for where, doc in declarations("error") if "@notice" not in doc]
    assert silent == []
