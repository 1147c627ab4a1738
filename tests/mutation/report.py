"""What came of the mutants, as a table or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

EQUIVALENT = Path(__file__).with_name("equivalent.json")


class Changed(Protocol):
    """A mutant.

    Attributes:
        path: file that was changed.
        key: which change, whatever line it is in by now.
    """

    @property
    def path(self) -> str: ...

    @property
    def key(self) -> str: ...


def report(results: Sequence[tuple[Changed, str]], as_json: bool) -> int:
    """Prints how many of each file were killed, by what, and who survived.

    Args:
        results: each mutant and who killed it, or `timeout`, `survived`, `invalid`: no program at all.
        as_json: JSON, not a table.

    Returns:
        1 if a mutant survived for which `equivalent.json` has no reason.
    """
    reasons: dict[str, str] = json.loads(EQUIVALENT.read_text())
    rows: dict[str, Counter[str]] = {}
    survivors: list[str] = []
    for mutant, outcome in results:
        explained = outcome == "survived" and mutant.key in reasons
        rows.setdefault(mutant.path, Counter())["equivalent" if explained else outcome] += 1
        if outcome == "survived" and not explained:
            survivors.append(str(mutant))
    if as_json:
        print(json.dumps({"files": rows, "survivors": survivors}, indent=1))
        return bool(survivors)
    last = ("timeout", "equivalent", "survived", "invalid")
    killers = sorted({name for row in rows.values() for name in row} - set(last))
    total: Counter[str] = sum(rows.values(), Counter())
    print(f"{'':30}" + "".join(f"{name:>12}" for name in (*killers, *last)))
    for path, row in [*sorted(rows.items()), ("all", total)]:
        print(f"{path:30}" + "".join(f"{row[name]:12}" for name in (*killers, *last)))
    for survivor in survivors:
        print(f"  survived {survivor}")
    return bool(survivors)
