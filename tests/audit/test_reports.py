"""What people are given: a page that loads nothing, a PDF that says the same, and exit codes."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pypdf import PdfReader
from typer.testing import CliRunner

from backend.audit.pictures import Part, Rect, bars, pictures
from backend.audit.report import report_page, report_pdf
from backend.cli import app

from .settled import Settled

SECONDS = 900


def svgs(page: str) -> list[ElementTree.Element]:
    return [
        ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    ]


def test_the_page_loads_nothing_and_shows_energy_money_and_checks(settled: Settled) -> None:
    outcome = settled.run()
    page = report_page(outcome.verdict, SECONDS)
    assert not re.search(r"(src|href)\s*=|url\(|@import|<script|https?://", page)
    assert "default-src 'none'" in page
    drawn = svgs(page)
    assert [item.get("aria-label", "").split(",")[0] for item in drawn] == [
        "Energy per interval",
        "Money per interval",
        "Saved by trading inside per interval",
        "Checks per period",
    ]
    for picture in drawn:
        width, height = map(float, picture.get("viewBox", "").split()[2:])
        for shape in picture.iter("rect"):
            x, y, wide, high = (
                float(shape.get(name, "")) for name in ("x", "y", "width", "height")
            )
            assert -0.01 <= x <= x + wide <= width + 0.5 and -0.01 <= y <= y + high <= height + 0.01
    for check in outcome.verdict.all_checks:
        assert check.what.replace("'", "&#39;") in page


def test_the_bars_are_as_high_as_the_figures(settled: Settled) -> None:
    verdict = settled.run().verdict
    energy = pictures(verdict, SECONDS)[0]
    # Of a corrected period the newest version counts.
    newest = {item.period: item for item in verdict.periods}
    traded = [o.matched_wh for item in newest.values() for o in item.outcomes]
    inside = [s for s in energy.shapes if isinstance(s, Rect) and "traded inside" in s.tip]
    scale = {
        round(s.height / wh, 9) for s, wh in zip(inside, (w for w in traded if w), strict=True)
    }
    assert len(scale) == 1


def test_empty_and_negative_series_are_drawn() -> None:
    assert bars("nothing", [], [Part("a", "#000000", [])]).shapes
    picture = bars("below", ["x", "y"], [Part("a", "#123456", [-1.0, -3.0])])
    low, lower = [s for s in picture.shapes if isinstance(s, Rect) and s.tip]
    assert lower.height == pytest.approx(3 * low.height)


def test_the_pdf_says_what_the_page_says_and_is_the_same_every_time(
    settled: Settled, bundles: Path
) -> None:
    for path in (bundles / "2" / "personal").iterdir():
        path.unlink()
    outcome = settled.run(bundle=str(bundles))
    data = report_pdf(outcome.verdict, SECONDS, "0x1234")
    assert data == report_pdf(outcome.verdict, SECONDS, "0x1234")
    reader = PdfReader(BytesIO(data))
    text = re.sub(r"\s+", " ", " ".join(page.extract_text() for page in reader.pages))
    assert "incomplete" in text and "no personal part of slots" in text and "0x1234" in text
    assert settled.community in text
    fonts = {
        font.get_object()["/BaseFont"]
        for page in reader.pages
        for font in page["/Resources"]["/Font"].values()  # type: ignore[index]
    }
    assert all("Vera" in font for font in fonts if "+" in font)


def test_hostile_words_in_a_bundle_do_not_run_in_the_report(
    settled: Settled, bundles: Path
) -> None:
    path = bundles / "1" / "public.json"
    value = json.loads(path.read_bytes())
    value["format"] = "<script>alert(1)</script>"
    path.write_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())
    outcome = settled.run(bundle=str(bundles))
    page = report_page(outcome.verdict, SECONDS)
    assert "<script" not in page and "&lt;script&gt;" in page
    assert report_pdf(outcome.verdict, SECONDS)


def command(settled: Settled, *more: str) -> Any:
    given = ["audit", "--rpc", settled.url, "--community", settled.community, *more]
    return CliRunner().invoke(app, given)


def test_exit_codes_and_files(settled: Settled, bundles: Path, tmp_path: Path) -> None:
    files = [f"{name}.{name}" for name in ("html", "pdf", "zip")]
    options = ["--html", "--pdf", "--save-evidence"]
    given = [
        word
        for option, name in zip(options, files, strict=True)
        for word in (option, str(tmp_path / name))
    ]
    good = command(settled, "--bundle", str(bundles), *given)
    assert good.exit_code == 0, good.output
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(files)
    again = CliRunner().invoke(app, ["audit", "--evidence", str(tmp_path / "zip.zip"), "--json"])
    assert again.exit_code == 0
    # What is told on the way goes to standard error.
    assert json.loads(again.stdout)["verdict"] == "verified"
    assert command(settled).exit_code == 3
    part = bundles / "1" / "personal" / "3.json"
    part.write_bytes(part.read_bytes() + b" ")
    bad = command(settled, "--bundle", str(bundles))
    assert bad.exit_code == 1
    assert "every personal part is unaltered" in bad.output
    assert command(settled, "--from", "yesterday").exit_code == 2
    one_day = command(
        settled, "--bundle", str(bundles), "--from", "2013-10-23", "--to", "16001", "--json"
    )
    assert one_day.exit_code == 3  # what the batch before came to is not known
    assert [p["period"] for p in json.loads(one_day.stdout)["periods"]] == [16001]
