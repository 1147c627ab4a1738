"""The texts of the portal, as they stand in templates, code and scripts; `python -m tests.portal.catalogue` brings the catalogues up to date."""

from __future__ import annotations

import re
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po

PORTAL = Path(str(files("backend.portal")))
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "marked": None}
# In a script.
SPOKEN = re.compile(r"""\btext\(\s*"((?:[^"\\]|\\.)*)\"""")


def used_messages() -> Catalog:
    """Every text, with its plural where it has one."""
    found = Catalog(charset="utf-8")
    for method, pattern in (("jinja2", "templates/portal/*.j2"), ("python", "*.py")):
        for path in sorted(PORTAL.glob(pattern)):
            with path.open("rb") as source:
                # The default leaves a template out that it cannot read.
                options = {"silent": "false", "trim_blocks": "true"} if method == "jinja2" else {}
                for _, message, _, _ in extract(method, source, KEYWORDS, options=options):
                    found.add(message, locations=[(path.name, 0)])
    return found


def translated(code: str) -> Catalog:
    """A catalogue as it is kept."""
    return read_po(BytesIO((PORTAL / "catalogue" / f"{code}.po").read_bytes()), locale=code)


def script_messages() -> dict[str, str]:
    """What scripts say, by where: arguments of `text`, which must all be known to the page."""
    return {
        message: path.name
        for path in sorted((PORTAL / "static").glob("*.js"))
        if path.name != "day.js"
        for message in SPOKEN.findall(path.read_text(encoding="utf-8"))
    }


def update(code: str) -> int:
    """Adds what is missing, removes what is left over; returns how many texts lack a translation."""
    kept, path = translated(code), PORTAL / "catalogue" / f"{code}.po"
    fresh = Catalog(locale=code, charset="utf-8", fuzzy=False)
    for message in used_messages():
        if message.id:
            known = kept.get(message.id if isinstance(message.id, str) else message.id[0])
            fresh.add(
                message.id,
                known.string if known else None,
                sorted({(n, None) for n, _ in message.locations}),
            )
    target = BytesIO()
    write_po(target, fresh, width=130, omit_header=False, sort_output=True, include_lineno=False)
    lines = [
        line
        for line in target.getvalue().decode().splitlines()
        if not line.startswith(
            (
                '"POT-Creation',
                '"PO-Revision',
                '"Generated',
                '"Report-',
                '"Last-Tr',
                '"Project',
                "# FIRST",
                "# Trans",
                "# Copy",
                "# This file",
                "#\n",
            )
        )
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sum(
        not any(m.string if isinstance(m.string, tuple) else (m.string,)) for m in fresh if m.id
    )


if __name__ == "__main__":
    for language in ("da", "pl"):
        print(language, update(language), "texts lack a translation")
