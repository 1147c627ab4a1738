"""One agent of a negotiation between processes: what it does with each message. No clock, no network.

The agent is a `Negotiators` of one. Its links count versions; a version's step is that of its epoch, so both ends of a link always
compute with the same step however late one is. An epoch is `ROUNDS` versions; then the agent posts its price, checks its own row
against everybody's posted prices, and reports what the certificate adds up. The board (`backend.negotiation.board`) begins epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from eth_keys.datatypes import PrivateKey

from backend.domain.errors import InputError, ReadingRejected
from backend.market.p2p.negotiator import LinkEnds, Negotiators
from backend.market.p2p.problem import Agents, Floats
from oracle.signing import address_of

from .messages import Message, body_of, contradicts, read_message, signed

ROUNDS: Final = 10
_FIRST_PARTNERS = 3

Link = tuple[str, str]


@dataclass
class _LinkState:
    """A link as one of its ends keeps it."""

    since: int
    version: int
    offered: bool = False
    last: tuple[int, float] = (0, 0.0)


class NegotiatingAgent:
    """An agent.

    Args:
        name: its own.
        agents: its cost and limits, an `Agents` of one that only sells or only buys.
        costs: what a unit traded with each other agent costs it in fees and preferences.
        key: signs for it.
        session: which negotiation.
        board: the board's address.
        import_price: of a unit bought outside; infinite without.
        export_price: of a unit sold outside; minus infinity without.

    Attributes:
        outbox: (topic, message) to send; whoever carries them empties it.
        contradictions: pairs of messages that prove one, with the sender's name.
    """

    def __init__(
        self,
        name: str,
        agents: Agents,
        costs: dict[str, float],
        key: PrivateKey,
        session: str,
        board: str,
        import_price: float = np.inf,
        export_price: float = -np.inf,
    ) -> None:
        self.name, self.costs, self.session, self._board = name, costs, session, board
        self._key, self._address = key, address_of(key)
        self._self = Negotiators(agents, import_price, export_price)
        self.sells = bool(agents.upper[0] > 0)
        self._order: list[Link] = []
        self._links: dict[Link, _LinkState] = {}
        self._heard: dict[tuple[Link, int, int], Message] = {}
        self._roster: dict[str, dict[str, Any]] = {}
        self._steps: dict[int, float] = {}
        self._prices: dict[int, dict[str, float]] = {}
        self._epoch = -1
        self._posted = -1
        self._moves = [0.0, 0.0]
        self._sent = 0
        self.outbox: list[tuple[str, Message]] = []
        self.contradictions: list[tuple[str, Message, Message]] = []
        self.done: dict[str, Any] | None = None

    @property
    def present(self) -> bool:
        """Whether the board counts it in."""
        return self.name in self._roster

    def hello(self) -> None:
        """Says who it is, what trading with it costs, and its first price."""
        self._say(
            "board",
            kind="hello",
            name=self.name,
            sells=self.sells,
            costs=self.costs,
            price=float(self._self.marginal[0]),
        )

    def handle(self, payload: bytes) -> None:
        """Takes a message; what is not for it, not signed or not understood is left aside."""
        try:
            message = read_message(payload)
            if message.body.get("session") != self.session:
                return
            kind, from_board = message.body["kind"], message.sender == self._board
            if kind == "offer":
                self._take_offer(message)
            elif kind == "epoch" and from_board:
                self._begin_epoch(message.body)
            elif kind == "prices" and from_board:
                self._report(message.body)
            elif kind == "done" and from_board:
                self.done = message.body
        except (InputError, ReadingRejected):
            return

    # --- Epochs ----------------------------------------------------------------------------------------------------

    def _begin_epoch(self, body: dict[str, Any]) -> None:
        epoch = int(body["epoch"])
        if epoch <= self._epoch:
            return
        self._epoch, self._roster, self._moves = epoch, body["roster"], [0.0, 0.0]
        self._steps[epoch] = float(body["step"])
        self._prices[epoch] = {name: float(one["price"]) for name, one in self._roster.items()}
        self._drop([link for link in self._order if self._partner(link) not in self._roster])
        if self.name not in self._roster:
            return
        for partner in self._wanted_partners(first=not self._links):
            self._open(self._link_with(partner), epoch)
        # Offers that came before the epoch did.
        for (link, _, version), message in list(self._heard.items()):
            if link not in self._links and version > epoch * ROUNDS:
                self._join(link, message)
        self._advance()

    def _wanted_partners(self, *, first: bool) -> list[str]:
        """Cheapest partners at first; then those whose posted prices contradict ours."""
        others = [
            name
            for name, one in self._roster.items()
            if one["sells"] != self.sells and name in self.costs and self.name in one["costs"]
        ]
        pair_cost = {
            name: self.costs[name] + self._roster[name]["costs"][self.name] for name in others
        }
        if first:
            return sorted(others, key=lambda name: (pair_cost[name], name))[:_FIRST_PARTNERS]
        known = {self._partner(link) for link in self._order}
        posted = self._prices[self._epoch]
        own, sign = posted[self.name], 1.0 if self.sells else -1.0
        reduced = {
            name: pair_cost[name] + sign * (own - posted[name])
            for name in others
            if name not in known
        }
        worst = min(reduced, key=lambda name: (reduced[name], name), default=None)
        return [worst] if worst is not None and reduced[worst] < -1e-9 else []

    # --- Links -----------------------------------------------------------------------------------------------------

    def _link_with(self, partner: str) -> Link:
        return (self.name, partner) if self.sells else (partner, self.name)

    def _partner(self, link: Link) -> str:
        return link[1] if self.sells else link[0]

    def _open(self, link: Link, epoch: int) -> None:
        """Both ends begin where the epoch's posted prices put them, so neither has to be told."""
        if link in self._links:
            return
        partner = self._partner(link)
        posted, sign = self._prices[epoch], 1.0 if self.sells else -1.0
        own_cost, their_cost = self.costs[partner], float(self._roster[partner]["costs"][self.name])
        price = (posted[self.name] + sign * own_cost + posted[partner] - sign * their_cost) / 2
        self._links[link] = _LinkState(epoch * ROUNDS, epoch * ROUNDS)
        self._order.append(link)
        self._self.connect(
            LinkEnds(
                np.zeros(1, np.int64),
                np.array([sign]),
                np.array([own_cost]),
                np.zeros(1),
                np.array([price]),
            )
        )

    def _drop(self, links: list[Link]) -> None:
        if links:
            keep = np.array([link not in links for link in self._order], dtype=np.bool_)
            self._self.keep(keep)
            self._order = [link for link in self._order if link not in links]
            for link in links:
                del self._links[link]

    def _join(self, link: Link, message: Message) -> None:
        """A partner has opened a link that we have not; of two openings the earlier counts."""
        partner, since = self._partner(link), int(message.body["since"])
        epoch = since // ROUNDS
        known = self._links.get(link)
        if since % ROUNDS or epoch not in self._prices or partner not in self._roster:
            return
        if partner not in self.costs or self.name not in self._roster[partner]["costs"]:
            return
        if partner not in self._prices[epoch] or self.name not in self._prices[epoch]:
            return
        if known is not None and since < known.since:
            self._drop([link])
            known = None
        if known is None:
            self._open(link, epoch)

    def _take_offer(self, message: Message) -> None:
        body = body_of(message.body, seller=str, buyer=str, since=int, version=int, energy=float)
        link = (body["seller"], body["buyer"])
        if self.name not in link or body["energy"] < 0:
            return
        partner = self._partner(link)
        if self.name == partner:
            return
        known = self._roster.get(partner)
        if known is not None and known["address"] != message.sender:
            return
        place = (link, body["since"], body["version"])
        earlier = self._heard.setdefault(place, message)
        if earlier is not message:
            if contradicts(earlier, message):
                self.contradictions.append((partner, earlier, message))
                self._say(
                    "board",
                    kind="contradiction",
                    name=partner,
                    first=earlier.payload().decode(),
                    second=message.payload().decode(),
                )
            return
        if known is None:
            return
        self._join(link, message)
        self._advance()

    # --- Rounds ----------------------------------------------------------------------------------------------------

    def lose_patience(self) -> None:
        """The carrier has waited long enough: what is answered goes on without what is not, and the epoch ends with a post."""
        if self.name in self._roster and self.done is None:
            self._offer()
            self._agree()
            self.post()

    def _advance(self) -> None:
        """Agrees on every link whose answer is there; offers anew once all are answered; as far as the epoch goes."""
        while self.name in self._roster:
            # Links that lag, as one that a partner has opened meanwhile, catch up without waiting for the others.
            newest = max((state.version for state in self._links.values()), default=0)
            still = any(state.offered for state in self._links.values())
            agreed = self._agree()
            if not self._offer(newest if still else None) and not agreed:
                break
        last = (self._epoch + 1) * ROUNDS
        if self._posted < self._epoch and all(
            state.version >= last for state in self._links.values()
        ):
            self.post()

    def post(self) -> None:
        """Posts its price; also when the carrier's patience with a partner is over."""
        if self._posted < self._epoch:
            self._posted = self._epoch
            self._say(
                "board",
                kind="post",
                name=self.name,
                epoch=self._epoch,
                price=float(self._self.marginal[0]),
            )

    def _step_of(self, link: Link) -> float:
        epoch = min(self._links[link].version // ROUNDS, self._epoch)
        return self._steps.get(epoch, self._steps[max(self._steps)])

    def _steps_now(self) -> Floats:
        return np.array([self._step_of(link) for link in self._order])

    def _agree(self) -> bool:
        answers, answered = np.zeros(len(self._order)), np.zeros(len(self._order), np.bool_)
        for index, link in enumerate(self._order):
            state = self._links[link]
            answer = self._heard.get((link, state.since, state.version + 1))
            if state.offered and answer is not None:
                answers[index], answered[index] = float(answer.body["energy"]), True
        if not answered.any():
            return False
        offers = self._self.offer
        moves = self._self.agree(answers, self._steps_now(), answered)
        self._moves = [self._moves[0] + moves[0], self._moves[1] + moves[1]]
        for index in np.flatnonzero(answered).tolist():
            state = self._links[self._order[index]]
            state.version += 1
            state.offered = False
            state.last = (state.version, float(min(offers[index], answers[index])))
            self._heard.pop((self._order[index], state.since, state.version - 20 * ROUNDS), None)
        return True

    def _offer(self, below: int | None = None) -> bool:
        """Offers anew on links that wait for it, up to the epoch's last version, or below a version."""
        last = (self._epoch + 1) * ROUNDS if below is None else below
        states = [self._links[link] for link in self._order]
        waiting = np.array(
            [state.offered or state.version >= last for state in states], dtype=np.bool_
        )
        if waiting.all():
            return False
        offers = self._self.propose(self._steps_now(), waiting)
        for index in np.flatnonzero(~waiting).tolist():
            link = self._order[index]
            state = self._links[link]
            state.offered = True
            self._say(
                self._partner(link),
                kind="offer",
                seller=link[0],
                buyer=link[1],
                since=state.since,
                version=state.version + 1,
                energy=float(offers[index]),
            )
        return True

    # --- Certificate -----------------------------------------------------------------------------------------------

    def _report(self, body: dict[str, Any]) -> None:
        """What it adds to cost and bound: sellers give in until no posted buyer's price contradicts theirs."""
        posted, agents = body["prices"], self._self.agents
        if self.name not in posted or int(body["epoch"]) != self._epoch:
            return
        price = float(posted[self.name])
        if self.sells:
            for name, one in self._roster.items():
                if not one["sells"] and name in self.costs and name in posted:
                    pair_cost = self.costs[name] + float(one["costs"][self.name])
                    price = max(price, float(posted[name]) - pair_cost)
        sign = 1.0 if self.sells else -1.0
        trades = {self._partner(link): self._links[link].last for link in self._order}
        traded = sign * sum(energy for _, energy in trades.values())
        outside = agents.outside(
            np.array([traded]), self._self.import_price, self._self.export_price
        )
        imported, exported = float(outside[0][0]), float(outside[1][0])
        power = np.array([traded - imported + exported])
        cost = float(agents.cost(power)[0])
        cost += sum(self.costs[partner] * energy for partner, (_, energy) in trades.items())
        if imported or exported:
            cost += imported * self._self.import_price - exported * self._self.export_price
        broken = max(0.0, float(agents.lower[0] - power[0]), float(power[0] - agents.upper[0]))
        ends = self._self.ends
        self._say(
            "board",
            kind="report",
            name=self.name,
            epoch=self._epoch,
            cost=cost,
            bound=float(agents.gain(np.array([price]))[0]),
            broken=broken,
            power=float(power[0]),
            price=price,
            trades={partner: list(last) for partner, last in trades.items() if last[1] > 0},
            messages=self._sent,
            sums=[
                self._moves[0] / ROUNDS,
                self._moves[1] / ROUNDS,
                float((ends.energy**2).sum()),
                float(ends.price[ends.energy > 0].sum()),
                float((ends.price[ends.energy > 0] ** 2).sum()),
                float((ends.energy > 0).sum()),
            ],
        )

    def _say(self, to: str, **body: Any) -> None:
        self._sent += 1
        self.outbox.append((to, signed(self._key, self._address, {"session": self.session} | body)))
