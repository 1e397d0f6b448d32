"""`encore ingest`, `encore build`, `encore cycle` and `encore features …`."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

# The engines are imported by the commands that compute: the command line starts without them, and so does the service.
from features.logs import console, log, step
from features.workspace import Workspace, open_workspace

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="The shop's folder. Default: $ENCORE_WORKSPACE, else ./workspace.", show_default=False),
]
AsOf = Annotated[datetime | None, typer.Option("--as-of", formats=["%Y-%m-%d"], help="A date: only what is before it counts.", show_default=False)]


def mount(app: typer.Typer) -> None:
    """Add this package's commands."""
    for command in (ingest, build, cycle):
        app.command()(command)
    words = typer.Typer(name="features", help="What the behaviour vectors say, and why.", no_args_is_help=True)
    words.command("list")(list_features)
    words.command()(describe)
    words.command()(explain)
    app.add_typer(words)


def ingest(workspace: WorkspaceOption = None) -> None:
    """Read the sources of the workspace's encore.toml into the event log.

    A source's path may be a file, a folder or a pattern such as "events_*.json". Safe to repeat: a file that was read is
    skipped, an event that the log has is left out, one that says something new replaces the old from then on. A file that
    cannot be accepted is refused as a whole; rows that cannot are listed in `quarantine/` with file, line and reason.
    """
    from features.ingest import ingest_sources

    ingest_sources(open_workspace(workspace))


def build(
    workspace: WorkspaceOption = None,
    as_of: AsOf = None,
    cutoffs: Annotated[int, typer.Option(help="How many snapshots: the last one at --as-of, the others before it.", min=1)] = 1,
    every: Annotated[int, typer.Option(help="Days between them.", min=1)] = 30,
    memory: Annotated[
        str | None, typer.Option(help='The most memory to take, such as "1.5GB"; less means smaller buckets of users.', show_default=False)
    ] = None,
    engine: Annotated[str | None, typer.Option(help='Compute elsewhere: "spark://local[2]" or any Spark master.', show_default=False)] = None,
) -> None:
    """Build the behaviour vectors of every user as of a date (default: as far as the log is complete)."""
    build_vectors(open_workspace(workspace), as_of.date() if as_of else None, cutoffs, every, memory, engine)


def build_vectors(
    workspace: Workspace, as_of: date | None = None, cutoffs: int = 1, every: int = 30, memory: str | None = None, engine: str | None = None
) -> None:
    """Build snapshots and say what they hold."""
    from features.store import build_elsewhere
    from features.tiles import bucket_size

    shop = workspace.shop()
    with step("tiles") as found:
        tiles = workspace.tiles(shop, bucket_size(memory))
        found |= {"buckets": len(tiles)}
    last = as_of or tiles.log.complete_until
    dates = [last - timedelta(days=every * back) for back in range(cutoffs - 1, -1, -1)]
    with step("snapshots") as found:
        paths = build_elsewhere(workspace.snapshots, tiles, dates, engine) if engine else workspace.snapshots.build(tiles, dates, 1 if memory else None)
        found |= {"as_of": [str(day) for day in dates] if cutoffs > 1 else dates[0], "folders": [path.name for path in paths]}
    snapshot = workspace.snapshots.get(tiles, last)
    facts = {"as_of": last, "users": snapshot.table.num_rows, "features": len(snapshot.feature_names), "labels": len(snapshot.label_names)}
    log.info("snapshot", extra={"facts": {**facts, "families": snapshot.manifest["families"], "left_out": len(snapshot.manifest["absent"])}})
    for label in ("stage", *(name for name in ("layers_layer", "layers_rfm_group") if name in snapshot.label_names)):
        counts = snapshot.frame[label].value_counts()
        log.info(f"users by {label}", extra={"facts": {str(name): int(users) for name, users in counts.items()}})


def cycle(workspace: WorkspaceOption = None, as_of: AsOf = None) -> None:
    """Measure the shop's repurchase cycle: by induction, by consumption, and with those still waiting counted in."""
    from features.cycle import cycle_by_category, cycle_by_consumption, repurchase_cycle, time_to_next
    from features.norms import DEFAULT_CYCLE

    place = open_workspace(workspace)
    shop = place.shop()
    tiles = place.tiles(shop)
    when = as_of.date() if as_of else tiles.log.complete_until
    induced, censored = repurchase_cycle(tiles, when), time_to_next(tiles, when)
    days = induced.days if induced.days is not None else f"unknown (below 200 repurchasers; {DEFAULT_CYCLE:.0f} is assumed)"
    log.info(
        "by induction", extra={"facts": {"as_of": when, "days": days, "repurchasers": induced.repurchasers, "p90_mean_gap": induced.days and 3 * induced.days}}
    )
    facts = {"median_days": censored.median, "low": censored.low, "high": censored.high, "orders": censored.orders, "followed": censored.followed}
    log.info("time to the next order, censored", extra={"facts": facts})
    for name, found in sorted(cycle_by_category(tiles, when).items(), key=lambda item: -item[1].repurchasers):
        log.info("by induction, category", extra={"facts": {"category": name, "days": found.days, "repurchasers": found.repurchasers}})
    for name, length in cycle_by_consumption(tiles, when).items():
        log.info("by consumption", extra={"facts": {"of": name, "days": round(length, 2)}})


def list_features(workspace: WorkspaceOption = None) -> None:
    """Name and meaning of every feature that the shop's data carry."""
    from features.snapshot import catalogue

    place = open_workspace(workspace)
    shop = place.shop()
    table = Table("feature", "meaning", "unit", "family")
    for feature in catalogue(shop, place.log(shop).kinds):
        table.add_row(feature.name, feature.meaning, feature.column.unit, feature.view)
    show(table)


def describe(name: Annotated[str, typer.Argument(help="Name of a feature.")], workspace: WorkspaceOption = None) -> None:
    """All that is declared of one feature."""
    from features.explain import named

    place = open_workspace(workspace)
    shop = place.shop()
    events = place.log(shop)
    feature, _ = named(name, shop, events.kinds, events.products())
    table = Table(show_header=False)
    for key, value in feature.describe().items():
        table.add_row(key, str(value))
    for part in feature.parts:
        table.add_row("made of", str(part))
    show(table)


def explain(
    user: Annotated[str, typer.Argument(help="Id of a user.")],
    feature: Annotated[str | None, typer.Option(help="Only this feature, with the events behind it.", show_default=False)] = None,
    as_of: AsOf = None,
    workspace: WorkspaceOption = None,
) -> None:
    """The values of a user as of a date; with --feature, the events behind one of them."""
    from features.bought import with_bought
    from features.explain import behind, named, rows_of

    place = open_workspace(workspace)
    shop = place.shop()
    tiles = place.tiles(shop)
    when = as_of.date() if as_of else tiles.log.complete_until
    rows = rows_of(tiles.log, user, when)
    frame = with_bought(place.snapshots.get(tiles, when), tiles, [feature] if feature else []).frame
    values = frame.loc[user]
    if feature is None:
        table = Table("feature", f"{user} as of {when}")
        for name, value in values.dropna().items():
            table.add_row(str(name), str(value))
        show(table)
        return
    chosen, known = named(feature, shop, tiles.log.kinds, tiles.products)
    table = Table(title=f"{feature} = {values[feature]}: {chosen.meaning}")
    events = behind(chosen, known, rows, when, shop).dropna(axis=1, how="all")
    for column in events.columns:
        table.add_column(str(column))
    for row in events.astype(str).itertuples(index=False):
        table.add_row(*("" if value in ("nan", "None", "<NA>") else value for value in row))
    show(table)


def show(table: Table) -> None:
    """Print what was asked for."""
    from rich.console import Console

    # What was asked for goes to standard output; as wide as it has to be where that is no terminal.
    Console(width=None if console.is_terminal else 200).print(table)
