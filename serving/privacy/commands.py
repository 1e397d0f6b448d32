"""`encore privacy suppress`, `lift`, `delete`, `export`, `list` and `verify`; `encore suppress` and `encore forget` are short for two of them."""

from __future__ import annotations

import csv
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features.commands import WorkspaceOption, show
from features.errors import InvalidUse, MissingExtra, UnknownName
from features.logs import log, step
from features.tombstones import DELETED, NO_MARKETING, NO_PROFILING
from features.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from serving.ledger import Ledger

LISTS = (NO_MARKETING, NO_PROFILING)
Users = Annotated[list[str] | None, typer.Argument(help="Ids of users, or SHA-256 hashes of ids.", show_default=False)]
FileOption = Annotated[Path | None, typer.Option("--file", help="A file of ids or hashes: CSV, or one a line.", show_default=False)]
Kind = Annotated[str, typer.Option("--kind", help="no_profiling: not trained on, not scored. no_marketing: scored, and in no audience.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, in a few words that name nobody.")]
Since = Annotated[datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], help="The day they asked. Default: now.", show_default=False)]


def mount(app: typer.Typer) -> None:
    """Add `encore privacy …`, `encore suppress` and `encore forget`."""
    words = typer.Typer(name="privacy", help="Who is kept out of what, all that is held about a user, and its deletion.", no_args_is_help=True)
    for command in (suppress, lift, delete, export, verify):
        words.command()(command)
    words.command("list")(list_suppressed)
    app.add_typer(words)
    app.command("suppress")(suppress_profiling)
    app.command()(forget)


def suppress(
    users: Users = None, workspace: WorkspaceOption = None, file: FileOption = None, kind: Kind = NO_PROFILING, reason: Reason = "asked", since: Since = None
) -> None:
    """Keep users out, with all ids that are theirs: a running service knows within a second, and so does every release that comes back."""
    place, ledger = _opened(workspace)
    from serving.privacy.people import people_of
    from serving.privacy.register import suppress as put_on_list

    _check(kind)
    with step("suppress", kind=kind) as found:
        people = people_of(place.log(place.shop()), _given(users, file))
        new = put_on_list(place, ledger, people.marks, kind, reason, since.astimezone() if since else None)
        found |= {"users": people.given, "unknown": people.unknown, "hashes_new": new}
        if kind == NO_PROFILING:
            found["snapshots_dropped"] = place.drop_derived()
            log.info("next", extra={"facts": {"do": "encore retrain and encore publish: the next models and release are made without them"}})


def suppress_profiling(users: Users = None, workspace: WorkspaceOption = None) -> None:
    """Short for `encore privacy suppress --kind no_profiling`: not trained on, not scored."""
    suppress(users, workspace)


def lift(users: Users = None, workspace: WorkspaceOption = None, file: FileOption = None, kind: Kind = NO_PROFILING) -> None:
    """Take users off a list again. Whoever was deleted stays out for good."""
    place, ledger = _opened(workspace)
    from serving.privacy.people import people_of
    from serving.privacy.register import lift as take_off

    if kind != DELETED:
        _check(kind)
    with step("lift", kind=kind) as found:
        people = people_of(place.log(place.shop()), _given(users, file))
        found |= {"users": people.given, "hashes_lifted": take_off(place, ledger, people.marks, kind)}
        if kind == NO_PROFILING:
            place.drop_derived()


def delete(users: Users = None, workspace: WorkspaceOption = None, file: FileOption = None, reason: Reason = "asked") -> None:
    """Erase users from everything the workspace holds, and keep out what of them arrives later. It cannot be undone.

    Prints the path of the receipt, which names nobody. Without users it ends deletions that were interrupted.
    """
    place, ledger = _opened(workspace)
    from serving.privacy.delete import RECEIPTS, NotErased
    from serving.privacy.delete import delete as erase_everywhere

    with step("delete users") as found:
        receipt = erase_everywhere(place, ledger, _given(users, file, may_be_none=True), reason)
        for request in receipt.get("receipts", [receipt.get("request")]):
            typer.echo(place.root / RECEIPTS / f"{request}.json")
        if "request" in receipt:
            found |= {"users": receipt["given"], "unknown": receipt["unknown"], **{what: rows for what, rows in receipt["erased"].items() if rows}}
            found |= {"left": len(receipt["left"]), "models_trained_with_them": len(receipt["models"])}
    if receipt.get("left"):
        places = ", ".join(f"{place} ({rows})" for place, rows in receipt["left"].items())
        raise NotErased(f"Ids are still in {len(receipt['left'])} place(s), which Encore cannot write: {places}. Erase them there, then delete again.")


def forget(users: Users = None, workspace: WorkspaceOption = None) -> None:
    """Short for `encore privacy delete`."""
    if not users:
        raise InvalidUse("Name whom to forget: encore forget USER")
    delete(users, workspace)


def export(
    user: Annotated[str, typer.Argument(help="Id of a user.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for what is found.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Write everything that is held about a user, as JSON and CSV that a person can read, with what each thing is."""
    place, ledger = _opened(workspace)
    from serving.privacy.export import export as write_all

    with step("export a user's data") as found:
        found |= write_all(place, ledger, user, out)
    typer.echo(out)


def list_suppressed(
    workspace: WorkspaceOption = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Every hash, as CSV; kept apart from backups, `encore privacy delete --file` takes it.")] = False,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this list.", show_default=False)] = None,
) -> None:
    """Who is kept out of what: how many, since when and why; with --csv their hashes."""
    place, ledger = _opened(workspace)
    from rich.table import Table

    from serving.privacy.register import agree, listed

    agree(place, ledger)
    rows = [row for row in listed(ledger) if kind in (None, row["kind"])]
    if as_csv:
        sheet = csv.writer(sys.stdout)
        sheet.writerow(["hash", "kind", "reason", "since", "lifted_at"])
        sheet.writerows([row["mark"], row["kind"], row["reason"], row["since"].isoformat(), row["lifted_at"] or ""] for row in rows)
        return
    table = Table("list", "reason", "hashes", "since", "lifted")
    groups = sorted({(row["kind"], row["reason"]) for row in rows})
    for group in groups:
        mine = [row for row in rows if (row["kind"], row["reason"]) == group]
        table.add_row(*group, f"{len(mine):,}", f"{min(row['since'] for row in mine):%Y-%m-%d}", f"{sum(row['lifted_at'] is not None for row in mine):,}")
    show(table)


def verify(workspace: WorkspaceOption = None) -> None:
    """Check the audit log's chain against itself and against every receipt, and that all lists of suppressed users agree."""
    place, ledger = _opened(workspace)
    from features.files import read_json
    from serving.privacy import audit
    from serving.privacy.delete import RECEIPTS
    from serving.privacy.register import agree

    kept = [read_json(path)["audit"] for path in sorted((place.root / RECEIPTS).glob("*.json"))]
    with ledger.connection() as connection:
        wrong, last = audit.broken(connection, {link["number"]: link["digest"] for link in kept}), audit.end(connection)
    if wrong:
        raise audit.AuditLogBroken(f"The audit log was tampered with, or damaged: of entry {wrong.number}, {wrong.why}. Entries before it hold.")
    log.info("the audit log is whole", extra={"facts": {"entries": last.number, "last": last.digest, "receipts": len(kept)}})
    log.info("lists agree", extra={"facts": {"hashes": len(agree(place, ledger))}})


def _given(users: list[str] | None, file: Path | None, *, may_be_none: bool = False) -> list[str]:
    from serving.privacy.people import ids_in

    given = [*(users or ()), *(ids_in(file) if file else ())]
    if not given and not may_be_none:
        raise InvalidUse("Name at least one user, or a file of them: --file optouts.csv")
    return given


def _check(kind: str) -> None:
    if kind == DELETED:
        raise InvalidUse("To delete somebody: encore privacy delete")
    if kind not in LISTS:
        raise UnknownName("kind of suppression", kind, LISTS)


def _opened(workspace: Path | None) -> tuple[Workspace, Ledger]:
    try:
        from serving.ledger import Ledger
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    place = open_workspace(workspace)
    return place, Ledger(place.ledger_url)
