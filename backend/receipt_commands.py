"""The command `peerwatt verify-reading`, which needs no oracle."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from backend.command_line import JsonOption, command, read_file, write_json
from backend.domain.intervals import EPOCH_DATE


@command
def verify_reading(
    receipt: Annotated[Path, typer.Argument(help="Receipt, format peerwatt/reading-receipt/1.")],
    as_json: JsonOption = False,
) -> None:
    """Check a member's receipt offline; says what is wrong and exits with 1."""
    from backend.domain.values import parse_json
    from oracle.receipts import Receipt, check_receipt, explain

    parsed = Receipt.from_data(parse_json(read_file(receipt), receipt))
    found = explain(check_receipt(parsed), parsed.meter)
    if as_json:
        write_json(found)
    else:
        for fault in found["faults"]:
            typer.echo(f"wrong: {fault}")
        day = EPOCH_DATE + datetime.timedelta(days=parsed.period)
        typer.echo(
            f"{day}: {found['import_wh']} Wh in, {found['export_wh']} Wh out; "
            f"{found['measured']} intervals measured, {found['substituted']} substituted, "
            f"{found['missing']} missing"
        )
        if found["traded_nano"] is not None:
            typer.echo(
                f"in it, traded before delivery: {found['sold_wh']} Wh sold as import, {found['bought_wh']} Wh bought as export; "
                f"the trades brought {found['traded_nano']} nano: compare with what you signed"
            )
        who = (
            "the meter itself"
            if found["signed_by_the_meter_itself"]
            else ", ".join(found["signed_by"])
        )
        typer.echo(f"registers signed by {who or 'nobody'}")
        for entry in found["signers"]:
            until = "" if entry["until_interval"] is None else f" until {entry['until_interval']}"
            typer.echo(
                f"compare with the registry of meters: {entry['signer']}, a {entry['kind']}'s key, "
                f"may sign for {parsed.meter} from interval {entry['from_interval']}{until}"
            )
        if found["substituted_unchecked"]:
            typer.echo(
                "not checked, since filled in by a rule and no register shows it: "
                f"intervals {found['substituted_unchecked']}"
            )
        if found["unchecked"]:
            typer.echo(
                f"not checked, since a register fell (rollover or exchange): intervals {found['unchecked']}"
            )
        typer.echo(
            f"compare with the chain: report {found['report_hash']}, oracle {parsed.oracle_contract}"
        )
        typer.echo("right" if found["right"] else "not right")
    if not found["right"]:
        raise typer.Exit(1)
