"""An audited community as tables: CSV for every program, Parquet for those that analyse.

Everything in them was recomputed by the auditor; views in SQL over the coordinator's database are in `docs/auditing.md`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from backend.audit.intervals import IntervalOutcome
from backend.audit.verdict import AuditVerdict
from backend.domain.errors import MissingPackage

Rows = list[dict[str, Any]]
_OUTCOMES = tuple(field.name for field in fields(IntervalOutcome))
COLUMNS: dict[str, tuple[str, ...]] = {
    "batches": ("number", "period", "version", "batch_hash", "final", "level", "verdict", "checks"),
    "intervals": ("number", "period", "version", "interval", *_OUTCOMES),
    "checks": ("number", "period", "what", "passed", "count", "detail"),
}


def audit_tables(verdict: AuditVerdict) -> dict[str, Rows]:
    """Batches, intervals and checks of an audit, by table name; columns as in `COLUMNS`."""
    tables: dict[str, Rows] = {name: [] for name in COLUMNS}
    tables["checks"] += [
        {"number": None, "period": None, **check.as_dict()} for check in verdict.checks
    ]
    for item in verdict.periods:
        place = {"number": item.number, "period": item.period}
        tables["batches"].append(
            {
                **place, "version": item.version, "batch_hash": item.batch_hash, "final": item.final,
                "level": item.level, "verdict": item.verdict, "checks": sum(c.count for c in item.checks),
            }
        )  # fmt: skip
        tables["intervals"] += [
            {
                **place,
                "version": item.version,
                "interval": item.first_interval + index,
                **asdict(outcome),
            }
            for index, outcome in enumerate(item.outcomes)
        ]
        tables["checks"] += [{**place, **check.as_dict()} for check in item.checks]
    return tables


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """RFC 4180, UTF-8, with a header."""
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return sheet.getvalue().encode()


def to_parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> bytes:
    """Parquet; integers of 64 bits.

    Raises:
        MissingPackage: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingPackage(
            "Parquet needs pyarrow, which is not installed", "pip install 'peerwatt[parquet]'"
        ) from None
    table = pyarrow.table({name: [row[name] for row in rows] for name in columns})
    sheet = io.BytesIO()
    parquet.write_table(table, sheet)
    return sheet.getvalue()
