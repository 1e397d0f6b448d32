"""`encore lookalike …`: seeds, and what tells them from everybody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from features.commands import AsOf, WorkspaceOption
from features.errors import MissingExtra
from features.logs import console, log, step
from features.workspace import Workspace, open_workspace
from training.lookalike.expand_commands import expand, outcomes

if TYPE_CHECKING:
    from training.lookalike.contrast import Against, Contrast

Name = Annotated[str, typer.Argument(help="Name of the seed.")]
Listed = Annotated[Path | None, typer.Option(help="CSV or Parquet of ids, e-mail addresses or their SHA-256 hashes.", show_default=False)]
Day = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day on which all in --file received the sample.", show_default=False)]


def words() -> typer.Typer:
    """The commands, to be mounted under `encore`."""
    app = typer.Typer(name="lookalike", help="Find more users like a seed: choose it, contrast it.", no_args_is_help=True)
    for command in (seed, seeds, contrast, expand, outcomes, suggest, forget):
        app.command()(command)
    return app


def seed(
    name: Name,
    workspace: WorkspaceOption = None,
    file: Listed = None,
    column: Annotated[str | None, typer.Option(help="Column of the ids in --file. Default: the one that looks like it.", show_default=False)] = None,
    rule: Annotated[str | None, typer.Option(help='Such as "super users" or "orders_count >= 3 and layer is loyal".', show_default=False)] = None,
    campaign: Annotated[str | None, typer.Option(help="A past sampling campaign in the log.", show_default=False)] = None,
    bought: Annotated[list[str] | None, typer.Option(help="Product that receivers bought later; repeatable.", show_default=False)] = None,
    bought_category: Annotated[list[str] | None, typer.Option(help="Category that receivers bought from later; repeatable.", show_default=False)] = None,
    within: Annotated[int | None, typer.Option(help="Days to buy, from the day of receipt on. Default: 60.", show_default=False)] = None,
    received: Day = None,
    as_of: AsOf = None,
    negatives: Annotated[Path | None, typer.Option("--not", help="List of users who are known not to be such.", show_default=False)] = None,
    exclude: Annotated[Path | None, typer.Option(help="List of users to leave out altogether.", show_default=False)] = None,
    defined_by: Annotated[list[str] | None, typer.Option(help="Feature that the list was chosen by; repeatable.", show_default=False)] = None,
    candidates: Annotated[str | None, typer.Option(help="Rule of who may become a look-alike.", show_default=False)] = None,
    keep_days: Annotated[int, typer.Option(help="Days until the ids are deleted.", min=1)] = 365,
) -> None:
    """Make a seed from a list, a segment rule, or the receivers of a sample who bought; and say what it is worth.

    With --bought (or --within) the list or campaign names receivers: who bought is the seed, who did not are explicit
    negatives, and both are seen as they were before the first receipt.
    """
    try:
        from training.lookalike.seed_report import headlines
        from training.lookalike.seed_request import SeedRequest, make_requested
        from training.lookalike.seed_sources import read_list
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    place = open_workspace(workspace)
    dated = bool(bought or bought_category or within) and received is None
    asked = ((file, column, dated), (negatives, None, False), (exclude, None, False))
    lists = [read_list(path, chosen, of_receipt) if path else None for path, chosen, of_receipt in asked]
    request = SeedRequest(
        name, lists[0], rule, campaign, tuple(bought or ()), tuple(bought_category or ()), within, _date(received), _date(as_of), lists[1], lists[2],
        tuple(defined_by or ()), candidates, keep_days,
    )  # fmt: skip
    with step("seed", name=name) as found, _examples_shown():
        made, report = make_requested(place, request, _today())
        found |= {"users": len(made.users), "negatives": len(made.negatives), "digest": made.digest[:16]}
    typer.echo("\n".join([*headlines(report), f"Next: encore lookalike contrast {name}"]))


def seeds(workspace: WorkspaceOption = None) -> None:
    """The seeds that are kept, without their ids. Expired ones are deleted first."""
    from training.lookalike.seed_store import drop_expired, manifests

    root = open_workspace(workspace).root / "seeds"
    if over := drop_expired(root, _today()):
        log.info("expired", extra={"facts": {"deleted": ", ".join(over)}})
    table = Table("seed", "as of", "users", "negatives", "expires", "from", "digest")
    for name, known in manifests(root).items():
        table.add_row(
            name, known["as_of"], f"{known['users']:,}", f"{known['negatives']:,}", str(known["expires"]), known["how"]["words"], known["digest"][:16]
        )
    Console(width=None if console.is_terminal else 200).print(table)


def contrast(
    name: Name,
    workspace: WorkspaceOption = None,
    against: Annotated[str | None, typer.Option(help='"rest" or "not-converted". Default: the latter for a sampling seed.', show_default=False)] = None,
    by: Annotated[list[str] | None, typer.Option(help="Factor to cut the rate by, a feature or label; give two.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: reports/contrast-NAME in the workspace.", show_default=False)] = None,
) -> None:
    """What tells the seed from the others: report.md, report.json and a picture."""
    run_contrast(open_workspace(workspace), name, against, tuple(by or ()), out)


def run_contrast(workspace: Workspace, name: str, against: str | None = None, by: tuple[str, ...] = (), out: Path | None = None) -> Path:
    """Write the contrast of a seed and print its main lines; returns its folder."""
    try:
        from training.lookalike.contrast_page import sentences, write_contrast
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    folder = out or workspace.root / "reports" / f"contrast-{name}"
    with step("contrast", seed=name) as found:
        told = contrast_of(workspace, name, _today(), _against(against), by)
        write_contrast(told, folder)
        found |= {"folder": str(folder)}
    lines = sentences(told) or ["Nothing known of these users tells the groups apart by more than chance."]
    typer.echo(
        "\n".join([f"{told['groups'][0]} ({told['sizes'][0]:,}) and {told['groups'][1]} ({told['sizes'][1]:,}):", *lines, f"Read {folder / 'report.md'}"])
    )
    return folder


def contrast_of(workspace: Workspace, name: str, today: date, against: Against | None = None, by: tuple[str, ...] = ()) -> Contrast:
    """The contrast of a kept seed with its report, and where two factors are given the cut by them, as JSON."""
    from features.bought import with_most_bought
    from training.lookalike.contrast import contrast_seed
    from training.lookalike.cut import cut
    from training.lookalike.defining import defining_features
    from training.lookalike.seed import mask_of, rest_of, spoken_of
    from training.lookalike.seed_report import seed_report
    from training.lookalike.seed_request import clean, open_seed

    if by and len(by) != 2:
        raise typer.BadParameter(f"give two factors, --by A --by B; {len(by)} given", param_hint="--by")
    tiles = workspace.tiles(workspace.shop())
    clean(workspace, tiles, today)
    made = open_seed(workspace, tiles, name, today)
    snapshot = with_most_bought(workspace.snapshots.get(tiles, made.as_of), tiles, " ".join(spoken_of(made)))
    defining = defining_features(made, snapshot.feature_names, snapshot, tiles)
    told = contrast_seed(made, snapshot, defining, against)
    told["seed_report"] = seed_report(made, snapshot, [feature for feature in snapshot.feature_names if feature not in defining])
    if by:
        others = mask_of(made.negatives, snapshot) if told["against"] == "not converted" else rest_of(made, snapshot)
        told["cut"] = cut(snapshot, mask_of(made.users, snapshot), others, *by)
    return told


def suggest(
    workspace: WorkspaceOption = None,
    product: Annotated[str | None, typer.Option(help="A product like the one to be launched.", show_default=False)] = None,
    category: Annotated[str | None, typer.Option(help="The category of the one to be launched.", show_default=False)] = None,
    as_of: AsOf = None,
) -> None:
    """Say which seed suits the goods, and why."""
    try:
        from training.lookalike.suggest import suggest_seed
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    place = open_workspace(workspace)
    tiles = place.tiles(place.shop())
    found: dict[str, Any] = suggest_seed(tiles, place.snapshots.get(tiles, _date(as_of) or tiles.log.complete_until), product, category)
    typer.echo("\n".join([f"seed: {found['seed']}", *found["why"], found["next"]]))


@contextmanager
def _examples_shown() -> Iterator[None]:
    """A refusal may show a person at the command line some of the ids it speaks of; its text, which is logged, may not."""
    from training.lookalike.seed import SeedRefused

    try:
        yield
    except SeedRefused as error:
        typer.echo("\n".join(error.examples), err=True, nl=bool(error.examples))
        raise


def forget(name: Name, workspace: WorkspaceOption = None) -> None:
    """Delete a seed with its ids, its audiences and their files, and take its model out of service. Reports stay: they name nobody."""
    try:
        from training.lookalike.retire import forget_seed
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    forget_seed(open_workspace(workspace), name)
    log.info("deleted", extra={"facts": {"seed": name}})


def _against(text: str | None) -> Against | None:
    if text is None:
        return None
    if text.replace("-", " ") == "rest":
        return "rest"
    if text.replace("-", " ") == "not converted":
        return "not converted"
    raise typer.BadParameter(f"'{text}' is neither rest nor not-converted", param_hint="--against")


def _date(moment: datetime | None) -> date | None:
    return moment.date() if moment else None


def _today() -> date:
    return datetime.now(UTC).date()
