"""`GET /v1/preflight`: what `encore check` said, also where no model exists; unknown where nobody asked."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest
from typer.testing import CliRunner

import encore
from features.workspace import open_workspace
from serving.app import create_app, service_settings
from training.preflight_notes import FILE, note_checks, note_outcomes

SHOP = """
name = "Young shop"
zone = "UTC"
currency = "EUR"
tasks = ["repeat_order", "churn"]

[[sources]]
kind = "simulated"
users = 80
days = 220
seed = 1

[horizons]
repeat_order = 30
churn = 200
"""
PASSED = {"task": "churn", "name": "span", "seen": "298 days", "required": "150 days", "verdict": "pass", "advice": ""}
FAILED = {**PASSED, "name": "positives", "verdict": "fail", "advice": "Collect more data."}


@pytest.fixture
def workspace(tmp_path):
    place = open_workspace(tmp_path / "workspace", environment={})
    place.root.mkdir()
    return place


@pytest.fixture
def ask(workspace, shared_client):
    client = type(shared_client)(create_app(service_settings(workspace, {})))
    return lambda: client.get("/v1/preflight")


def test_nothing_is_known_before_the_first_check_and_the_answer_says_what_to_run(ask):
    answer = ask()
    assert (answer.status, answer.json["state"], answer.json["predictions"]) == (200, "unknown", [])
    assert "encore check" in answer.json["next"]


def test_what_the_command_printed_is_served_where_no_model_exists(workspace, ask):
    workspace.shop_file.write_text(SHOP)
    runner = CliRunner()
    assert runner.invoke(encore.app, ["ingest", "--workspace", str(workspace.root)]).exit_code == 0
    printed = runner.invoke(encore.app, ["check", "--workspace", str(workspace.root), "--json"])
    lines = [json.loads(line) for line in printed.stdout.splitlines() if line.startswith("{")]
    answer = ask().json
    served = [{"task": one["task"], **check} for one in answer["predictions"] for check in one["checks"]]
    assert sorted(served, key=json.dumps) == sorted(lines, key=json.dumps)
    assert (answer["state"], answer["next"]) == ("known", None)
    found = {one["task"]: one for one in answer["predictions"]}
    assert (found["churn"]["verdict"], set(found)) == ("fail", {"repeat_order", "churn"})
    assert found["churn"]["as_of"] == "2024-08-08"  # 220 days from the first of January
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found["churn"]["checked_at"])).total_seconds()) < 600


def test_a_retrain_is_noted_beside_the_checks_and_a_later_check_of_one_prediction_leaves_the_others(workspace, ask):
    note_checks(workspace.root, date(2024, 5, 1), {"churn": [PASSED, FAILED], "repeat_order": [PASSED]})
    note_outcomes(workspace.root, {"churn": ("no usable data", "Too few."), "first_order": ("promoted", "Better.")})
    note_checks(workspace.root, date(2024, 6, 1), {"churn": [PASSED]})
    found = {one["task"]: one for one in ask().json["predictions"]}
    assert {task: (one["verdict"], one["as_of"]) for task, one in found.items()} == {
        "churn": ("pass", "2024-06-01"),
        "repeat_order": ("pass", "2024-05-01"),
        "first_order": (None, None),
    }
    assert {task: one["retrain"] and one["retrain"]["state"] for task, one in found.items()} == {
        "churn": "no usable data",
        "repeat_order": None,
        "first_order": "promoted",
    }


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 9, "predictions": {}}', '{"format": 1, "predictions": {"churn": 7}}'])
def test_a_file_that_nobody_can_read_is_as_good_as_none(workspace, ask, content):
    (workspace.root / FILE).parent.mkdir()
    (workspace.root / FILE).write_text(content)
    assert (ask().status, ask().json["state"]) == (200, "unknown")


def test_notes_that_cannot_be_written_stop_nothing(workspace, tmp_path):
    (workspace.root / "metrics").write_text("a file where the folder should be")
    note_outcomes(workspace.root, {"churn": ("promoted", "Better.")})
    note_outcomes(tmp_path / "mistyped", {"churn": ("promoted", "Better.")})
    assert not (tmp_path / "mistyped").exists()
