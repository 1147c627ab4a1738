"""Double entry: nothing is booked twice, changed, or out of balance; against a model that is nothing but a dictionary."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel

from backend.domain.errors import BookingRefused, DatabaseFailed, MalformedInput, SchemaUnknown
from backend.ledger.check import check
from backend.ledger.database import open_database
from backend.ledger.journal import (
    VAULT,
    JournalEntry,
    balances_nano,
    entries,
    export,
    settlement,
    slot_account,
    transfer,
)
from backend.ledger.store import LedgerStore
from backend.ledger.tables import (
    PERMANENT_TABLES,
    UNCHANGING_TABLES,
    AttemptRow,
    BatchHeaderRow,
    BatchRow,
    BatchStateRow,
    BookedUntilRow,
    ChainEventRow,
    CycleStateRow,
    EntryRow,
    IndexedBlockRow,
    IntentRow,
    IntervalRow,
    KeptAnswerRow,
    LookedAtRow,
    MemberRow,
    OracleReportRow,
    OutcomeRow,
    PreviewReadingRow,
    PreviewRow,
    PreviewTradeRow,
    ReadingRow,
    ReportedSlotRow,
    TradeRow,
    WishRow,
)
from tests.support.databases import NewDatabase
from tests.support.postgres import Cluster

SLOTS = st.integers(0, 6)
AMOUNTS = st.integers(-(10**15), 10**15)


@st.composite
def bookings(draw: st.DrawFn) -> JournalEntry:
    number = draw(st.integers(0, 30))
    if draw(st.booleans()):
        nano = draw(st.integers(1, 10**15))
        return transfer("deposit", f"t{number}", number, slot_account(draw(SLOTS)), nano)
    amounts = draw(st.dictionaries(SLOTS, AMOUNTS, min_size=1))
    slot = draw(SLOTS)
    amounts[slot] = amounts.get(slot, 0) - sum(amounts.values())
    return settlement("batch", number.to_bytes(32, "big"), number, amounts)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(given_entries=st.lists(bookings(), max_size=12))
def test_balances_are_the_sums_of_what_was_booked_once(
    new_database: NewDatabase, given_entries: list[JournalEntry]
) -> None:
    store = LedgerStore(new_database())
    try:
        booked: dict[str, JournalEntry] = {}
        for entry in given_entries:
            if booked.get(entry.reference, entry) != entry:
                with pytest.raises(BookingRefused, match="booked already"):
                    store.book(entry)
                continue
            assert store.book(entry) == (entry.reference not in booked)
            booked[entry.reference] = entry
        model: Counter[str] = Counter()
        for entry in booked.values():
            model.update(entry.postings)
        with Session(store.engine) as session:
            balances = balances_nano(session)
            assert [entry for _, entry in entries(session)] == list(booked.values())
        assert sum(balances.values()) == 0
        assert balances == {
            account: model[account]
            for account in sorted({a for e in booked.values() for a in e.postings})
        }
        assert check(store.engine) == []
    finally:
        store.close()


DEPOSIT = transfer("deposit", "0x01", 1_700_000_000, slot_account(3), 5_000_000_000)
BATCH = settlement("batch", b"\1" * 32, 1_700_000_900, {0: 70, 1: 5, 2: 0, 3: -100, 4: 25})


@pytest.fixture
def store(database: str) -> LedgerStore:
    store = LedgerStore(database)
    assert store.book(DEPOSIT)
    assert store.book(BATCH)
    return store


def test_an_account_without_an_amount_gets_no_posting() -> None:
    assert "slot:2" not in BATCH.postings
    assert DEPOSIT.postings == {"slot:3": 5_000_000_000, VAULT: -5_000_000_000}


@pytest.mark.parametrize(
    "postings", [{"slot:3": 1}, {"slot:3": 1, "slot:4": -2}, {"slot:3": 2**63, "slot:4": -(2**63)}]
)
def test_what_does_not_balance_or_fit_is_refused(
    store: LedgerStore, postings: dict[str, int]
) -> None:
    with Session(store.engine) as session:
        before = export(session)
    with pytest.raises(BookingRefused):
        store.book(JournalEntry("batch", "0x02", 1, postings))
    with Session(store.engine) as session:
        assert export(session) == before
    store.close()


def test_the_largest_amount_fits(store: LedgerStore) -> None:
    assert store.book(JournalEntry("batch", "big", 1, {"slot:3": 2**63 - 1, "slot:4": 1 - 2**63}))
    assert check(store.engine) == []
    store.close()


ROWS: tuple[SQLModel, ...] = (
    PreviewReadingRow(interval=1, slot=3, import_wh=1, export_wh=0, quality=0),
    PreviewTradeRow(interval=1, seller_slot=3, buyer_slot=4, energy_wh=1, fee_nano=0),
    WishRow(slot=3, number=1, wishes="{}", account="0x", signature=b"\x01", at=1),
    KeptAnswerRow(caller="0x", key="k", request_digest="d", status=200, body=b"{}", at=1),
    MemberRow(slot=3, name="a", account="0x", meter="0x", node="n", tariff_class="t", from_period=1),
    ReadingRow(
        meter="0x", interval=1, signature=b"\0\xff", import_register_wh=2**40, export_register_wh=0, sequence=2**33, quality=0
    ),
    IntervalRow(
        batch_hash="0x", interval=1, demand_wh=1, supply_wh=1, traded_wh=1, discount_nano_per_wh=1, premium_nano_per_wh=1,
        cost_nano=1, outside_cost_nano=-1, fees_nano=1
    ),
    TradeRow(batch_hash="0x", position=0, interval=1, seller_slot=3, buyer_slot=4, energy_wh=1, fee_nano=1),
    BatchRow(batch_hash="0x", number=1, period=1, version=0, previous_batch="0x", ledger_root="0x", bundle_hash="0x"),
    EntryRow(batch_hash="0x", slot=3, amount_nano=0, cumulative_nano=5),
    IntentRow(key="k", sender="0x", nonce=0, to_address="0x", data=b"", value_wei=str(2**70), gas=1),
    IndexedBlockRow(number=2**40, block_hash="0x", timestamp=1, final=False),
    ChainEventRow(block_number=1, log_index=0, timestamp=1, transaction_hash="0x", contract="c", name="n", arguments="{}"),
    BookedUntilRow(id=1, block_number=1, batches_from=0),
    CycleStateRow(period=1, version=0, step=0, state="collecting", at=2**40),
    OracleReportRow(period=1, version=0, report="{}", readings_digest="0x"),
    ReportedSlotRow(period=1, version=0, slot=3, salt=b"\0", vector=b"\1"),
    BatchHeaderRow(batch_hash="0x", header="{}"),
    LookedAtRow(period=1, readings_digest="0x"),
    PreviewRow(
        interval=2**40, period=1, cleared_at=2**40, missing=0, demand_wh=1, supply_wh=1, traded_wh=1, discount_nano_per_wh=1,
        premium_nano_per_wh=1
    ),
)  # fmt: skip

ROWS_THAT_REFER: tuple[SQLModel, ...] = (
    AttemptRow(transaction_hash="0x", intent_key="k", number=0, raw=b"\2", max_fee_wei=str(2**70), priority_fee_wei="1", signed_at=1),
    OutcomeRow(intent_key="k", transaction_hash="0x", block_number=2**40, succeeded=True, gas_used=1),
)  # fmt: skip


def fill(store: LedgerStore) -> None:
    """A row in every table that the journal's tests leave empty."""
    with Session(store.engine) as session:
        session.add_all(type(row)(**row.model_dump()) for row in ROWS)
        session.flush()
        session.add(BatchStateRow(batch_hash="0x", step=0, state="prepared"))
        session.add_all(type(row)(**row.model_dump()) for row in ROWS_THAT_REFER)
        session.commit()


def test_the_database_itself_refuses_changes(store: LedgerStore) -> None:
    fill(store)
    for table in UNCHANGING_TABLES:
        column = next(iter(SQLModel.metadata.tables[table].columns)).name
        with store.engine.begin() as connection, pytest.raises(IntegrityError, match="append-only"):
            connection.execute(text(f"UPDATE {table} SET {column} = {column}"))
    for table in PERMANENT_TABLES:
        with store.engine.begin() as connection, pytest.raises(IntegrityError, match="append-only"):
            connection.execute(text(f"DELETE FROM {table}"))
    # What is a person's can be erased; the accounts stay.
    with store.engine.begin() as connection:
        for table in ("reading", "reported_slot", "trade", "member", "wish"):
            connection.execute(text(f"DELETE FROM {table}"))
    assert check(store.engine) == []
    store.close()


def test_check_finds_what_somebody_with_all_rights_changed(store: LedgerStore) -> None:
    """A changed amount that still balances, below switched-off triggers."""
    sqlite = store.engine.dialect.name == "sqlite"
    with store.engine.begin() as connection:
        connection.execute(
            text(
                "DROP TRIGGER posting_no_update"
                if sqlite
                else "ALTER TABLE posting DISABLE TRIGGER posting_no_update"
            )
        )
    assert check(store.engine) == [
        "the trigger posting_no_update, which keeps the ledger append-only, is missing or off"
    ]
    with store.engine.begin() as connection:
        for account, amount in (("slot:3", -101), ("slot:4", 26)):
            connection.execute(
                text(
                    "UPDATE posting SET amount_nano = :amount "
                    "WHERE journal_number = 2 AND account = :account"
                ),
                {"amount": amount, "account": account},
            )
    assert "booking 2 or one before it was changed" in check(store.engine)[1]
    store.close()


def test_the_export_is_the_same_on_every_database(store: LedgerStore) -> None:
    with Session(store.engine) as session:
        assert export(session) == (
            b'{"format":"peerwatt/journal/1"}\n'
            b'{"kind":"deposit","occurred_at":1700000000,"postings":{"slot:3":5000000000,"vault":-5000000000},'
            b'"reference":"0x01"}\n'
            b'{"kind":"batch","occurred_at":1700000900,"postings":{"slot:0":70,"slot:1":5,"slot:3":-100,"slot:4":25},'
            b'"reference":"0x' + b"01" * 32 + b'"}\n'
        )
    store.close()


def test_several_writers_at_once_book_everything_once(database: str) -> None:
    """Two processes' worth of connections, the same bookings from both."""
    LedgerStore(database).close()

    def write(start: int) -> int:
        store = LedgerStore(database)
        try:
            new = 0
            for number in range(12):
                entry = replace(DEPOSIT, reference=f"r{(number + start) % 12}")
                for _ in range(50):
                    try:
                        new += store.book(entry)
                        break
                    except IntegrityError:  # PostgreSQL: the other was quicker with this number
                        continue
            return new
        finally:
            store.close()

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(write, (0, 6))) == 12
    store = LedgerStore(database)
    assert check(store.engine) == []
    with Session(store.engine) as session:
        assert balances_nano(session)["slot:3"] == 12 * 5_000_000_000
    store.close()


def test_the_migrations_make_what_the_tables_say(store: LedgerStore) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, SQLModel.metadata) == []
    store.close()


def test_a_database_of_a_newer_version_is_left_alone(store: LedgerStore) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaUnknown, match="9999"):
        LedgerStore(store.engine.url.render_as_string(hide_password=False))
    store.close()


@pytest.mark.parametrize("url", ["nonsense", "mysql://u:secret@h/d", "sqlite", ""])
def test_an_unsuitable_url_is_named_without_its_password(url: str) -> None:
    with pytest.raises(MalformedInput) as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


def test_no_server_is_an_error_with_a_mend() -> None:
    with pytest.raises(DatabaseFailed) as caught:
        LedgerStore("postgresql://u:secret@127.0.0.1:1/none?connect_timeout=2")
    assert "secret" not in caught.value.message


def test_a_server_that_stops_and_comes_back(cluster: Cluster) -> None:
    """PostgreSQL crashes under an open connection: an error with a mend, nothing half booked, and then on as if nothing was."""
    store = LedgerStore(cluster.create("restarted"))
    store.book(DEPOSIT)
    cluster.kill()
    try:
        with pytest.raises(DatabaseFailed):
            store.book(BATCH)
        with pytest.raises(DatabaseFailed):
            check(store.engine)
    finally:
        cluster.start()
    assert store.book(BATCH)
    assert not store.book(DEPOSIT)
    assert check(store.engine) == []
    store.close()
