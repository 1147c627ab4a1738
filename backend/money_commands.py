"""The commands `peerwatt coordinator payout`, `guarantee` and `credit`: money by hand, with no coordinator running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from backend.command_line import JsonOption, command, write_json
from backend.coordinator_commands import (
    CommunityOption,
    ConfigArgument,
    need_lead,
    opened_community,
)

if TYPE_CHECKING:
    from backend.operator.payouts import Paid, Payout

money_app = typer.Typer()
TargetOption = Annotated[
    int | None, typer.Option(min=0, help="What it is to be, in nano currency units.")
]


@money_app.command("payout")
@command
def coordinator_payout(
    config: ConfigArgument,
    community: CommunityOption = None,
    least_nano: Annotated[
        int, typer.Option(min=1, help="Leave out accounts with less, in nano currency units.")
    ] = 1_000_000_000,
    slot: Annotated[
        list[int] | None, typer.Option(help="Only this account; can be given several times.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show who would get what; send nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Pay everybody out, many in a transaction, when no batch can be challenged; exits with 1 if somebody could not be paid.

    Raises:
        LeadershipLost: a running coordinator sends with the same key.
        NotFinal: the newest batch can still be challenged.
    """
    from backend.operator.payouts import Payouts

    console = Console(stderr=True)
    with opened_community(config, community) as service:
        need_lead(service)
        payouts = Payouts(
            service.contracts, service.sender, service.store, service.bundles, service.now
        )
        payouts.finish()
        service.cycle.books.follow()
        state = payouts.state()
        decimals = service.contracts.token_decimals()
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("accounts", total=len(state.leaves))
            due = payouts.due(
                state,
                -(-least_nano * 10**decimals // 10**9),
                slot,
                lambda done: bar.advance(task),
            )
        tried: list[Paid] = []
        for paid in () if dry_run else payouts.pay(state, due):
            tried.append(paid)
            if paid.transaction_hash:
                console.print(
                    f"0x{paid.transaction_hash.hex()}: {len(paid.payouts)} accounts,"
                    f" {paid.gas_used:,} gas, {paid.gas_used // len(paid.payouts):,} each"
                )
    _show_payouts(due, tried, state.header.number, decimals, as_json=as_json, sent=not dry_run)
    if any(paid.reason for paid in tried):
        raise typer.Exit(1)


def _show_payouts(
    due: Sequence[Payout],
    tried: Sequence[Paid],
    batch: int,
    decimals: int,
    *,
    as_json: bool,
    sent: bool,
) -> None:
    """Prints who gets what, and what that took.

    Args:
        due: what each account has to get.
        tried: what was sent, or refused.
        batch: number of the batch that proves it.
        decimals: of the token.
        as_json: as JSON.
        sent: False where it was only to be shown.
    """
    from backend.domain.units import format_money

    refused = {item.slot: paid.reason for paid in tried if paid.reason for item in paid.payouts}
    if not as_json:
        table = Table("slot", "amount", "refused")
        for item in due:
            amount = format_money(item.tokens * 10**9 // 10**decimals)
            table.add_row(str(item.slot), amount, refused.get(item.slot, ""))
        Console().print(table)
        return
    write_json(
        {
            "batch": batch,
            "sent": sent,
            "accounts": [
                {"slot": item.slot, "tokens": item.tokens, "refused": refused.get(item.slot, "")}
                for item in due
            ],
            "transactions": [
                {
                    "transaction_hash": "0x" + paid.transaction_hash.hex(),
                    "slots": [item.slot for item in paid.payouts],
                    "gas_used": paid.gas_used,
                }
                for paid in tried
                if paid.transaction_hash
            ],
        }
    )


@money_app.command("guarantee")
@command
def coordinator_guarantee(
    config: ConfigArgument,
    target_nano: TargetOption = None,
    community: CommunityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the coordinator has locked behind members' accounts, or change it: what is missing is deposited, what is too much taken back.

    Raises:
        LeadershipLost: a running coordinator sends with the same key.
        ContractRefused: more of it is granted, or the key does not have the tokens.
    """
    from backend.domain.units import format_money
    from backend.operator.guarantees import Guarantees

    with opened_community(config, community) as service:
        guarantees = Guarantees(service.contracts, service.sender, service.cycle.cover)
        if target_nano is not None:
            need_lead(service)
            guarantees.finish()
            guarantees.lock(target_nano)
        locked, granted = guarantees.status()
    if as_json:
        write_json({"locked_nano": locked, "granted_nano": granted})
    else:
        typer.echo(f"{format_money(locked)} locked, {format_money(granted)} of it granted")


@money_app.command("credit")
@command
def coordinator_credit(
    config: ConfigArgument,
    slot: Annotated[int, typer.Option(min=0, help="Of the account.")],
    target_nano: TargetOption = None,
    community: CommunityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the coordinator vouches for at an account, or change it; to take back, no batch may be open.

    Raises:
        LeadershipLost: a running coordinator sends with the same key.
        NotFinal: credit is to be taken back, and the newest batch can still be challenged.
        ContractRefused: no such slot, the guarantee is not enough, or the account needs it.
    """
    from backend.domain.units import format_money
    from backend.operator.guarantees import Guarantees
    from backend.operator.payouts import Payouts

    with opened_community(config, community) as service:
        cover = service.cycle.cover
        guarantees = Guarantees(service.contracts, service.sender, cover)
        service.cycle.books.follow()
        if target_nano is not None:
            need_lead(service)
            guarantees.finish()
            service.cycle.books.follow()
            state = None
            if target_nano < cover.granted_nano(slot):
                state = Payouts(
                    service.contracts, service.sender, service.store, service.bundles, service.now
                ).state()
            guarantees.vouch(slot, target_nano, state)
            service.cycle.books.follow()
        granted, total = cover.granted_nano(slot), service.contracts.credit_nano(slot)
    if as_json:
        write_json({"slot": slot, "granted_nano": granted, "total_nano": total})
    else:
        typer.echo(f"slot {slot}: {format_money(granted)} of {format_money(total)} credit")
