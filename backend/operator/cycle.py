"""One period after the other: from the oracle's report to a final batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eth_account.signers.local import LocalAccount

from backend.chain.client import ChainClient, Sent
from backend.domain.community import CommunityTariff
from backend.domain.errors import ContractRefused
from backend.domain.intervals import Period
from backend.domain.states import BatchState
from backend.ledger.store import LedgerStore
from backend.market.pool import ClearedInterval
from backend.market.problem import Market
from backend.settlement.batch import Batch, MemberPeriod
from backend.settlement.encoding import OracleReport, genesis_hash
from contracts.bindings import CommunityContracts

from .preparation import Preparer
from .publication import publish_bundle


@dataclass(frozen=True, slots=True)
class PreparedPeriod:
    """A cleared period whose batch is ready to be submitted and whose bundle is published."""

    period: Period
    batch: Batch
    cleared: tuple[ClearedInterval, ...]
    corrected: Batch | None = None


class Coordinator:
    """Clears, proves and submits periods.

    Args:
        client: the chain.
        contracts: the community on it.
        key: signs and pays for submissions.
        market: the community's market.
        tariff: the tariff in words, for the bundle.
        store: the ledger.
        bundle_folder: where bundles are published.
        salt_key: secret behind ledger and trade salts.
        solver: cvxpy solver.
    """

    def __init__(
        self,
        *,
        client: ChainClient,
        contracts: CommunityContracts,
        key: LocalAccount,
        market: Market,
        tariff: CommunityTariff,
        store: LedgerStore,
        bundle_folder: Path,
        salt_key: bytes,
        solver: str,
    ) -> None:
        self.client = client
        self.contracts = contracts
        self.key = key
        self.market = market
        self.tariff = tariff
        self.store = store
        self.bundle_folder = bundle_folder
        self.parameters = contracts.parameters()
        self.oracle = contracts.oracle_config()
        house = contracts.addresses["ClearingHouse"]
        founding = (self.parameters.first_period, self.parameters.first_interval)
        genesis = genesis_hash(client.chain_id, house, *founding)
        self._preparer = Preparer(tariff, client.chain_id, house, genesis, salt_key, solver)

    def clear(
        self,
        member_periods: Sequence[MemberPeriod],
        period: Period,
        progress: Callable[[int], None] = lambda index: None,
    ) -> tuple[ClearedInterval, ...]:
        """Clears every interval of a period; see `Preparer.clear`."""
        return self._preparer.clear(member_periods, period.interval_count, progress)

    def prepare(
        self,
        *,
        period: Period,
        report: OracleReport,
        signatures: Sequence[bytes],
        member_periods: Sequence[MemberPeriod],
        cleared: Sequence[ClearedInterval],
        previous: Batch | None,
        corrected: Batch | None = None,
    ) -> PreparedPeriod:
        """Builds the batch; changes nothing outside.

        Args:
            period: the period.
            report: the oracle's report.
            signatures: its signatures.
            member_periods: its readings, in slot order.
            cleared: the cleared intervals.
            previous: the newest batch, or None for the first.
            corrected: the batch of the same period that this one corrects, if it does.
        """
        made = self._preparer.prepare(
            period=period,
            report=report,
            signatures=signatures,
            member_periods=member_periods,
            cleared=cleared,
            previous=previous,
            corrected=corrected,
        )
        return self.seal(PreparedPeriod(period, made.batch, made.cleared, corrected))

    def seal(self, prepared: PreparedPeriod) -> PreparedPeriod:
        """Publishes the bundle, names it in the header and stores the batch as prepared; repeating it changes nothing."""
        made = self._preparer.pack(prepared.period, prepared.batch, prepared.cleared)
        publish_bundle(self.bundle_folder / str(made.batch.header.number), made.bundle)
        self.store.add_batch(made.batch, made.cleared, self.tariff.share_millionths)
        return replace(prepared, batch=made.batch)

    def post_bond(self) -> Sent | None:
        """Adds what the bond lacks, if it lacks something; a batch is accepted only while it stands."""
        missing = self.parameters.bond_wei - self.contracts.bond()[1]
        if missing <= 0:
            return None
        return self.client.send(self.contracts.post_bond(), self.key, missing)

    def submit(self, prepared: PreparedPeriod) -> Sent:
        """Submits a prepared batch.

        Raises:
            ContractRefused: the contract did not accept it; stored with the reason.
        """
        batch = prepared.batch
        batch_hash = batch.header.hash()
        given = (batch, self.market, self.tariff.share_millionths, self.oracle)
        if prepared.corrected is None:
            call = self.contracts.submit_batch(*given)
        else:
            call = self.contracts.submit_correction(*given, prepared.corrected.header)
        try:
            sent = self.client.send(call, self.key)
        except ContractRefused as refused:
            self.store.set_batch_state(batch_hash, BatchState.REFUSED, reason=refused.message)
            raise
        self.store.set_batch_state(
            batch_hash,
            BatchState.SUBMITTED,
            transaction_hash=sent.transaction_hash,
            gas_used=sent.gas_used,
        )
        return sent

    def finalise(self, batch: Batch) -> bool:
        """Notes that a batch is final once it is; returns whether it is."""
        if not self.contracts.is_final(batch.header.number):
            return False
        self.store.set_batch_state(batch.header.hash(), BatchState.FINAL)
        return True
