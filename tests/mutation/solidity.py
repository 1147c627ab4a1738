"""Mutation testing of the contracts: small faults are put into the sources one at a time, and the forge tests must notice.

    python tests/mutation/solidity.py --sample 100        # a hundred of them, the same every time
    python tests/mutation/solidity.py --file Vault        # all of one contract
    python tests/mutation/solidity.py --only 'Vault.sol:121:'

A mutant that no test notices *survives*: either the change makes no difference, or a test is missing. Only the contract that was changed
is compiled anew, because the tests deploy artifacts; still each takes its time, so this is run by hand, and what came out is in
docs/verification.md. `forge test` must have been run before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from contracts import compiler  # noqa: E402
from contracts.compiler import npm_solc_wrapper  # noqa: E402

CONTRACTS = ROOT / "contracts"
TARGETS = (
    "ClearingHouse",
    "Challenges",
    "Vault",
    "MemberRegistry",
    "libraries/Certificate",
    "libraries/SumTree",
    "TariffBook",
    "TradeBook",
    "ReadingOracle",
)

# Each rule: what is looked for in a line of code, what it becomes.
RULES: tuple[tuple[str, str, str], ...] = (
    ("boundary", r" < ", " <= "),
    ("boundary", r" <= ", " < "),
    ("boundary", r" > ", " >= "),
    ("boundary", r" >= ", " > "),
    ("negation", r" == ", " != "),
    ("negation", r" != ", " == "),
    ("arithmetic", r" \+ ", " - "),
    ("arithmetic", r" - ", " + "),
    ("arithmetic", r" \* ", " / "),
    ("arithmetic", r" \+= ", " -= "),
    ("arithmetic", r" -= ", " += "),
    ("logic", r" && ", " || "),
    ("logic", r" \|\| ", " && "),
    ("constant", r"\btrue\b", "false"),
    ("constant", r"\bfalse\b", "true"),
    ("guard", r"\bif \((?!false)", "if (false && "),
    ("guard", r"^(\s*)(_require\w+\(|require\(|clearingHouse\.require\w+\()", r"\1//\2"),
    ("modifier", r" restricted ", " "),
    ("assembly", r"\badd\(", "sub("),
    ("assembly", r"\bsub\(", "add("),
    ("assembly", r"\bsgt\(", "slt("),
    ("assembly", r"\bgt\(", "lt("),
    ("assembly", r"\band\(", "or("),
    ("assembly", r"\bor\(", "and("),
    ("statement", r"^(\s*)(delete |_void\(|_send\(|token\.safe|\+\+)", r"\1//\2"),
    ("statement", r"^(\s*)([\w\[\]._]+ (\+|-)?= [^;]*;)$", r"\1//\2"),
)


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        path: source file below contracts/src.
        line: its number, from 1.
        rule: kind of change.
        code: the line afterwards.
    """

    path: str
    line: int
    rule: str
    code: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.code.strip()}"


def mutants(target: str) -> Iterator[Mutant]:
    """Every change of every rule in one source file, outside comments, imports and declarations."""
    path = f"{target}.sol"
    for number, line in enumerate((CONTRACTS / "src" / path).read_text().splitlines(), start=1):
        code = line.split("//")[0]
        if re.match(
            r"\s*(import|pragma|error|event|using|\*|///|uint\d+ (private|public|internal) )", line
        ):
            continue
        for rule, pattern, replacement in RULES:
            for found in re.finditer(pattern, code):
                changed = code[: found.start()] + found.expand(replacement) + code[found.end() :]
                yield Mutant(path, number, rule, changed)


def workshop(folder: Path) -> Path:
    """A copy of the contracts to work on, with the tests that forge has compiled already."""
    for name in ("src", "test", "artifacts", "build/forge", "build/forge-cache"):
        if (CONTRACTS / name).exists():
            shutil.copytree(CONTRACTS / name, folder / name, copy_function=shutil.copy2)
    shutil.copy2(CONTRACTS / "foundry.toml", folder / "foundry.toml")
    (folder / "node_modules").symlink_to(CONTRACTS / "node_modules")
    npm_solc_wrapper(folder / "build")
    return folder


def compiled(folder: Path, target: str) -> bool:
    """Writes the artifacts of all contracts that the changed file is part of; whether it compiles."""
    changed = f"src/{target}.sol"
    is_library = target.startswith("libraries/")
    names = [name for name, source in compiler.DEPLOYED.items() if source == changed]
    if is_library:
        names = ["ClearingHouse", "Challenges", "Vault", "LibraryHarness"]
    request = compiler.standard_input()
    request["sources"][changed]["content"] = (folder / changed).read_text()
    wanted = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "metadata"]
    request["settings"]["outputSelection"] = {
        compiler.DEPLOYED[name]: {name: wanted} for name in names
    }
    request["settings"]["metadata"] = {}
    done = subprocess.run(
        [str(folder / "build" / "solc-npm"), "--standard-json"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=True,
    )
    output = json.loads(done.stdout)
    if any(error["severity"] == "error" for error in output.get("errors", [])):
        return False
    for name in names:
        contract = output["contracts"][compiler.DEPLOYED[name]][name]
        artifact = {"abi": contract["abi"]}
        for key in ("bytecode", "deployedBytecode"):
            artifact[key] = "0x" + contract["evm"][key]["object"]
        (folder / "artifacts" / f"{name}.json").write_text(json.dumps(artifact))
    return True


def verdict(folder: Path, runs: int, timeout: int) -> str:
    """`killed` or `survived`."""
    # Not npm's launcher, which exits with 0 whatever the tests say.
    forge = str(next(CONTRACTS.glob("node_modules/@foundry-rs/forge-*/bin/forge*")))
    command = [
        forge,
        "test",
        "--offline",
        "--fail-fast",
        "--no-match-contract",
        "Invariant|KnownGaps|Gas",
    ]
    environment = {**os.environ, "FOUNDRY_FUZZ_RUNS": str(runs)}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return "killed"  # An endless loop is noticed, too.
    return "survived" if done.returncode == 0 else "killed"


def main() -> None:
    """Tries the mutants; prints a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--file", action="append", choices=[target.split("/")[-1] for target in TARGETS]
    )
    parser.add_argument("--sample", type=int, help="so many, spread evenly over the contracts")
    parser.add_argument("--only", help="those whose description contains this")
    parser.add_argument("--runs", type=int, default=24, help="fuzz runs of each test")
    parser.add_argument("--timeout", type=int, default=600, help="seconds for a mutant")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    chosen = [
        target
        for target in TARGETS
        if not arguments.file or target.split("/")[-1] in arguments.file
    ]
    work: list[Mutant] = []
    for target in chosen:
        found = [
            mutant
            for mutant in mutants(target)
            if not arguments.only or arguments.only in str(mutant)
        ]
        if arguments.sample:
            random.Random(target).shuffle(found)
            found = found[: -(-arguments.sample // len(chosen))]
        work += found
    results: list[tuple[Mutant, str]] = []
    with tempfile.TemporaryDirectory(dir=CONTRACTS / "build") as scratch:
        folder = workshop(Path(scratch))
        if verdict(folder, arguments.runs, arguments.timeout) != "survived":
            sys.exit("the tests fail without any change: mend that first")
        for index, mutant in enumerate(work, start=1):
            path = folder / "src" / mutant.path
            honest = path.read_text()
            lines = honest.splitlines(keepends=True)
            lines[mutant.line - 1] = mutant.code + "\n"
            path.write_text("".join(lines))
            target = mutant.path.removesuffix(".sol")
            fits = compiled(folder, target)
            results.append(
                (mutant, verdict(folder, arguments.runs, arguments.timeout) if fits else "invalid")
            )
            path.write_text(honest)
            for artifact in (CONTRACTS / "artifacts").glob("*.json"):
                shutil.copy2(artifact, folder / "artifacts" / artifact.name)
            print(f"{index}/{len(work)} {results[-1][1]:8} {mutant}", file=sys.stderr, flush=True)
    _report(results, arguments.json)


def _report(results: list[tuple[Mutant, str]], as_json: bool) -> None:
    counts = Counter((mutant.path, outcome) for mutant, outcome in results)
    rows = {
        path: {outcome: counts[path, outcome] for outcome in ("killed", "survived", "invalid")}
        for path in sorted({mutant.path for mutant, _ in results})
    }
    survivors = [str(mutant) for mutant, outcome in results if outcome == "survived"]
    if as_json:
        print(json.dumps({"files": rows, "survivors": survivors}, indent=1))
        return
    for path, row in rows.items():
        tried = row["killed"] + row["survived"]
        print(f"{path:28} {row['killed']:4} of {tried:4} killed, {row['invalid']} did not compile")
    killed, tried = (
        sum(row["killed"] for row in rows.values()),
        sum(row["killed"] + row["survived"] for row in rows.values()),
    )
    print(f"{'all':28} {killed:4} of {tried:4} killed")
    for survivor in survivors:
        print(f"  survived {survivor}")


if __name__ == "__main__":
    main()
