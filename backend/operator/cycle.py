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
from backend.market.pool import ClearedInterval, Pool
from backend.market.problem import Market
from backend.settlement.batch import Batch, MemberPeriod, build_batch
from backend.settlement.bundle import make_bundle
from backend.settlement.encoding import OracleReport, genesis_hash
from contracts.bindings import CommunityContracts

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
        self._salt_key = salt_key
        self.parameters = contracts.parameters()
        self.oracle = contracts.oracle_config()
        self._pool = Pool(market, solver, "savings-share", tariff.share_millionths)

    def clear(
        self,
        member_periods: Sequence[MemberPeriod],
        period: Period,
        progress: Callable[[int], None] = lambda index: None,
    ) -> tuple[ClearedInterval, ...]:
        """Clears every interval of a period.

        Args:
            member_periods: what the oracle reported, in slot order.
            period: the period.
            progress: told the number of each interval cleared.

        Raises:
            ClearingFailed: an interval could not be cleared with a proof.
        """
        groups = tuple(
            self.market.group_index[item.member.node, item.member.tariff_class]
            for item in member_periods
        )
        nets = [
            tuple(item.readings[index].net_wh for item in member_periods)
            for index in range(period.interval_count)
        ]
        cleared = []
        for index, interval in enumerate(self._pool.clear_many(groups, nets)):
            cleared.append(interval)
            progress(index)
        return tuple(cleared)

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
        batch = build_batch(
            market=self.market,
            share_millionths=self.tariff.share_millionths,
            period=period,
            report=report,
            signatures=signatures,
            member_periods=member_periods,
            cleared=cleared,
            genesis=self._genesis(),
            previous=previous,
            corrected=corrected,
            salt_key=self._salt_key,
        )
        return self.seal(PreparedPeriod(period, batch, tuple(cleared), corrected))

    def seal(self, prepared: PreparedPeriod) -> PreparedPeriod:
        """Publishes the bundle, names it in the header and stores the batch as prepared; repeating it changes nothing."""
        bundle = make_bundle(
            prepared.batch,
            self.tariff,
            prepared.period,
            self.client.chain_id,
            self.contracts.addresses["ClearingHouse"],
        )
        batch = prepared.batch.with_bundle_hash(bundle.hash)
        publish_bundle(self.bundle_folder / str(batch.header.number), bundle)
        self.store.add_batch(batch, prepared.cleared, self.tariff.share_millionths)
        return replace(prepared, batch=batch)

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

    def _genesis(self) -> bytes:
        return genesis_hash(
            self.client.chain_id,
            self.contracts.addresses["ClearingHouse"],
            self.parameters.first_period,
            self.parameters.first_interval,
        )
