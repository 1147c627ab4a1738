"""Mutation testing of the contracts: small faults are put into the sources one at a time, and the tests must notice.

    python -m tests.mutation.solidity --sample 100        # a hundred of them, the same every time
    python -m tests.mutation.solidity --file Vault        # all of one contract
    python -m tests.mutation.solidity --only Vault.sol:121: --only SumTree.sol:40:
    python -m tests.mutation.solidity --file Vault --forge-only

The forge tests are asked first, because they are the fastest, then the invariants, then tests/contracts on the embedded chain. A mutant
that no test notices *survives*: either the change makes no difference, or a test is missing. Those that make none are in
`tests/mutation/equivalent.json`, each with its reason; any other is an error.

A mutant takes some seconds: only the contracts that the change is part of are compiled anew, because the tests deploy artifacts, in
one process, and with few optimizer steps, which no test depends on. Still this is run by hand; docs/verification.md has the result.
"""

from __future__ import annotations

import argparse
import json
import posixpath
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from contracts import compiler
from tests.mutation.report import report
from tests.solidity import BUILD, CONTRACTS, ROOT, forge_environment, forge_program

# Each source file with the tests on the embedded chain that are about it.
TARGETS = {
    "ClearingHouse": ("submission", "bond", "freeze", "voiding", "corrections", "governance"),
    "Challenges": (
        "amounts",
        "ledger_challenges",
        "data_demands",
        "cover_demands",
        "voiding",
        "corrections",
    ),
    "Vault": ("vault", "cover_demands", "freeze", "governance"),
    "MemberRegistry": ("members", "governance"),
    "libraries/Certificate": ("certificate", "submission"),
    "libraries/SumTree": ("libraries", "ledger_challenges"),
    "libraries/PositionalTree": ("libraries", "amounts"),
    "libraries/PriceRule": ("libraries", "certificate"),
    "libraries/Statement": ("libraries", "amounts"),
    "TradeBook": ("trade_book",),
    "TariffBook": ("tariff_book", "governance"),
    "ReadingOracle": ("oracle", "governance"),
    "MeterRegistry": ("meters", "governance"),
}

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

    @property
    def key(self) -> str:
        """Which change, whatever line it is in by now."""
        return f"{self.path}: {self.code.strip()}"

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


class Compiler:
    """One process that compiles as often as it is asked."""

    def __init__(self) -> None:
        wrapper = str(compiler.npm_solc_wrapper(BUILD))
        self._process = subprocess.Popen(
            [wrapper, "--json-lines"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        request = compiler.standard_input()
        self._sources: dict[str, dict[str, str]] = request["sources"]
        self._settings = request["settings"] | {"metadata": {}}
        # Few steps, small code: half the time. What the code does is the same.
        few_steps = {"yul": True, "yulDetails": {"optimizerSteps": "uljmul:"}}
        self._quick = {"optimizer": {"enabled": True, "runs": 1, "details": few_steps}}
        self._reached = {
            name: self._reached_from(source) for name, source in compiler.DEPLOYED.items()
        }

    def _reached_from(self, source: str) -> set[str]:
        """The file and all that it imports."""
        seen: set[str] = set()
        pending = [source]
        while pending:
            path = pending.pop()
            if path in seen:
                continue
            seen.add(path)
            for name in re.findall(r'(?:from|import)\s+"([^"]+)"', self._sources[path]["content"]):
                folder = posixpath.dirname(path) if name.startswith(".") else ""
                pending.append(posixpath.normpath(posixpath.join(folder, name)))
        return seen

    def contracts_with(self, path: str) -> list[str]:
        """The contracts that a source file is part of; the one for the library tests first, as the cheapest."""
        names = [name for name, reached in self._reached.items() if path in reached]
        return sorted(names, key=lambda name: name != "LibraryHarness")

    def artifact(
        self, name: str, changed: dict[str, dict[str, str]], *, quick: bool
    ) -> dict[str, Any] | None:
        """ABI and code of one contract, some sources changed; None if that does not compile.

        Args:
            quick: not as the project compiles it, but fit for tests that do not look at gas.
        """
        source = compiler.DEPLOYED[name]
        wanted = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]
        request = {
            "language": "Solidity",
            "sources": {path: self._sources[path] for path in self._reached[name]} | changed,
            "settings": self._settings
            | (self._quick if quick else {})
            | {"outputSelection": {source: {name: wanted}}},
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        output = json.loads(self._process.stdout.readline())
        if any(error["severity"] == "error" for error in output.get("errors", [])):
            return None
        contract = output["contracts"][source][name]
        artifact = {"abi": contract["abi"]}
        for key in ("bytecode", "deployedBytecode"):
            artifact[key] = "0x" + contract["evm"][key]["object"]
        return artifact


class Workshop:
    """A copy of the project in which one fault at a time is made."""

    def __init__(self, runs: int, timeout: int, *, forge_only: bool) -> None:
        self._compiler = Compiler()
        self._timeout = timeout
        self._forge_only = forge_only
        self._folder = BUILD / "mutants"
        self._environment = forge_environment(FOUNDRY_FUZZ_RUNS=str(runs), FOUNDRY_THREADS="1")
        # What forge compiled of the tests the last time stays: that takes a minute.
        kept = shutil.ignore_patterns(
            "node_modules", "build", ".git", "__pycache__", ".hypothesis", ".*_cache"
        )
        for name in ("contracts", "backend", "tests", "oracle", "deploy"):
            for path in (self._folder / name).glob("*"):
                if path.name not in {"build", "node_modules"}:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.copytree(ROOT / name, self._folder / name, ignore=kept, dirs_exist_ok=True)
        shutil.copy2(ROOT / "pyproject.toml", self._folder)
        self._contracts = self._folder / "contracts"
        (self._contracts / "build").mkdir(exist_ok=True)
        shutil.copy2(BUILD / "solc-npm", self._contracts / "build")
        modules = self._contracts / "node_modules"
        if not modules.exists():
            modules.symlink_to(CONTRACTS / "node_modules")

    def _put(self, name: str, changed: dict[str, dict[str, str]], *, quick: bool) -> bool:
        """Compiles a contract and puts its artifact in its place; whether it compiles."""
        artifact = self._compiler.artifact(name, changed, quick=quick)
        if artifact is None:
            return False
        (self._contracts / "artifacts" / f"{name}.json").write_text(json.dumps(artifact))
        return True

    def _forge(self, *choice: str) -> bool:
        command = [str(forge_program()), "test", "--offline", "--fail-fast", *choice]
        return self._passes(command, self._contracts)

    def _passes(self, command: list[str], folder: Path) -> bool:
        done = subprocess.run(
            command,
            cwd=folder,
            env=self._environment,
            capture_output=True,
            timeout=self._timeout,
            check=False,
        )
        return done.returncode == 0

    def _survives_forge(self) -> bool:
        # Most mutants fall at once to the tests of one case each.
        return self._forge(
            "--no-match-contract", "Invariant|Gas", "--no-match-test", "testFuzz"
        ) and self._forge("--match-test", "testFuzz")

    def _survives_invariants(self) -> bool:
        return self._forge("--match-contract", "Invariant")

    def _survives_chain(self, target: str, code: str = "") -> bool:
        words = set(re.findall(r"\w{6,}", code))
        files = [self._folder / f"tests/contracts/test_{name}.py" for name in TARGETS[target]]
        # Those that speak of what is in the line first: more often than not one of them fails at once.
        files.sort(key=lambda file: -len(words & set(re.findall(r"\w+", file.read_text()))))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        return self._passes([*command, *map(str, files)], self._folder)

    def fails_unchanged(self, targets: set[str]) -> bool:
        """Whether a test fails although nothing is changed, which would count as a kill every time.

        The contracts are compiled as mutants are: a test may look at what that leaves out.
        """
        names = sorted({n for t in targets for n in self._compiler.contracts_with(f"src/{t}.sol")})
        try:
            if not all(self._put(name, {}, quick=True) for name in names):
                return True
            if not (self._survives_forge() and self._survives_invariants()):
                return True
            if self._forge_only:
                return False
            if not all(self._put(name, {}, quick=False) for name in names):
                return True
            return not all(self._survives_chain(target) for target in targets)
        finally:
            self._restore(names)

    def _restore(self, names: list[str]) -> None:
        for name in names:
            artifact = Path("artifacts") / f"{name}.json"
            shutil.copy2(CONTRACTS / artifact, self._contracts / artifact)

    def outcome(self, mutant: Mutant) -> str:
        """Who killed it; `survived`; `invalid` if it does not compile; `timeout`: an endless loop, or a slow machine."""
        lines = (CONTRACTS / "src" / mutant.path).read_text().splitlines(keepends=True)
        lines[mutant.line - 1] = mutant.code + "\n"
        # Only the artifacts change: the forge tests that have a library compiled into them would take a minute each time, and
        # tests/contracts asks the same of the artifact.
        changed = {f"src/{mutant.path}": {"content": "".join(lines)}}
        names = self._compiler.contracts_with(f"src/{mutant.path}")
        try:
            return self._outcome(mutant, names, changed)
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            self._restore(names)

    def _outcome(self, mutant: Mutant, names: list[str], changed: dict[str, dict[str, str]]) -> str:
        for name in names:
            if not self._put(name, changed, quick=True):
                return "invalid"
            if name == "LibraryHarness" and not self._forge("--match-contract", "CertificateTest"):
                return "forge"
        if not self._survives_forge():
            return "forge"
        if not self._survives_invariants():
            return "invariants"
        if self._forge_only:
            return "survived"
        for name in names:
            if not self._put(name, changed, quick=False):
                return "invalid"
        target = mutant.path.removesuffix(".sol")
        return "survived" if self._survives_chain(target, mutant.code) else "eth-tester"


def chosen(arguments: argparse.Namespace) -> list[Mutant]:
    """The mutants that the command asks for."""
    targets = [
        target
        for target in TARGETS
        if not arguments.file or target.split("/")[-1] in arguments.file
    ]
    work: list[list[Mutant]] = []
    for target in targets:
        found = [
            mutant
            for mutant in mutants(target)
            if not arguments.only or any(part in str(mutant) for part in arguments.only)
        ]
        if arguments.sample:
            random.Random(target).shuffle(found)
            found = found[: -(-arguments.sample // len(targets))]
        work.append(found)
    # One of each in turn, so that a run that is broken off has seen all contracts.
    return [mutant for row in zip_longest(*work) for mutant in row if mutant]


def main() -> int:
    """Tries the mutants; prints a table, or JSON; 1 if one survives that has no reason to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--file", action="append", choices=[target.split("/")[-1] for target in TARGETS]
    )
    parser.add_argument("--sample", type=int, help="so many, spread evenly over the contracts")
    parser.add_argument("--only", action="append", help="those whose description contains this")
    parser.add_argument("--forge-only", action="store_true", help="not the slower tests/contracts")
    parser.add_argument("--runs", type=int, default=16, help="fuzz runs of each test")
    parser.add_argument("--timeout", type=int, default=600, help="seconds for a mutant and suite")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    work = chosen(arguments)
    workshop = Workshop(arguments.runs, arguments.timeout, forge_only=arguments.forge_only)
    if workshop.fails_unchanged({mutant.path.removesuffix(".sol") for mutant in work}):
        sys.exit("the tests fail without any change: mend that first")
    results: list[tuple[Mutant, str]] = []
    for index, mutant in enumerate(work, start=1):
        results.append((mutant, workshop.outcome(mutant)))
        print(f"{index}/{len(work)} {results[-1][1]:10} {mutant}", file=sys.stderr, flush=True)
    return report(results, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
