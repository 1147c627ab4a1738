"""The restore drill: a ledger is backed up, lost, restored elsewhere, and is the same; with the command as an operator runs it."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session
from typer.testing import CliRunner, Result

from backend.cli import app
from backend.domain.errors import BackupDamaged, LedgerDamaged, MalformedInput, SchemaUnknown
from backend.ledger.backup import backup, restore
from backend.ledger.check import check
from backend.ledger.database import open_database
from backend.ledger.journal import export
from backend.ledger.store import LedgerStore
from tests.ledger.test_journal import BATCH, DEPOSIT, fill
from tests.support.databases import NewDatabase


@pytest.fixture
def store(database: str) -> LedgerStore:
    """A ledger with something in every table."""
    store = LedgerStore(database)
    store.book(DEPOSIT)
    store.book(BATCH)
    fill(store)
    return store


def url_of(store: LedgerStore) -> str:
    return store.engine.url.render_as_string(hide_password=False)


def exported(store: LedgerStore) -> bytes:
    with Session(store.engine) as session:
        return export(session)


def run(*arguments: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, ["db", *arguments])
    assert done.exit_code == code, done.output
    return done


def test_the_restore_drill(store: LedgerStore, new_database: NewDatabase, tmp_path: Path) -> None:
    file = tmp_path / "monday.backup"
    before = exported(store)
    written = json.loads(run("backup", str(file), "--database", url_of(store), "--json").stdout)
    assert written["rows"]["posting"] == 6
    assert all(rows > 0 for rows in written["rows"].values()), (
        "a table without a row proves nothing"
    )
    store.close()
    target = new_database()
    restored = json.loads(run("restore", str(file), "--database", target, "--json").stdout)
    assert restored == written
    assert json.loads(run("check", "--database", target, "--json").stdout) == {
        "sound": True,
        "faults": [],
    }
    again = LedgerStore(target)
    assert exported(again) == before
    assert not again.book(DEPOSIT), "what was booked before is known after"
    assert again.book(type(DEPOSIT)("deposit", "0x03", 1, DEPOSIT.postings))
    second = tmp_path / "tuesday.backup"
    backup(again.engine, second)
    assert gzip.decompress(second.read_bytes()) != gzip.decompress(file.read_bytes())
    again.close()


def test_a_backup_moves_between_the_kinds_of_database(
    store: LedgerStore, new_database: NewDatabase, tmp_path: Path
) -> None:
    """SQLite's and PostgreSQL's backups of the same ledger are the same bytes, through a copy on SQLite."""
    one, two = tmp_path / "one.backup", tmp_path / "two.backup"
    backup(store.engine, one)
    copy = open_database(f"sqlite:///{tmp_path}/copy.sqlite")
    restore(copy, one)
    backup(copy, two)
    assert one.read_bytes() == two.read_bytes()
    back = open_database(new_database())
    restore(back, two)
    assert check(back) == []
    for engine in (copy, back):
        engine.dispose()
    store.close()


def test_every_damaged_byte_and_cut_is_noticed_and_nothing_is_restored(
    store: LedgerStore, new_database: NewDatabase, tmp_path: Path
) -> None:
    file = tmp_path / "file.backup"
    backup(store.engine, file)
    whole = file.read_bytes()
    lines = gzip.decompress(whole).splitlines(keepends=True)
    changed = b"".join(lines).replace(b"-100]", b"-101]")
    assert changed != b"".join(lines)
    broken = [whole[: len(whole) // 2], whole[:-4], b"", whole[:30] + b"\xff\xff" + whole[32:]]
    broken += [gzip.compress(changed), gzip.compress(b"".join(lines[:-1]))]
    target = open_database(new_database())
    for data in broken:
        file.write_bytes(data)
        with pytest.raises((BackupDamaged, MalformedInput)):
            restore(target, file)
    file.write_bytes(whole)
    restore(target, file)
    target.dispose()
    store.close()


def test_an_unsound_ledger_is_not_restored(
    store: LedgerStore, new_database: NewDatabase, tmp_path: Path
) -> None:
    with store.engine.begin() as connection:
        if store.engine.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER posting_no_update"))
        else:
            connection.execute(text("ALTER TABLE posting DISABLE TRIGGER ALL"))
        connection.execute(text("UPDATE posting SET amount_nano = 1 WHERE account = 'slot:0'"))
    file = tmp_path / "file.backup"
    backup(store.engine, file)
    target = open_database(new_database())
    with pytest.raises(LedgerDamaged, match="booking 2 sums to -69 nano"):
        restore(target, file)
    assert check(target) == ["there is no ledger in this database"], "nothing was left behind"
    target.dispose()
    store.close()


def test_backups_overwrite_nothing_and_restores_need_an_empty_database(
    store: LedgerStore, tmp_path: Path
) -> None:
    file = tmp_path / "file.backup"
    backup(store.engine, file)
    with pytest.raises(MalformedInput, match="is there already"):
        backup(store.engine, file)
    with pytest.raises(SchemaUnknown, match="not empty"):
        restore(store.engine, file)
    with pytest.raises(MalformedInput, match="is not there"):
        restore(store.engine, tmp_path / "none")
    store.close()


def test_a_failing_backup_leaves_no_file_of_its_name(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    engine = open_database(new_database())
    with pytest.raises(SchemaUnknown):
        backup(engine, tmp_path / "file.backup")
    assert not (tmp_path / "file.backup").exists()
    engine.dispose()


def test_check_exits_with_1_on_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    store = LedgerStore(f"sqlite:///{path}")
    for number in range(300):
        store.book(type(DEPOSIT)("deposit", f"{number:0500}", 1, DEPOSIT.postings))
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page: int = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'posting'"
    ).fetchone()[0]
    connection.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 + 8 : (page - 1) * 4096 + 40] = b"\xff" * 32
    path.write_bytes(data)
    answer: dict[str, Any] = json.loads(
        run("check", "--database", f"sqlite:///{path}", "--json", code=1).stdout
    )
    assert "faults" in answer or "error" in answer
