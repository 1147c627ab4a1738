-- Read-only views of a community's database for auditors, for SQLite and PostgreSQL (docs/auditing.md). None shows readings, trades or
-- names; auditor_balance and auditor_posting show amounts by slot, which are personal: grant them to a mandated auditor only.

CREATE VIEW auditor_batch AS
SELECT batch.number, batch.period, batch.version, batch.batch_hash, batch.previous_batch, batch.bundle_hash,
       state.state, state.reason, state.transaction_hash, state.gas_used
FROM batch
JOIN batch_state AS state ON state.batch_hash = batch.batch_hash
WHERE state.step = (SELECT MAX(step) FROM batch_state AS newest WHERE newest.batch_hash = batch.batch_hash);

CREATE VIEW auditor_interval AS
SELECT batch.number, batch.period, interval.interval, interval.demand_wh, interval.supply_wh, interval.traded_wh,
       interval.discount_nano_per_wh, interval.premium_nano_per_wh, interval.cost_nano, interval.outside_cost_nano,
       interval.fees_nano
FROM interval
JOIN auditor_batch AS batch ON batch.batch_hash = interval.batch_hash
WHERE batch.state IN ('submitted', 'final');

CREATE VIEW auditor_event AS
SELECT block_number, log_index, timestamp, transaction_hash, contract, name, arguments
FROM chain_event;

CREATE VIEW auditor_posting AS
SELECT journal.number, journal.kind, journal.reference, journal.occurred_at, posting.account, posting.amount_nano
FROM journal
JOIN posting ON posting.journal_number = journal.number;

CREATE VIEW auditor_balance AS
SELECT account, SUM(amount_nano) AS balance_nano
FROM posting
GROUP BY account;
