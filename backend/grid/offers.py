"""What members are willing to do in one interval, the input of the coordination (`peerwatt/grid-offers/1`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field

from backend.domain.case import CaseInterval
from backend.domain.errors import DuplicateIdentifier, MemberWithoutBus, OutOfRange
from backend.domain.values import (
    EnergyWh,
    FeeNanoPerWh,
    Identifier,
    NetEnergyWh,
    PriceNanoPerWh,
    Value,
)

OFFERS_FORMAT: Final = "peerwatt/grid-offers/1"


class Offer(Value):
    """Energy a member sells or buys beyond what is fixed.

    Attributes:
        limit_wh: at most.
        price_nano_per_wh: sells at no less, buys at no more, extra fee included.
    """

    kind: Literal["sell", "buy"]
    limit_wh: EnergyWh
    price_nano_per_wh: PriceNanoPerWh


class GridMember(Value):
    """One member at its connection point.

    Attributes:
        fixed_wh: net energy that no price moves; positive is fed in. Only curtailment touches it.
        reactive_varh: reactive energy, positive is fed in; stays as it is.
    """

    id: Identifier
    connection_point: Identifier
    fixed_wh: NetEnergyWh
    reactive_varh: NetEnergyWh = 0
    offers: tuple[Offer, ...] = ()


class GridOffers(Value):
    """All members' offers, the supplier's prices, and what a trade pays for the network anyway."""

    format: Literal["peerwatt/grid-offers/1"] = OFFERS_FORMAT
    interval: CaseInterval
    import_price_nano_per_wh: PriceNanoPerWh
    export_price_nano_per_wh: PriceNanoPerWh
    trade_fee_nano_per_wh: FeeNanoPerWh = 0
    members: tuple[GridMember, ...] = Field(min_length=1)

    @classmethod
    def parse(cls, data: Any, connection_points: Mapping[str, str]) -> GridOffers:
        """Reads and checks offers for a grid.

        Raises:
            InputError: as `Value.from_data`; as `check`.
        """
        found = cls.from_data(data)
        found.check(connection_points)
        return found

    def check(self, connection_points: Mapping[str, str]) -> None:
        """Whether the offers fit the grid and each other.

        Raises:
            InputError: a member is named twice or is at no bus; prices that make buying and selling back pay; an odd fee.
        """
        seen: set[str] = set()
        for index, member in enumerate(self.members):
            if member.id in seen:
                raise DuplicateIdentifier(
                    f"members[{index}].id", member.id, "named twice", "give each its own name"
                )
            seen.add(member.id)
            if member.connection_point not in connection_points:
                raise MemberWithoutBus(
                    f"members[{index}].connection_point",
                    member.connection_point,
                    f"member {member.id} is at no connection point of the grid",
                    "add it to the grid or correct the name",
                )
        if self.export_price_nano_per_wh > self.import_price_nano_per_wh:
            raise OutOfRange(
                "export_price_nano_per_wh",
                self.export_price_nano_per_wh,
                "above the import price: buying and feeding back would pay",
                "correct one of the two",
            )
        if self.trade_fee_nano_per_wh % 2:
            raise OutOfRange(
                "trade_fee_nano_per_wh",
                self.trade_fee_nano_per_wh,
                "odd; both sides pay half of it",
                "give an even number",
            )
