"""Reference cases from the literature, with the digits that are published or recomputed independently."""

from __future__ import annotations

from typing import Any


def case(agents: list[tuple[float, float, float, float]], **more: Any) -> dict[str, Any]:
    """Case data from (a, b, lower, upper)."""
    return {
        "format": "peerwatt/p2p-case/1",
        "agents": [
            {"id": f"n{number}", "a": a, "b": b, "lower": lower, "upper": upper}
            for number, (a, b, lower, upper) in enumerate(agents, 1)
        ],
    } | more


TWO_AGENTS = case([(1, 8, -30, 0), (1, 4, 0, 60)], fees=1)
FOUR_AGENTS = case(
    [(1, 70, -30, -1), (1, 70, -30, -2), (0.7, 40, 0, 60), (0.7, 60, -20, 30)], fees=1
)

# DTU summer school, community of 14 agents on IEEE-14: limits are Pmin + Pren, Pmax + Pren.
_PMIN = [-21.7, -94.2, -47.8, -7.6, -11.2, -29.5, -9, -3.5, -6.1, -13.5, -14.9, 0, 0, 0]
_PMAX = [*[0] * 11, 20, 50, 10]
_PREN = [0, 0, 0, 14.9, 9, 10, 18.5, 2, 7, 5, 5, 0, 0, 0]
_A14 = [4, 1, 2, 10, 8, 4, 9, 15, 18, 7, 6, 7, 2, 8]
_B14 = [130, 120, 135, 125, 140, 145, 150, 135, 140, 125, 120, 25, 10, 20]
_AGENTS14 = [
    (a, b, low + own, high + own)
    for a, b, low, high, own in zip(_A14, _B14, _PMIN, _PMAX, _PREN, strict=True)
]
IEEE14 = case(_AGENTS14)
IEEE14_OUTSIDE = case(_AGENTS14, outside={"import_price": 70.0, "export_price": 40.0})

# IEEE-39, 31 agents, in MW.
BUSES39 = [
    *[1, 3, 4, 7, 8, 9, 12, 15, 16, 18, 20, 21, 23, 24, 25, 26, 27, 28, 29, 31, 39],
    *[30, 31, 32, 33, 34, 35, 36, 37, 38, 39],
]
_PMIN39 = [
    *[-146.4, -483, -750, -350.7, -783, -9.8, -12.8, -480, -493.5, -237, -1020, -411, -371.3],
    *[-462.9, -336, -208.5, -421.5, -309, -425.3, -13.8, -1656],
]
_PMAX39 = [1040, 646, 725, 652, 508, 687, 580, 564, 865, 1100]
_A39 = [
    *[67, 47, 47, 53, 82, 52, 87, 57, 50, 52, 71, 64, 57, 82, 69, 69, 86, 54, 78, 81, 59],
    *[89, 67, 55, 82, 88, 76, 84, 77, 51, 87],
]
_B39 = [
    *[64, 79, 71, 62, 65, 83, 63, 81, 73, 69, 62, 79, 60, 80, 78, 70, 62, 70, 66, 70, 71],
    *[18, 21, 37, 25, 17, 38, 28, 36, 38, 19],
]
_LIMITS39 = [(low, 0.0) for low in _PMIN39] + [(0.0, high) for high in _PMAX39]
IEEE39 = case([(a / 1000, b, *limits) for a, b, limits in zip(_A39, _B39, _LIMITS39, strict=True)])
POWER39 = [
    *[-1.0089, -4.6297, -2.9275, -0.8980, -0.9463, -0.0981, -0.1280, -4.1683, -3.1519, -2.2614],
    *[-0.6703, -3.3999, -0.4841, -2.7755, -3.0086, -1.8492, -0.5534, -2.3628, -1.1230, -0.1380],
    *[-2.3321, 4.4068, 5.4061, 3.6765, 3.9294, 4.5705, 2.5290, 3.4787, 2.7559, 3.7688, 4.3932],
]
