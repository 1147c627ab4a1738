"""The notice board of a negotiation between processes: begins epochs, passes on prices, adds up the certificate. No clock, no network.

It knows posted prices, what each adds to cost and bound, and who agreed with whom; no cost function and no limit. An epoch ends when
all have posted, or when the carrier's patience is over: who has not posted is left out of the next epoch and may come back with a new hello. Who
is shown to have signed two different offers for one round is left out for good.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from eth_keys.datatypes import PrivateKey

from backend.domain.errors import InputError, ReadingRejected
from backend.market.p2p.negotiator import tuned_step
from oracle.signing import address_of

from .messages import Message, body_of, contradicts, read_message, signed

# An agent that computes with other numbers than its partner can at most be this far off.
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class EpochCheck:
    """What an epoch's certificate says.

    Attributes:
        epoch: which.
        gap: relative, over all pairs of agents present; infinite where the ends of a link do not say the same.
        agents: present.
        step: rho of the epoch.
        cost: of the trades.
        broken: largest broken limit.
    """

    epoch: int
    gap: float
    agents: int
    step: float
    cost: float
    broken: float


@dataclass(slots=True)
class Board:
    """The board.

    Args:
        key: signs what it says.
        session: which negotiation.
        expected: how many agents it waits for before the first epoch, or until patience is over.
        tolerance: relative gap on which it ends.
        most_epochs: after which it ends with the outcome stated.

    Attributes:
        outbox: messages to everybody.
        checks: one an epoch.
        excluded: who contradicted itself, with both signed messages.
        left: who stopped answering, by the epoch it was left out of.
        outcome: how it ended; empty while it runs.
        trades: of the last certified epoch, (seller, buyer) to energy.
        powers: by name, of that epoch.
        prices: by name, of that epoch.
    """

    key: PrivateKey
    session: str
    expected: int
    tolerance: float = 1e-4
    most_epochs: int = 200
    outbox: list[Message] = field(default_factory=list)
    checks: list[EpochCheck] = field(default_factory=list)
    excluded: dict[str, tuple[Message, Message]] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    outcome: str = ""
    trades: dict[tuple[str, str], float] = field(default_factory=dict)
    powers: dict[str, float] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    _addresses: dict[str, str] = field(default_factory=dict)
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)
    _roster: dict[str, dict[str, Any]] = field(default_factory=dict)
    _posts: dict[str, float] = field(default_factory=dict)
    _reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    _epoch: int = -1
    _reporting: bool = False
    _step: float = 1.0
    _spread: float = 1.0

    def handle(self, payload: bytes) -> None:
        """Takes a message; what is not signed by whom it names is left aside."""
        try:
            message = read_message(payload)
            body = message.body
            if body.get("session") != self.session or self.outcome:
                return
            kind, name = body["kind"], body.get("name")
            if kind == "hello":
                self._take_hello(message)
            elif kind == "contradiction":
                self._take_contradiction(body)
            elif self._addresses.get(str(name)) != message.sender or name not in self._roster:
                return
            elif kind == "post" and not self._reporting and body.get("epoch") == self._epoch:
                self._posts[str(name)] = float(body_of(body, price=float)["price"])
            elif kind == "report" and self._reporting and body.get("epoch") == self._epoch:
                self._reports[str(name)] = body_of(
                    body, cost=float, bound=float, broken=float, trades=dict, sums=list
                )
        except (InputError, ReadingRejected, ValueError):
            return
        self._go_on(impatient=False)

    @property
    def stage(self) -> tuple[int, bool]:
        """Changes with each step that somebody can be waited for in."""
        return self._epoch, self._reporting

    @property
    def messages(self) -> int:
        """Sent by agents so far, as they say."""
        return sum(int(one.get("messages", 0)) for one in self._reports.values())

    def give_up(self, outcome: str) -> None:
        """Ends with what stands."""
        self._end(outcome)

    def lose_patience(self) -> None:
        """The carrier has waited long enough for this step."""
        if not self.outcome:
            self._go_on(impatient=True)

    # --- Who is there ----------------------------------------------------------------------------------------------

    def _take_hello(self, message: Message) -> None:
        body = body_of(message.body, name=str, costs=dict, price=float)
        name, costs, price = body["name"], body["costs"], body["price"]
        if name in self.excluded or not isinstance(body.get("sells"), bool):
            return
        if self._addresses.setdefault(name, message.sender) != message.sender:
            return
        self._known[name] = {
            "address": message.sender,
            "sells": body["sells"],
            "costs": {str(other): float(cost) for other, cost in costs.items()},
            "price": float(price),
        }

    def _take_contradiction(self, body: dict[str, Any]) -> None:
        one, other = (read_message(str(body[part]).encode()) for part in ("first", "second"))
        name = str(body.get("name"))
        known = self._addresses.get(name)
        if contradicts(one, other) and known == one.sender and one.body["session"] == self.session:
            self.excluded[name] = (one, other)
            self._known.pop(name, None)

    # --- Epochs ----------------------------------------------------------------------------------------------------

    def _go_on(self, *, impatient: bool) -> None:
        if self._epoch < 0:
            if self._known and (len(self._known) >= self.expected or impatient):
                self._first_step()
                self._begin_epoch()
        elif not self._reporting:
            here = [name for name in self._roster if name in self._known]
            if impatient or all(name in self._posts for name in here):
                self._reporting = True
                self._say(kind="prices", epoch=self._epoch, prices=self._posts)
                self._leave_out(here, self._posts)
        else:
            here = [name for name in self._posts if name in self._known]
            if impatient or all(name in self._reports for name in here):
                self._leave_out(here, self._reports)
                self._check(set(here))

    def _leave_out(self, here: list[str], heard: dict[str, Any]) -> None:
        for name in here:
            if name not in heard:
                self.left[name] = self._epoch + 1
                self._known.pop(name, None)

    def _first_step(self) -> None:
        prices = [one["price"] for one in self._known.values()]
        self._spread = max(float(np.std(prices)), 1e-9 * (1 + max(abs(price) for price in prices)))
        # Without knowing limits; the step rule finds the rest.
        self._step = 0.02 * self._spread

    def _begin_epoch(self) -> None:
        self._epoch += 1
        for name, price in self._posts.items():
            if name in self._known:
                self._known[name] = self._known[name] | {"price": price}
        self._roster = dict(self._known)
        self._posts, self._reports, self._reporting = {}, {}, False
        self._say(kind="epoch", epoch=self._epoch, step=self._step, roster=self._roster)

    def _check(self, here: set[str]) -> None:
        reports = {name: one for name, one in self._reports.items() if name in here}
        cost = sum(float(one["cost"]) for one in reports.values())
        bound = sum(float(one["bound"]) for one in reports.values())
        broken = max((float(one["broken"]) for one in reports.values()), default=0.0)
        trades = self._same_trades(reports)
        # Somebody who left since, or two who do not say the same: nothing is proven this time.
        whole = trades is not None and set(reports) == set(self._roster) & set(self._known) == set(
            self._roster
        )
        scale = max(1.0, abs(cost), abs(bound))
        gap = (cost - bound) / scale if whole else float("inf")
        check = EpochCheck(self._epoch, gap, len(reports), self._step, cost, broken)
        self.checks.append(check)
        if whole and trades is not None:
            self.trades = trades
            self.powers = {name: float(one["power"]) for name, one in reports.items()}
            self.prices = {name: float(one["price"]) for name, one in reports.items()}
        largest = max((abs(float(one["power"])) for one in reports.values()), default=0.0)
        if max(gap, broken / max(1.0, largest)) <= self.tolerance:
            self._end("agreed")
        elif self._epoch + 1 >= self.most_epochs or not self._known:
            self._end(f"no agreement within {self._epoch + 1} epochs")
        else:
            self._tune(reports)
            self._begin_epoch()

    def _same_trades(
        self, reports: dict[str, dict[str, Any]]
    ) -> dict[tuple[str, str], float] | None:
        found = {}
        for name, one in reports.items():
            for partner, last in one["trades"].items():
                theirs = reports.get(partner, {"trades": {}})["trades"].get(name)
                if theirs is None or abs(theirs[1] - last[1]) > _SAME * max(1.0, last[1]):
                    return None
                if self._roster[name]["sells"]:
                    found[name, partner] = float(last[1])
        return found

    def _tune(self, reports: dict[str, dict[str, Any]]) -> None:
        if self._epoch % 2 == 0:
            return
        apart, moved, energy, price, square, count = (
            float(value) for value in np.sum([one["sums"] for one in reports.values()], axis=0)
        )
        if count < 1:
            return
        deviation = float(np.sqrt(max(0.0, square / count - (price / count) ** 2)))
        root = float(np.sqrt(count))
        self._step = tuned_step(
            self._step,
            float(np.sqrt(apart)),
            float(np.sqrt(moved)),
            float(np.sqrt(energy)),
            deviation * root,
            self._spread * root,
        )

    def _end(self, outcome: str) -> None:
        self.outcome = outcome
        self._say(kind="done", outcome=outcome, excluded=sorted(self.excluded))

    def _say(self, **body: Any) -> None:
        self.outbox.append(signed(self.key, address_of(self.key), {"session": self.session} | body))
