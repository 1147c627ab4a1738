"""A member's side of trades before delivery: it signs them, sends them to the coordinator, and reads back those that count.

A file of trades goes from one side to the other, each signs what it is a party of, and whoever has both signatures sends it. The
coordinator can neither change a trade nor add one; that it commits those it took is to be seen with `own`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import requests
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32
from pydantic import Field

from backend.domain.errors import CoordinatorRefused, MalformedInput
from backend.domain.values import EnergyWh, FeeNanoPerWh, PriceNanoPerWh, Value
from backend.settlement.encoding import domain_separator, typed_data_digest
from backend.settlement.forward import ForwardTrade
from oracle.directory import Address

from .access import access_text

_PATIENCE_SECONDS = 20
Slot = Annotated[int, Field(ge=0, lt=2**20)]


class AgreedTrade(Value):
    """`trades[]`: one trade, with the signatures that it has so far."""

    interval: Annotated[int, Field(ge=0, lt=2**63)]
    seller_slot: Slot
    buyer_slot: Slot
    energy_wh: EnergyWh
    price_nano_per_wh: PriceNanoPerWh
    fee_nano_per_wh: FeeNanoPerWh
    seller_signature: str | None = None
    buyer_signature: str | None = None
    salt: str | None = None

    @property
    def trade(self) -> ForwardTrade:
        """What both sides sign."""
        return ForwardTrade(
            self.interval,
            self.seller_slot,
            self.buyer_slot,
            self.energy_wh,
            self.price_nano_per_wh,
            self.fee_nano_per_wh,
        )


class AgreedTrades(Value):
    """`peerwatt/trade-book/1` on its way: signatures may be missing, salts are the coordinator's."""

    format: Literal["peerwatt/trade-book/1"] = "peerwatt/trade-book/1"
    chain_id: Annotated[int, Field(ge=0)]
    trade_book: Address
    first_interval: Annotated[int, Field(ge=0, lt=2**63)]
    interval_count: Annotated[int, Field(ge=1, le=300)]
    trades: tuple[AgreedTrade, ...]

    def signed(self, slot: int, key: LocalAccount) -> AgreedTrades:
        """With the signatures of a slot under all of its trades; others stay as they are.

        Raises:
            MalformedInput: none of the trades is the slot's, or one is with itself.
        """
        domain = domain_separator(self.chain_id, self.trade_book)
        found = []
        for index, one in enumerate(self.trades):
            sides = [name for name in ("seller", "buyer") if getattr(one, f"{name}_slot") == slot]
            if len(sides) == 2:
                raise MalformedInput(
                    f"trades[{index}]", slot, "a trade with oneself", "name another slot"
                )
            digest = Hash32(typed_data_digest(domain, one.trade.struct_hash()))
            signature = "0x" + bytes(key.unsafe_sign_hash(digest).signature).hex()
            found.append(one.model_copy(update={f"{side}_signature": signature for side in sides}))
        if tuple(found) == self.trades and not any(
            slot in (one.seller_slot, one.buyer_slot) for one in found
        ):
            raise MalformedInput("slot", slot, "no party of any trade", "give your own slot")
        return self.model_copy(update={"trades": tuple(found)})


class OwnTrade(AgreedTrade):
    """A trade of a committed book, with what striking it out takes."""

    position: Annotated[int, Field(ge=0)]
    proof: tuple[str, ...]


@dataclass
class TradeClient:
    """Speaks with one community of a coordinator.

    Args:
        url: of the coordinator.
        community: its name there.
        now: seconds since the Unix epoch.
    """

    url: str
    community: str
    now: Callable[[], float] = time.time
    _http: requests.Session = field(default_factory=requests.Session, init=False)

    def send(self, trades: AgreedTrades) -> int:
        """Hands trades over that both sides signed; returns how many are new. They are on disk there when this returns.

        Raises:
            CoordinatorRefused: one is not as it should be, or came too late: nothing of all was taken; or nobody answers.
            MalformedInput: a signature is missing.
        """
        for index, one in enumerate(trades.trades):
            for side in ("seller", "buyer"):
                if getattr(one, f"{side}_signature") is None:
                    raise MalformedInput(
                        f"trades[{index}].{side}_signature",
                        None,
                        "missing",
                        f"let slot {getattr(one, f'{side}_slot')} sign",
                    )
        body = trades.model_dump(exclude={"trades": {"__all__": {"salt"}}})
        return int(self._ask("POST", "/trades", json=body)["taken"])

    def own(
        self, slot: int, period: int, key: LocalAccount, chain_id: int, clearing_house: str
    ) -> tuple[OwnTrade, ...]:
        """A slot's trades of a period, once their books are closed.

        Args:
            slot: whose.
            period: number of the day.
            key: of the slot's account.
            chain_id: which chain.
            clearing_house: address of the community's ClearingHouse.

        Raises:
            CoordinatorRefused: the account is not the slot's; or nobody answers.
        """
        issued_at = int(self.now())
        text = access_text(chain_id, clearing_house, slot, issued_at)
        signature = key.sign_message(encode_defunct(text=text)).signature
        headers = {
            "X-Peerwatt-Issued-At": str(issued_at),
            "X-Peerwatt-Signature": "0x" + bytes(signature).hex(),
        }
        found = self._ask("GET", f"/trades/{period}/{slot}", headers=headers)
        return tuple(OwnTrade.from_data(item, "trades[]") for item in found["trades"])

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        url = f"{self.url.rstrip('/')}/communities/{self.community}{path}"
        try:
            answer = self._http.request(method, url, timeout=_PATIENCE_SECONDS, **options)
            data = answer.json()
        except requests.RequestException as error:
            raise CoordinatorRefused(
                f"{url} does not answer: {type(error).__name__}",
                "check the address; what was sent may be sent again",
            ) from None
        if not answer.ok:
            told = data.get("error") or {}
            raise CoordinatorRefused(
                str(told.get("message") or data.get("detail") or f"status {answer.status_code}"),
                str(told.get("remedy") or "check slot, key and name of the community"),
            )
        return dict(data)
