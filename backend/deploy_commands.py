"""The command `peerwatt deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backend.command_line import JsonOption, command, read_file, write_json


@command
def deploy_command(
    founding: Annotated[Path, typer.Argument(help="Founding file, format peerwatt/founding/1.")],
    network: Annotated[
        str, typer.Option(help="Name of a network that comes along, or path of its file.")
    ],
    keystore: Annotated[
        Path | None, typer.Option(help="The deployer's keystore; not needed on eth-tester.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the keystore's password.")
    ] = None,
    address_book: Annotated[Path, typer.Option(help="File to write.")] = Path("address-book.json"),
    rpc: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Endpoint instead of the network's; several are possible."
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Only show where the contracts will be, for members to sign."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Deploy a community's contracts, set roles and delays, verify, and write the address book. Run it again after whatever stopped it."""
    from backend.chain.client import ChainClient, account_from_secret
    from backend.domain.errors import MalformedInput
    from deploy.founding import load_founding
    from deploy.networks import load_network
    from deploy.runner import deploy, planned
    from oracle.keystore import load_key

    given = load_founding(founding)
    chain = load_network(network)
    console = Console(stderr=True)
    if chain.name == "eth-tester":
        # A rehearsal: the chain ends with this process, and so may everybody know the key.
        client = ChainClient.open(None)
        deployer = account_from_secret(b"\1" * 32)
        client.fund([deployer.address], 10**20)
    else:
        if keystore is None or password_file is None:
            raise MalformedInput(
                "keystore", keystore, "missing", "give --keystore and --password-file"
            )
        password = read_file(password_file).decode().strip()
        deployer = account_from_secret(load_key(keystore, password).to_bytes())
        client = ChainClient(chain.connect(tuple(rpc or ())), embedded=False)
    if plan:
        addresses = planned(client, deployer, given, address_book)
        if as_json:
            write_json({"network": chain.name, "contracts": addresses})
        else:
            for name, address in addresses.items():
                typer.echo(f"{name:<16}{address}")
        return
    before = 0
    made = 0

    def report(what: str, done: bool) -> None:
        nonlocal before, made
        before, made = before + done, made + (not done)
        console.print(f"[dim]{'was so ' if done else 'done   '}{what}[/dim]")

    contracts = deploy(
        client,
        deployer,
        given,
        address_book,
        report,
        None if client.embedded else chain.network(),
    )
    result = {
        "address_book": str(address_book),
        "network": chain.name,
        "done": made,
        "done_before": before,
        "contracts": dict(contracts.addresses),
    }
    if as_json:
        write_json(result)
        return
    for name, address in contracts.addresses.items():
        typer.echo(f"{name:<16}{address}")
    typer.echo(f"{made} steps done, {before} done before; verified; {address_book} written")
