"""`encore keys create`, `list` and `revoke`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from features.commands import WorkspaceOption, show
from features.errors import MissingExtra
from features.logs import log
from features.workspace import open_workspace

if TYPE_CHECKING:
    from pathlib import Path

    from serving.ledger import Ledger


def mount(app: typer.Typer) -> None:
    """Add `encore keys …`."""
    keys = typer.Typer(name="keys", help="Who may ask the service for what.", no_args_is_help=True)
    keys.command("create")(create)
    keys.command("list")(list_keys)
    keys.command("revoke")(revoke)
    app.add_typer(keys)


def create(
    name: Annotated[str, typer.Argument(help="Who will use it, such as journey-tool.")],
    scope: Annotated[list[str], typer.Option("--scope", "-s", help="score, audience, read, privacy or admin; repeat it for several.")],
    workspace: WorkspaceOption = None,
    days: Annotated[int, typer.Option(help="Days until it expires.")] = 365,
    per_second: Annotated[float | None, typer.Option(help="Requests a second. Default: $ENCORE_PER_SECOND, else 1000.", show_default=False)] = None,
) -> None:
    """Make an API key and print it, once: only its hash is kept.

    To rotate a key, make another of the same name (both are valid), change the caller, then revoke the old one. From the first
    key on the service answers nobody without one, except for its probes and its documentation.
    """
    ledger = _ledger(workspace)
    from serving.border.keys import create_key

    typer.echo(create_key(ledger, name, scope, days, per_second))
    log.info("key made; it is shown this once, and services know it within seconds", extra={"facts": {"name": name, "scopes": " ".join(scope), "days": days}})


def list_keys(workspace: WorkspaceOption = None) -> None:
    """Every key that was ever made: its id, never the key."""
    ledger, now = _ledger(workspace), datetime.now(UTC)
    from serving.border.keys import day, read_keys

    table = Table("id", "name", "scopes", "per second", "made", "expires", "last used", "state")
    for key in read_keys(ledger):
        rate = "" if key.per_second is None else f"{key.per_second:g}"
        table.add_row(key.id, key.name, " ".join(sorted(key.scopes)), rate, day(key.created_at), day(key.expires_at), day(key.last_used_at), key.state(now))
    show(table)


def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `encore keys list` shows it.")], workspace: WorkspaceOption = None) -> None:
    """End a key for good. Running services know within seconds; one whose ledger cannot be reached, when it is back."""
    ledger = _ledger(workspace)
    from serving.border.keys import revoke_key

    key = revoke_key(ledger, key_id)
    log.info("key revoked", extra={"facts": {"id": key.id, "name": key.name, "last_used": key.last_used_at}})


def _ledger(workspace: Path | None) -> Ledger:
    try:
        from serving.ledger import Ledger
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    return Ledger(open_workspace(workspace).ledger_url)
