"""What is there is documented, and what is documented is there.

Errors, commands and options, file formats, custom errors of the contracts; commands in the README; links in all documents.
"""

from __future__ import annotations

import importlib
import io
import json
import pkgutil
import re
import shlex
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from eth_utils.abi import event_abi_to_log_topic
from rich.console import Console
from sqlalchemy import create_engine
from sqlmodel import SQLModel
from typer.testing import CliRunner

import backend
import contracts
import deploy
import oracle
from backend.audit.verdict import AuditVerdict
from backend.cli import app
from backend.demo.day import OUTPUT_FILES, DemoOptions, Progress, run_demo
from backend.demo.summary import day_summary
from backend.demo.terminal import show_day
from backend.domain.errors import PeerwattError
from backend.ledger.store import LedgerStore
from contracts.artifact import artifact
from oracle.sources.registry import kinds, open_source
from tests.support.postgres import Cluster

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
FILES = ROOT / "docs" / "files.md"
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
FOREIGN = {"node_modules", "build", "dist", "mutants"}
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(
        part in FOREIGN or part.startswith(".") for part in path.relative_to(ROOT).parts[:-1]
    )
)
PACKAGES = (backend, contracts, deploy, oracle)
# Makes the bundled data; needs packages that only its maker has.
NOT_IMPORTED = {"oracle.data.simbench.extract"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def sections(path: Path, level: int) -> dict[str, str]:
    """The text below each heading of a level, by the heading without backticks."""
    parts = re.split(rf"^{'#' * level} (.+)$", path.read_text(), flags=re.MULTILINE)
    return {
        heading.strip("`"): re.split(rf"^#{{1,{level - 1}}} ", text, flags=re.MULTILINE)[0]
        for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def code_spans(text: str) -> set[str]:
    """What stands in backticks outside of fenced blocks."""
    return set(re.findall(r"`([^`\n]+)`", FENCE.sub("", text)))


# --- Errors ----------------------------------------------------------------------------------------------------------


def error_codes() -> set[str]:
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name not in NOT_IMPORTED:
                importlib.import_module(module.name)

    def below(kind: type[PeerwattError]) -> Iterator[type[PeerwattError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    # Tests of other modules may define kinds of their own.
    return {kind.code for kind in below(PeerwattError) if kind.__module__.split(".")[0] != "tests"}


def test_every_error_code_has_a_section_and_no_section_is_stale() -> None:
    codes = error_codes()
    documented = sections(TROUBLESHOOTING, 2)
    assert codes - set(documented) == set()
    stale = {
        heading
        for heading in documented
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", heading) and heading not in codes
    }
    assert stale == set()


def test_a_section_says_what_to_do() -> None:
    documented = sections(TROUBLESHOOTING, 2)
    for code in error_codes():
        if "." in code:
            assert "**Symptom.**" in documented[code], code
            assert "**Mend.**" in documented[code], code


# --- Commands ----------------------------------------------------------------------------------------------------------


@cache
def commands() -> dict[str, set[str]]:
    """Each command with its options, from the application itself."""
    found: dict[str, set[str]] = {}

    def walk(name: str, command: Any) -> None:
        if hasattr(command, "commands"):
            default = getattr(command, "default_command", None)
            for child, below in command.commands.items():
                walk(name if child == default else f"{name} {child}", below)
            return
        found[name] = {
            option
            for parameter in command.params
            if parameter.param_type_name == "option"
            for option in parameter.opts
            if option != "--help"
        }

    walk("peerwatt", typer.main.get_command(app))
    return found


def test_every_command_is_documented_and_no_more() -> None:
    documented = {name for name in sections(README, 3) if name.startswith("peerwatt ")}
    assert documented == set(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_option_is_documented_and_no_more(name: str) -> None:
    documented = re.findall(r"^\| `(--[a-z-]+)` \|", sections(README, 3)[name], re.MULTILINE)
    assert sorted(documented) == sorted(commands()[name])


def shell_commands(path: Path) -> Iterator[list[str]]:
    """Calls of `peerwatt` and of the bootstrap script, in fenced blocks and in code spans, as words."""
    text = path.read_text()
    lines = [
        line
        for language, block in FENCE.findall(text)
        if language in ("sh", "")
        for line in block.splitlines()
    ]
    for line in [*lines, *code_spans(text)]:
        if not re.match(r"(peerwatt|python3 deploy/bootstrap\.py)( |$)", line):
            continue
        words = shlex.split(line, comments=True)
        yield words if words[0] == "peerwatt" else ["peerwatt", *words[2:]]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_documents_exist(path: Path) -> None:
    groups = {name.rsplit(" ", 1)[0] for name in commands()}
    for line in shell_commands(path):
        words = [word for word in line if word != "--help"]
        # `bootstrap.py test` is the script's own; its arguments go to pytest.
        if len(words) == 1 or words[1] == "test" or " ".join(words) in groups:
            continue
        length = 3 if " ".join(words[:2]) in groups else 2
        if " ".join(words[:length]) not in commands() and " ".join(words[:2]) in commands():
            length = 2  # a group with a command that is meant where none is named
        name = " ".join(words[:length])
        assert name in commands(), " ".join(words)
        for word in words[length:]:
            if word.startswith("--"):
                assert word in commands()[name], " ".join(words)


def test_the_two_commands_of_the_readme_are_there() -> None:
    blocks = " ".join(block for _, block in FENCE.findall(README.read_text()))
    for command in ("demo", "test"):
        assert f"python3 deploy/bootstrap.py {command}" in blocks
    assert (ROOT / "deploy" / "bootstrap.py").is_file()


# --- File formats ------------------------------------------------------------------------------------------------------


def source_formats() -> set[str]:
    """Every name of a format that the sources mention."""
    pattern = re.compile(r"peerwatt/[a-z0-9-]+/\d+")
    return {
        name
        for package in PACKAGES
        for folder in package.__path__
        for path in Path(folder).rglob("*.py")
        if not FOREIGN & set(path.parts)
        for name in pattern.findall(path.read_text())
    }


def test_every_file_format_has_a_section_and_no_section_is_stale() -> None:
    documented = set(sections(FILES, 2))
    assert source_formats() - documented == set()
    assert {name for name in documented if name.startswith("peerwatt/")} == source_formats()


def test_everything_the_demonstration_leaves_is_listed() -> None:
    text = FILES.read_text()
    assert [name for name in OUTPUT_FILES if name not in text] == []


def names_in(data: Any, *, free: frozenset[str] = frozenset()) -> set[str]:
    """Every field name in the data; below the fields in `free` names are not fixed."""
    if isinstance(data, Mapping):
        return set(data) | {
            name
            for field, value in data.items()
            if field not in free
            for name in names_in(value, free=free)
        }
    if isinstance(data, list):
        return {name for item in data for name in names_in(item, free=free)}
    return set()


def documented_names(heading: str) -> set[str]:
    spans = code_spans(sections(FILES, 2)[heading])
    return {name for span in spans for name in re.split(r"\.|\[\]\.?", span)}


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One file of each format from the run that the README shows, and its tables."""
    output = tmp_path_factory.mktemp("demo")
    run = run_demo(
        DemoOptions(
            members=20,
            days=1,
            first_day=date(2016, 6, 29),
            seed=0,
            chain_url=None,
            solver="highs",
            output=output,
        ),
        Progress(),
    )
    assert isinstance(run.verdict, AuditVerdict)
    (period,) = (output / "bundles").iterdir()
    summary = json.loads(json.dumps(day_summary(run)))
    console = Console(file=io.StringIO(), width=400)
    show_day(summary, console, {})
    assert isinstance(console.file, io.StringIO)
    return {
        "terminal": console.file.getvalue(),
        "peerwatt/bundle/2": json.loads((period / "public.json").read_text()),
        "peerwatt/personal/2": [
            json.loads(path.read_text()) for path in (period / "personal").iterdir()
        ],
        "peerwatt/day/1": summary,
        "peerwatt/audit/2": run.verdict.as_dict(),
        "address-book.json": json.loads((output / "address-book.json").read_text()),
        "chain.json": json.loads((output / "chain.json").read_text()),
        "ledger.sqlite": output / "ledger.sqlite",
    }


@pytest.mark.parametrize(
    "heading",
    [
        "peerwatt/bundle/2",
        "peerwatt/personal/2",
        "peerwatt/day/1",
        "peerwatt/audit/2",
        "address-book.json",
        "chain.json",
    ],
)
def test_every_field_of_a_format_is_documented(demonstration: dict[str, Any], heading: str) -> None:
    found = names_in(
        demonstration[heading], free=frozenset({"personal_hashes", "contracts", "arguments"})
    )
    assert found - documented_names(heading) == set()
    data = demonstration[heading]
    if heading.startswith("peerwatt/"):
        assert all(
            item["format"] == heading for item in (data if isinstance(data, list) else [data])
        )


def test_the_ledger_keeps_why_a_reading_was_rejected(demonstration: dict[str, Any]) -> None:
    """docs/troubleshooting.md sends people to this column."""
    connection = sqlite3.connect(demonstration["ledger.sqlite"])
    try:
        columns = {row[1] for row in connection.execute("pragma table_info(reading)")}
    finally:
        connection.close()
    assert "rejected_because" in columns
    assert "reading.rejected_because" in TROUBLESHOOTING.read_text()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", line)]


def test_the_readmes_excerpt_is_what_the_demonstration_prints(
    demonstration: dict[str, Any],
) -> None:
    """Where it differs copy the rows anew from `peerwatt demo`. An end of three dots stands for the rest of a cell."""
    printed = [cells(line) for line in demonstration["terminal"].splitlines()]
    (excerpt,) = (
        block
        for language, block in FENCE.findall(sections(README, 2)["What you see"])
        if language == "text"
    )
    for line in excerpt.splitlines():
        if not line.strip():
            continue
        pattern = [
            re.escape(cell.removesuffix("...")) + (".*" if cell.endswith("...") else "")
            for cell in cells(line)
        ]
        assert any(
            len(row) == len(pattern)
            and all(re.fullmatch(part, cell) for part, cell in zip(pattern, row, strict=True))
            for row in printed
        ), line


def test_the_readmes_gas_figures_are_the_demonstrations(demonstration: dict[str, Any]) -> None:
    gas = demonstration["peerwatt/day/1"]["gas"]
    text = sections(README, 2)["What makes it different"]
    for title, key in (
        ("a day's batch", "submit_batch"),
        ("the same, per member and interval", "per_member_and_interval"),
        ("a challenge", "challenge"),
        ("a withdrawal", "withdraw"),
        ("a deposit", "deposit"),
    ):
        (figure,) = re.findall(rf"^\| {title} \| ([0-9 ]+) \|", text, re.MULTILINE)
        assert int(figure.replace(" ", "")) == pytest.approx(gas[key], rel=0.01), title


def json_example(heading: str) -> Any:
    (block,) = (
        block
        for language, block in FENCE.findall(sections(FILES, 2)[heading])
        if language == "json"
    )
    return json.loads(block)


def test_the_documented_case_clears_to_the_documented_clearing(tmp_path: Path) -> None:
    case, expected = json_example("peerwatt/clearing-case/1"), json_example("peerwatt/clearing/1")
    assert names_in(case) | {"islands"} <= documented_names("peerwatt/clearing-case/1")
    path = tmp_path / "case.json"
    path.write_text(json.dumps(case))
    result = CliRunner().invoke(app, ["clear", str(path)])
    assert result.exit_code == 0
    clearing = json.loads(result.stdout)
    # The solver's own accuracy is its own affair.
    assert clearing | {"solver_gap_nano": 0} == expected | {"solver_gap_nano": 0}
    assert names_in(clearing) <= documented_names("peerwatt/clearing/1")


def test_every_field_of_a_case_is_documented() -> None:
    from backend.domain.case import ClearingCase

    schema = ClearingCase.model_json_schema(by_alias=True)
    fields = set(schema["properties"]) | {
        name for part in schema["$defs"].values() for name in part.get("properties", ())
    }
    assert fields - documented_names("peerwatt/clearing-case/1") == set()


def test_every_field_of_the_forward_market_is_documented(tmp_path: Path) -> None:
    from backend.domain.p2p import P2PCase, P2PResult
    from backend.market.p2p.sparse import Check

    for kind, heading in ((P2PCase, "peerwatt/p2p-case/1"), (P2PResult, "peerwatt/p2p/1")):
        schema = kind.model_json_schema(by_alias=True)
        fields = set(schema["properties"]) | {
            name for part in schema["$defs"].values() for name in part.get("properties", ())
        }
        assert fields - documented_names(heading) == set()
    # Every agent's price is for pictures, and not in the file.
    kept = set(Check.__slots__) - {"price"}
    assert kept - documented_names("peerwatt/p2p-trace/1") == set()
    path = tmp_path / "case.json"
    path.write_text(json.dumps(json_example("peerwatt/p2p-case/1")))
    result = CliRunner().invoke(app, ["negotiate", str(path), "--json"])
    (trade,) = json.loads(result.stdout)["trades"]
    assert (trade["seller"], trade["buyer"]) == ("roof", "flat")
    assert (trade["energy"], trade["price"]) == pytest.approx((1, 6))


# --- Custom errors of the contracts ------------------------------------------------------------------------------------


def test_every_custom_error_is_in_a_table_and_no_entry_is_stale() -> None:
    found = {
        entry["name"]
        for path in (ROOT / "contracts" / "artifacts").glob("*.json")
        for entry in json.loads(path.read_text())["abi"]
        if entry["type"] == "error"
    }
    text = sections(TROUBLESHOOTING, 2)["Custom errors of the contracts"]
    cells = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    documented = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(documented) == sorted(found)


# --- Links --------------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """What GitHub makes of the headings."""
    found: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#{1,6} (.+)$", FENCE.sub("", path.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        result.add(f"{slug}-{count}" if count else slug)
    return result


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(path: Path) -> None:
    text = FENCE.sub("", path.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), target


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_source_has_a_page_with_an_example_that_opens_and_all_its_fields(
    kind: str, tmp_path: Path
) -> None:
    pages = [
        page
        for page in (ROOT / "docs" / "sources").glob("*.md")
        if f'{{"kind": "{kind}"' in page.read_text()
    ]
    assert pages
    fields = set(kinds()[kind].model_fields)
    for page in pages:
        text = page.read_text()
        (examples,) = [block for language, block in FENCE.findall(text) if language == "json"]
        for example in re.split(r"\n(?={\"kind\")", examples):
            data = json.loads(example)
            for file in (value for name, value in data.items() if name.endswith("_file")):
                (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / file).write_text("secret")
            assert callable(open_source(data, tmp_path).test_connection)
        linked = re.findall(r"\(([a-z-]+\.md)\)", text)
        spans = set().union(
            *(code_spans((page.parent / name).read_text()) for name in {page.name, *linked})
        )
        assert {name for name in fields if name not in spans and name != "subscriptions"} == set()
    assert f"`{kind}`" in (ROOT / "docs" / "sources" / "README.md").read_text()


def test_the_index_of_decisions_is_complete() -> None:
    folder = ROOT / "docs" / "adr"
    numbered = sorted(path.name for path in folder.glob("[0-9]*.md"))
    listed = re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == numbered
    for name in numbered:
        text = (folder / name).read_text()
        assert text.startswith(f"# {name[:4]}: ")
        assert list(sections(folder / name, 2)) == [
            "Context",
            "Decision",
            "Consequences",
        ]


# --- Auditing ----------------------------------------------------------------------------------------------------------

AUDITING = ROOT / "docs" / "auditing.md"
BY_HAND = ROOT / "docs" / "check-a-bill.md"
VIEWS = ROOT / "deploy" / "sql" / "auditor_views.sql"


def test_the_topics_of_the_auditing_page_are_the_contracts() -> None:
    rows = re.findall(
        r"^\| (\w+) \| `(\w+)` \| `(0x[0-9a-f]{64})` \|$", AUDITING.read_text(), re.MULTILINE
    )
    assert len(rows) > 10
    for contract, name, topic in rows:
        entry = next(
            e for e in artifact(contract)["abi"] if e["type"] == "event" and e["name"] == name
        )
        assert "0x" + event_abi_to_log_topic(entry).hex() == topic, name
    (asked,) = re.findall(r'"topics":\["(0x[0-9a-f]{64})"\]', AUDITING.read_text())
    assert asked == next(topic for _, name, topic in rows if name == "BatchSubmitted")


def auditing_queries() -> list[str]:
    """The page's SQL, statement by statement."""
    (block,) = (text for language, text in FENCE.findall(AUDITING.read_text()) if language == "sql")
    plain = re.sub(r"^--.*$", "", block, flags=re.MULTILINE)
    return [query for query in plain.split(";") if query.strip()]


def check_answers(found: list[list[tuple[Any, ...]]], demonstration: dict[str, Any]) -> None:
    batches, energy, dearer, voided, unbalanced, overdrawn = found
    # The demonstration's lies: one refused, one voided; then the truth.
    assert sorted(row[3] for row in batches) == ["final", "refused", "voided"]
    totals = demonstration["peerwatt/day/1"]["totals"]
    (period, *figures), *others = energy
    assert (period, others) == (16981, [])
    assert [float(figure) for figure in figures] == [
        totals["demand_wh"] / 1e3,
        totals["traded_wh"] / 1e3,
        totals["fees_nano"] / 1e9,
    ]
    assert len(voided) == 1
    assert dearer == unbalanced == overdrawn == []


def test_the_queries_of_the_auditing_page_run(
    demonstration: dict[str, Any], tmp_path: Path
) -> None:
    copy = shutil.copy(demonstration["ledger.sqlite"], tmp_path / "ledger.sqlite")
    connection = sqlite3.connect(copy)
    try:
        connection.executescript(VIEWS.read_text())
        found = [connection.execute(query).fetchall() for query in auditing_queries()]
    finally:
        connection.close()
    check_answers(found, demonstration)


def test_the_queries_of_the_auditing_page_run_on_postgresql(
    demonstration: dict[str, Any], cluster: Cluster
) -> None:
    """The demonstration's ledger, row by row in a real server; asked by a role that may read the views and nothing else."""
    import psycopg

    url = cluster.create("auditing")
    source, store = create_engine(f"sqlite:///{demonstration['ledger.sqlite']}"), LedgerStore(url)
    try:
        with store.engine.begin() as target, source.connect() as rows:
            for table in SQLModel.metadata.sorted_tables:
                found = [dict(row) for row in rows.execute(table.select()).mappings()]
                if found:
                    target.execute(table.insert(), found)
    finally:
        source.dispose()
        store.close()
    (roles,) = (
        text for _, text in FENCE.findall(AUDITING.read_text()) if "CREATE ROLE auditor" in text
    )
    grants = re.sub(r"^psql .*$|--.*$", "", roles, flags=re.MULTILINE)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(VIEWS.read_bytes())
        connection.execute(grants.encode())
        connection.execute(b"GRANT USAGE ON SCHEMA auditing TO auditor")
        connection.execute(b"SET ROLE auditor")
        answers = [connection.execute(query.encode()).fetchall() for query in auditing_queries()]
        check_answers(answers, demonstration)
        for refused in (b"SELECT * FROM reading", b"DELETE FROM auditor_event"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused)


def integer(text: str) -> int:
    return int(text.replace(" ", ""))


def test_the_bill_by_hand_is_the_demonstrations(demonstration: dict[str, Any]) -> None:
    """Every product, quotient and sum on the page is right, and its figures are the run's."""
    text = BY_HAND.read_text()
    number = r"(\d{1,3}(?: \d{3})*)"
    products = re.findall(rf"{number} x {number} = {number}", text)
    assert len(products) >= 6
    for one, other, product in products:
        assert integer(one) * integer(other) == integer(product)
    for one, other, sum_ in re.findall(rf"{number} \+ {number} = {number}", text):
        assert integer(one) + integer(other) == integer(sum_)
    for one, other, quotient in re.findall(rf"{number} / {number} = {number}", text):
        assert integer(one) // integer(other) == integer(quotient)
    public = demonstration["peerwatt/bundle/2"]
    index = 48
    prices = bytes.fromhex(public["prices"][2:])[16 * index : 16 * index + 16]
    discount, premium = int.from_bytes(prices[:8], "big"), int.from_bytes(prices[8:], "big")
    parts = {part["slot"]: part for part in demonstration["peerwatt/personal/2"]}

    def spaced(value: int) -> str:
        return f"{value:,}".replace(",", " ")

    interval = demonstration["peerwatt/day/1"]["intervals"][index]
    assert interval["start"] == "2016-06-29T12:00:00Z"
    for slot, name, side in ((3, "house-01", 1), (12, "house-10", 0)):
        assert parts[slot]["member"] == name
        digits = parts[slot]["readings"][2:][32 * index : 32 * index + 32]
        assert f"`{digits[:14]}` `{digits[14:28]}` `{digits[28:]}`" in text
        energy = int(digits[14 * side : 14 * side + 14], 16)
        price = 80_000 + premium if side else 320_000 - discount
        assert f"{energy} x {spaced(price)} = {spaced(energy * price)}" in text
    for value in (
        discount, premium, interval["demand_wh"], interval["supply_wh"], interval["fees_nano"],
        interval["savings_nano"], parts[3]["amount_nano"],
    ):  # fmt: skip
        assert spaced(value) in text, value
