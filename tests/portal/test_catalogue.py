"""Every text of the portal in every language: none missing, none left over, placeholders and plural forms right."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from babel.messages.catalog import Message

from backend.portal.languages import LANGUAGES, language
from backend.portal.wallet_texts import WALLET_TEXTS
from tests.portal.catalogue import PORTAL, script_messages, translated, used_messages

TRANSLATIONS = [code for code in LANGUAGES if code != "en"]
PLACEHOLDER = re.compile(r"%\((\w+)\)([sd])")
# The same in both languages.
SAME = {"da": 40, "pl": 15}


def forms(message: Message) -> tuple[str, ...]:
    """The translations of a message, one for each plural form."""
    return message.string if isinstance(message.string, tuple) else (message.string,)


@pytest.mark.parametrize("code", TRANSLATIONS)
def test_nothing_is_missing_and_nothing_left_over(code: str) -> None:
    used = {message.id for message in used_messages() if message.id}
    kept = {message.id for message in translated(code) if message.id}
    assert kept == used


@pytest.mark.parametrize("code", TRANSLATIONS)
def test_every_text_is_translated_with_the_same_placeholders(code: str) -> None:
    for message in translated(code):
        if not message.id:
            continue
        assert not message.fuzzy, message.id
        sources = message.id if isinstance(message.id, tuple) else (message.id,)
        wanted = sorted(PLACEHOLDER.findall(sources[-1]))
        for form in forms(message):
            assert form, message.id
            assert sorted(PLACEHOLDER.findall(form)) == wanted, message.id
            assert form[-1] in ".:" or form[-1] == sources[-1][-1] or sources[-1][-1] not in ".:"


@pytest.mark.parametrize("code", TRANSLATIONS)
def test_hardly_any_text_is_the_english_one(code: str) -> None:
    same = [m.id for m in translated(code) if m.id and m.id == m.string and " " in str(m.id)]
    assert same == []
    short = [m.id for m in translated(code) if m.id and m.id == m.string]
    assert len(short) <= SAME[code], short


@pytest.mark.parametrize(
    ("code", "count", "said"),
    [
        ("en", 1, "1 interval"), ("en", 2, "2 intervals"), ("en", 0, "0 intervals"),
        ("da", 1, "1 interval"), ("da", 2, "2 intervaller"),
        ("pl", 1, "1 interwał"), ("pl", 2, "2 interwały"), ("pl", 5, "5 interwałów"),
        ("pl", 12, "12 interwałów"), ("pl", 22, "22 interwały"), ("pl", 112, "112 interwałów"),
    ],
)  # fmt: skip
def test_plural_forms(code: str, count: int, said: str) -> None:
    texts = language(code).texts
    message = texts.ngettext("%(num)d interval", "%(num)d intervals", count)
    assert message % {"num": count} == said


def test_pages_know_every_text_of_the_scripts() -> None:
    unknown = {
        message: where
        for message, where in script_messages().items()
        if message not in WALLET_TEXTS
    }
    assert unknown == {}


def test_scripts_use_every_text_they_are_given() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8") for path in sorted((PORTAL / "static").glob("*.js"))
    )
    assert [message for message in WALLET_TEXTS if f'"{message}"' not in sources] == []


@pytest.mark.parametrize("folder", [PORTAL / "static" / "vendor", Path(__file__).parent / "vendor"])
def test_vendored_files_are_those_that_were_checked(folder: Path) -> None:
    lines = (folder / "CHECKSUMS.sha256").read_text(encoding="ascii").splitlines()
    named = {name: digest for digest, name in (line.split() for line in lines)}
    for name, digest in named.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    assert {path.name for path in folder.iterdir()} == {*named, "CHECKSUMS.sha256"}
    scripts = [name for name in named if name.endswith(".js")]
    assert scripts
    for script in scripts:
        library = script.partition(".")[0]
        assert f"LICENSE-{library}.txt" in named
