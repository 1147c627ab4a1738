"""Make `branches.csv` from pandapower's case39.

pandapower is needed only to run this script, never to use its output:

    python3 -m venv /tmp/pandapower
    /tmp/pandapower/bin/pip install pandapower==3.5.6
    /tmp/pandapower/bin/python tests/data/ieee39/extract.py
"""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

HEADER = [
    "branch",
    "from_bus",
    "to_bus",
    "resistance_per_unit",
    "reactance_per_unit",
    "tap_ratio",
]


def main() -> None:
    """Write the branches in pandapower's order: lines, then transformers."""
    pandapower = importlib.import_module("pandapower")
    net = importlib.import_module("pandapower.networks").case39()
    pandapower.rundcpp(net, numba=False)
    names = [str(name) for name in net.bus.name]
    with (Path(__file__).parent / "branches.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for row in net._ppc["branch"].real:
            one, other = names[int(row[0])], names[int(row[1])]
            values = [f"{value:.6f}".rstrip("0").rstrip(".") for value in row[[2, 3, 8]]]
            writer.writerow([f"{one}-{other}", one, other, *values])


if __name__ == "__main__":
    main()
