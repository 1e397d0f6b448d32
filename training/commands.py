"""`encore train` and `encore retrain`."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from features.commands import AsOf, WorkspaceOption
from features.errors import GateRefused, MissingExtra, NoUsableData
from features.logs import log
from features.workspace import Workspace, open_workspace

TaskOption = Annotated[list[str] | None, typer.Option("--task", "-t", help="A prediction, such as repeat_order; repeatable.", show_default=False)]


def mount(app: typer.Typer) -> None:
    """Add this package's commands."""
    app.command()(train)
    app.command()(retrain)


def train(workspace: WorkspaceOption = None, as_of: AsOf = None, task: TaskOption = None) -> None:
    """Train and measure models and log them to MLflow, without making any of them champion."""
    run_retrain(open_workspace(workspace), as_of.date() if as_of else None, tuple(task or ()), promote=False)


def retrain(workspace: WorkspaceOption = None, as_of: AsOf = None, task: TaskOption = None) -> None:
    """Train what is due, and let the gate decide which models become champion. Made for a schedule.

    The same data, date and settings are trained once: running it twice answers "already done". A second retrain of
    the same workspace is refused while one runs (exit code 4). After a crash the next call resumes. Exit code 3 says
    that the gate refused a challenger; its reasons are printed and logged.
    """
    outcomes = run_retrain(open_workspace(workspace), as_of.date() if as_of else None, tuple(task or ()))
    if refused := [name for name, state in outcomes.items() if state == "refused"]:
        raise GateRefused(
            f"The gate refused {', '.join(refused)}; the reasons are above and in MLflow. "
            "Champions stay what they were; where there was none, the best baseline serves."
        )


def run_retrain(workspace: Workspace, as_of: date | None = None, names: tuple[str, ...] = (), promote: bool = True) -> dict[str, str]:
    """Retrain and report; task -> what happened.

    Raises:
        NoUsableData: no task could be trained, with the counts of each.
    """
    try:
        # Imported here: a machine that only serves has neither mlflow nor scikit-learn.
        from training.retrain import retrain as retrain_tasks
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    outcomes = retrain_tasks(workspace, workspace.shop(), as_of, names, promote)
    for outcome in outcomes:
        for line in outcome.reason.splitlines():
            log.info(f"{outcome.task}: {outcome.state}", extra={"facts": {"reason": line}})
    if outcomes and all(outcome.state == "no usable data" for outcome in outcomes):
        raise NoUsableData("\n".join(outcome.reason for outcome in outcomes))
    return {outcome.task: outcome.state for outcome in outcomes}
