"""The commands `peerwatt export ...`: a community's books, statements and tables for other people's software."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backend.command_line import JsonOption, command, read_file, write_json
from backend.domain.errors import AuditFailed, MalformedInput

export_app = typer.Typer(
    help="Books, statements and tables for other people's software.", no_args_is_help=True
)
_FORMATS = ("csv", "hledger", "beancount", "xlsx")
_STATEMENTS = ("pdf", "xml", "facturx")


def _write(folder: Path, files: dict[str, bytes], *, as_json: bool) -> None:
    from backend.durable_files import write_atomically

    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomically(folder / name, data)
    if as_json:
        write_json(
            {"folder": str(folder), "files": {name: len(data) for name, data in files.items()}}
        )
    else:
        Console(soft_wrap=True, highlight=False).print(f"{len(files)} file(s) in {folder}")


def _chosen(given: list[str] | None, known: tuple[str, ...]) -> list[str]:
    for name in given or ():
        if name not in known:
            raise MalformedInput("format", name, "no such format", f"choose of: {', '.join(known)}")
    return list(given or known)


@export_app.command("journal")
@command
def export_journal(
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("peerwatt-books"),
    database: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="PEERWATT_DATABASE",
            help="sqlite:///FILE or postgresql://USER@HOST/NAME.",
        ),
    ] = "sqlite:///peerwatt-demo/ledger.sqlite",
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="csv, hledger, beancount, xlsx; all without."),
    ] = None,
    currency: Annotated[str, typer.Option(help="Three letters.")] = "EUR",
    as_json: JsonOption = False,
) -> None:
    """Write journal and monthly balances, double entry, as an accountant's software imports them."""
    from backend.accounting.books import read_books
    from backend.accounting.journal_files import FILES
    from backend.ledger.database import opened

    chosen = _chosen(formats, _FORMATS)
    if not (len(currency) == 3 and currency.isalpha() and currency.isupper()):
        raise MalformedInput("currency", currency, "not three capital letters", "give such as EUR")
    with opened(database) as engine:
        books = read_books(engine, currency)
    files = {name: make(books) for kind in chosen for name, make in FILES[kind].items()}
    _write(output, files, as_json=as_json)


FolderArgument = Annotated[Path, typer.Argument(help="Folder that `peerwatt demo` wrote.")]
RpcOption = Annotated[
    list[str] | None,
    typer.Option(metavar="URL", help="Your own node; several must agree. Else as the folder says."),
]
CommunityOption = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="ClearingHouse; else as the folder says.")
]
BundleOption = Annotated[
    str | None,
    typer.Option(metavar="PATH|URL", help="Folder or server of bundles; else as the folder says."),
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="P", help="First period: its number or date.")
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="P", help="Last period: its number or date.")
]


@export_app.command("statements")
@command
def export_statements(
    folder: FolderArgument = Path("peerwatt-demo"),
    rpc: RpcOption = None,
    community: CommunityOption = None,
    bundle: BundleOption = None,
    member: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY-FILE",
            help="Only one member's: its part of a bundle, or its wallet's keystore.",
        ),
    ] = None,
    first: FromOption = None,
    last: ToOption = None,
    parties: Annotated[
        Path | None, typer.Option(help="Names, addresses and tax, format peerwatt/parties/1.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="pdf, xml, facturx; all without.")
    ] = None,
    issued: Annotated[
        datetime.datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Date of the invoices; else the last day's."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("peerwatt-statements"),
    as_json: JsonOption = False,
) -> None:
    """Write members' statements as PDF and as e-invoices (EN 16931), after auditing what they are made from."""
    from backend.accounting.invoice import Parties, Party, invoice_pdf, invoice_xml, statement_pdf
    from backend.accounting.statement import member_statements
    from backend.audit.auditor import Scope
    from backend.audit.command import AuditOptions, audited
    from backend.audit.forward_checks import traded_by_batch
    from backend.audit_commands import period_number
    from backend.domain.values import parse_json

    makers = {
        "pdf": ("statement.pdf", statement_pdf),
        "xml": ("invoice.xml", invoice_xml),
        "facturx": ("invoice.pdf", invoice_pdf),
    }
    chosen = _chosen(formats, _STATEMENTS)
    if parties is not None:
        who = Parties.from_data(parse_json(read_file(parties), parties), "parties")
    else:
        # Enough to try it out; an invoice needs its seller's name.
        who = Parties(seller=Party(name="Energy community", country="ZZ"))
    scope = Scope(period_number("from", first), period_number("to", last))
    options = AuditOptions(folder, tuple(rpc or ()), community, bundle, member, scope)
    console = Console(stderr=True)
    with audited(options, lambda line: console.print(f"[dim]{line}[/dim]")) as found:
        if found.verdict.verdict == "failed":
            raise AuditFailed("what the statements would say is wrong", "run `peerwatt audit`")
        statements = member_statements(
            found.batches,
            found.files,
            found.verdict.clearing_house,
            found.verdict.chain_id,
            found.only,
            traded_by_batch(found.reader, found.files, found.batches, found.only),
        )
    files = {}
    for statement in statements:
        day = issued.date() if issued else statement.lines[-1].day
        for kind in chosen:
            name, make = makers[kind]
            files[f"{statement.slot}-{name}"] = make(statement, who, day)
    _write(output, files, as_json=as_json)


@export_app.command("tables")
@command
def export_tables(
    folder: FolderArgument = Path("peerwatt-demo"),
    rpc: RpcOption = None,
    community: CommunityOption = None,
    bundle: BundleOption = None,
    first: FromOption = None,
    last: ToOption = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="csv, parquet; csv without.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("peerwatt-tables"),
    as_json: JsonOption = False,
) -> None:
    """Write batches, intervals and checks, all recomputed, as CSV or Parquet."""
    from backend.accounting.tables import COLUMNS, audit_tables, to_csv, to_parquet
    from backend.audit.auditor import Scope
    from backend.audit.command import AuditOptions, run_audit
    from backend.audit_commands import period_number

    writers = {"csv": to_csv, "parquet": to_parquet}
    chosen = _chosen(formats or ["csv"], tuple(writers))
    scope = Scope(period_number("from", first), period_number("to", last))
    options = AuditOptions(folder, tuple(rpc or ()), community, bundle, None, scope)
    console = Console(stderr=True)
    outcome = run_audit(options, lambda line: console.print(f"[dim]{line}[/dim]"))
    files = {
        f"{name}.{kind}": writers[kind](rows, COLUMNS[name])
        for name, rows in audit_tables(outcome.verdict).items()
        for kind in chosen
    }
    _write(output, files, as_json=as_json)
