"""The demonstration of the forward market: households negotiate before each interval, sign, commit, deliver, and settle in two steps.

The community is the day's (`day.py`), in 5-minute intervals: SimBench's registers, read three times as often as they are recorded, are
taken to grow evenly in between. Some homes with a generator have a battery besides, which SimBench's leave out. What a household
expects comes from what it has metered so far and nothing else. A live clock has a day to come, not one of 2016: the recorded day is
delivered tomorrow.
"""

from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_typing import Hash32

from backend.chain.client import ChainClient
from backend.domain.case import TariffClass
from backend.domain.community import FIRST_MEMBER_SLOT, Member
from backend.domain.errors import AuditFailed, OutOfRange
from backend.domain.intervals import EPOCH_DATE, Period
from backend.domain.p2p import P2PResult
from backend.durable_files import write_atomically
from backend.ledger.store import LedgerStore
from backend.market.electrical_distance_fees import network_pair_fees
from backend.market.p2p.methods import solve_case
from backend.market.p2p.sparse import Check
from backend.negotiation.agreement import TradeLimits, broken_limits, whole_trades
from backend.negotiation.assets import Battery
from backend.negotiation.households import (
    NANO_PER_WH_PER_UNIT,
    WH_PER_KWH,
    Household,
    MeterHistory,
    Wishes,
    household_case,
)
from backend.settlement.bundle import canonical_json
from backend.settlement.encoding import derive_salt, typed_data_digest
from backend.settlement.forward import (
    ForwardTrade,
    SignedTrade,
    book_data,
    own_trades_data,
    trade_book,
)
from contracts.bindings import FoundingParameters
from deploy.community import admit_members
from deploy.trade_book import deploy_trade_book
from oracle.signing import address_of, private_key
from oracle.sources.simbench import available_days, interval_energy_wh
from oracle.trade_books import TradedPeriod, traded_period

from .community import Participant, build_community
from .day import OUTPUT_FILES, Demonstration, DemoOptions, DemoRun, Lie, Progress, clear_output

MINUTES = 5
PER_DAY = 288
_PER_QUARTER = 3
_GATE_SECONDS = 60
# When a household negotiates the interval before is running: the last one it has metered is the one before that.
_AHEAD = 2
_NEGOTIATE_SECONDS = 2 * _GATE_SECONDS
_STRIKE_SECONDS = 3600
_TRADE_BOND_WEI = 10**16
_HISTORY_DAYS = 7
_BATTERY_KWH = 5.0
_BATTERY_KW = 2.5
_EFFICIENCY = 0.95
# Households differ: every so many one has such a wish.
_GREEN_EVERY, _GREEN_NANO_PER_WH = 4, 20_000
_LOCAL_EVERY, _LOCAL_NANO_PER_WH = 3, 15_000


@dataclass(frozen=True, slots=True)
class Negotiation:
    """How one interval was agreed on."""

    interval: int
    rounds: int
    certified_gap: float
    trades: tuple[ForwardTrade, ...]
    commit_gas: int
    checks: tuple[Check, ...]


def run_collective(options: DemoOptions, intervals: int, progress: Progress) -> CollectiveRun:
    """Runs `intervals` intervals up to the evening of the recorded day, or all of it.

    Raises:
        InputError: an option is unsuitable, or the node's clock cannot be moved.
        PeerwattError: a part failed.
        AuditFailed: the independent recomputation differs.
    """
    if not 3 <= intervals <= PER_DAY:
        raise OutOfRange("intervals", intervals, "unsuitable number", f"give 3 to {PER_DAY}")
    progress.step("read the community's data")
    community = build_community(options.members, options.seed)
    known = available_days(community.feeder)
    past = [
        options.first_day - datetime.timedelta(days=back) for back in range(_HISTORY_DAYS, 0, -1)
    ]
    past = [day for day in past if day in known]
    if options.first_day not in known or len(past) < 2:
        raise OutOfRange(
            "first_day", str(options.first_day), "not two earlier days", "choose a later day"
        )
    client = ChainClient.open(options.chain_url)
    # Trade books are committed before their gates close.
    client.journal_has_times = True
    if not client.can_travel:
        raise OutOfRange(
            "chain",
            str(options.chain_url),
            "a clock that cannot be moved",
            "use a development node",
        )
    clear_output(options.output, OUTPUT_FILES)
    store = LedgerStore(f"sqlite:///{options.output / 'ledger.sqlite'}")
    try:
        demo = Collective(options, community, client, store, progress)
        period = demo.plan(past, intervals)
        return CollectiveRun(demo.run([period]), demo)
    finally:
        store.close()


class Collective(Demonstration):
    """The run, with negotiations before the day is metered."""

    def plan(self, past: Sequence[datetime.date], intervals: int) -> Period:
        """Chooses the intervals of tomorrow and lets the households look back on `past`."""
        self.client.fund([self.deployer.address], 1)
        now = int(self.client.web3.eth.get_block("latest")["timestamp"])
        tomorrow = now // 86_400 + 1
        # Noon is in the middle where there are fewer than a whole day's.
        skipped = (PER_DAY - intervals) // 2
        day = self.options.first_day
        self._period = Period(tomorrow, tomorrow * PER_DAY + skipped, intervals, MINUTES)
        classes = {item.id: item for item in self.community.tariff.tariff_classes}
        self.negotiations: list[Negotiation] = []
        self.households: list[Household] = []
        self._coming: list[list[int]] = []
        self._batteries: list[list[int]] = []
        for number, item in enumerate(self.community.participants):
            series = [net for one in (*past, day) for net in self._net(item, one)]
            # When the first interval is negotiated the one before it is still running.
            known = len(past) * PER_DAY + skipped - 1
            prices = classes[item.member.tariff_class]
            self.households.append(
                Household(
                    name=item.member.name,
                    slot=item.member.slot,
                    node=item.member.node,
                    import_price=prices.import_price_nano_per_wh,
                    export_price=prices.export_price_nano_per_wh,
                    wishes=Wishes(
                        prices.import_price_nano_per_wh,
                        prices.export_price_nano_per_wh,
                        green_premium=0 if number % _GREEN_EVERY else _GREEN_NANO_PER_WH,
                        local_premium=0 if number % _LOCAL_EVERY else _LOCAL_NANO_PER_WH,
                    ),
                    history=MeterHistory(series[:known], PER_DAY),
                    generates=item.household.pv_peak_w > 0,
                    assets=_battery(_BATTERY_KWH / 2, _worth(prices))
                    if self._has_battery(number)
                    else (),
                )
            )
            self._coming.append(series[known : known + 1 + intervals])
            self._batteries.append([])
        return self._period

    def _has_battery(self, number: int) -> bool:
        solar = [item.household.pv_peak_w > 0 for item in self.community.participants]
        return solar[number] and sum(solar[:number]) % 3 == 0

    def _net(self, item: Participant, day: datetime.date) -> list[int]:
        imported, exported = interval_energy_wh(item.household, day, self.community.feeder)
        return [
            int(given[part] - taken[part])
            for given, taken in (
                (_thirds(given), _thirds(taken))
                for given, taken in zip(exported.tolist(), imported.tolist(), strict=True)
            )
            for part in range(_PER_QUARTER)
        ]

    # --- Set up ----------------------------------------------------------------------------------------------------------

    def _parameters(self, first_period: Period) -> FoundingParameters:
        lasts = first_period.interval_count * MINUTES * 60
        usual = super()._parameters(first_period)
        return replace(usual, shortest_period_seconds=min(usual.shortest_period_seconds, lasts))

    def _extend(self, first_period: Period) -> None:
        self.progress.step("deploy the trade book; the network operator gets an account for fees")
        self.contracts, self.book, gas = deploy_trade_book(
            self.client,
            self.deployer,
            self.contracts,
            gate_seconds=_GATE_SECONDS,
            strike_seconds=_STRIKE_SECONDS,
            bond_wei=_TRADE_BOND_WEI,
        )
        for used in gas:
            self.gas.add("deploy", used)
        last = self.community.members[-1]
        self.fee_wallet = self.community.account("network operator, trades")
        self.fee_account = Member(
            slot=FIRST_MEMBER_SLOT + len(self.community.members),
            name="network operator, trades",
            account=self.fee_wallet.address,
            meter=address_of(private_key(self.community.key("no meter"))),
            node=last.node,
            tariff_class=last.tariff_class,
            fuse_limit_wh=0,
        )
        self.client.fund([self.fee_wallet.address], 10**17)
        for used in admit_members(
            self.client,
            self.deployer,
            self.contracts,
            [(self.fee_account, self.fee_wallet)],
            self.community.market,
            first_period.number,
            0,
            smallest_group=1,
        ):
            self.gas.add("admit", used)
        self.store.add_members([self.fee_account], first_period.number)
        self.client.send(self.book.post_bond(), self.coordinator_key, 2 * _TRADE_BOND_WEI)

    def _participant(self, slot: int) -> LocalAccount:
        return self.fee_wallet if slot == self.fee_account.slot else super()._participant(slot)

    def _accounts(self) -> Sequence[Member]:
        return (*self.community.members, self.fee_account)

    @property
    def _books(self) -> Path:
        """Where signers and auditors find the trade books: among the bundles."""
        return self.options.output / "bundles" / "trade-books"

    # --- Before each interval --------------------------------------------------------------------------------------------

    def _before(self, period: Period) -> None:
        network = self.community.tariff.network
        self.fees = network_pair_fees(network).between
        nodes = [node.id for node in network.nodes]
        self._fee_table = {(one, other): self.fees(one, other) for one in nodes for other in nodes}
        self.progress.step(
            f"households negotiate, sign and commit before each of {period.interval_count} intervals",
            period.interval_count,
        )
        self.forged: tuple[int, SignedTrade, int] | None = None
        self.struck: Lie | None = None
        for offset in range(period.interval_count):
            self._travel((period.first_interval + offset) * MINUTES * 60 - _NEGOTIATE_SECONDS)
            self._agree(period.first_interval + offset, offset)
            # At once: on a whole day the time for it would be over in the evening.
            self._strike()
            for household, coming in zip(self.households, self._coming, strict=True):
                household.history.add(coming[offset])
            self.progress.part()
        self._travel(period.end_interval * MINUTES * 60 + _STRIKE_SECONDS + 1)
        # The oracle looks at the newest block: one must be mined by now.
        self.client.fund([self.deployer.address], 1)

    def _travel(self, timestamp: int) -> None:
        now = self.book.now()
        if timestamp > now:
            self.client.advance(timestamp - now)

    def _agree(self, interval: int, offset: int) -> None:
        """From forecasts to a committed book, and the batteries' set-points."""
        costs = [one.cost(_AHEAD) for one in self.households]
        case = household_case(self.households, costs, self._fee_table)
        checks: list[Check] = []
        result = solve_case(case, method="sparse", progress=checks.append)
        limits = {
            one.name: one.limits(interval, cost)
            for one, cost in zip(self.households, costs, strict=True)
        }
        node = {one.name: one.node for one in self.households}
        trades = whole_trades(
            result.trades,
            limits,
            {
                (one.seller, one.buyer): self.fees(node[one.seller], node[one.buyer])
                for one in result.trades
            },
            wh_per_unit=WH_PER_KWH,
            nano_per_wh_per_unit=NANO_PER_WH_PER_UNIT,
        )
        by_slot = {one.slot: one for one in limits.values()}
        signed = [self._sign(trade, by_slot) for trade in trades]
        if offset == self._period.interval_count // 2 and signed:
            signed = self._forge(signed)
        self._commit(interval, signed, result, checks)
        sold: dict[int, int] = {}
        for trade in trades:
            sold[trade.seller_slot] = sold.get(trade.seller_slot, 0) + trade.energy_wh
            sold[trade.buyer_slot] = sold.get(trade.buyer_slot, 0) - trade.energy_wh
        for number, household in enumerate(self.households):
            self._batteries[number].append(
                _run_battery(household, sold.get(household.slot), self._coming[number][offset + 1])
            )

    def _sign(self, trade: ForwardTrade, limits: dict[int, TradeLimits]) -> SignedTrade:
        """Both sides look at the trade and sign it, each with its own key."""
        why = broken_limits(trade, limits[trade.seller_slot], limits[trade.buyer_slot])
        if why is not None:
            raise AuditFailed(f"a trade that a side would not sign: {why}", "report this")
        digest = Hash32(typed_data_digest(self.book.domain, trade.struct_hash()))
        seller, buyer = (
            bytes(self._participant(slot).unsafe_sign_hash(digest).signature)
            for slot in (trade.seller_slot, trade.buyer_slot)
        )
        return SignedTrade(trade, seller, buyer, self._salt(trade))

    def _salt(self, trade: ForwardTrade) -> bytes:
        pair = trade.seller_slot << 32 | trade.buyer_slot
        key = self.community.key("coordinator salts")
        return derive_salt(key, "forward", trade.interval, 0, pair)

    def _forge(self, signed: list[SignedTrade]) -> list[SignedTrade]:
        """A lie on purpose: the coordinator doubles a trade and signs in the buyer's place."""
        true = signed[0]
        false = replace(true.trade, energy_wh=2 * true.trade.energy_wh)
        digest = Hash32(typed_data_digest(self.book.domain, false.struct_hash()))
        forged = SignedTrade(
            false,
            bytes(self._participant(false.seller_slot).unsafe_sign_hash(digest).signature),
            bytes(self.coordinator_key.unsafe_sign_hash(digest).signature),
            true.salt,
        )
        self.forged = (false.interval, forged, 0)
        return sorted([forged, *signed[1:]], key=lambda one: one.trade)

    def _commit(
        self,
        interval: int,
        signed: list[SignedTrade],
        result: P2PResult,
        checks: Sequence[Check],
    ) -> None:
        sent = self.client.send(
            self.book.commit(interval, 1, trade_book(signed).root), self.coordinator_key
        )
        self.gas.add("commit trades", sent.gas_used)
        given = (signed, interval, 1, self.client.chain_id, self.book.address)
        own = self._books / str(interval)
        own.mkdir(parents=True, exist_ok=True)
        write_atomically(self._books / f"{interval}.json", canonical_json(book_data(*given)))
        for slot in (item.slot for item in self.households):
            write_atomically(own / f"{slot}.json", canonical_json(own_trades_data(*given, slot)))
        if self.forged is not None and self.forged[0] == interval:
            self.forged = (interval, self.forged[1], signed.index(self.forged[1]))
            self._forged_proof = trade_book(signed).proof(self.forged[2])
        self.negotiations.append(
            Negotiation(
                interval,
                result.iterations,
                result.certified_gap,
                tuple(one.trade for one in signed),
                sent.gas_used,
                tuple(checks),
            )
        )

    def _strike(self) -> None:
        """The buyer finds a trade in the book that it never signed, once there is one."""
        if self.forged is None or self.struck is not None:
            return
        interval, forged, place = self.forged
        call = self.book.strike(interval, forged, place, self._forged_proof)
        buyer = self._participant(forged.trade.buyer_slot)
        sent = self.client.send(call, buyer)
        self.gas.add("strike", sent.gas_used)
        if self.client.refusal(call, buyer) is None or (interval, place) not in self.book.struck():
            raise AuditFailed("a trade was not struck out, or twice", "report this")
        self.struck = Lie(
            what=f"a trade of {forged.trade.energy_wh} Wh signed by the coordinator in the buyer's place",
            outcome="struck out",
            by=f"slot {forged.trade.buyer_slot}, in one transaction",
            detail=f"TradeBook.strike, {sent.gas_used} gas",
        )

    # --- Metering and report ---------------------------------------------------------------------------------------------

    def _metered(self, item: Participant, period: Period) -> tuple[list[int], list[int]]:
        number = item.member.slot - FIRST_MEMBER_SLOT
        # The one before the first was metered before the day's period began.
        house = self._coming[number][-period.interval_count :]
        nets = [own + battery for own, battery in zip(house, self._batteries[number], strict=True)]
        return [max(0, -net) for net in nets], [max(0, net) for net in nets]

    def _traded(self, period: Period) -> TradedPeriod:
        members = {member.slot: member for member in self._accounts()}
        return traded_period(
            self.book,
            self._books,
            period,
            members,
            self.fees,
            self.fee_account.slot,
        )


@dataclass(frozen=True, slots=True)
class CollectiveRun:
    """What happened, and who was there."""

    run: DemoRun
    demo: Collective

    def summary(self) -> dict[str, Any]:
        """`peerwatt/collective/1` (docs/files.md)."""
        demo, batch = self.demo, self.run.prepared[0].batch
        period = self.run.prepared[0].period
        standing = demo._traded(period).trades
        households = [self._household(number, standing) for number in range(len(demo.households))]
        verdict = self.run.verdict
        return {
            "format": "peerwatt/collective/1",
            "profile_day": str(self.run.options.first_day),
            "delivery_day": str(EPOCH_DATE + datetime.timedelta(days=period.number)),
            "first_interval": period.first_interval,
            "interval_minutes": MINUTES,
            "intervals": [
                self._interval(offset, one) for offset, one in enumerate(demo.negotiations)
            ],
            "convergence": self._convergence(),
            "trades": self._pairs(standing),
            "households": households,
            "accounts": {
                "members_nano": sum(item["amount_nano"] for item in households),
                "trade_fees_nano": batch.leaves[demo.fee_account.slot].amount_nano,
                "pool_fees_nano": batch.header.network_fees_nano,
                "supplier_nano": batch.header.supplier_nano,
                "fund_nano": batch.header.fund_nano,
            },
            "struck_out": demo.struck is not None,
            "lies": [
                {"what": lie.what, "outcome": lie.outcome, "by": lie.by, "detail": lie.detail}
                for lie in [*([demo.struck] if demo.struck else []), *self.run.lies]
            ],
            "gas": {kind: max(used) for kind, used in sorted(self.run.gas.used.items())},
            "audit": verdict.verdict if verdict else "none",
        }

    def _metered(self, number: int) -> list[int]:
        """A household's net energy by interval, battery included."""
        house = self.demo._coming[number][-self.run.prepared[0].period.interval_count :]
        return [
            own + own_battery
            for own, own_battery in zip(house, self.demo._batteries[number], strict=True)
        ]

    def _interval(self, offset: int, one: Negotiation) -> dict[str, Any]:
        metered = [self._metered(number)[offset] for number in range(len(self.demo.households))]
        periods = self.run.prepared[0].batch.member_periods
        deviated = [
            abs(periods[household.slot].readings[offset].net_wh)
            for household in self.demo.households
        ]
        prices = [trade.price_nano_per_wh for trade in one.trades]
        return {
            "interval": one.interval,
            "rounds": one.rounds,
            "certified_gap": one.certified_gap,
            "trades": len(one.trades),
            "energy_wh": sum(trade.energy_wh for trade in one.trades),
            "least_price_nano_per_wh": min(prices, default=None),
            "highest_price_nano_per_wh": max(prices, default=None),
            "surplus_wh": sum(net for net in metered if net > 0),
            "shortage_wh": -sum(net for net in metered if net < 0),
            "deviation_wh": sum(deviated),
            "commit_gas": one.commit_gas,
        }

    def _convergence(self) -> dict[str, Any]:
        """The longest negotiation, check by check."""
        longest = max(self.demo.negotiations, key=lambda one: (one.rounds, -one.interval))
        posted = [check.price for check in longest.checks if check.price is not None]
        return {
            "interval": longest.interval,
            "rounds": [check.round for check in longest.checks],
            "gaps": [check.gap for check in longest.checks],
            "prices": {
                household.name: [
                    round(float(prices[number]) * NANO_PER_WH_PER_UNIT) for prices in posted
                ]
                for number, household in enumerate(self.demo.households)
            },
        }

    def _pairs(self, standing: Sequence[ForwardTrade]) -> list[dict[str, Any]]:
        names = {household.slot: household.name for household in self.demo.households}
        sums: dict[tuple[int, int], int] = {}
        for one in standing:
            pair = one.seller_slot, one.buyer_slot
            sums[pair] = sums.get(pair, 0) + one.energy_wh
        return [
            {"seller": names[seller], "buyer": names[buyer], "energy_wh": energy}
            for (seller, buyer), energy in sorted(sums.items())
        ]

    def _household(self, number: int, standing: Sequence[ForwardTrade]) -> dict[str, Any]:
        household, batch = self.demo.households[number], self.run.prepared[0].batch
        item = batch.member_periods[household.slot]
        sold = sum(one.energy_wh for one in standing if one.seller_slot == household.slot)
        bought = sum(one.energy_wh for one in standing if one.buyer_slot == household.slot)
        metered = self._metered(number)
        outside = sum(
            net * (household.import_price if net < 0 else household.export_price) for net in metered
        )
        traded = item.traded_nano or 0
        amount = batch.leaves[household.slot].amount_nano
        return {
            "name": household.name,
            "zone": household.node,
            "battery": bool(household.assets),
            "metered_wh": sum(metered),
            "sold_ahead_wh": sold,
            "bought_ahead_wh": bought,
            "deviation_wh": sum(abs(reading.net_wh) for reading in item.readings),
            "traded_nano": traded,
            "pool_nano": amount - traded,
            "amount_nano": amount,
            "outside_nano": outside,
        }


def _thirds(energy_wh: int) -> list[int]:
    """A quarter-hour's energy in three parts, whole, as a register that grows evenly would show them."""
    borders = [energy_wh * part // _PER_QUARTER for part in range(_PER_QUARTER + 1)]
    return [after - before for before, after in itertools.pairwise(borders)]


def _worth(prices: TariffClass) -> float:
    """What a stored kWh is worth later: between what it earns and what it saves."""
    middle = (prices.import_price_nano_per_wh + prices.export_price_nano_per_wh) / 2
    return middle / NANO_PER_WH_PER_UNIT * _EFFICIENCY


def _battery(level: float, worth: float) -> tuple[Battery]:
    per_interval = _BATTERY_KW * MINUTES / 60
    return (Battery(_BATTERY_KWH, level, per_interval, _EFFICIENCY, worth=worth),)


def _run_battery(household: Household, sold_wh: int | None, house_wh: int) -> int:
    """What the battery gives in an interval (takes, if negative), in Wh: it holds the connection at what was agreed.

    Args:
        household: whose.
        sold_wh: net, as agreed; None where nothing was, then its plan says.
        house_wh: what the rest of the house has to sell in the interval, as its meter shows while it runs.
    """
    if not household.assets:
        return 0
    battery = household.assets[-1]
    assert isinstance(battery, Battery)
    if sold_wh is None:
        sold_wh = round(household.plan(_AHEAD).alone() * WH_PER_KWH)
    least = -min(battery.most, (battery.capacity - battery.level) / battery.efficiency)
    most = min(battery.most, battery.level * battery.efficiency)
    given_wh = min(
        max(sold_wh - house_wh, math.ceil(least * WH_PER_KWH)), math.floor(most * WH_PER_KWH)
    )
    given = given_wh / WH_PER_KWH
    change = -given / battery.efficiency if given > 0 else -given * battery.efficiency
    household.assets = _battery(battery.level + change, battery.worth)
    return given_wh
