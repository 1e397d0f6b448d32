"""Any past score again, from a user and a moment: to the bit, or where it differs; never of somebody who is withheld."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from encore import app
from features.errors import BelowExpectation, InvalidUse, NoRelease, NoUsableData, UnknownName
from features.files import sha256_of
from features.workspace import open_workspace
from serving.ledger import Ledger
from serving.pointer import history
from serving.quality.commands import moment_of
from serving.quality.judge import look
from serving.quality.replay import in_service, replay
from serving.quality.runs import all_runs
from serving.quality.store import Judgement, append, judgements
from serving.quality.track import track
from serving.release import load_release
from serving.runs import score_run
from serving.scorer import Scorer
from serving.tombstones import tombstone, write_tombstones
from training.tracking import Tracking

TASKS = ("repeat_order", "churn", "lookalike")
FAR = datetime(2100, 1, 1, tzinfo=UTC)


def scored_users(past, task):
    table = pq.read_table(past.run.folder / "part-00000.parquet", filters=[("model", "=", task)])
    return table["user_id"].to_pylist()


@pytest.mark.parametrize("task", TASKS)
def test_scores_of_many_users_come_again_to_the_bit_from_their_release(scored_once, task):
    users = scored_users(scored_once, task)
    for user in users[:: max(1, len(users) // 7)]:
        again = replay(scored_once.workspace, user, task, FAR)
        assert (again.differs, again.run, again.source) == ({}, scored_once.run.folder.name, "the release")
        assert again.stored == again.again
        assert again.reasons


def test_a_score_that_was_served_otherwise_is_named_with_both_numbers(past):
    """One bit of a stored score is turned, and the run described anew so that its hashes hold."""
    (user,) = scored_users(past, "repeat_order")[:1]
    part = past.run.folder / "part-00000.parquet"
    table = pq.read_table(part)
    place = list(zip(table["user_id"].to_pylist(), table["model"].to_pylist(), strict=True)).index((user, "repeat_order"))
    values = table["probability"].to_numpy().copy()
    served, values[place] = values[place], np.nextafter(values[place], 1)
    pq.write_table(table.set_column(table.column_names.index("probability"), "probability", [values]), part)
    manifest = json.loads((past.run.folder / "run.json").read_bytes())
    manifest["parts"][0]["sha256"] = sha256_of(part)
    (past.run.folder / "run.json").write_text(json.dumps(manifest))
    assert replay(past.workspace, user, "repeat_order", FAR).differs == {"probability": (np.nextafter(served, 1), served)}
    said = CliRunner().invoke(app, ["replay", user, "--task", "repeat_order", "--at", "2100-01-01", "--workspace", str(past.workspace.root)])
    assert isinstance(said.exception, BelowExpectation)
    assert "probability came out otherwise" in str(said.exception)


def test_the_release_that_answers_is_the_one_in_service_at_the_moment(past):
    moves = [
        {"at": "2024-09-01T03:00:00.000+00:00", "who": "a", "action": "publish", "from": None, "to": "2024-09-01-aa"},
        {"at": "2024-09-02T03:00:00.000+00:00", "who": "a", "action": "publish", "from": "2024-09-01-aa", "to": "2024-09-02-bb"},
        {"at": "2024-09-02T09:30:00.000+00:00", "who": "a", "action": "rollback", "from": "2024-09-02-bb", "to": "2024-09-01-aa"},
    ]
    (past.workspace.releases / "history.jsonl").write_text("".join(json.dumps(move) + "\n" for move in moves))
    assert len(history(past.workspace.releases)) == 3
    asked = {"2024-09-01": "2024-09-01-aa", "2024-09-02T02:59": "2024-09-01-aa", "2024-09-02T09:29": "2024-09-02-bb", "2024-09-02": "2024-09-01-aa"}
    assert {text: in_service(past.workspace, moment_of(text, UTC))[1] for text in asked} == asked
    with pytest.raises(NoRelease, match="the first release came at 2024-09-01"):
        in_service(past.workspace, moment_of("2024-08-31", UTC))
    with pytest.raises(InvalidUse, match="such as 2026-10-01 or 2026-10-01T09:30"):
        moment_of("yesterday", UTC)
    with pytest.raises(NoUsableData, match="Restore releases/2024-09-01-aa"):
        replay(past.workspace, "user-000001", "repeat_order", moment_of("2024-09-01", UTC))


@pytest.mark.parametrize("kind", ["suppressed", "deleted"])
def test_withheld_users_are_refused(past, kind):
    (user,) = scored_users(past, "repeat_order")[:1]
    write_tombstones(past.workspace.releases, {tombstone(user.encode()): kind})
    with pytest.raises(InvalidUse, match="no score of them is shown"):
        replay(past.workspace, user, "repeat_order", FAR)


def test_who_was_not_asked_about_was_not_then_and_is_not_now(past):
    release = load_release(past.workspace.releases / past.run.manifest["release"])
    row = int(np.flatnonzero(np.isnan(release.scores["repeat_order"].score))[0])
    for user in (release.users[row].decode(), "nobody"):
        again = replay(past.workspace, user, "repeat_order", FAR)
        assert (again.stored, again.again, again.differs) == (None, None, {})
    with pytest.raises(UnknownName, match="Did you mean"):
        replay(past.workspace, "nobody", "repeat_ordr", FAR)


def test_a_run_says_what_it_promised_and_older_ones_are_read_by_their_release(past):
    (run,) = all_runs(past.workspace)
    manifest = json.loads((run.folder / "run.json").read_bytes())
    told = manifest.pop("predictions")
    assert told["repeat_order"]["horizon_days"] == 30
    (run.folder / "run.json").write_text(json.dumps(manifest))
    assert all_runs(past.workspace)[0].predictions == told


def test_when_the_release_is_gone_the_log_and_mlflow_give_the_same_bits(small_workspace, tmp_path):
    """By the real registry: published, scored, the release deleted, later days ingested are not needed for it."""
    root = shutil.copytree(small_workspace.root, tmp_path / "workspace")
    workspace = open_workspace(root, environment={})  # a copy of MLflow's database, which names the artifacts of the original
    (release_id,) = {moved["to"] for moved in history(workspace.releases)}
    run = score_run(Scorer(load_release(workspace.releases / release_id), timedelta(hours=48)), root / "scores")
    user = pq.read_table(run.folder / "part-00000.parquet", columns=["user_id"])["user_id"][5].as_py()
    before = replay(workspace, user, "repeat_order", FAR)
    shutil.rmtree(workspace.releases / release_id)
    shutil.rmtree(root / "snapshots")
    again = replay(workspace, user, "repeat_order", FAR)
    assert (again.differs, again.notes, again.stored) == ({}, (), before.stored)
    assert again.source.startswith("the event log")
    assert [reason.contribution for reason in again.reasons] == [reason.contribution for reason in before.reasons]


def test_what_a_judgement_found_is_logged_to_the_run_of_the_model_that_served_once(small_workspace, tmp_path):
    root = shutil.copytree(small_workspace.root, tmp_path / "workspace")
    workspace = open_workspace(root, environment={})
    release_id = history(workspace.releases)[-1]["to"]
    run = score_run(Scorer(load_release(workspace.releases / release_id), timedelta(hours=48)), root / "scores")
    ledger, now = Ledger(workspace.ledger_url), datetime.now(UTC)
    look(workspace, ledger)  # notes the run; its time is not over
    facts = {"all": {"rows": 9, "metrics": {"auc": {"value": 0.75, "low": 0.7, "high": 0.8}}, "promised": {"auc": {"value": 0.76, "low": None, "high": None}}}}
    with ledger.connection() as connection:
        append(connection, None, Judgement("", run.folder.name, "repeat_order", 0, "w", "c", now, facts, []))
    track(workspace, ledger)
    track(workspace, ledger)
    (judgement,) = judgements(ledger)
    assert judgement.tracked_at is not None
    tracking = Tracking(workspace, "Small shop")
    run_id = run.manifest["predictions"]["repeat_order"]["run_id"]
    day = (all_runs(workspace)[0].as_of - date(1970, 1, 1)).days
    logged = {name: [(one.value, one.step) for one in tracking.client.get_metric_history(run_id, name)] for name in ("realised.all.auc", "promised.all.auc")}
    assert logged == {"realised.all.auc": [(0.75, day)], "promised.all.auc": [(0.76, day)]}
