"""`encore publish`, `rollback`, `releases`, `serve`, `score`, `work` and `demo`."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from features.commands import AsOf, WorkspaceOption, show
from features.errors import MissingExtra
from features.logs import log, step
from features.workspace import open_workspace
from serving import keys_commands
from serving.audiences import commands as audience_commands
from serving.campaigns import commands as campaign_commands
from serving.console import commands as console_commands
from serving.destinations import commands as export_commands
from serving.privacy import commands as privacy_commands
from serving.quality import commands as quality_commands

Port = Annotated[int, typer.Option(help="TCP port.", envvar="ENCORE_PORT")]
Host = Annotated[str, typer.Option(help="Address to listen on. Beyond loopback it needs an API key to exist: encore keys create.", envvar="ENCORE_HOST")]


def mount(app: typer.Typer) -> None:
    """Add this package's commands."""
    for command in (publish, rollback, releases, serve, score, work, demo):
        app.command()(command)
    keys_commands.mount(app)
    audience_commands.mount(app)
    quality_commands.mount(app)
    campaign_commands.mount(app)
    export_commands.mount(app)
    privacy_commands.mount(app)
    console_commands.mount()


def publish(workspace: WorkspaceOption = None, as_of: AsOf = None) -> None:
    """Put the champions and the latest behaviour vectors into service as one checked release.

    A running service takes it up by itself within a second. If anything fails, what was served stays served.
    """
    try:
        from serving.destinations.announce import announced_release
        from serving.publish import publish as publish_release
    except ModuleNotFoundError as error:
        raise MissingExtra("train", error.name) from None
    place = open_workspace(workspace)
    with announced_release(place):
        publish_release(place, as_of.date() if as_of else None)


def rollback(workspace: WorkspaceOption = None) -> None:
    """Serve the release before the current one again: milliseconds, and a running service follows within a second."""
    from serving.pointer import rollback as roll_back

    place = open_workspace(workspace)
    release = roll_back(place.releases)
    log.info("rolled back", extra={"facts": {"release": release}})
    with suppress(ModuleNotFoundError):  # where the service's own part is installed: the folder has an account of its own in any case
        from serving.privacy.audit import note

        note(place, "release rolled back", {"release": release})


def releases(workspace: WorkspaceOption = None) -> None:
    """List the releases that were put into service: when, by whom, what for, instead of which."""
    from rich.table import Table

    from serving.pointer import current_id, history

    root = open_workspace(workspace).releases
    current, table = current_id(root), Table("at", "who", "action", "from", "to", "")
    for number, moved in enumerate(told := history(root), 1):
        now = "in service" if number == len(told) and moved["to"] == current else ""
        table.add_row(*(str(moved[name] or "") for name in ("at", "who", "action", "from", "to")), now)
    show(table)


def serve(
    workspace: WorkspaceOption = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer; they share the release's memory.", envvar="ENCORE_WORKERS")] = 1,
) -> None:
    """Answer scores and audiences over HTTP. Starts even when nothing was published, and says so."""
    gc.disable()  # what is loaded now stays: looking for garbage in it takes a tenth of the start. The app lets the collector run again
    try:
        from serving.workers import answer
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    answer(open_workspace(workspace), host, port, workers)


def score(
    workspace: WorkspaceOption = None,
    out: Annotated[Path | None, typer.Option(help="Parquet file to write as well, with all rows.", show_default=False)] = None,
    task: Annotated[list[str] | None, typer.Option("--task", "-t", help="Only these predictions.", show_default=False)] = None,
    release: Annotated[str | None, typer.Option(help="Id of another release than the one in service, to score again as it did.", show_default=False)] = None,
    engine: Annotated[str | None, typer.Option(help='Write elsewhere: "spark://local[2]" or any Spark master.', show_default=False)] = None,
) -> None:
    """Score every user with the release in service: Parquet files in `scores/<run>/` (primary key: user_id, model) and what they were made with.

    Safe to repeat: a run that is done is not done again, one that was interrupted goes on where it was.
    """
    try:
        from serving.app import service_settings
        from serving.pointer import current_id, directory_of
        from serving.release import load_release
        from serving.runs import score_run, write_one_file
        from serving.scorer import Scorer
        from serving.spark import on_spark
    except ModuleNotFoundError as error:
        raise MissingExtra("serve", error.name) from None
    place = open_workspace(workspace)
    with step("score everybody") as found:
        chosen = directory_of(place.releases, release or current_id(place.releases))
        scorer = Scorer(load_release(chosen), service_settings(place).good_for)
        run = score_run(scorer, place.root / "scores", tuple(task or ()), on_spark(engine, place.releases) if engine else None)
        if out:
            write_one_file(run, out)
        found |= {name: run.manifest[name] for name in ("id", "rows", "release", "digest")}


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
