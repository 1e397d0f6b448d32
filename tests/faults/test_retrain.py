"""Retraining on a schedule: done once, locked, resumable after a kill, and harmless when something is down.

One small shop and one cheap task (the look-alike needs a single snapshot). What happens to the workspace happens once,
in the fixture `story`, in the order of its lines; the tests read what was seen.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from threading import Timer
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from threadpoolctl import threadpool_limits
from typer.testing import CliRunner

import encore
from features.errors import GateRefused, LabelWindowOpen, NoUsableData
from features.files import exclusive
from features.shop import simulate
from features.shopfile import Shop
from features.store import SnapshotStore
from features.tiles import open_tiles
from features.workspace import Workspace, open_workspace
from training import heartbeat
from training.commands import run_retrain
from training.fit import fit_task
from training.gates import Decision, Reason
from training.models import Recipe
from training.retrain import Outcome, asked_tasks, retrain
from training.tracking import CHALLENGER, CHAMPION, PREVIOUS, Tracking, Version

TASK, NAME = ("lookalike",), "Corner shop"
DAYS = 250
END = date(2024, 1, 1) + timedelta(days=DAYS)
LATER, EARLIER, EARLIEST = END - timedelta(days=15), END - timedelta(days=30), END - timedelta(days=60)
REPOSITORY = Path(encore.__file__).parent

# A process that kills itself where it calls a function for the n-th time. One for all places: each is a fork of it.
KILLED = """
import importlib, os, signal, sys
from datetime import date

import ibis.backends.duckdb, lightgbm, sklearn.linear_model  # once, not in every fork
import mlflow.store.artifact.local_artifact_repo, mlflow.store.db.utils, mlflow.store.model_registry.sqlalchemy_store, mlflow.store.tracking.sqlalchemy_store

from features.workspace import open_workspace
from training import evidence, fit, record
from training.gates import Decision
from training.models import Recipe
from training.retrain import retrain

def run_until(as_of, place, count):
    module, name = place.split(":")
    *owner, function = name.split(".")
    home = importlib.import_module(module)
    home = getattr(home, owner[0]) if owner else home
    real, calls = getattr(home, function), []

    def deadly(*args, **more):
        calls.append(args)
        if len(calls) == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)

    evidence.SHUFFLES, evidence.RESAMPLES, evidence.FEW, fit.BLEND, record.draw = 2, 20, 2, Recipe(trees=20, seeds=1), lambda *_: None
    sys.modules["training.judge"].decide = lambda *_: Decision(True, True, False, ())
    setattr(home, function, deadly)
    retrain(open_workspace(), open_workspace().shop(), date.fromisoformat(as_of), ("lookalike",))

for work in sys.argv[1:]:
    child = os.fork()
    if not child:
        run_until(*work.split())
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
KILLS = (
    f"{LATER} mlflow:MlflowClient.set_terminated 2",  # promoted, but the run is not ended
    f"{END} training.side_by_side:fit_task 1",  # nothing is there but the retrain's run
    f"{END} training.fit:gather_evidence 1",  # fitted
    f"{END} training.record:draw 1",  # half of the evidence is logged
    f"{END} mlflow:MlflowClient.log_artifacts 3",  # the served bundle is logged, the evaluated one is not
    f"{END} mlflow:MlflowClient.set_registered_model_alias 1",  # registered, and no alias changed
    f"{END} mlflow:MlflowClient.set_registered_model_alias 2",  # between the two aliases
)
BEFORE_ITS_RUN = 2  # of them come before the task has a run of its own


HEADER_ONLY = """
name = "Empty shop"
zone = "UTC"
currency = "EUR"

[[sources]]
kind = "table"
path = "orders.csv"
rows = "orders"
columns = { order_id = "order_id", user_id = "user_id", occurred_at = "occurred_at", amount = "amount" }
"""


@dataclass(frozen=True)
class Registry:
    """What the registry said at one moment."""

    champion: Version | None
    previous: Version | None
    versions: int
    running: int
    killed: int


def look(tracking: Tracking) -> Registry:
    def runs(status: str) -> int:
        return len(tracking.client.search_runs([tracking.experiment], f"attributes.status = '{status}'"))

    versions = len(tracking.client.search_model_versions(f"name = 'corner-shop.{TASK[0]}'"))
    return Registry(tracking.with_alias(TASK[0], CHAMPION), tracking.with_alias(TASK[0], PREVIOUS), versions, runs("RUNNING"), runs("KILLED"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """A shop of which only orders and redeemed coupons are known: few features, quick snapshots."""
    root = tmp_path_factory.mktemp("workspace")
    (root / "encore.toml").write_text(f'name = "{NAME}"\nzone = "UTC"\ncurrency = "EUR"\n')
    made = open_workspace(root, environment={})
    batch = simulate(users=1500, days=DAYS, seed=1).batch
    few = batch.events.filter(pc.is_in(batch.events["event"], pa.array(["order", "coupon_redeemed"])))
    made.log(made.shop()).append(replace(batch, events=few, products=None))
    return made


@pytest.fixture(scope="module")
def tracking(workspace) -> Tracking:
    return Tracking(workspace, NAME)


def heartbeats(workspace: Workspace) -> dict[tuple[str, str], float]:
    """(task, stage) -> when it began last."""
    samples = heartbeat.parse((workspace.root / heartbeat.FILE).read_text())
    return {(dict(labels)["task"], dict(labels)["stage"]): value for (metric, labels), value in samples.items() if metric == heartbeat.BEAT}


def metrics(workspace: Workspace) -> tuple[dict[str, str], float, float]:
    """Task -> state, the last exit code, the last success."""
    samples = heartbeat.parse((workspace.root / heartbeat.FILE).read_text())
    states = {dict(labels)["task"]: dict(labels)["state"] for (metric, labels), value in samples.items() if metric == heartbeat.STATE and value}
    return states, samples[heartbeat.CODE, ()], samples[heartbeat.SUCCESS, ()]


def pass_all(*_: object) -> Decision:
    return Decision(True, True, False, (Reason("beats rfm", True, "because this test says so"),))


def refuse(*_: object) -> Decision:
    return Decision(False, True, False, (Reason("beats rfm", False, "because this test says so"),))


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[pytest.MonkeyPatch]:
    """The gate says yes unless told otherwise, and little time goes into trees and evidence: they have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.evidence.SHUFFLES", 2)
        patch.setattr("training.evidence.RESAMPLES", 20)
        patch.setattr("training.evidence.FEW", 2)
        patch.setattr("training.fit.BLEND", Recipe(trees=20, seeds=1))
        patch.setattr("training.judge.decide", pass_all)
        yield patch


@pytest.fixture(scope="module")
def story(workspace, tracking, quick) -> SimpleNamespace:
    def run(as_of: date | None = None) -> Outcome:
        (outcome,) = retrain(workspace, workspace.shop(), as_of, TASK)
        return outcome

    seen = SimpleNamespace()
    seen.first, seen.after_first = run(EARLIER), look(tracking)
    quick.setattr("training.record.draw", lambda *_: None)
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1")
    environment = {**os.environ, **one_thread, "ENCORE_WORKSPACE": str(workspace.root)}
    killed = subprocess.run([sys.executable, "-c", KILLED, *KILLS], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    seen.kills, seen.after_kills, seen.beats = killed.stdout.split(), look(tracking), heartbeats(workspace)
    seen.later, seen.after_later = run(LATER), look(tracking)
    seen.resumed, seen.after_resumed = run(), look(tracking)
    seen.again, seen.after_again = run(), look(tracking)
    seen.backfill, seen.after_backfill = run(EARLIEST), look(tracking)
    return seen


def test_the_first_model_that_passes_becomes_champion(story):
    assert story.first.state == "promoted", story.first.reason
    assert (story.after_first.champion.number, story.after_first.previous, story.after_first.versions) == ("1", None, 1)
    assert story.after_first.champion.run_id == story.first.run_id


def test_a_kill_before_the_promotion_leaves_the_champion_as_it_was(story):
    assert story.kills == ["-9"] * len(KILLS)
    assert (story.after_kills.champion.number, story.after_kills.champion.tags["encore.as_of"]) == ("2", LATER.isoformat())
    assert story.after_kills.running == 2  # the retrain's run and the task's, of the last kill


def test_work_that_was_killed_after_its_promotion_is_done_and_is_not_promoted_again(story):
    assert (story.later.state, story.later.run_id) == ("already done", story.after_kills.champion.run_id)
    assert (story.after_later.champion, story.after_later.versions) == (story.after_kills.champion, story.after_kills.versions)


def test_the_next_call_does_the_work_and_closes_what_the_kills_left_open(story):
    assert story.resumed.state == "promoted", story.resumed.reason
    assert story.after_resumed.champion.run_id == story.resumed.run_id
    assert story.after_resumed.previous.number == story.after_kills.champion.number
    assert (story.after_resumed.running, story.after_resumed.killed) == (0, 2 * len(KILLS) - BEFORE_ITS_RUN)


def test_after_kills_the_model_is_the_one_that_an_undisturbed_fit_gives(story, workspace, tracking):
    shop = workspace.shop()
    tiles = workspace.tiles(shop)
    (asked,) = asked_tasks(tiles, END, TASK)
    undisturbed = fit_task(asked, END, tiles, workspace.snapshots)
    assert tracking.load(story.after_resumed.champion).digest == undisturbed.served.digest


def test_another_process_on_one_thread_gives_the_model_that_all_threads_give(story, workspace, tracking, tmp_path):
    shop = workspace.shop()
    tiles = open_tiles(workspace.log(shop), shop, tmp_path / "tiles")  # its own, not what the other process left
    (asked,) = asked_tasks(tiles, LATER, TASK)
    with threadpool_limits(4):  # whatever the environment of the tests says
        here = fit_task(asked, LATER, tiles, SnapshotStore(tmp_path / "snapshots"))
    assert tracking.load(story.after_kills.champion).digest == here.served.digest


def test_a_killed_retrain_leaves_a_heartbeat_with_its_stage(story):
    assert max(story.beats, key=story.beats.__getitem__) == (TASK[0], "gate and log")
    assert {stage for task, stage in story.beats if task == TASK[0]} == {"examples", "fit", "evidence", "gate and log"}


def test_the_same_work_is_not_done_twice(story):
    assert (story.again.state, story.again.run_id) == ("already done", story.resumed.run_id)
    assert story.after_again == story.after_resumed


def test_a_backfill_is_logged_and_moves_no_alias(story):
    assert story.backfill.state == "logged"
    assert "backfill" in story.backfill.reason
    assert story.after_backfill.versions == story.after_again.versions + 1
    assert (story.after_backfill.champion, story.after_backfill.previous) == (story.after_again.champion, story.after_again.previous)


def test_every_bundle_that_is_kept_reproduces_its_golden_rows(story, tracking):
    for version in (story.after_backfill.champion, story.after_backfill.previous):
        for path in ("bundle", "evaluated", "baselines/rfm"):
            tracking.load(version, path).check_golden_rows()


def test_decision_and_reasons_are_on_the_run_and_on_the_version(story, tracking):
    version = story.after_backfill.champion
    for tags in (version.tags, tracking.client.get_run(version.run_id).data.tags):
        assert (tags["encore.decision"], tags["encore.as_of"]) == ("passed", END.isoformat())
        assert "beats rfm" in tags["encore.reasons"]


def test_no_user_is_in_what_is_logged(story, workspace):
    files = [path for path in workspace.mlflow_artifacts.rglob("*") if path.suffix in (".md", ".json", ".txt")]
    assert len(files) > 20
    assert {"roc.png", "gains.png", "lift.png"} <= {path.name for path in workspace.mlflow_artifacts.rglob("*.png")}
    assert not [path for path in files if "user-00" in path.read_text()]


# --- refusals -------------------------------------------------------------------------------------------------------


def states(workspace: Workspace, shop: Shop, as_of: date, promote: bool = True) -> list[str]:
    return [outcome.state for outcome in retrain(workspace, shop, as_of, TASK, promote)]


def test_a_refused_challenger_is_kept_beside_the_champion_and_the_exit_code_is_3(story, workspace, tracking, monkeypatch):
    monkeypatch.setattr("training.judge.decide", refuse)
    (workspace.root / "encore.toml").write_text(f'name = "{NAME}"\nzone = "UTC"\ncurrency = "EUR"\n[horizons]\nlookalike = 80\n')
    result = CliRunner().invoke(encore.app, ["retrain", "-w", str(workspace.root), "-t", TASK[0]])
    assert isinstance(result.exception, GateRefused)
    assert encore.exit_code(result.exception) == 3
    came_to, code, success = metrics(workspace)
    assert (came_to[TASK[0]], code) == ("refused", 3)
    assert time.time() - 60 < success <= time.time()
    challenger = tracking.with_alias(TASK[0], CHALLENGER)
    champion = tracking.with_alias(TASK[0], CHAMPION)
    assert champion.number == story.after_backfill.champion.number
    assert (champion.tags["encore.challenger"], champion.tags["encore.challenger.decision"]) == (challenger.number, "refused")
    assert champion.tags["encore.challenger.reasons"] == challenger.tags["encore.reasons"]
    assert champion.tags["encore.decision"] == "passed"  # its own, as before
    assert challenger.tags["encore.decision"] == "refused"
    assert "because this test says so" in challenger.tags["encore.reasons"]


def test_a_shop_without_a_champion_is_served_by_its_best_baseline_until_a_model_passes(workspace, monkeypatch):
    shop = replace(workspace.shop(), name="Second shop")
    registry = Tracking(workspace, shop.name)
    with monkeypatch.context() as patch:
        patch.setattr("training.judge.decide", refuse)
        assert states(workspace, shop, EARLIER) == ["refused"]
    baseline = registry.with_alias(TASK[0], CHAMPION)
    assert baseline.tags["encore.kind"] == "baseline"
    assert registry.load(baseline).about["baseline"] == "rule"  # spend of a year, which the short log keeps from the model
    assert states(workspace, shop, END) == ["promoted"]
    assert registry.with_alias(TASK[0], CHAMPION).tags["encore.kind"] == "model"
    assert registry.with_alias(TASK[0], PREVIOUS).number == baseline.number


def test_training_without_promotion_does_not_count_as_the_retrain(workspace):
    shop = replace(workspace.shop(), name="Third shop")
    registry = Tracking(workspace, shop.name)
    assert states(workspace, shop, EARLIER, promote=False) == ["logged"]
    assert registry.champions() == []
    assert states(workspace, shop, EARLIER, promote=False) == ["already done"]
    assert states(workspace, shop, EARLIER) == ["promoted"]


def test_a_date_beyond_the_log_is_refused_with_exit_code_6(workspace):
    with pytest.raises(LabelWindowOpen, match=f"complete only until {END}") as caught:
        run_retrain(workspace, END + timedelta(days=1), TASK)
    assert encore.exit_code(caught.value) == 6


def test_too_short_a_history_is_refused_with_exit_code_6_and_makes_no_version(workspace, tracking):
    with pytest.raises(NoUsableData, match="too few to train and to test") as caught:
        run_retrain(workspace, date(2024, 3, 1), ("repeat_order",))
    assert encore.exit_code(caught.value) == 6
    assert tracking.with_alias("repeat_order", CHAMPION) is None
    assert not tracking.client.search_registered_models("name = 'corner-shop.repeat_order'")


def test_a_file_of_nothing_but_a_header_exits_6_and_makes_no_version(workspace, tracking, tmp_path, monkeypatch):
    (tmp_path / "orders.csv").write_text("order_id,user_id,occurred_at,amount\n")
    (tmp_path / "encore.toml").write_text(HEADER_ONLY)
    monkeypatch.setenv("ENCORE_MLFLOW_URI", workspace.mlflow_uri)
    for command in ("ingest", "retrain"):
        result = CliRunner().invoke(encore.app, [command, "-w", str(tmp_path)])
        assert encore.exit_code(result.exception) == 6, result.exception
    assert tracking.client.search_registered_models("name LIKE 'empty-shop.%'") == []


def test_a_failed_command_leaves_the_last_success_and_the_other_tasks_as_they_were(story, workspace):
    heartbeat.update(workspace.root, {(heartbeat.CODE, ()): 0, (heartbeat.SUCCESS, ()): 1_700_000_000})
    came_to, _, success = metrics(workspace)
    result = CliRunner().invoke(encore.app, ["retrain", "-w", str(workspace.root), "-t", "repeat_order", "--as-of", "2024-03-01"])
    assert encore.exit_code(result.exception) == 6
    assert metrics(workspace) == ({**came_to, "repeat_order": "no usable data"}, 6, success)


def test_a_task_whose_events_are_missing_is_refused_by_their_names(workspace):
    with pytest.raises(NoUsableData, match="first_order needs events that the log does not have: product_view"):
        run_retrain(workspace, END, ("first_order",))


# --- the command ----------------------------------------------------------------------------------------------------


def command(**settings: str) -> tuple[int, str, float]:
    """A retrain as a scheduler starts it: exit code, what was said, seconds."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "encore", "retrain"], env={**os.environ, **settings}, cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr, time.monotonic() - began


def test_a_second_retrain_of_the_workspace_exits_4_and_names_the_first(workspace):
    with exclusive(workspace.root / ".retrain.lock", "A retrain of this workspace"):
        caught = CliRunner().invoke(encore.app, ["retrain", "-w", str(workspace.root)]).exception
    assert encore.exit_code(caught) == 4
    assert f"already running (process {os.getpid()})" in str(caught)


def test_with_wait_a_second_retrain_begins_when_the_first_has_ended(workspace):
    first = ExitStack()
    first.enter_context(exclusive(workspace.root / ".retrain.lock", "A retrain of this workspace"))
    began, held = time.monotonic(), 0.5
    Timer(held, first.close).start()
    with pytest.raises(NoUsableData):
        run_retrain(workspace, date(2024, 3, 1), ("repeat_order",), wait=True)
    assert time.monotonic() - began >= held


def test_without_the_registry_a_retrain_exits_5_within_seconds(workspace, tmp_path):
    (tmp_path / "encore.toml").write_bytes(workspace.shop_file.read_bytes())
    code, said, seconds = command(ENCORE_WORKSPACE=str(tmp_path), ENCORE_MLFLOW_URI="http://127.0.0.1:9")
    assert code == 5
    assert seconds < 60, "the client of a registry that is down would wait for four minutes"
    assert "MLflow at http://127.0.0.1:9 did not do what was asked" in said
    assert "it resumes" in said
