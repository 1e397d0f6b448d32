"""`encore lookalike expand` and `outcomes`: the audience, and its second round."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from features.commands import AsOf, WorkspaceOption
from features.errors import GateRefused, MissingExtra
from features.workspace import open_workspace

Name = Annotated[str, typer.Argument(help="Name of the seed.")]
Size = Annotated[int | None, typer.Option(help="So many users, the same number at every refresh.", min=1, show_default=False)]
TopPercent = Annotated[float | None, typer.Option(help="So many per cent of the candidates.", min=0, max=100, show_default=False)]
Similarity = Annotated[float | None, typer.Option(help="Everybody at least so alike: 50 is the typical seed user.", min=0, max=100, show_default=False)]
Of = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Date of the audience that was reached. Default: the last one written.", show_default=False)
]
BaseRate = Annotated[
    float | None, typer.Option(help="Share of the candidates who are what you look for, such as 0.02: likeness becomes a probability.", show_default=False)
]


def expand(
    name: Name,
    workspace: WorkspaceOption = None,
    size: Size = None,
    top_percent: TopPercent = None,
    similarity: Similarity = None,
    base_rate: BaseRate = None,
    as_of: AsOf = None,
) -> None:
    """Find the users who are most like the seed, prove it, and write the audience as CSV.

    Turn one dial: --size, --top-percent or --similarity; the page shows all three. Run it again after new data, with no dial for the
    same one: the size stays, and users are exchanged only for others who are clearly more alike. The audience of each date is
    kept for `outcomes`. The model is registered in MLflow and served, with its audience, after the next `encore publish`.
    """
    dials = {"--size": size, "--top-percent": top_percent, "--similarity": similarity}
    turned = [dial for dial, value in dials.items() if value is not None]
    if len(turned) > 1:
        raise typer.BadParameter(f"turn one dial, not {' and '.join(turned)}", param_hint=turned[1])
    try:
        from training.lookalike.expand_run import run_expand
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    dial = {"size": size, "top_percent": top_percent, "similarity": similarity, "base_rate": base_rate}
    told = run_expand(open_workspace(workspace), name, dial, as_of.date() if as_of else None)
    typer.echo("\n".join(told["lines"]))
    if not told["promoted"]:
        raise GateRefused(f"The look-alikes of '{name}' are no better than users drawn at random; the page {told['page']} says what was measured.")


def outcomes(
    name: Name,
    converted: Annotated[Path, typer.Argument(help="CSV or Parquet: the ids of those in the audience who converted.")],
    workspace: WorkspaceOption = None,
    column: Annotated[str | None, typer.Option(help="Column of the ids. Default: the one that looks like it.", show_default=False)] = None,
    of: Of = None,
    to: Annotated[str | None, typer.Option(help="Name of the new seed. Default: NAME-2, NAME-3, ...", show_default=False)] = None,
    size: Size = None,
) -> None:
    """Make the second round: who converted joins the seed, who was reached and did not becomes an explicit negative.

    Says how many converted, whether the first model had ranked them higher, what they did beside others like them, and what the
    new model changes. --of is the date of the audience that was reached; by default the last one that was written to a file.
    """
    try:
        from training.lookalike.expand_run import run_outcomes
        from training.lookalike.seed_sources import read_list
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    ids = list(read_list(converted, column, dated=False).ids)
    told = run_outcomes(open_workspace(workspace), name, ids, to, size, of.date() if of else None)
    typer.echo("\n".join(told["lines"]))
    if not told["promoted"]:
        raise GateRefused(f"The look-alikes of '{told['seed']}' are no better than users drawn at random; the page {told['page']} says what was measured.")
