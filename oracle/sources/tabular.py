"""CSV and XLSX: registers, or the energy of intervals, in bulk, each row with its own error.

The first row names the columns, in any order; others are passed over:

| column | content |
|---|---|
| `meter` | name of the device |
| `time` | when the register was read: ISO 8601 with offset, or local time where a zone is given; in XLSX also a date cell |
| `start`, `end` | instead of `time`: the row has the energy that flowed between the two |
| `import`, `export` | the registers, or the energies; an empty cell where the meter has none |
| `unit` | Wh, kWh or MWh; instead the columns can be called `import_kwh`, `export_kwh` and so on |
| `quality` | `measured` (also empty), `substituted` or `missing` |

CSV is separated by comma, semicolon or tab; with semicolon or tab a number may have a decimal comma.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN
from typing import Any
from zoneinfo import ZoneInfo

from backend.domain.errors import MalformedInput
from backend.domain.readings import Quality

from .base import (
    IntervalEnergy,
    Item,
    Refusal,
    Sighting,
    Unusable,
    datetime_ms,
    iso_ms,
    register_wh,
    shown_text,
)

ROW_LIMIT = 5_000_000
_CELL_LIMIT = 1000
_UNPACKED_LIMIT_BYTES = 1024 * 1024 * 1024
_QUALITIES = {"": Quality.MEASURED, **{item.name.lower(): item for item in Quality}}
_UNITS = ("wh", "kwh", "mwh")


def decode_csv(data: bytes, zone: ZoneInfo | None = None) -> Iterator[Item]:
    """Rows of a CSV file in UTF-8, as they are read; a file of any length needs the memory of its bytes only.

    Raises:
        MalformedInput: no text, or no header that names the columns.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedInput(
            "file", f"byte {error.start}", "not UTF-8", "save it as CSV in UTF-8"
        ) from None
    header = text[: text.find("\n")] if "\n" in text else text
    separator = max(";\t,", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    return _decode(_csv_rows(reader), zone, decimal_comma=separator != ",")


def _csv_rows(reader: Any) -> Iterator[tuple[int, Sequence[object]]]:
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, (Unusable("format", f"not CSV: {error}"),)
            continue
        yield reader.line_num, row


def decode_xlsx(data: bytes, zone: ZoneInfo | None = None) -> Iterator[Item]:
    """Rows of the first sheet of a workbook.

    Raises:
        MalformedInput: no workbook, too large unpacked, or no header.
    """
    from openpyxl import load_workbook

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _UNPACKED_LIMIT_BYTES:
            raise MalformedInput(
                "file", unpacked, "more than 1 GiB unpacked", "split it into several files"
            )
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        # Some programs leave out the dimensions, or write wrong ones.
        sheet = book.worksheets[0]
        sheet.reset_dimensions()
        rows = list(_limited(sheet.iter_rows(values_only=True)))
        book.close()
    except MalformedInput:
        raise
    except Exception as error:  # the library raises whatever the parsers below it do
        raise MalformedInput(
            "file",
            type(error).__name__,
            f"not an XLSX workbook: {str(error)[:100]}",
            "save it anew as XLSX",
        ) from None
    return _decode(enumerate(rows, start=1), zone, decimal_comma=True)


def _limited(rows: Iterable[Sequence[object]]) -> Iterator[Sequence[object]]:
    for number, row in enumerate(rows):
        if number > ROW_LIMIT:
            raise MalformedInput("file", number, "too many rows", "split it into several files")
        yield row


def _decode(
    rows: Iterable[tuple[int, Sequence[object]]], zone: ZoneInfo | None, *, decimal_comma: bool
) -> Iterator[Item]:
    numbered = iter(rows)
    _, header = next(numbered, (0, ()))
    columns = _columns(header)

    def items() -> Iterator[Item]:
        for number, row in numbered:
            if not any(cell not in (None, "") for cell in row):
                continue
            if number > ROW_LIMIT:
                yield Refusal(
                    "", "size", f"row {number}: too many rows; split the file", row=number
                )
                return
            device = str(_cell(row, columns["meter"]) or "")[:64]
            try:
                item = _item(number, row, columns, zone, decimal_comma)
                # A row that says that there is no value says what its absence would say.
                if not isinstance(item, IntervalEnergy) or item.quality is not Quality.MISSING:
                    yield item
            except Unusable as error:
                text = ";".join("" if cell is None else str(cell) for cell in row)
                reason = f"row {number}: {error.reason}"
                yield Refusal(device, error.code, reason, text[:_CELL_LIMIT].encode(), number)

    return items()


def _columns(header: Sequence[object]) -> dict[str, int]:
    names = [str(cell).strip().lower() if cell is not None else "" for cell in header]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    while names and not names[-1]:
        names.pop()
    columns = {name or f"column {index}": index for index, name in enumerate(names)}
    registers = [name for name in ("import", "export") if name in columns and "unit" in columns] + [
        f"{name}_{unit}"
        for name in ("import", "export")
        for unit in _UNITS
        if f"{name}_{unit}" in columns
    ]
    directions = [name.split("_")[0] for name in registers]
    unclear = "meter" not in columns or _times(columns) not in (["time"], ["start", "end"])
    if unclear or twice or not registers or len(set(directions)) < len(directions):
        raise MalformedInput(
            "file",
            ", ".join(names)[:200],
            f"the column {twice!r} is there twice"
            if twice
            else "the header does not name the columns",
            "name the columns meter, time (or start and end), import, export and unit, "
            "or import_kwh and export_kwh",
        )
    return columns


def _item(
    number: int,
    row: Sequence[object],
    columns: dict[str, int],
    zone: ZoneInfo | None,
    decimal_comma: bool,
) -> Sighting | IntervalEnergy:
    if row and isinstance(row[0], Unusable):
        raise row[0]
    # A decimal comma in a table separated by commas shows as a cell too many; empty ones at the end may be left out.
    if len(row) > len(columns):
        raise Unusable("format", f"{len(row)} cells where the header has {len(columns)}")
    for cell in row:
        if isinstance(cell, str) and len(cell) > _CELL_LIMIT:
            raise Unusable("format", f"a cell has {len(cell)} characters")
    device = _cell(row, columns["meter"])
    if device in (None, ""):
        raise Unusable("format", "meter: empty")
    times_ms = [_time_ms(row, columns, name, zone) for name in _times(columns)]
    quality = _cell(row, columns.get("quality", -1))
    known = _QUALITIES.get(str(quality or "").lower())
    if known is None:
        raise Unusable(
            "quality", f"quality: {shown_text(quality)} is none of {', '.join(_QUALITIES)[2:]}"
        )
    is_register = len(times_ms) == 1
    rounding = ROUND_FLOOR if is_register else ROUND_HALF_EVEN
    taken, given = (
        _energy(row, columns, name, decimal_comma, rounding) for name in ("import", "export")
    )
    if taken is None and given is None and (is_register or known is not Quality.MISSING):
        raise Unusable("direction", "import, export: both empty")
    if is_register:
        return Sighting(str(device)[:64], times_ms[0], taken, given, known, row=number)
    start_ms, end_ms = times_ms
    return IntervalEnergy(str(device)[:64], start_ms, end_ms, taken, given, known, number)


def _times(columns: Mapping[str, int]) -> list[str]:
    return [name for name in ("time", "start", "end") if name in columns]


def _time_ms(
    row: Sequence[object], columns: Mapping[str, int], name: str, zone: ZoneInfo | None
) -> int:
    moment = _cell(row, columns[name])
    if isinstance(moment, datetime):
        return datetime_ms(moment, name, zone)
    return iso_ms(moment, name, zone)


def _energy(
    row: Sequence[object],
    columns: dict[str, int],
    direction: str,
    decimal_comma: bool,
    rounding: str,
) -> int | None:
    for unit in ("", *_UNITS):
        name = f"{direction}_{unit}" if unit else direction
        if name not in columns:
            continue
        value = _cell(row, columns[name])
        if value in (None, ""):
            return None
        if decimal_comma and isinstance(value, str) and value.count(",") == 1 and "." not in value:
            value = value.replace(",", ".")
        return register_wh(value, unit or _cell(row, columns.get("unit", -1)), name, rounding)
    return None


def _cell(row: Sequence[object], index: int) -> object:
    value = row[index] if 0 <= index < len(row) else None
    return value.strip() if isinstance(value, str) else value
