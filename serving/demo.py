"""demo: the whole way from raw data to a scored user, and a service to ask."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from features.commands import build_vectors
from features.errors import EncoreError, UnknownName
from features.files import write_bytes
from features.ingest import ingest_sources
from features.logs import log, step
from features.workspace import Workspace
from serving.publish import publish
from training.commands import run_retrain

SHOPS = ("complete_journey", "simulated")
SHOWN_TASK = "repeat_order"
TOP_PERCENT = 10


class DemoFailed(EncoreError):
    """A process that the demo started did not come up."""


def run_demo(workspace: Workspace, shop: str, *, once: bool, port: int, mlflow_port: int) -> None:
    """Ingest, build, retrain, publish, serve; print a user, an audience and where to look.

    Leaves the service and the MLflow pages running until Ctrl-C, unless `once`.
    """
    if shop not in SHOPS:
        raise UnknownName("demo shop", shop, SHOPS)
    # A demo that is told to stop ends what it started, as it does on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    described = (files("features.sources") / f"{shop}.toml").read_bytes()
    if not workspace.shop_file.exists():
        write_bytes(workspace.shop_file, described)
    elif workspace.shop_file.read_bytes() != described:
        log.warning("this workspace has its own encore.toml, which is used as it is", extra={"facts": {"file": str(workspace.shop_file)}})
    ingest_sources(workspace)
    build_vectors(workspace)
    run_retrain(workspace)
    publish(workspace)
    port, mlflow_port = free_port(port), free_port(mlflow_port)
    with mlflow_pages(workspace, mlflow_port) as pages, service(workspace, port) as api:
        with step("service answers"):
            wait_for(f"{api}/health/ready", 30)
        show(api)
        with step("MLflow pages answer"):
            wait_for(f"{pages}/health", 120)
        typer.echo(f"\nService   {api}/docs\nMLflow    {pages}\nTry       curl '{api}/v1/scores/{SHOWN_TASK}/{best_user(api)}?reasons=true'")
        if not once:
            typer.echo("\nCtrl-C ends both.")
            with _until_interrupted():
                while True:
                    time.sleep(3600)


def show(api: str) -> None:
    """Print the best user with reasons, and the best tenth as an audience."""
    score = ask(f"{api}/v1/scores/{SHOWN_TASK}/{best_user(api)}?reasons=true")
    console = Console()
    model = next(model for model in ask(f"{api}/v1/models")["models"] if model["task"] == SHOWN_TASK)
    table = Table(title=f"User {score['user_id']}: {model['question']}", title_justify="left")
    for heading in ("reason", "effect", "share of log-odds"):
        table.add_column(heading)
    for reason in score["reasons"]:
        table.add_row(reason["text"], reason["effect"], f"{reason['contribution']:+.3f}")
    console.print()
    console.print(table)
    console.print(f"probability {score['probability']:.1%}, percentile {score['percentile']:.0f}, band {score['band']}, features as of {score['as_of']}")
    audience = ask(f"{api}/v1/audiences", {"task": SHOWN_TASK, "top_percent": TOP_PERCENT, "name": f"best {TOP_PERCENT} percent"})
    console.print(
        f"\nAudience '{audience['name']}': {audience['size']} of {audience['eligible']} users, expected to order: "
        f"{audience['expected_conversions']:.0f} [{audience['expected_low']:.0f}, {audience['expected_high']:.0f}]; "
        f"as many at random: {audience['at_random']:.0f}"
    )
    for name, measured in model["metrics"].items():
        auc = measured["auc"]
        console.print(f"{name:>8}  AUC {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]  Brier {measured['brier']['value']:.3f}", highlight=False)


def best_user(api: str) -> str:
    """The user with the highest score."""
    ask(f"{api}/v1/audiences", {"task": SHOWN_TASK, "top_n": 1, "name": "demo best user"})
    return str(ask(f"{api}/v1/audiences/demo%20best%20user/members")["user_ids"][0])


def ask(url: str, body: dict[str, Any] | None = None) -> Any:
    """GET, or POST with a body; the answer as JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - an address of our own service
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def service(workspace: Workspace, port: int) -> Any:
    """The service as a process of its own, as in production."""
    return _process("service", workspace, [sys.executable, "-P", "-m", "encore", "serve", "--workspace", str(workspace.root), "--port", str(port)], port)


def mlflow_pages(workspace: Workspace, port: int) -> Any:
    """The MLflow pages: one worker, loopback only, no job execution, no telemetry."""
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", workspace.mlflow_uri, "--host", "127.0.0.1"]
    return _process("mlflow", workspace, [*command, "--port", str(port), "--workers", "1", "--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"], port)


@contextmanager
def _process(name: str, workspace: Workspace, command: list[str], port: int) -> Iterator[str]:
    path = workspace.root / "logs" / f"{name}.log"
    path.parent.mkdir(exist_ok=True)
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with path.open("wb") as said:
        process = subprocess.Popen(command, env=quiet, stdout=said, stderr=said)  # noqa: S603 - our own command
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _until_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        log.info("stopping")


def wait_for(url: str, seconds: float) -> None:
    """Wait until an address answers.

    Raises:
        DemoFailed: it did not in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise DemoFailed(f"{url} did not answer within {seconds:.0f} s. The logs folder of the workspace says why.")


def free_port(wanted: int) -> int:
    """The wanted port if nobody listens there, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailed("No free TCP port on this machine.")
