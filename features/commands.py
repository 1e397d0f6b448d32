"""`encore ingest` and `encore build`."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from features.engine import Engine
from features.logs import log, step
from features.sources import read_source
from features.workspace import Workspace, open_workspace

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="The shop's folder. Default: $ENCORE_WORKSPACE, else ./workspace.", show_default=False),
]
AsOf = Annotated[datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="A date: only what is before it counts.", show_default=False)]


def mount(app: typer.Typer) -> None:
    """Add this package's commands."""
    app.command()(ingest)
    app.command()(build)


def ingest(workspace: WorkspaceOption = None) -> None:
    """Read the sources of the workspace's encore.toml into the event log.

    Safe to repeat: an event that the log already has is left out. A source that cannot be accepted is refused as a
    whole, with everything that is wrong with it, and nothing that was ingested before is lost.
    """
    ingest_sources(open_workspace(workspace))


def build(workspace: WorkspaceOption = None, as_of: AsOf = None) -> None:
    """Build the behaviour vectors of every user as of a date (default: as far as the log is complete)."""
    build_vectors(open_workspace(workspace), as_of.date() if as_of else None)


def ingest_sources(workspace: Workspace) -> None:
    """Read every source of the shop file, one after the other, and report what each brought."""
    shop = workspace.shop()
    for settings in shop.sources:
        with step(f"ingest {settings['kind']}") as found:
            report = workspace.log(shop).append(read_source(settings, shop))
            found |= {"read": report.read, "added": report.added, "duplicates": report.duplicates, "complete_until": report.complete_until}
        for reason, rows in report.quarantined.items():
            log.warning("left out", extra={"facts": {"rows": rows, "reason": reason}})


def build_vectors(workspace: Workspace, as_of: date | None = None) -> None:
    """Build one snapshot and say what it holds."""
    shop, engine = workspace.shop(), Engine()
    with step("tiles"):
        tiles = workspace.tiles(shop, engine)
    with step("snapshot") as found:
        snapshot = workspace.snapshots.get(tiles, as_of or tiles.log.complete_until, engine)
        found |= {"as_of": snapshot.as_of, "users": snapshot.table.num_rows, "features": len(snapshot.feature_names)}
    stages = snapshot.frame["stage"].value_counts()
    log.info("users by stage", extra={"facts": {str(stage): int(users) for stage, users in stages.items()}})
