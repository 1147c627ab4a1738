"""What an audit says: every check with its outcome; nothing counts as verified that was not looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .intervals import IntervalOutcome


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

    def unknown(self, statements: Iterable[str], reason: str) -> None:
        """Notes that statements could not be checked, and why."""
        for what in statements:
            self.add(what, None, count=0, detail=reason)

    def equal(self, what: str, found: object, expected: object) -> bool:
        """Notes whether two values are the same."""
        return self.add(
            what, found == expected, detail=f"found {_text(found)}, expected {_text(expected)}"
        )


def verdict_of(checks: tuple[Check, ...]) -> str:
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
        level: how much there was to look at: `chain`, `public`, `member` or `full`.
        first_interval: index since the Unix epoch.
        checks: everything that was looked at.
        outcomes: what its intervals came to; empty if the certificates cannot be read.
    """

    number: int
    period: int
    version: int
    batch_hash: str
    final: bool
    level: str
    first_interval: int
    checks: tuple[Check, ...]
    outcomes: tuple[IntervalOutcome, ...] = ()

    @property
    def verdict(self) -> str:
        """`failed` if anything differs, `incomplete` if anything could not be checked, else `verified`."""
        return verdict_of(self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "number": self.number,
            "period": self.period,
            "version": self.version,
            "batch_hash": self.batch_hash,
            "final": self.final,
            "level": self.level,
            "verdict": self.verdict,
            "checks": [check.as_dict() for check in self.checks],
            "first_interval": self.first_interval,
            "intervals": [asdict(outcome) for outcome in self.outcomes],
        }


@dataclass(frozen=True)
class AuditVerdict:
    """The verdict on all batches looked at, with what was voided on the way.

    Attributes:
        clearing_house: address.
        chain_id: which chain.
        block: number of the block that was looked at; nothing later counts.
        block_hash: its hash in hex.
        frozen: whether the community was frozen: nothing follows the last final batch, and everybody can leave on it.
        checks: what holds for the community as a whole.
        periods: a verdict for each batch the chain stands by.
        voided: batches overturned, in words.
    """

    clearing_house: str
    chain_id: int
    block: int
    block_hash: str
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
        found = {period.verdict for period in self.periods} | {verdict_of(self.checks)}
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
            "block": self.block,
            "block_hash": self.block_hash,
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
