"""`encore lookalike expand` and `outcomes`: the audience, and its second round."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from features.commands import AsOf, WorkspaceOption
from features.errors import GateRefused, MissingExtra
from features.files import exclusive, read_json
from features.logs import step
from features.workspace import Workspace, open_workspace

Name = Annotated[str, typer.Argument(help="Name of the seed.")]
Size = Annotated[int | None, typer.Option(help="So many users, the same number at every refresh.", min=1, show_default=False)]
TopPercent = Annotated[float | None, typer.Option(help="So many per cent of the candidates.", min=0, max=100, show_default=False)]
Similarity = Annotated[float | None, typer.Option(help="Everybody at least so alike: 50 is the typical seed user.", min=0, max=100, show_default=False)]


def expand(
    name: Name,
    workspace: WorkspaceOption = None,
    size: Size = None,
    top_percent: TopPercent = None,
    similarity: Similarity = None,
    as_of: AsOf = None,
) -> None:
    """Find the users who are most like the seed, prove it, and write the audience as CSV.

    Turn one dial: --size, --top-percent or --similarity; the page shows all three. Run it again after new data: the size
    stays, and users are exchanged only for others who are clearly more alike. The model is registered in MLflow and served
    after the next `encore publish`.
    """
    dials = {"--size": size, "--top-percent": top_percent, "--similarity": similarity}
    turned = [dial for dial, value in dials.items() if value is not None]
    if len(turned) > 1:
        raise typer.BadParameter(f"turn one dial, not {' and '.join(turned)}", param_hint=turned[1])
    place = open_workspace(workspace)
    told = run_expand(place, name, {"size": size, "top_percent": top_percent, "similarity": similarity}, as_of.date() if as_of else None)
    typer.echo("\n".join(told["lines"]))
    if not told["promoted"]:
        raise GateRefused(f"The look-alikes of '{name}' are no better than users drawn at random; the page {told['page']} says what was measured.")


def run_expand(workspace: Workspace, name: str, dial: dict[str, Any], as_of: date | None = None) -> dict[str, Any]:
    """Expand a seed, keep it in MLflow, write its audience; what to tell the user, as JSON.

    Raises:
        UnknownName: no such seed. NoUsableData: it expired, or fewer are left to rank than were asked for. TrackingUnavailable: MLflow is down.
    """
    try:
        from training.lookalike.expand import PREFIX, check_size, key_of, rank
        from training.lookalike.expand import expand as expand_seed
        from training.lookalike.keep import keep, make_audience
        from training.lookalike.reach import Dial
        from training.lookalike.seed_request import clean, open_seed
        from training.tracking import CHAMPION, Tracking
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    shop, today = workspace.shop(), datetime.now(UTC).date()
    tiles = workspace.tiles(shop)
    clean(workspace, tiles, today)
    seed, until = open_seed(workspace, tiles, name, today), as_of or tiles.log.complete_until
    if dial["size"] is not None:  # said before minutes of work, not after
        check_size(workspace, tiles, seed, until, dial["size"])
    tracking, lock = Tracking(workspace, shop.name), workspace.root / ".retrain.lock"
    champion, page = tracking.with_alias(f"{PREFIX}{name}", CHAMPION), workspace.root / "reports" / f"{PREFIX}{name}" / "report.md"
    told_before = all(page.with_name(file).exists() for file in ("report.md", "evidence.json", "contrast.json"))
    if (
        champion and told_before and champion.tags.get("encore.key") == key_of(seed, tiles)
    ):  # nothing new to learn: the candidates of today, by the model of then
        ranking, version, promoted, text = rank(workspace, tiles, seed, tracking.load(champion), until), champion.number, True, champion.tags["encore.reasons"]
    else:
        made = expand_seed(workspace, tiles, seed, until)
        with step("keep in MLflow"), exclusive(lock, "A retrain of this workspace", wait=True), tracking.alone(lock, wait=True):
            kept = keep(workspace, tracking, made)
        ranking, version, promoted, text = made.ranking, kept.version.number, kept.decision.promote, kept.decision.text
    told: dict[str, Any] = {"task": f"{PREFIX}{name}", "version": version, "promoted": promoted, "as_of": until.isoformat(), "page": str(page)}
    lines = text.splitlines()
    if promoted and any(value is not None for value in dial.values()):
        audience, path = make_audience(workspace, name, ranking, Dial(**dial))
        lines.append(f"Audience as of {until}: {len(audience.users):,} users, {len(audience.entries):,} new, {len(audience.exits):,} left: {path}")
        told |= {"size": len(audience.users), "entries": len(audience.entries), "exits": len(audience.exits), "file": str(path)}
    read = {name: read_json(page.with_name(f"{name}.json")) for name in ("evidence", "contrast")}
    return told | read | {"lines": [*lines, f"Read {page}"]}


def outcomes(
    name: Name,
    converted: Annotated[Path, typer.Argument(help="CSV or Parquet: the ids of those in the last audience who converted.")],
    workspace: WorkspaceOption = None,
    column: Annotated[str | None, typer.Option(help="Column of the ids. Default: the one that looks like it.", show_default=False)] = None,
    to: Annotated[str | None, typer.Option(help="Name of the new seed. Default: NAME-2, NAME-3, ...", show_default=False)] = None,
    size: Size = None,
) -> None:
    """Make the second round: who converted joins the seed, who was reached and did not becomes an explicit negative.

    Says how many converted, whether the first model had ranked them higher, and what the new model changes.
    """
    try:
        from training.lookalike.seed_sources import read_list
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    told = run_outcomes(open_workspace(workspace), name, list(read_list(converted, column, dated=False).ids), to, size)
    typer.echo("\n".join(told["lines"]))


def run_outcomes(workspace: Workspace, name: str, converted: list[str], to: str | None = None, size: int | None = None) -> dict[str, Any]:
    """The second round of a seed; what to tell the user, as JSON.

    Raises:
        NoUsableData: no audience was made of the seed, or nobody in it converted. SeedRefused: the new seed has a problem.
    """
    try:
        from training.lookalike.expand import PREFIX, rank
        from training.lookalike.second_round import changes, second_seed, wave_of
        from training.lookalike.seed import candidates_of
        from training.lookalike.seed_request import open_seed
        from training.tracking import CHAMPION, Tracking
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    shop, today = workspace.shop(), datetime.now(UTC).date()
    tiles = workspace.tiles(shop)
    first = open_seed(workspace, tiles, name, today)
    wave = wave_of(workspace, tiles, name, converted)
    second = second_seed(workspace, first, wave, to or next_name(name), today)
    left = int(candidates_of(second, workspace.snapshots.get(tiles, tiles.log.complete_until)).sum())  # those of the wave are none any more
    made = run_expand(workspace, second.name, {"size": size or min(len(wave["users"]), left), "top_percent": None, "similarity": None})
    tracking, until = Tracking(workspace, shop.name), tiles.log.complete_until
    models = {seed.name: tracking.with_alias(f"{PREFIX}{seed.name}", CHAMPION) for seed in (first, second)}
    rankings = [rank(workspace, tiles, seed, tracking.load(model), until) for seed in (first, second) if (model := models[seed.name])]
    changed = changes(rankings[0], rankings[1], size or len(wave["users"])) if len(rankings) == 2 else None
    rate, auc = wave["rate"], wave["auc"]
    lines = [f"Wave as of {wave['as_of']}: {rate['value']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}] of {len(wave['users']):,} users converted."]
    if wave["not_in_audience"]:
        lines.append(f"{wave['not_in_audience']:,} of the given ids were not in the audience and are passed over.")
    if auc:
        lines.append(f"The model of '{name}' had ranked them higher with AUC {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]; .5 is chance.")
    if changed:
        lines.append(
            f"The new model '{second.name}' ranks {changed['candidates']:,} candidates with rank correlation {changed['rank_correlation']:.3f} to the first; "
            f"of its best {changed['size']:,}, {changed['enter']:,} are new and {changed['stay']:,} stay."
        )
    lines.append("Its proof below is of a seed that the first model helped to choose, so its recall is too high; the AUC above is not.")
    return {"seed": second.name, "rate": rate, "auc": auc, "changed": changed, "lines": [*lines, *made["lines"]]}


def next_name(name: str) -> str:
    """sample -> sample-2 -> sample-3."""
    stem, _, number = name.rpartition("-")
    return f"{stem}-{int(number) + 1}" if stem and number.isdigit() and len(number) < 4 and int(number) > 1 else f"{name}-2"
