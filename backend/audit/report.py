"""An audit's report for people: one page of HTML that loads nothing, and the same on paper as PDF."""

from __future__ import annotations

from functools import partial
from html import escape
from importlib.metadata import version
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from .pictures import Line, Picture, Rect, Text, day, pictures
from .verdict import AuditVerdict, Check

if TYPE_CHECKING:
    from reportlab.graphics.shapes import Drawing

_MARKS = {True: "right", False: "WRONG", None: "not checked"}
# A browser copes with the checks of so many batches; the rest is in the JSON.
_DETAILED = 60
_MEANING = {
    "verified": "everything was there, was recomputed from chain and bundle, and agrees to the nano.",
    "failed": "something differs from what the record says; see what is wrong.",
    "incomplete": "nothing wrong was found, but something could not be checked; see what, and why.",
}


class _Content:
    """What both reports say."""

    def __init__(self, verdict: AuditVerdict, evidence_hash: str) -> None:
        self.verdict = verdict
        self.meaning = _MEANING[verdict.verdict]
        levels = sorted({period.level for period in verdict.periods})
        self.facts = [
            ("community (ClearingHouse)", verdict.clearing_house),
            ("chain", str(verdict.chain_id)),
            ("as of block", f"{verdict.block}, {verdict.block_hash}"),
            ("batches", str(len(verdict.periods))),
            ("seen", ", ".join(levels) or "nothing"),
            ("checks", f"{sum(check.count for check in verdict.all_checks):,}"),
            ("made by", f"peerwatt {version('peerwatt')}"),
        ]
        self.repeat = (
            f"The evidence file with keccak256 {evidence_hash} has every answer of the chain and every part of the bundles: "
            "peerwatt audit --evidence FILE repeats this audit from it."
            if evidence_hash
            else "With --save-evidence FILE an audit keeps what it was made from, so that somebody else can repeat it."
        )
        unknown: dict[tuple[str, str], int] = {}
        self.wrong = []
        checks = [("community", check) for check in verdict.checks]
        for period in verdict.periods:
            name = f"{day(period.period)}, batch {period.number}"
            checks += [(name, check) for check in period.checks]
        for where, check in checks:
            if check.passed is None:
                unknown[check.what, check.detail] = unknown.get((check.what, check.detail), 0) + 1
            elif not check.passed:
                self.wrong.append((where, check.what, check.detail))
        self.unknown = [(what, why, many) for (what, why), many in unknown.items()]


def report_page(verdict: AuditVerdict, interval_seconds: int, evidence_hash: str = "") -> str:
    """The report as HTML.

    Args:
        verdict: of the audit.
        interval_seconds: length of an interval.
        evidence_hash: of the evidence file, if one was made.
    """
    content = _Content(verdict, evidence_hash)
    environment = Environment(
        loader=FunctionLoader(
            lambda name: files("backend.audit").joinpath("templates", name).read_text()
        ),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.j2").render(
        **vars(content),
        pictures=pictures(verdict, interval_seconds),
        svg=_svg,
        mark=_mark,
        day=day,
        detailed=_DETAILED,
    )


def _mark(check: Check) -> str:
    return _MARKS[check.passed]


def _svg(picture: Picture) -> Markup:
    parts = [
        f'<svg viewBox="0 0 {picture.width:g} {picture.height:g}" role="img" '
        f'aria-label="{escape(picture.title, quote=True)}" font-family="system-ui, sans-serif">'
    ]
    for shape in picture.shapes:
        match shape:
            case Rect():
                tip = f"<title>{escape(shape.tip)}</title>" if shape.tip else ""
                parts.append(
                    f'<rect x="{shape.x:.2f}" y="{shape.y:.2f}" width="{shape.width:.2f}" '
                    f'height="{shape.height:.2f}" fill="{shape.color}">{tip}</rect>'
                )
            case Line():
                parts.append(
                    f'<line x1="{shape.x:.2f}" y1="{shape.y:.2f}" x2="{shape.to_x:.2f}" '
                    f'y2="{shape.to_y:.2f}" stroke="{shape.color}"/>'
                )
            case Text():
                parts.append(
                    f'<text x="{shape.x:.2f}" y="{shape.y:.2f}" font-size="{shape.size:g}" '
                    f'text-anchor="{shape.anchor}" fill="#222222">{escape(shape.words)}</text>'
                )
    return Markup("".join((*parts, "</svg>")))


def report_pdf(verdict: AuditVerdict, interval_seconds: int, evidence_hash: str = "") -> bytes:
    """The report as PDF, the same bytes for the same verdict.

    Args:
        verdict: of the audit.
        interval_seconds: length of an interval.
        evidence_hash: of the evidence file, if one was made.
    """
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import Flowable, KeepTogether, Paragraph, SimpleDocTemplate, Spacer

    from backend.printing import STYLES, table

    content = _Content(verdict, evidence_hash)
    sheet = BytesIO()
    document = SimpleDocTemplate(
        sheet, pagesize=A4, leftMargin=40, rightMargin=40, topMargin=40, bottomMargin=40, invariant=1,
        title=f"Audit of {verdict.clearing_house}: {verdict.verdict}", author=content.facts[-1][1],
    )  # fmt: skip
    heading = partial(Paragraph, style=STYLES["Heading2"])
    widths = (60, 400, 55)
    story: list[Flowable] = [
        Paragraph("Audit of a community", STYLES["Title"]),
        Paragraph(f"<b>{verdict.verdict}</b>: {content.meaning}", STYLES["BodyText"]),
        Spacer(1, 6),
        table([(name, value) for name, value in content.facts], (130, 385)),
        heading("What could not be checked, and why"),
        table(content.unknown, (215, 260, 40)) if content.unknown else Paragraph("Nothing: everything was there.", STYLES["BodyText"]),
    ]  # fmt: skip
    if content.wrong:
        story += [heading("What is wrong"), table(content.wrong, (110, 200, 205))]
    for picture in pictures(verdict, interval_seconds):
        story.append(
            KeepTogether([heading(escape(picture.title)), _drawing(picture, document.width)])
        )
    story += [
        heading("The community"),
        table([(_mark(c), c.what, str(c.count)) for c in verdict.checks], widths),
        heading("Periods"),
        table(
            [("day", "batch", "verdict", "seen", "final", "checks")]
            + [
                (
                    day(p.period) + (f", correction {p.version}" if p.version else ""), str(p.number),
                    p.verdict, p.level, "yes" if p.final else "not yet", str(sum(c.count for c in p.checks)),
                )
                for p in verdict.periods
            ],
            (150, 60, 90, 75, 70, 70),
        ),
    ]  # fmt: skip
    for period in verdict.periods[:1]:
        story += [
            heading(f"Every check of {day(period.period)}, batch {period.number}"),
            table(
                [(_mark(c), f"{c.what} {c.detail}", str(c.count)) for c in period.checks], widths
            ),
        ]
    if verdict.voided:
        story += [
            heading("Overturned by challenges"),
            table([(line,) for line in verdict.voided], (515,)),
        ]
    story += [heading("Repeat it"), Paragraph(escape(content.repeat), STYLES["BodyText"])]
    document.build(story)
    return sheet.getvalue()


def _drawing(picture: Picture, width: float) -> Drawing:
    """The picture for print, y upwards, as wide as the text."""
    from reportlab.graphics import shapes
    from reportlab.lib.colors import HexColor

    from backend.printing import FONT

    scale = width / picture.width
    drawing = shapes.Drawing(width, picture.height * scale)
    group = shapes.Group(transform=(scale, 0, 0, -scale, 0, picture.height * scale))
    for shape in picture.shapes:
        item: Any
        match shape:
            case Rect():
                item = shapes.Rect(shape.x, shape.y, shape.width, shape.height)
                item.fillColor, item.strokeWidth = HexColor(shape.color), 0
                item.strokeColor = None
            case Line():
                item = shapes.Line(shape.x, shape.y, shape.to_x, shape.to_y)
                item.strokeColor, item.strokeWidth = HexColor(shape.color), 0.7
            case Text():
                words = shapes.String(0, 0, shape.words, fontName=FONT, fontSize=shape.size)
                words.textAnchor = shape.anchor
                # The sheet stands on its head; words must not.
                item = shapes.Group(words, transform=(1, 0, 0, -1, shape.x, shape.y))
        group.add(item)
    drawing.add(group)
    return drawing


__all__ = ["report_page", "report_pdf"]
