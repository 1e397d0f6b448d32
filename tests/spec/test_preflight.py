"""The pre-flight check: what a task needs, what the data have, and what to do, before anything is trained."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console
from typer.testing import CliRunner

import encore
from features.events import EventLog
from features.shop import simulate
from features.shopfile import Shop
from features.store import SnapshotStore
from features.tiles import Tiles, open_tiles
from training import preflight as module
from training.preflight import Check, Verdict, preflight
from training.preflight_said import show
from training.task import AskedTask
from training.tasks import TASKS

ASKED = AskedTask(TASKS["repeat_order"], 30, 30)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Tiles, SnapshotStore]:
    folder = tmp_path_factory.mktemp("preflight")
    log = EventLog(folder / "log", "UTC", "EUR")
    log.append(simulate(users=400, days=300, seed=5).batch)
    return open_tiles(log, Shop("Test shop", "UTC", "EUR"), folder / "tiles"), SnapshotStore(folder / "snapshots")


@pytest.fixture(scope="module")
def checks(world):
    tiles, store = world
    return {check.name: check for check in preflight(ASKED, tiles.log.complete_until, tiles, store)}


def test_everything_that_decides_is_checked(checks):
    assert list(checks) == ["span", "gaps", "test cutoffs", "positives", "negatives", "missing values", "leaks"]
    assert checks["span"].seen == "298 days"
    assert checks["span"].required.startswith("150 days")
    assert checks["span"].verdict is Verdict.PASS


def test_few_customers_are_a_warning_with_what_follows(checks):
    count = int(checks["positives"].seen.split()[0])
    assert 30 <= count < 500
    assert checks["positives"].verdict is Verdict.WARN
    assert "graded indicative" in checks["positives"].advice
    assert checks["gaps"].verdict is Verdict.PASS
    assert checks["gaps"].advice == ""


def test_too_short_a_span_fails_with_a_shorter_horizon_to_try(world):
    tiles, store = world
    early = tiles.log.complete_until - timedelta(days=200)
    first = preflight(ASKED, early, tiles, store)[0]
    assert first.verdict is Verdict.FAIL
    assert "too few to train and to test" in first.advice or "[horizons] repeat_order = 15" in first.advice


def test_a_task_without_its_events_fails_by_name(tmp_path):
    events = simulate(users=100, days=150, seed=5).batch
    log = EventLog(tmp_path / "log", "UTC", "EUR")
    log.append(replace(events, events=events.events.filter(pc.is_in(events.events["event"], pa.array(["order", "order_item"])))))
    tiles = open_tiles(log, Shop("Test shop", "UTC", "EUR"), tmp_path / "tiles")
    (failed,) = preflight(AskedTask(TASKS["uplift"], 14, 14), log.complete_until, tiles, SnapshotStore(tmp_path / "snapshots"))
    assert failed.verdict is Verdict.FAIL
    assert "campaign_received, held_out" in failed.advice


def test_a_feature_that_knows_too_much_fails_until_signed_off(world, monkeypatch):
    tiles, store = world
    monkeypatch.setattr(module, "LARGEST_SINGLE_AUC", 0.55)
    leak = preflight(ASKED, tiles.log.complete_until, tiles, store)[-1]
    assert (leak.name, leak.verdict) == ("leaks", Verdict.FAIL)
    assert "signed_off = [" in leak.advice


def test_a_missing_file_shows_as_a_gap(world, tmp_path):
    played = simulate(users=400, days=200, seed=6).batch
    day = played.events["occurred_at"].to_pandas().dt.day_of_year
    holed = replace(played, events=played.events.filter(pa.array(((day < 100) | (day >= 125)).to_numpy())))
    log = EventLog(tmp_path / "log", "UTC", "EUR")
    log.append(holed)
    tiles = open_tiles(log, Shop("Test shop", "UTC", "EUR"), tmp_path / "tiles")
    gap = next(check for check in preflight(ASKED, log.complete_until, tiles, SnapshotStore(tmp_path / "snapshots")) if check.name == "gaps")
    assert gap.verdict is Verdict.WARN
    assert gap.seen == "25 days without an order, from 2024-04-09"
    assert "ingest it" in gap.advice


def test_the_command_prints_one_line_per_check_and_its_exit_code_says_whether_anything_can_be_trained(tmp_path):
    toml = 'name = "Small"\nzone = "UTC"\ncurrency = "EUR"\ntasks = ["repeat_order"]\n[[sources]]\nkind = "simulated"\nusers = 300\ndays = {days}\nseed = 1\n'
    for days, code in ((300, 0), (100, 6)):
        place = tmp_path / str(days)
        place.mkdir()
        (place / "encore.toml").write_text(toml.format(days=days))
        runner = CliRunner()
        assert runner.invoke(encore.app, ["ingest", "--workspace", str(place)]).exit_code == 0
        answer = runner.invoke(encore.app, ["check", "--workspace", str(place), "--json"])
        lines = [json.loads(line) for line in answer.stdout.splitlines() if line.startswith("{")]
        assert {"task", "name", "seen", "required", "verdict", "advice"} == set(lines[0])
        assert (answer.exception is None) == (code == 0), answer.output


def test_a_person_reads_each_finding_once_failures_first_with_brackets_as_they_are():
    gap = {"seen": "11 days without an order", "required": "at most 7 days", "verdict": Verdict.WARN, "advice": "A file may be missing."}
    checks = [
        Check("repeat_order", "span", "373 days", "270 days", Verdict.PASS),
        Check("repeat_order", "gaps", **gap),
        Check("value", "gaps", **gap),
        Check("churn", "data", "not enough", "events", Verdict.FAIL, "Ingest a longer history ([horizons])."),
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    show(checks, console)
    printed = console.export_text()
    lines = [" ".join(line.split()) for line in printed.splitlines() if line.strip()]
    assert lines == [
        "prediction can be trained because of",
        "repeat_order yes, with less trust gaps",
        "value yes, with less trust gaps",
        "churn no data",
        "data (churn): not enough; required: events.",
        "Ingest a longer history ([horizons]).",
        "gaps (repeat_order, value): 11 days without an order; required: at most 7 days.",
        "A file may be missing.",
    ]
