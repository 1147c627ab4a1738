"""The checks of the Solidity sources that tests/run.py makes: forge's format and tests, solhint, slither.

None of the tools is a dependency. forge and solhint come from npm, each in the version named here and outside the lock file, because forge's
binary is one package a platform. slither is AGPL, which is no matter for a program that only reads the sources, but keeps it out of
this project's packages: it gets an environment of its own in contracts/build. What cannot be had is skipped and said in one line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
TOOLS = CONTRACTS / "node_modules" / ".bin"
BUILD = CONTRACTS / "build"
SLITHER = BUILD / "slither-env"

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


def forge_environment(**extra: str) -> dict[str, str]:
    """The environment in which forge finds the compiler; writes the executable that stands for npm's.

    Raises:
        CompilerNotFound: there is no compiler.
    """
    sys.path.insert(0, str(ROOT))
    from contracts.compiler import npm_solc_wrapper

    npm_solc_wrapper(BUILD)
    return {**os.environ, "FOUNDRY_DISABLE_NIGHTLY_WARNING": "1", **extra}


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
    if not (TOOLS / "forge").exists():
        say(
            "npm has no forge for this machine: Solidity is neither checked for its format nor fuzzed"
        )
        return True
    program = str(TOOLS / "forge")
    passed = _run("forge fmt", say, [program, "fmt", "--check", "src", "test"])
    # Gas is compared with contracts/snapshots/gas.json; without the variable `forge test` writes it.
    environment = forge_environment(FORGE_SNAPSHOT_CHECK="true")
    return _run("forge test", say, [program, "test"], environment) and passed


def solhint(say: Say) -> bool:
    """The linter, with the rules of contracts/.solhint.json."""
    if not (TOOLS / "solhint").exists():
        say("no solhint: the Solidity sources are not linted")
        return True
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
        say("no forge to compile for it: slither is skipped")
        return True
    if not program.exists() and not _install_slither():
        say(f"PyPI has no slither {SLITHER_VERSION} for this machine: static analysis is skipped")
        return True
    environment = forge_environment(FOUNDRY_PROFILE="slither")
    compile_command = [str(TOOLS / "forge"), "build", "--build-info"]
    return _run("compile for slither", say, compile_command, environment) and _run(
        "slither", say, [str(program), ".", "--config-file", "slither.config.json"], environment
    )


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
