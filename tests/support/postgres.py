"""A throw-away PostgreSQL of this machine's own packages: initdb into a temporary folder, a socket, no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

# Debian keeps the server's programs out of the path.
_FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))


class Cluster:
    """A server with its data; can be stopped and started as an operator would."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._run("initdb", "-D", str(folder / "data"), "-U", "peerwatt", "-A", "trust", "-N")

    def start(self) -> None:
        """Returns once it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        log = str(self.folder / "log")
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", log, "-w", "start"
        )

    def stop(self) -> None:
        """Breaks all connections, as a crash of the server would for its clients."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def create(self, name: str) -> str:
        """A new empty schema, as an installation with several communities has one for each; returns its URL."""
        host = quote(str(self.folder), safe="")
        url = f"postgresql://peerwatt@/postgres?host={host}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")  # type: ignore[call-overload]
        return f"{url}&options=-csearch_path%3D{name}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() == 0:  # the server refuses to run as root
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program != "pg_ctl" else subprocess.DEVNULL,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}"


@contextmanager
def postgres_cluster() -> Iterator[Cluster]:
    """A running server; skips the test where PostgreSQL is not installed."""
    if not _FOUND:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="peerwatt-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        cluster = Cluster(folder, _FOUND[-1].parent)
        cluster.start()
        try:
            yield cluster
        finally:
            if (folder / "data" / "postmaster.pid").exists():
                cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
