"""What an audit says: every check with its outcome; nothing counts as verified that was not looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        what: the statement, in words.
        passed: True, False, or None where it could not be checked.
        count: how many items it covers.
        detail: what differs, or why it could not be checked.
    """

    what: str
    passed: bool | None
    count: int = 1
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "what": self.what,
            "passed": self.passed,
            "count": self.count,
            "detail": self.detail,
        }


@dataclass
class Checks:
    """The checks of one period, in order."""

    items: list[Check] = field(default_factory=list)

    def add(self, what: str, passed: bool | None, *, count: int = 1, detail: str = "") -> bool:
        """Notes an outcome and returns whether it passed."""
        self.items.append(Check(what, passed, count, "" if passed else detail))
        return bool(passed)

    def equal(self, what: str, found: object, expected: object) -> bool:
        """Notes whether two values are the same."""
        return self.add(
            what, found == expected, detail=f"found {_text(found)}, expected {_text(expected)}"
        )


@dataclass(frozen=True)
class PeriodVerdict:
    """The verdict on one period: `verified`, `failed` or `incomplete`."""

    period: int
    batch_hash: str
    final: bool
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> str:
        """`failed` if anything differs, `incomplete` if anything could not be checked, else `verified`."""
        if any(check.passed is False for check in self.checks):
            return "failed"
        return "incomplete" if any(check.passed is None for check in self.checks) else "verified"

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "period": self.period,
            "batch_hash": self.batch_hash,
            "final": self.final,
            "verdict": self.verdict,
            "checks": [check.as_dict() for check in self.checks],
        }


@dataclass(frozen=True)
class AuditVerdict:
    """The verdict on all periods looked at, with what was voided on the way."""

    clearing_house: str
    chain_id: int
    periods: tuple[PeriodVerdict, ...]
    voided: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The worst of the periods; `incomplete` where there is none."""
        found = {period.verdict for period in self.periods}
        for worst in ("failed", "incomplete"):
            if worst in found:
                return worst
        return "verified" if found else "incomplete"

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "format": "peerwatt/audit/1",
            "clearing_house": self.clearing_house,
            "chain_id": self.chain_id,
            "verdict": self.verdict,
            "periods": [period.as_dict() for period in self.periods],
            "voided": list(self.voided),
        }


def _text(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
