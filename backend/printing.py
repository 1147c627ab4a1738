"""What all printed pages share: a font that is embedded, styles, tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from reportlab.lib.colors import HexColor
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import LongTable, Paragraph, TableStyle

# Comes with reportlab. PDF's own fonts are not embedded, which archives (PDF/A) do not take.
FONT: Final = "Vera"
_BOLD: Final = "VeraBd"
for _name in (FONT, _BOLD):
    pdfmetrics.registerFont(TTFont(_name, f"{_name}.ttf"))
pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=_BOLD, italic=FONT, boldItalic=_BOLD)

STYLES: Final = getSampleStyleSheet()
for _style in STYLES.byName.values():
    _style.fontName = _BOLD if _style.name.startswith(("Heading", "Title")) else FONT
STYLES["BodyText"].fontSize = 9
STYLES["BodyText"].leading = 12
_CELL = STYLES["BodyText"].clone("cell", fontSize=7.5, leading=9.5, spaceBefore=0)
_NUMBER = _CELL.clone("number", alignment=2)
# Longer details belong into the JSON.
_LONGEST = 400


def table(rows: Sequence[Sequence[object]], widths: Sequence[float]) -> LongTable:
    """A table whose cells wrap; it breaks across pages.

    Args:
        rows: cells as text or numbers; numbers stand on the right.
        widths: of the columns in points.
    """
    cells = [
        [
            Paragraph(escape(str(cell)[:_LONGEST]), _NUMBER if isinstance(cell, int) else _CELL)
            for cell in row
        ]
        for row in rows
    ]
    made = LongTable(cells, colWidths=list(widths), hAlign="LEFT")
    made.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor("#dddddd")),
                ("LEFTPADDING", (0, 0), (-1, -1), 2),
                ("RIGHTPADDING", (0, 0), (-1, -1), 4),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
            ]
        )
    )
    return made
