"""Several hosts with workspaces of their own and one MLflow on a real PostgreSQL: one of them changes aliases at a time.

Each host is a process with its own copy of the workspace, so with a lock file of its own. What happens happens once, in
the fixture `story`, in the order of the acts below; the tests read what was seen.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import encore
from features.errors import Locked
from features.shop import simulate
from features.workspace import Workspace, open_workspace
from training.tracking import CHALLENGER, CHAMPION, PREVIOUS, Tracking, Version

TASK, NAME, DAYS = "lookalike", "Corner shop", 250
END = date(2024, 1, 1) + timedelta(days=DAYS)
LATER, EARLIER = END - timedelta(days=15), END - timedelta(days=30)
REPOSITORY = Path(encore.__file__).parent

ACTS = """
import json, os, signal, sys, time
from datetime import date
from pathlib import Path

import ibis.backends.duckdb, lightgbm, sklearn.linear_model, psycopg  # once, not in every fork
import mlflow.store.artifact.local_artifact_repo, mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store

from features.errors import EncoreError
from features.exit_codes import exit_code
from features.workspace import open_workspace
from training import evidence, fit, lease, record
from training.gates import Decision, Reason
from training.models import Recipe
from training.retrain import retrain
from training.tracking import CHAMPION, Tracking

root, (earlier, later, end) = Path(sys.argv[1]), map(date.fromisoformat, sys.argv[2:])
retraining, judging = sys.modules["training.retrain"], sys.modules["training.judge"]
evidence.SHUFFLES, evidence.RESAMPLES, evidence.FEW, fit.BLEND = 2, 20, 2, Recipe(trees=20, seeds=1)
record.draw, lease.POLL = lambda *_: None, 0.1

def passed(*_):
    return Decision(True, True, False, (Reason("beats rfm", True, "because this test says so"),))

def host(number, as_of, decide=passed, wait=False, meet=0):
    "Start a host; `meet`: how many of them are at the same point before each asks for the lease."
    child = os.fork()
    if child:
        return child
    judging.decide, ask = decide, Tracking.alone

    def alone(self, *args, **more):
        (root / f"ready-{number}").touch()
        while len(list(root.glob("ready-*"))) < meet:
            time.sleep(0.01)
        return ask(self, *args, **more)

    Tracking.alone = alone
    workspace = open_workspace(root / f"host{number}")
    try:
        (outcome,) = retrain(workspace, workspace.shop(), as_of, ("lookalike",), wait=wait)
        seen = [outcome.state, outcome.reason, outcome.run_id]
    except EncoreError as error:
        seen = [exit_code(error), str(error), ""]
    (root / f"seen-{act}-{number}").write_text(json.dumps(seen))
    os._exit(0)

def ended(*children):
    for child in children:
        os.waitpid(child, 0)

act = "at once"
ended(host(1, earlier, meet=3), host(2, earlier, meet=3), host(3, earlier, wait=True, meet=3))

act, lease.SECONDS = "stopped", 1.0
def stop(*_):
    os.kill(os.getpid(), signal.SIGSTOP)
    return passed()
first = host(1, later, stop)
os.waitpid(first, os.WUNTRACED)
ended(host(2, later, wait=True))
os.kill(first, signal.SIGCONT)
ended(first)

act, retraining.CODE, lease.SECONDS = "equal", "a comment was edited", 120.0
ended(host(2, later))

act = "moved"
def moved(*_):
    workspace = open_workspace(root / "host1")
    Tracking(workspace, workspace.shop().name).client.delete_registered_model_alias("corner-shop.lookalike", CHAMPION)
    return passed()
ended(host(1, end, moved))
"""


@dataclass(frozen=True)
class Seen:
    """said: act -> host -> what the retrain came to (or its exit code), why, and by which run."""

    tracking: Tracking
    said: Mapping[str, Mapping[int, tuple[Any, ...]]]
    versions: tuple[Version, ...]

    def runs(self, status: str) -> int:
        return len(self.tracking.client.search_runs([self.tracking.experiment], f"attributes.status = '{status}'"))

    def alias(self, name: str) -> str | None:
        found = self.tracking.with_alias(TASK, name)
        return found.number if found else None


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, postgres_server) -> Seen:
    root = tmp_path_factory.mktemp("hosts")
    environment = {**os.environ, "ENCORE_MLFLOW_URI": postgres_server.url.replace("/postgres", "/mlflow")}
    postgres_server.run("create database mlflow")
    first = open_workspace(root / "host1", environment)
    first.root.mkdir()
    first.shop_file.write_text(f'name = "{NAME}"\nzone = "UTC"\ncurrency = "EUR"\n')
    _fill(first)
    for number in (2, 3):
        shutil.copytree(first.root, root / f"host{number}")
    tracking = Tracking(first, NAME)
    done = subprocess.run(
        [sys.executable, "-c", ACTS, str(root), *map(str, (EARLIER, LATER, END))],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, dict[int, tuple[Any, ...]]] = {}
    for path in root.glob("seen-*"):
        _, act, number = path.name.split("-")
        said.setdefault(act, {})[int(number)] = tuple(json.loads(path.read_text()))
    return Seen(tracking, said, tuple(tracking.versions(TASK)))


def _fill(workspace: Workspace) -> None:
    batch = simulate(users=1500, days=DAYS, seed=1).batch
    few = batch.events.filter(pc.is_in(batch.events["event"], pa.array(["order", "coupon_redeemed"])))
    workspace.log(workspace.shop()).append(replace(batch, events=few, products=None))


def test_of_three_at_once_one_changes_the_alias_one_leaves_with_code_4_and_one_waits(story):
    said = story.said["at once"]
    states = {number: came_to for number, (came_to, *_) in said.items()}
    assert sorted(map(str, states.values())) in (["4", "4", "promoted"], ["4", "already done", "promoted"])
    assert (states[3] == "promoted") == (list(states.values()).count(4) == 2)  # who waits is not sent away
    told = next(why for came_to, why, _ in said.values() if came_to == 4)
    assert "A retrain of shop 'Corner shop' is already running elsewhere (host " in told
    assert "Try again later, or give --wait." in told
    assert [version.number for version in story.versions if version.tags["encore.as_of"] == EARLIER.isoformat()] == ["1"]


def test_a_host_that_was_stopped_until_another_took_over_leaves_with_code_4_and_changes_nothing(story):
    said = story.said["stopped"]
    assert said[2][0] == "promoted", said
    assert said[1][0] == 4
    assert "another one has taken over" in said[1][1]
    assert said[2][2] == story.versions[1].run_id
    assert [version.tags["encore.as_of"] for version in story.versions] == [EARLIER.isoformat(), *[LATER.isoformat()] * 2, END.isoformat()]


def test_the_runs_of_the_stopped_host_are_closed(story):
    assert story.runs("RUNNING") == 0


def test_a_challenger_that_is_the_very_champion_is_refused_and_both_versions_say_so(story):
    assert story.said["equal"][2][0] == "refused"
    champion, challenger = story.versions[1], story.versions[2]
    assert challenger.tags["encore.decision"] == "refused"
    assert "FAIL  differs from the champion: the champion is this very model" in challenger.tags["encore.reasons"]
    assert (champion.tags["encore.challenger"], champion.tags["encore.challenger.decision"]) == ("3", "refused")
    assert champion.tags["encore.challenger.reasons"] == challenger.tags["encore.reasons"]
    assert story.alias(CHALLENGER) == "3"


def test_a_champion_that_was_moved_while_the_gate_decided_is_not_overwritten(story):
    code, why, _ = story.said["moved"][1]
    assert code == 5
    assert "Run again" in why
    assert "judged against version 2, but champion is now none" in why
    assert (story.alias(CHAMPION), story.alias(PREVIOUS)) == (None, "1")


def test_the_password_is_in_no_message(story):
    assert "p@ss" not in json.dumps(story.said)
    assert "p%40ss" not in json.dumps(story.said)


def test_the_lease_is_given_back(story):
    """Another lock file is another holder, who would be refused at once if one of the hosts still held it."""
    with story.tracking.alone(REPOSITORY / "encore.py"):
        assert story.tracking.lease is not None
        story.tracking.lease.confirm()


@pytest.mark.long
def test_where_mlflow_is_a_server_the_lease_is_a_tag(tmp_path):
    """A real server, which takes half a minute to start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    words = f"server --backend-store-uri sqlite:///{tmp_path}/mlflow.db --artifacts-destination {tmp_path}/artifacts --workers 1 --host 127.0.0.1 --port {port}"
    server = subprocess.Popen([Path(sys.executable).with_name("mlflow"), *words.split()], env=settings, cwd=tmp_path, start_new_session=True)
    try:
        place = _served(tmp_path, f"http://127.0.0.1:{port}")
        first, second = Tracking(place, NAME), Tracking(place, NAME)
        with first.alone(REPOSITORY / "encore.py"):
            with pytest.raises(Locked, match="already running elsewhere"), second.alone(REPOSITORY / "README.md"):
                pass
            assert first.lease
            first.lease.confirm()
        with second.alone(REPOSITORY / "README.md"):
            pass
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _served(folder: Path, uri: str) -> Workspace:
    for _ in range(90):
        try:
            if urllib.request.urlopen(f"{uri}/health").status == 200:
                break
        except OSError:
            time.sleep(1)
    return open_workspace(folder, {"ENCORE_MLFLOW_URI": uri})
