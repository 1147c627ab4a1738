"""From a fresh checkout to a running command, with nothing but Python and a way to PyPI.

    python3 deploy/bootstrap.py demo [...]    the main job; any `peerwatt` command works
    python3 deploy/bootstrap.py test [...]    all checks and tests; arguments go to pytest

Makes a virtual environment in `.venv`, installs the locked packages into it, then this project, then runs. Later calls only
install what has changed. Uses the standard library alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("PEERWATT_VENV", ROOT / ".venv"))
PYTHON = VENV / "bin" / "python"
LOCKS = {
    "demo": ROOT / "deploy" / "requirements.lock",
    "test": ROOT / "deploy" / "requirements-dev.lock",
}
# What an installation is made of: if none of it changed, nothing is installed again.
SOURCES = ("backend", "contracts", "deploy", "oracle", "pyproject.toml", "README.md", "LICENSE")
LEAST_PYTHON = (3, 11)
PIP_INDEX = "https://pypi.org/pypi/pip/json"


def say(line: str) -> None:
    """One line to whoever waits."""
    print(f"bootstrap: {line}", file=sys.stderr, flush=True)


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Runs a command; stops everything with its exit code if it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, check=False)
    if done.returncode:
        say(f"failed with exit code {done.returncode}: {' '.join(map(str, command))}")
        sys.exit(done.returncode)


def make_environment() -> None:
    """Makes the virtual environment, also where the system's Python comes without ensurepip (Debian)."""
    if PYTHON.exists():
        return
    say(f"making a virtual environment in {VENV}")
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False
    )
    if made.returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    run(sys.executable, "-m", "venv", "--without-pip", VENV)
    say("this Python has no ensurepip; fetching pip from PyPI")
    with urllib.request.urlopen(PIP_INDEX) as answer:
        wheel = next(
            item for item in json.load(answer)["urls"] if item["packagetype"] == "bdist_wheel"
        )
    with tempfile.TemporaryDirectory() as folder, urllib.request.urlopen(wheel["url"]) as answer:
        data = answer.read()
        if hashlib.sha256(data).hexdigest() != wheel["digests"]["sha256"]:
            sys.exit("bootstrap: the pip that came is not the one PyPI announced")
        path = Path(folder) / wheel["filename"]
        path.write_bytes(data)
        run(PYTHON, f"{path}/pip", "install", "--quiet", path)


def fingerprint(paths: list[Path]) -> str:
    """A hash of files and folders, caches left out."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            inside = file.relative_to(ROOT).parts
            if not file.is_file() or {"node_modules", "__pycache__", "build"} & set(inside):
                continue
            digest.update("/".join(inside).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def install(kind: str) -> None:
    """Installs the locked packages and this project, unless they are there already."""
    lock = LOCKS[kind]
    marks = VENV / "peerwatt-installed.json"
    known = json.loads(marks.read_text()) if marks.exists() else {}
    wanted = {
        f"lock {kind}": fingerprint([lock]),
        "project": fingerprint([ROOT / name for name in SOURCES]),
    }
    # The packages for tests include those for the demonstration.
    if kind == "demo" and known.get("lock test") == fingerprint([LOCKS["test"]]):
        known[f"lock {kind}"] = wanted[f"lock {kind}"]
    if known.get(f"lock {kind}") != wanted[f"lock {kind}"]:
        say(f"installing the packages of {lock.relative_to(ROOT)} (about a minute the first time)")
        run(PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock)
    if known.get("project") != wanted["project"]:
        say("installing peerwatt")
        run(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", ROOT)
    marks.write_text(json.dumps(known | wanted, indent=1))


def main() -> None:
    """Installs, then becomes the command asked for."""
    if sys.version_info < LEAST_PYTHON:
        sys.exit(
            f"bootstrap: Python {LEAST_PYTHON[0]}.{LEAST_PYTHON[1]} or newer is needed, this is {sys.version.split()[0]}"
        )
    arguments = sys.argv[1:] or ["--help"]
    kind = "test" if arguments[0] == "test" else "demo"
    make_environment()
    install(kind)
    if kind == "test":
        os.chdir(ROOT)
        os.execv(PYTHON, [str(PYTHON), str(ROOT / "tests" / "run.py"), *arguments[1:]])
    os.execv(VENV / "bin" / "peerwatt", [str(VENV / "bin" / "peerwatt"), *arguments])


if __name__ == "__main__":
    main()
