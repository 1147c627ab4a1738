"""The commands of a member that trades before delivery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend.command_line import JsonOption, command, read_file, write_json

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from backend.operator.trade_client import AgreedTrades

trade_app = typer.Typer(help="A member's trades before delivery.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="Trades, format peerwatt/trade-book/1.")]
SlotOption = Annotated[int, typer.Option(help="Your slot.")]
KeystoreOption = Annotated[Path, typer.Option(help="Your account's keystore.")]
PasswordOption = Annotated[Path, typer.Option(help="File with the keystore's password.")]
CoordinatorOption = Annotated[str, typer.Option(metavar="URL", help="The coordinator.")]
CommunityOption = Annotated[str, typer.Option(help="The community's name there.")]


@trade_app.command("sign")
@command
def sign(
    file: FileArgument,
    slot: SlotOption,
    keystore: KeystoreOption,
    password_file: PasswordOption,
    as_json: JsonOption = False,
) -> None:
    """Sign your side of the trades in a file; the signatures are written into it."""
    from backend.durable_files import write_atomically

    trades = _read(file).signed(slot, _key(keystore, password_file))
    write_atomically(file, (trades.model_dump_json(indent=1, exclude_none=True) + "\n").encode())
    own = [one for one in trades.trades if slot in (one.seller_slot, one.buyer_slot)]
    if as_json:
        write_json({"signed": len(own), "trade_book": trades.trade_book})
        return
    for one in own:
        sells = one.seller_slot == slot
        price = one.trade.earned_nano_per_wh if sells else one.trade.paid_nano_per_wh
        typer.echo(
            f"interval {one.interval}: {'sells' if sells else 'buys'} {one.energy_wh} Wh"
            f" {'to' if sells else 'from'} slot {one.buyer_slot if sells else one.seller_slot}"
            f" at {price} nano per Wh, fee included"
        )
    typer.echo(f"{len(own)} signed for trade book {trades.trade_book}")


@trade_app.command("send")
@command
def send(
    file: FileArgument,
    coordinator: CoordinatorOption,
    community: CommunityOption,
    as_json: JsonOption = False,
) -> None:
    """Send trades that both sides signed; sending again changes nothing."""
    from backend.operator.trade_client import TradeClient

    taken = TradeClient(coordinator, community).send(_read(file))
    if as_json:
        write_json({"taken": taken})
    else:
        typer.echo(f"{taken} new trades taken")


@trade_app.command("own")
@command
def own(
    day: Annotated[str, typer.Argument(help="The day, as 2026-01-31.")],
    slot: SlotOption,
    keystore: KeystoreOption,
    password_file: PasswordOption,
    coordinator: CoordinatorOption,
    community: CommunityOption,
    chain_id: Annotated[int, typer.Option(help="Of the community's chain.")],
    clearing_house: Annotated[str, typer.Option(help="Address of its ClearingHouse.")],
    as_json: JsonOption = False,
) -> None:
    """Show your trades of a day as committed, each with what striking it out takes."""
    import datetime

    from backend.domain.errors import MalformedInput
    from backend.domain.intervals import EPOCH_DATE
    from backend.operator.trade_client import TradeClient

    try:
        period = (datetime.date.fromisoformat(day) - EPOCH_DATE).days
    except ValueError:
        raise MalformedInput("day", day, "no date", "give it as 2026-01-31") from None
    key = _key(keystore, password_file)
    found = TradeClient(coordinator, community).own(slot, period, key, chain_id, clearing_house)
    if as_json:
        write_json({"trades": [one.model_dump(mode="json") for one in found]})
        return
    for one in found:
        typer.echo(
            f"interval {one.interval}, position {one.position}: slot {one.seller_slot} sells {one.energy_wh} Wh"
            f" to slot {one.buyer_slot} at {one.price_nano_per_wh} nano per Wh, fee {one.fee_nano_per_wh}"
        )
    typer.echo(f"{len(found)} trades")


def _read(file: Path) -> AgreedTrades:
    from backend.domain.values import parse_json
    from backend.operator.trade_client import AgreedTrades

    return AgreedTrades.from_data(parse_json(read_file(file), file))


def _key(keystore: Path, password_file: Path) -> LocalAccount:
    from eth_account import Account

    from oracle.keystore import load_key

    password = read_file(password_file).decode().strip()
    found: LocalAccount = Account.from_key(load_key(keystore, password).to_bytes())
    return found
