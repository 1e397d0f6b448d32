"""`encore export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.commands import WorkspaceOption, show
from features.errors import MissingExtra
from features.logs import log, step
from features.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from serving.jobs import Job
    from serving.ledger import Ledger

Columns = Annotated[str | None, typer.Option(help="Name of its column.", show_default=False)]


def mount(app: typer.Typer) -> None:
    """Add this part's command."""
    app.command()(export)


def export(
    name: Annotated[
        str | None,
        typer.Argument(help="An export of encore.toml, a destination, or 'events' for the events that wait. Without one: the list.", show_default=False),
    ] = None,
    workspace: WorkspaceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the beginning of the first payload and the counts; nothing is sent.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send although nobody looked at it by --dry-run.")] = False,
    queue: Annotated[bool, typer.Option("--queue", help="Leave it to `encore work`.")] = False,
    task: Annotated[list[str] | None, typer.Option("--task", "-t", help="Only these predictions.", show_default=False)] = None,
    audience: Annotated[str | None, typer.Option(help="Who is in an audience, instead of scores.", show_default=False)] = None,
    everybody: Annotated[bool, typer.Option("--everybody", help="Everybody, not only what changed since the last time.")] = False,
    contacts: Annotated[Path | None, typer.Option(help="CSV or Parquet with e-mails or phones, which Encore does not keep.", show_default=False)] = None,
    user_id: Columns = None,
    email: Columns = None,
    phone: Columns = None,
    region: Annotated[str | None, typer.Option(help="Country of phones without a country code, such as GB.", show_default=False)] = None,
) -> None:
    """Bring a tool, a table or a file to what the release in service says: what changed since the last time, to those who may be spoken to.

    Destinations: csv, parquet, sqlite, postgresql (the table predictive_scores, with what was added, changed and removed), braze, klaviyo,
    segment, hubspot, webhook (sent), segment-lines, sensors (lines), meta, google (hashed lists). What is sent has to be looked at by
    --dry-run once. Interrupted, it goes on where it was; what a tool refused stands in exports/*.dead.ndjson and is told again by the next run.
    """
    try:
        from serving.ledger import Ledger
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    place = open_workspace(workspace)
    ledger = Ledger(place.ledger_url)
    if name is None:
        _list(place, ledger)
        return
    file = str(contacts.resolve()) if contacts else None
    of_contacts = {key: value for key, value in {"file": file, "user_id": user_id, "email": email, "phone": phone, "region": region}.items() if value}
    given = {"tasks": tuple(task or ()), "audience": audience, "everybody": everybody or None, "contacts": of_contacts}
    if queue:
        from serving.jobs import Jobs

        job = Jobs(ledger).queue("deliver", {"export": name, "given": given, "yes": yes})
        log.info("queued", extra={"facts": {"job": job.id, "do": "encore work"}})
        return
    with step(f"export {name}") as found:
        facts = run(place, ledger, name, given, dry_run=dry_run, yes=yes)
        payload = facts.pop("payload", "")
        found |= facts
    if payload:
        typer.echo(payload)


def run(workspace: Workspace, ledger: Ledger, name: str, given: dict[str, Any], *, dry_run: bool = False, yes: bool = False) -> dict[str, Any]:
    """Run an export by name; `events` are those that wait."""
    from features.errors import InvalidUse
    from serving.destinations import outbox
    from serving.destinations.export import find_export
    from serving.destinations.run import run_export

    if name != "events":
        return run_export(workspace, ledger, find_export(name, workspace.shop(), given), dry_run=dry_run, yes=yes)
    to = outbox.account()
    if to is None:
        raise InvalidUse("Events go nowhere: set ENCORE_EVENTS_URL and ENCORE_EVENTS_SECRET.")
    return outbox.look(workspace, ledger, to) if dry_run else dict(outbox.send_events(workspace, ledger, to))


def deliver_job(workspace: Workspace, ledger: Ledger, job: Job) -> dict[str, Any]:
    """The job of `encore export --queue`."""
    given = {**job.request["given"], "tasks": tuple(job.request["given"].get("tasks") or ())}
    return run(workspace, ledger, str(job.request["export"]), given, yes=bool(job.request["yes"]))


def _list(workspace: Workspace, ledger: Ledger) -> None:
    """Every export of encore.toml and how its last delivery went."""
    from rich.table import Table

    from serving.destinations.told import last_deliveries

    last = last_deliveries(ledger)
    table = Table("export", "destination", "of", "last", "state", "sent", "refused")
    for one in workspace.shop().exports:
        told = last.get(str(one["name"]))
        of = one.get("audience") or ", ".join(one.get("tasks", ())) or "all predictions"
        table.add_row(one["name"], one["destination"], of, *(map(str, told) if told else ("never", "", "", "")))
    show(table)
