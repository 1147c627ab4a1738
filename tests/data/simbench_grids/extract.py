"""Make the branch lists that lie next to this file from SimBench grids.

SimBench is needed only to run this script, never to use its output:

    python3 -m venv /tmp/simbench
    /tmp/simbench/bin/pip install simbench==1.6.3
    /tmp/simbench/bin/python tests/data/simbench_grids/extract.py

The output depends on nothing but the SimBench version.
"""

from __future__ import annotations

import csv
import importlib
import warnings
from math import sqrt
from pathlib import Path
from typing import Any

# A low-voltage city grid, and a medium-voltage ring grid that is run with its rings open.
GRIDS = {"lv-urban6": "1-LV-urban6--0-no_sw", "mv-rural": "1-MV-rural--0-no_sw"}

HEADER = ["branch", "from_bus", "to_bus", "switch", "resistance_ohm", "reactance_ohm", "length_m"]


def main() -> None:
    """Write one CSV for each grid."""
    warnings.filterwarnings("ignore")  # pandas' own, about how SimBench calls it
    for name, code in GRIDS.items():
        net = importlib.import_module("simbench").get_simbench_net(code)
        path = Path(__file__).parent / f"{name}.branches.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows(lines_of(net) + transformers_of(net))


def lines_of(net: Any) -> list[list[str]]:
    """Lines with their totals over the length; open where one of their switches is."""
    if (net.switch.et != "l").any() or not net.line.in_service.all():
        raise ValueError("this grid has switches other than line switches, or lines out of service")
    open_lines = set(net.switch.element[~net.switch.closed.astype(bool)])
    return [
        [
            line.name,
            net.bus.name[line.from_bus],
            net.bus.name[line.to_bus],
            "open" if line.Index in open_lines else "closed",
            decimal(line.r_ohm_per_km * line.length_km / line.parallel),
            decimal(line.x_ohm_per_km * line.length_km / line.parallel),
            decimal(line.length_km * 1e3, 3),
        ]
        for line in net.line.itertuples()
    ]


def transformers_of(net: Any) -> list[list[str]]:
    """Short-circuit impedance of each transformer, referred to its low-voltage side."""
    rows = []
    for transformer in net.trafo.itertuples():
        ohm_per_percent = transformer.vn_lv_kv**2 / transformer.sn_mva / 100
        resistance = transformer.vkr_percent * ohm_per_percent
        impedance = transformer.vk_percent * ohm_per_percent
        rows.append(
            [
                transformer.name,
                net.bus.name[transformer.hv_bus],
                net.bus.name[transformer.lv_bus],
                "closed",
                decimal(resistance),
                decimal(sqrt(impedance**2 - resistance**2)),
                "0",
            ]
        )
    return rows


def decimal(value: float, places: int = 9) -> str:
    """`value` with at most `places` decimals and no trailing zeros."""
    return f"{value:.{places}f}".rstrip("0").rstrip(".")


if __name__ == "__main__":
    main()
