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

from tests import services


def _server_folder() -> Path:
    return services.postgresql() or services.absent("postgresql")


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
        # After a kill it first brings every file to disk, which takes as long as the disk takes.
        self.run(
            "pg_ctl", "-o", options, "-l", str(self.folder / "log"), "-w", "-t", "600", "start"
        )

    def execute(self, statement: str) -> None:
        """Runs a statement as the server's owner."""
        import psycopg

        connection = f"host={self.folder} user=peerwatt dbname=postgres"
        with psycopg.connect(connection, autocommit=True) as server:
            server.execute(statement.encode())

    def databases_in(self, tablespace: str) -> list[str]:
        """Names of the databases in a tablespace."""
        import psycopg

        query = (
            "select datname from pg_database join pg_tablespace space on space.oid = dattablespace"
            " where spcname = %s"
        )
        with psycopg.connect(f"host={self.folder} user=peerwatt dbname=postgres") as server:
            return [row[0] for row in server.execute(query, (tablespace,))]

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


def fresh_database(server: Cluster, tablespace: str = "pg_default") -> str:
    """URL of a new, empty database."""
    name = f"test_{uuid4().hex}"
    server.execute(f"create database {name} tablespace {tablespace}")
    return f"postgresql+psycopg://peerwatt@/{name}?host={server.folder}"


@contextmanager
def tablespace(server: Cluster, folder: Path) -> Iterator[str]:
    """The name of a tablespace in a folder; dropped afterwards with all databases in it."""
    name = f"space_{uuid4().hex}"
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    place = folder / "space"
    subprocess.run([*server.prefix, "mkdir", "-p", str(place)], check=True)
    server.execute(f"create tablespace {name} location '{place}'")
    try:
        yield name
    finally:
        for database in server.databases_in(name):
            server.execute(f"drop database {database} with (force)")
        server.execute(f"drop tablespace {name}")
