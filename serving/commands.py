"""`encore publish`, `rollback`, `serve`, `score`, `work` and `demo`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from features.commands import AsOf, WorkspaceOption
from features.errors import MissingExtra
from features.logs import log, step
from features.workspace import open_workspace

Port = Annotated[int, typer.Option(help="TCP port.", envvar="ENCORE_PORT")]
Host = Annotated[str, typer.Option(help="Address to listen on. There is no login yet: keep it on loopback or behind a proxy.", envvar="ENCORE_HOST")]


def mount(app: typer.Typer) -> None:
    """Add this package's commands."""
    for command in (publish, rollback, serve, score, work, demo):
        app.command()(command)


def publish(workspace: WorkspaceOption = None, as_of: AsOf = None) -> None:
    """Put the champions and the latest behaviour vectors into service as one checked release.

    A running service takes it up by itself within a second. If anything fails, what was served stays served.
    """
    try:
        from serving.publish import publish as publish_release
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    publish_release(open_workspace(workspace), as_of.date() if as_of else None)


def rollback(workspace: WorkspaceOption = None) -> None:
    """Serve the release before the current one again."""
    from serving.release import rollback as roll_back

    log.info("rolled back", extra={"facts": {"release": roll_back(open_workspace(workspace).releases)}})


def serve(workspace: WorkspaceOption = None, host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Answer scores and audiences over HTTP. Starts even when nothing was published, and says so."""
    try:
        import uvicorn

        from serving.app import create_app, service_settings
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    app = create_app(service_settings(open_workspace(workspace)))
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=30)


def score(
    workspace: WorkspaceOption = None,
    out: Annotated[Path | None, typer.Option(help="Parquet file to write. Default: scores.parquet in the workspace.", show_default=False)] = None,
    task: Annotated[list[str] | None, typer.Option("--task", "-t", help="Only these predictions.", show_default=False)] = None,
) -> None:
    """Score every user with the release in service, into one Parquet file (primary key: user_id, model)."""
    try:
        from serving.app import service_settings
        from serving.batch import score_to_parquet
        from serving.release import current_id, load_release
        from serving.scorer import Scorer
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    place = open_workspace(workspace)
    with step("score everybody") as found:
        scorer = Scorer(load_release(place.releases / current_id(place.releases)), service_settings(place).good_for)
        path = out or place.root / "scores.parquet"
        found |= {"rows": score_to_parquet(scorer, path, tuple(task or ())), "release": scorer.release.id, "file": path.name}


def work(workspace: WorkspaceOption = None, once: Annotated[bool, typer.Option("--once", help="Stop when nothing is queued.")] = False) -> None:
    """Run the jobs that the service queued (exports), for ever or until none is left."""
    try:
        from serving.ledger import Ledger
        from serving.work import work as run_jobs
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    place = open_workspace(workspace)
    log.info("jobs done", extra={"facts": {"jobs": run_jobs(place, Ledger(place.ledger_url), once=once)}})


def demo(
    workspace: WorkspaceOption = None,
    once: Annotated[bool, typer.Option("--once", help="End after the answers are printed.", envvar="ENCORE_DEMO_ONCE")] = False,
    shop: Annotated[str, typer.Option(help="complete_journey (real data) or simulated (a shop with known truth).")] = "complete_journey",
    port: Port = 8000,
    mlflow_port: Annotated[int, typer.Option(help="TCP port of the MLflow pages.")] = 5000,
) -> None:
    """The main job from raw data to a scored user: ingest, build, retrain, publish, serve, ask."""
    try:
        from serving.demo import run_demo
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    run_demo(open_workspace(workspace), shop, once=once, port=port, mlflow_port=mlflow_port)
