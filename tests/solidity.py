"""The checks of the Solidity sources that tests/run.py makes: forge's format and tests, solhint, slither.

None of the tools is a dependency. forge and solhint come from npm, each in the version named here and outside the lock file, because forge's
binary is one package a platform. slither is AGPL, which is no matter for a program that only reads the sources, but keeps it out of
this project's packages: it gets an environment of its own in contracts/build. What cannot be had is skipped and said in one line;
with `PEERWATT_REQUIRE_SERVICES=1` it fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
TOOLS = CONTRACTS / "node_modules" / ".bin"
BUILD = CONTRACTS / "build"
SLITHER = BUILD / "slither-env"
GAS = CONTRACTS / "snapshots" / "gas.json"

# anvil is here because npm, which keeps nothing outside the lock file for long, is best asked once.
NPM_TOOLS = {
    "anvil": "@foundry-rs/anvil@1.7.1",
    "forge": "@foundry-rs/forge@1.7.1",
    "solhint": "solhint@6.2.4",
}
# Its detectors are what findings are accepted against: another version may find more.
SLITHER_VERSION = "0.11.6"

Say = Callable[[str], None]


def missing_npm_tools() -> list[str]:
    """Package and version of each tool that is not installed."""
    return [package for name, package in NPM_TOOLS.items() if not (TOOLS / name).exists()]


def forge_program() -> Path | None:
    """The program itself: the launcher that npm puts before it exits with 0 whatever the tests say."""
    return next(CONTRACTS.glob("node_modules/@foundry-rs/forge-*/bin/forge*"), None)


def forge_environment(**extra: str) -> dict[str, str]:
    """The environment in which forge finds the compiler; writes the executable that stands for npm's.

    Raises:
        CompilerNotFound: there is no compiler.
    """
    sys.path.insert(0, str(ROOT))
    from contracts.compiler import npm_solc_wrapper

    npm_solc_wrapper(BUILD)
    return {**os.environ, "FOUNDRY_DISABLE_NIGHTLY_WARNING": "1", **extra}


def _lacking(say: Say, what: str) -> bool:
    """Whether a check counts as passed whose tool cannot be had."""
    required = os.environ.get("PEERWATT_REQUIRE_SERVICES") == "1"
    say(f"FAILED: {what}" if required else what)
    return not required


def _run(
    title: str, say: Say, command: list[str], environment: Mapping[str, str] | None = None
) -> bool:
    say(title)
    done = subprocess.run(command, cwd=CONTRACTS, env=environment, check=False)
    if done.returncode:
        say(f"FAILED: {title}")
    return done.returncode == 0


def forge(say: Say) -> bool:
    """Formatting; fuzz and invariant tests of the committed artifacts; gas of each call."""
    found = forge_program()
    if found is None:
        return _lacking(
            say,
            "npm has no forge for this machine: Solidity is neither checked for its format nor fuzzed",
        )
    program = str(found)
    passed = _run("forge fmt", say, [program, "fmt", "--check", "src", "test"])
    # Gas is compared with contracts/snapshots/gas.json; without the variable `forge test` writes it.
    environment = forge_environment(FORGE_SNAPSHOT_CHECK="true")
    before = GAS.read_bytes()
    passed = _run("forge test", say, [program, "test"], environment) and passed
    if GAS.read_bytes() != before:
        # A call measured for the first time is no difference to forge: it adds it.
        say(f"FAILED: {GAS.relative_to(ROOT)} lacks a call; commit it as it is now")
        return False
    return passed


def solhint(say: Say) -> bool:
    """The linter, with the rules of contracts/.solhint.json."""
    if not (TOOLS / "solhint").exists():
        return _lacking(say, "no solhint: the Solidity sources are not linted")
    command = [
        str(TOOLS / "solhint"),
        "--config",
        ".solhint.json",
        "--max-warnings",
        "0",
        "--noPrompt",
        "src/**/*.sol",
    ]
    return _run("solhint", say, command)


def slither(say: Say) -> bool:
    """Static analysis, medium findings and above; what is accepted says why where it stands."""
    program = SLITHER / "bin" / "slither"
    if not (TOOLS / "forge").exists():
        return _lacking(say, "no forge, which tells slither the folders: slither is skipped")
    if not program.exists() and not _install_slither():
        return _lacking(
            say,
            f"PyPI has no slither {SLITHER_VERSION} for this machine: static analysis is skipped",
        )
    _write_build_info(BUILD / "slither" / "build-info")
    # It asks forge for the folders.
    environment = os.environ | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}
    findings = BUILD / "slither" / "findings.json"
    findings.unlink(missing_ok=True)
    command = [str(program), ".", "--config-file", "slither.config.json", "--json", str(findings)]
    say("slither")
    done = subprocess.run(
        command, cwd=CONTRACTS, env=environment, capture_output=True, text=True, check=False
    )
    if not findings.exists():
        say(f"FAILED: slither: {done.stderr.strip()[-500:]}")
        return False
    return _accepted(json.loads(findings.read_text()), say)


def _accepted(report: dict[str, Any], say: Say) -> bool:
    """Whether what slither found is just what contracts/slither-accepted.json gives a reason for."""
    accepted = json.loads((CONTRACTS / "slither-accepted.json").read_text())
    found = {}
    for finding in report["results"].get("detectors", []):
        place = finding["elements"][0]
        while place["type"] not in {"function", "contract"}:
            place = place["type_specific_fields"]["parent"]
        parent = place.get("type_specific_fields", {}).get("parent", {}).get("name")
        name = f"{parent}.{place['name']}" if parent else place["name"]
        found[f"{finding['check']} {name}"] = finding["description"].strip()
    for key in found.keys() - accepted.keys():
        say(f"FAILED: slither: {key}: {found[key]}")
    for key in accepted.keys() - found.keys():
        say(f"FAILED: contracts/slither-accepted.json: {key} is no longer found")
    return bool(report["success"]) and found.keys() == accepted.keys()


def _write_build_info(folder: Path) -> None:
    """Writes what slither reads in the place of forge's output: syntax trees. Code, which takes long to make, it does not need."""
    environment = forge_environment()
    from contracts import compiler

    request = compiler.standard_input()
    wanted = ["abi", "devdoc", "userdoc", "evm.methodIdentifiers"]
    request["settings"]["outputSelection"] = {"*": {"": ["ast"], "*": wanted}}
    done = subprocess.run(
        [str(BUILD / "solc-npm"), "--standard-json"],
        input=json.dumps(request),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    output = json.loads(done.stdout)
    for contracts in output["contracts"].values():
        for contract in contracts.values():
            empty = {"object": "", "sourceMap": "", "linkReferences": {}}
            contract["evm"] |= {"bytecode": empty, "deployedBytecode": empty}
    folder.mkdir(parents=True, exist_ok=True)
    version = compiler.SOLC_VERSION
    info = {"solcVersion": version, "solcLongVersion": version, "input": request, "output": output}
    (folder / "sources.json").write_text(json.dumps(info))


def _install_slither() -> bool:
    commands = (
        [sys.executable, "-m", "venv", str(SLITHER)],
        [
            str(SLITHER / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            f"slither-analyzer=={SLITHER_VERSION}",
        ],
    )
    return all(subprocess.run(command, check=False).returncode == 0 for command in commands)
