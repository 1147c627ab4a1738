"""A throwaway PostgreSQL cluster: Debian's server in a temporary folder, reached over a socket there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest


def _server_folder() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not versions:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    return versions[-1].parent


@dataclass(frozen=True)
class Cluster:
    """A server and its folder."""

    folder: Path
    binaries: Path
    prefix: tuple[str, ...]

    def run(self, program: str, *arguments: str) -> None:
        command = [*self.prefix, str(self.binaries / program), "-D", str(self.folder / "data")]
        # The server must not keep our pipes open.
        done = subprocess.run(
            [*command, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, (program, arguments)

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c max_connections=40"
        self.run("pg_ctl", "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def create(self, name: str) -> str:
        """A new empty schema, as an installation with several communities has one for each; returns its URL."""
        import psycopg

        url = f"postgresql://peerwatt@/postgres?host={quote(str(self.folder), safe='')}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"create schema {name}".encode())
        return f"{url}&options=-csearch_path%3D{name}"

    def kill(self) -> None:
        """Stops it without writing anything, as when the power goes."""
        self.run("pg_ctl", "-m", "immediate", "stop")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A running server, stopped and deleted afterwards. It refuses to run as root."""
    binaries = _server_folder()
    prefix = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
    folder = Path(tempfile.mkdtemp(prefix="peerwatt-postgres-", dir="/tmp"))
    if prefix:
        shutil.chown(folder, "postgres", "postgres")
    made = Cluster(folder, binaries, prefix)
    try:
        made.run("initdb", "-U", "peerwatt", "-A", "trust", "--no-sync")
        made.start()
        try:
            yield made
        finally:
            made.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh_database(folder: Path) -> str:
    """URL of a new, empty database."""
    import psycopg

    name = f"test_{uuid4().hex}"
    with psycopg.connect(f"host={folder} user=peerwatt dbname=postgres", autocommit=True) as server:
        server.execute(f"create database {name}".encode())
    return f"postgresql+psycopg://peerwatt@/{name}?host={folder}"
