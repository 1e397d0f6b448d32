"""`encore train` and `encore retrain`."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from features.commands import AsOf, WorkspaceOption
from features.errors import GateRefused, MissingExtra, NoUsableData
from features.logs import console, log, step
from features.workspace import Workspace, open_workspace
from training.heartbeat import reported
from training.lookalike import commands as lookalike_commands
from training.preflight_notes import note_checks, note_outcomes

TaskOption = Annotated[list[str] | None, typer.Option("--task", "-t", help="A prediction, such as repeat_order; repeatable.", show_default=False)]

shop_words = typer.Typer(name="shop", help="What the shop's own history says, before any model; and the report to send to others.", no_args_is_help=True)


def mount(app: typer.Typer) -> None:
    """Add this package's commands."""
    app.command()(check)
    app.command()(train)
    app.command()(retrain)
    shop_words.command()(history)
    app.add_typer(shop_words)
    app.add_typer(lookalike_commands.words())


def check(
    workspace: WorkspaceOption = None,
    as_of: AsOf = None,
    task: TaskOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for each check.")] = False,
) -> None:
    """Say what each prediction needs of the data and what the data have, before anything is trained.

    Exit code 6 says that none of the predictions could be trained. `GET /v1/preflight` serves what it found.
    """
    try:
        from training.preflight import Verdict, preflight
        from training.preflight_said import show
        from training.retrain import asked_tasks
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    place = open_workspace(workspace)
    tiles = place.tiles(place.shop())
    until = as_of.date() if as_of else tiles.log.complete_until
    found = {asked.name: preflight(asked, until, tiles, place.snapshots) for asked in asked_tasks(tiles, until, tuple(task or ()))}
    note_checks(place.root, until, {name: [asdict(line) for line in lines] for name, lines in found.items()})
    checks = [line for lines in found.values() for line in lines]
    if as_json:
        for line in checks:
            typer.echo(json.dumps(asdict(line), ensure_ascii=False))
    else:
        show(checks, console)
    if all(any(line.verdict is Verdict.FAIL for line in lines) for lines in found.values()):
        raise NoUsableData("None of the predictions can be trained on these data; what each lacks stands above.")


def train(workspace: WorkspaceOption = None, as_of: AsOf = None, task: TaskOption = None) -> None:
    """Train and measure models and log them to MLflow, without making any of them champion."""
    run_retrain(open_workspace(workspace), as_of.date() if as_of else None, tuple(task or ()), promote=False)


def retrain(
    workspace: WorkspaceOption = None,
    as_of: AsOf = None,
    task: TaskOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another retrain of this workspace or shop instead of leaving with exit code 4.")] = False,
) -> None:
    """Train what is due, and let the gate decide which models become champion. Made for a schedule.

    The same data, date and settings are trained once: running it twice answers "already done". A second retrain of
    the same workspace, or of the same shop on another host, is refused while one runs (exit code 4). After a crash the next call resumes. Exit code 3 says
    that the gate refused a challenger; its reasons are printed and logged. For monitors it keeps metrics/retrain.prom.
    """
    place = open_workspace(workspace)
    with reported(place.root):
        outcomes = run_retrain(place, as_of.date() if as_of else None, tuple(task or ()), wait=wait)
        if refused := [name for name, state in outcomes.items() if state == "refused"]:
            raise GateRefused(
                f"The gate refused {', '.join(refused)}; the reasons are above and in MLflow. "
                "Champions stay what they were; where there was none, the best baseline serves."
            )


def run_retrain(workspace: Workspace, as_of: date | None = None, names: tuple[str, ...] = (), promote: bool = True, wait: bool = False) -> dict[str, str]:
    """Retrain and report; task -> what happened.

    Raises:
        NoUsableData: no task could be trained, with the counts of each.
    """
    try:
        # Imported here: a machine that only serves has neither mlflow nor scikit-learn.
        from training.retrain import retrain as retrain_tasks
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    outcomes = retrain_tasks(workspace, workspace.shop(), as_of, names, promote, wait)
    for outcome in outcomes:
        for line in outcome.reason.splitlines():
            log.info(f"{outcome.task}: {outcome.state}", extra={"facts": {"reason": line}})
    note_outcomes(workspace.root, {outcome.task: (outcome.state, outcome.reason) for outcome in outcomes})
    if outcomes and all(outcome.state == "no usable data" for outcome in outcomes):
        raise NoUsableData("\n".join(outcome.reason for outcome in outcomes))
    return {outcome.task: outcome.state for outcome in outcomes}


def history(
    workspace: WorkspaceOption = None,
    as_of: AsOf = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: reports/shop-DATE in the workspace.", show_default=False)] = None,
) -> None:
    """Who comes back and when, what customers are worth, and what that rests on: report.md, report.json and pictures."""
    run_shop_report(open_workspace(workspace), as_of.date() if as_of else None, out)


def run_shop_report(workspace: Workspace, as_of: date | None = None, out: Path | None = None) -> Path:
    """Write the shop report and print its main numbers; returns its folder.

    Raises:
        NoUsableData: the log does not reach the date, or has no valid order before it.
    """
    try:
        from training.shop_page import headlines, write_report
        from training.shop_report import left_out_rows, shop_report
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    shop = workspace.shop()
    tiles = workspace.tiles(shop)
    when = as_of or tiles.log.complete_until
    folder = out or workspace.root / "reports" / f"shop-{when}"
    with step("shop report", as_of=when) as found:
        numbers = shop_report(tiles, workspace.snapshots.get(tiles, when), left_out_rows(workspace.quarantine))
        write_report(numbers, folder)
        found |= {"folder": str(folder)}
    typer.echo("\n".join([*headlines(numbers), f"Read {folder / 'report.md'}"]))
    return folder
