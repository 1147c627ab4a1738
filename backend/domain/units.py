"""Units and the ranges of their types.

| quantity              | unit                                       | here                      |
|-----------------------|--------------------------------------------|---------------------------|
| energy in an interval | watt-hour                                  | integer, suffix `_wh`     |
| price, network fee    | nano currency units per Wh (micro per kWh) | integer, `_nano_per_wh`   |
| money                 | nano currency units (1e-9 EUR, DKK, PLN)   | integer, suffix `_nano`   |

Price times energy is money with no division, so money is never rounded. 0.30 EUR/kWh is 300 000 nano per Wh.

The limits keep every product and sum inside the fields that hold it on chain (energy totals 64 bits, prices 64 bits
signed, money 128 bits signed); `contracts/src/libraries/Certificate.sol` relies on them.
"""

from __future__ import annotations

from typing import Final

# One member in one interval: 2^40 Wh is 1.1 TWh.
ENERGY_LIMIT_WH: Final = 2**40
# A group's total in one interval; 2^20 member slots times ENERGY_LIMIT_WH stays below.
GROUP_ENERGY_LIMIT_WH: Final = 2**62
# 2^40 nano per Wh is 1099 currency units per Wh.
PRICE_LIMIT_NANO_PER_WH: Final = 2**40
# 2^20 accounts fit the ledger tree.
SLOT_LIMIT: Final = 2**20

NANO_PER_UNIT: Final = 10**9
WH_PER_KWH: Final = 1000
MILLION: Final = 10**6


def format_money(amount_nano: int, currency: str = "EUR", decimals: int = 2) -> str:
    """Money for people, rounded half away from zero: `format_money(-1_500_000_000)` is `-1.50 EUR`."""
    scale = 10 ** (9 - decimals)
    rounded = (abs(amount_nano) + scale // 2) // scale
    whole, fraction = divmod(rounded, 10**decimals)
    sign = "-" if amount_nano < 0 and rounded else ""
    return f"{sign}{whole}.{fraction:0{decimals}d} {currency}"


def format_energy_kwh(energy_wh: int) -> str:
    """Energy for people in kWh with one decimal, rounded half away from zero."""
    rounded = (abs(energy_wh) + 50) // 100
    sign = "-" if energy_wh < 0 and rounded else ""
    return f"{sign}{rounded // 10}.{rounded % 10}"
