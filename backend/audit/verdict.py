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
    """The checks of one batch or community, in order."""

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


def _verdict_of(checks: tuple[Check, ...]) -> str:
    """`failed` if anything differs, `incomplete` if anything could not be checked, else `verified`."""
    if any(check.passed is False for check in checks):
        return "failed"
    return "incomplete" if any(check.passed is None for check in checks) else "verified"


@dataclass(frozen=True)
class PeriodVerdict:
    """The verdict on one batch: `verified`, `failed` or `incomplete`.

    Attributes:
        number: the batch's.
        period: which period it settles.
        version: 0, or one more for each correction of the period.
        batch_hash: in hex.
        final: whether it can no longer be challenged.
        checks: everything that was looked at.
    """

    number: int
    period: int
    version: int
    batch_hash: str
    final: bool
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> str:
        """`failed` if anything differs, `incomplete` if anything could not be checked, else `verified`."""
        return _verdict_of(self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "number": self.number,
            "period": self.period,
            "version": self.version,
            "batch_hash": self.batch_hash,
            "final": self.final,
            "verdict": self.verdict,
            "checks": [check.as_dict() for check in self.checks],
        }


@dataclass(frozen=True)
class AuditVerdict:
    """The verdict on all batches looked at, with what was voided on the way.

    Attributes:
        clearing_house: address.
        chain_id: which chain.
        frozen: whether the community was frozen: nothing follows the last final batch, and everybody can leave on it.
        checks: what holds for the community as a whole.
        periods: a verdict for each batch the chain stands by.
        voided: batches overturned, in words.
    """

    clearing_house: str
    chain_id: int
    frozen: bool
    checks: tuple[Check, ...]
    periods: tuple[PeriodVerdict, ...]
    voided: tuple[str, ...]

    @property
    def all_checks(self) -> tuple[Check, ...]:
        """Those of the community, then those of every batch."""
        return (*self.checks, *(check for period in self.periods for check in period.checks))

    @property
    def verdict(self) -> str:
        """The worst of community and batches; `incomplete` where there is no batch."""
        found = {period.verdict for period in self.periods} | {_verdict_of(self.checks)}
        for worst in ("failed", "incomplete"):
            if worst in found:
                return worst
        return "verified" if self.periods else "incomplete"

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "format": "peerwatt/audit/2",
            "clearing_house": self.clearing_house,
            "chain_id": self.chain_id,
            "verdict": self.verdict,
            "frozen": self.frozen,
            "community": [check.as_dict() for check in self.checks],
            "periods": [period.as_dict() for period in self.periods],
            "voided": list(self.voided),
        }


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(_text(item) for item in value)})"
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
