"""Databases that earlier versions left, with rows in every table: brought to the present schema, nothing of them is lost or changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from backend.domain.states import BatchState
from backend.ledger.backup import backup, restore
from backend.ledger.check import check
from backend.ledger.database import current_revision, migrate, newest_revision, open_database
from backend.ledger.journal import balances_nano, export, slot_account, transfer
from backend.ledger.store import LedgerStore
from backend.ledger.tables import PERMANENT_TABLES, UNCHANGING_TABLES
from tests.support.databases import NewDatabase

Rows = dict[str, list[dict[str, Any]]]
HASH = "0x" + "01" * 32
# As each revision's software wrote them; never to be changed with the software of today. Digests of the journal are of then.
WRITTEN: dict[str, Rows] = {
    "0001": {
        "member": [{"slot": 3, "name": "anna", "account": "0xaa", "meter": "0xbb", "node": "west", "tariff_class": "household", "from_period": 16000}],
        "reading": [
            {"meter": "0xbb", "interval": 7, "signature": b"\0\xff", "import_register_wh": 2**40, "export_register_wh": 0, "sequence": 2**33, "quality": 0, "rejected_because": ""},
            {"meter": "0xbb", "interval": 7, "signature": b"\1", "import_register_wh": 1, "export_register_wh": 0, "sequence": 1, "quality": 1, "rejected_because": "register goes back"},
        ],
        "interval": [{
            "batch_hash": HASH, "interval": 7, "demand_wh": 5, "supply_wh": 4, "traded_wh": 4, "discount_nano_per_wh": 1, "premium_nano_per_wh": 2,
            "cost_nano": 2**40, "outside_cost_nano": -1, "fees_nano": 3,
        }],
        "trade": [{"batch_hash": HASH, "position": 0, "interval": 7, "seller_slot": 3, "buyer_slot": 4, "energy_wh": 4, "fee_nano": 3}],
        "batch": [{"batch_hash": HASH, "number": 1, "period": 16000, "version": 0, "previous_batch": "0x00", "ledger_root": "0x02", "bundle_hash": "0x03"}],
        "batch_state": [
            {"batch_hash": HASH, "step": 0, "state": "prepared", "transaction_hash": "", "gas_used": 0, "reason": ""},
            {"batch_hash": HASH, "step": 1, "state": "submitted", "transaction_hash": "0x04", "gas_used": 400000, "reason": ""},
        ],
        "entry": [
            {"batch_hash": HASH, "slot": slot, "amount_nano": nano, "cumulative_nano": nano}
            for slot, nano in {0: 70, 1: 5, 2: 0, 3: -100, 4: 25}.items()
        ],
        "journal": [
            {"number": 1, "kind": "deposit", "reference": "0x01", "occurred_at": 1_700_000_000,
             "digest": "179ee9ed1df16e9c6de1ef295613e498ff9cb98fe892695ad63c1a9eb3de2b70"},
            {"number": 2, "kind": "batch", "reference": HASH, "occurred_at": 1_700_000_900,
             "digest": "e2234f6cdabc7b3abd62aa79b60a8c0767c6172482afa7d754e5f61fcae21db0"},
        ],
        "posting": [
            {"journal_number": 1, "account": "slot:3", "amount_nano": 5_000_000_000},
            {"journal_number": 1, "account": "vault", "amount_nano": -5_000_000_000},
            *(
                {"journal_number": 2, "account": f"slot:{slot}", "amount_nano": nano}
                for slot, nano in {0: 70, 1: 5, 3: -100, 4: 25}.items()
            ),
        ],
    },
    "0002": {
        "indexed_block": [{"number": 2**40, "block_hash": "0x05", "timestamp": 1_700_000_900, "final": True}],
        "chain_event": [{"block_number": 9, "log_index": 1, "timestamp": 1_700_000_900, "transaction_hash": "0x04", "contract": "Vault", "name": "Deposited", "arguments": "{}"}],
        "booked_until": [{"id": 1, "block_number": 9, "batches_from": 8}],
        "intent": [{"key": "batch 1", "sender": "0xcc", "nonce": 0, "to_address": "0xdd", "data": b"\0\xff", "value_wei": str(2**70), "gas": 500_000}],
        "attempt": [{"transaction_hash": "0x04", "intent_key": "batch 1", "number": 0, "raw": b"\2\0", "max_fee_wei": str(2**70), "priority_fee_wei": "1", "signed_at": 2**33}],
        "outcome": [{"intent_key": "batch 1", "transaction_hash": "0x04", "block_number": 9, "succeeded": True, "gas_used": 400_000}],
    },
    "0003": {
        "cycle_state": [
            {"period": 16000, "version": 0, "step": 0, "state": "collecting", "at": 2**33, "batch_hash": "", "reason": ""},
            {"period": 16000, "version": 0, "step": 1, "state": "collected", "at": 2**33, "batch_hash": "", "reason": ""},
        ],
        "oracle_report": [{"period": 16000, "version": 0, "report": "{}", "readings_digest": "d"}],
        "reported_slot": [{"period": 16000, "version": 0, "slot": 3, "salt": b"\0" * 32, "vector": b"\1\2"}],
        "batch_header": [{"batch_hash": HASH, "header": "{}"}],
        "looked_at": [{"period": 16000, "readings_digest": "d"}],
        "preview": [{
            "interval": 2**40, "period": 16001, "cleared_at": 2**33, "missing": 1, "demand_wh": 5, "supply_wh": 4, "traded_wh": 4,
            "discount_nano_per_wh": 1, "premium_nano_per_wh": 2,
        }],
    },
    "0004": {
        "preview_reading": [{"interval": 2**40, "slot": 3, "import_wh": 1, "export_wh": 2, "quality": 0}],
        "preview_trade": [{"interval": 2**40, "seller_slot": 3, "buyer_slot": 4, "energy_wh": 4, "fee_nano": 3}],
        "wish": [{"slot": 3, "number": 1, "wishes": "{}", "account": "0xaa", "signature": b"\xff", "at": 2**33}],
        "kept_answer": [{"caller": "0xaa", "key": "k", "request_digest": "d", "status": 200, "body": b"{}", "at": 2**33}],
    },
}  # fmt: skip
REVISIONS = list(WRITTEN)
JOURNAL = (
    b'{"format":"peerwatt/journal/1"}\n'
    b'{"kind":"deposit","occurred_at":1700000000,"postings":{"slot:3":5000000000,"vault":-5000000000},"reference":"0x01"}\n'
    b'{"kind":"batch","occurred_at":1700000900,"postings":{"slot:0":70,"slot:1":5,"slot:3":-100,"slot:4":25},"reference":"'
    + HASH.encode()
    + b'"}\n'
)


@contextmanager
def left_at(url: str, revision: str) -> Iterator[Engine]:
    """A database as the software of a revision left it, that came there from the first revision on."""
    engine = open_database(url)
    try:
        for name in REVISIONS[: REVISIONS.index(revision) + 1]:
            migrate(engine, name)
            with engine.begin() as connection:
                metadata = MetaData()
                metadata.reflect(connection)
                for table in metadata.sorted_tables:
                    if table.name in WRITTEN[name]:
                        connection.execute(table.insert(), WRITTEN[name][table.name])
        yield engine
    finally:
        engine.dispose()


def written_until(revision: str) -> Rows:
    found: Rows = {}
    for name in REVISIONS[: REVISIONS.index(revision) + 1]:
        found |= WRITTEN[name]
    return found


def rows_of(engine: Engine) -> Rows:
    """All that is in a database, in the order of the keys."""
    with engine.connect() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        return {
            table.name: [
                dict(row)
                for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
            ]
            for table in metadata.sorted_tables
            if table.name != "alembic_version"
        }


def full(engine: Engine) -> Rows:
    return {name: rows for name, rows in rows_of(engine).items() if rows}


def test_every_revision_has_rows_here_in_each_of_its_tables(new_database: NewDatabase) -> None:
    """So that a new migration cannot come without."""
    with left_at(new_database(), REVISIONS[-1]) as engine, engine.connect() as connection:
        assert current_revision(connection) == newest_revision()
        tables = set(inspect(connection).get_table_names()) - {"alembic_version"}
        assert tables == set(written_until(REVISIONS[-1]))


@pytest.mark.parametrize("revision", REVISIONS)
def test_nothing_is_lost_or_changed(new_database: NewDatabase, revision: str) -> None:
    url = new_database()
    with left_at(url, revision) as engine:
        wanted = written_until(revision)
        assert full(engine) == wanted
        # The software of today opens it.
        store = LedgerStore(url)
        assert full(store.engine) == wanted
        assert check(store.engine) == []
        with Session(store.engine) as session:
            assert export(session) == JOURNAL
            assert balances_nano(session)["slot:3"] == 4_999_999_900
        # And goes on: a booking that follows on those of then, and one that is known.
        assert not store.book(
            transfer("deposit", "0x01", 1_700_000_000, slot_account(3), 5 * 10**9)
        )
        assert store.book(transfer("withdrawal", "0x06", 1_700_001_000, slot_account(3), -7))
        store.set_batch_state(b"\1" * 32, BatchState.FINAL)
        assert store.batch_state(b"\1" * 32) is BatchState.FINAL
        assert check(store.engine) == []
        store.close()


def test_what_was_append_only_stays_so(new_database: NewDatabase) -> None:
    with left_at(new_database(), "0001") as engine:
        migrate(engine)
        for table in set(WRITTEN["0001"]) & set(UNCHANGING_TABLES):
            column = next(iter(WRITTEN["0001"][table][0]))
            with (
                engine.begin() as connection,
                pytest.raises(IntegrityError, match="append-only"),
            ):
                connection.execute(text(f"UPDATE {table} SET {column} = {column}"))
        for table in set(WRITTEN["0001"]) & set(PERMANENT_TABLES):
            with (
                engine.begin() as connection,
                pytest.raises(IntegrityError, match="append-only"),
            ):
                connection.execute(text(f"DELETE FROM {table}"))
        assert full(engine) == WRITTEN["0001"]


@pytest.mark.parametrize("revision", REVISIONS[::2])
def test_an_old_backup_is_restored_into_the_present_schema(
    new_database: NewDatabase, tmp_path: Path, revision: str
) -> None:
    with left_at(new_database(), revision) as engine:
        backup(engine, tmp_path / "old.backup")
    target = open_database(new_database())
    summary = restore(target, tmp_path / "old.backup")
    assert summary.revision == revision
    assert full(target) == written_until(revision)
    with target.connect() as connection:
        assert current_revision(connection) == newest_revision()
    assert check(target) == []
    target.dispose()
