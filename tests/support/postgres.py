"""A throwaway PostgreSQL cluster: Debian's server in a temporary folder, reached over a socket there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest


def _server_folder() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not versions:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    return versions[-1].parent


@contextmanager
def cluster() -> Iterator[str]:
    """A running server's socket folder; stopped and deleted afterwards. The server refuses to run as root."""
    binaries = _server_folder()
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="peerwatt-postgres-", dir="/tmp"))
    if prefix:
        shutil.chown(folder, "postgres", "postgres")

    def run(*command: str) -> None:
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    data = str(folder / "data")
    try:
        run(str(binaries / "initdb"), "-D", data, "-U", "peerwatt", "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c max_connections=40"
        run(str(binaries / "pg_ctl"), "-D", data, "-o", options, "-l", f"{data}/log", "-w", "start")
        try:
            yield str(folder)
        finally:
            run(str(binaries / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh_database(folder: str) -> str:
    """URL of a new, empty database."""
    import psycopg

    name = f"test_{uuid4().hex}"
    with psycopg.connect(f"host={folder} user=peerwatt dbname=postgres", autocommit=True) as server:
        server.execute(f"create database {name}".encode())
    return f"postgresql+psycopg://peerwatt@/{name}?host={folder}"
