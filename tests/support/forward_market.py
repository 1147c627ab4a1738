"""A community on an embedded chain whose first period lies ahead, with a trade book: trades, books, reports and bills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backend.market.electrical_distance_fees import network_pair_fees
from backend.settlement.batch import Batch
from backend.settlement.bundle import canonical_json
from backend.settlement.encoding import typed_data_digest
from backend.settlement.forward import (
    ForwardTrade,
    SignedTrade,
    book_data,
    own_trades_data,
    trade_book,
)
from backend.settlement.statement import statement_amount_nano
from deploy.trade_book import deploy_trade_book
from oracle.committee import SignedReport, assemble
from oracle.trade_books import TradedPeriod, traded_period
from tests.support.community import BOND_WEI, Energy, LiveCommunity, account, secret

FEE_SLOT = 7  # emil plays the network operator's account: it trades nothing


class Market:
    """A community whose first period lies ahead, with a trade book."""

    def __init__(self, community: LiveCommunity, folder: Path) -> None:
        self.community = community
        self.folder = folder
        self.period = community.period(0)
        community.contracts, self.book, _ = deploy_trade_book(
            community.client,
            account("deployer"),
            community.contracts,
            gate_seconds=300,
            strike_seconds=1800,
            bond_wei=BOND_WEI,
        )
        community.send(self.book.post_bond(), "coordinator", BOND_WEI)
        self.fees = network_pair_fees(community.paper.network).between

    def trade(
        self, offset: int, seller: int, buyer: int, energy_wh: int, price: int
    ) -> SignedTrade:
        member = self.community.paper.member
        fee = self.fees(member(seller).node, member(buyer).node)
        terms = ForwardTrade(
            self.period.first_interval + offset, seller, buyer, energy_wh, price, fee
        )
        return self.signed(terms)

    def signed(self, terms: ForwardTrade, **keys: Any) -> SignedTrade:
        digest = typed_data_digest(self.book.domain, terms.struct_hash())
        signatures = (
            bytes(key.unsafe_sign_hash(digest).signature)
            for key in (
                keys.get("seller") or self.community.wallet(terms.seller_slot),
                keys.get("buyer") or self.community.wallet(terms.buyer_slot),
            )
        )
        return SignedTrade(terms, *signatures, salt=secret("salt", terms.energy_wh))

    def commit(self, offset: int, trades: list[SignedTrade], count: int = 1) -> None:
        ordered = sorted(trades, key=lambda one: one.trade)
        first = self.period.first_interval + offset
        sent = self.book.commit(first, count, trade_book(ordered).root)
        self.community.send(sent, "coordinator")
        given = (ordered, first, count, self.community.place.chain_id, self.book.address)
        (self.folder / f"{first}.json").write_bytes(canonical_json(book_data(*given)))
        own = self.folder / str(first)
        own.mkdir()
        for member in self.community.paper.members:
            data = own_trades_data(*given, member.slot)
            (own / f"{member.slot}.json").write_bytes(canonical_json(data))

    def standing(self) -> TradedPeriod:
        members = {item.slot: item for item in self.community.paper.members}
        return traded_period(self.book, self.folder, self.period, members, self.fees, FEE_SLOT)

    def close(self) -> None:
        """The period and the time for striking are over."""
        until = max(one.strike_until for one in self.book.commitments())
        self.community.travel_to(until + 1)
        self.community.client.fund([account("outsider").address], 1)

    def report(self, energy: Energy, traded: TradedPeriod, version: int = 0) -> SignedReport:
        paper, place = self.community.paper, self.community.place
        received = paper.received(self.period, energy, place)
        return assemble(
            [
                signer.confirm(self.period, version, paper.members, paper.market, received, traded)
                for signer in paper.oracle_signers(place)
            ],
            place.threshold,
            place.domain,
        )

    def bill(self, batch: Batch, slot: int) -> int:
        """What the member's own software finds from its meter and its own trades."""
        item = batch.member_periods[slot]
        group = self.community.market.groups[
            self.community.market.group_index[item.member.node, item.member.tariff_class]
        ]
        packed = batch.packed_prices
        steps = [
            (
                int.from_bytes(packed[at : at + 8], "big"),
                int.from_bytes(packed[at + 8 : at + 16], "big"),
            )
            for at in range(0, len(packed), 16)
        ]
        return statement_amount_nano(item.readings, steps, group, item.traded_nano)
