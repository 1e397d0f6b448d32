"""A user has one score: from the service, the model, the release's store and the batch, alone or among all, to the last bit."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.workspace import Workspace
from serving import commands
from serving.ledger import Ledger
from serving.release import load_release
from serving.work import work

TASKS = ("repeat_order", "churn", "lookalike")
STATES = {"OK", "NOT_ELIGIBLE"}


@pytest.fixture(scope="module")
def release(published):
    return load_release(published.root / published.second)


@pytest.fixture(scope="module")
def batch(published, tmp_path_factory):
    """What `encore score` writes."""
    out = tmp_path_factory.mktemp("batch") / "scores.parquet"
    commands.score(workspace=published.root.parent, out=out)
    return pq.read_table(out).to_pandas()


@pytest.fixture(scope="module")
def rest(published, serve, tmp_path_factory):
    """Task -> every user's answer over HTTP, in the order of the snapshot."""
    client, users = serve(published.root, tmp_path_factory.mktemp("ledger")), list(published.snapshot.user_ids)
    return {task: client.post(f"/v1/scores/{task}", {"user_ids": users}).json["scores"] for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_service_model_store_and_batch_agree_on_everybody_to_the_bit(task, published, release, rest, batch):
    bundle, stored = published.bundles[task], release.scores[task]
    eligible = ~np.isnan(stored.score)
    rows = published.snapshot.matrix(bundle.features)[eligible]
    together = bundle.scores(rows)
    alone = np.concatenate([bundle.scores(row[None]) for row in rows])
    written = batch[batch["model"] == task].set_index("user_id")
    answers = [answer for answer in rest[task] if answer["score"] is not None]
    users = [answer["user_id"] for answer in answers]

    assert stored.score[eligible].tobytes() == together.tobytes() == alone.tobytes()
    assert users == list(published.snapshot.user_ids[eligible]) == list(written.index)
    assert (
        np.array([answer["percentile"] for answer in answers]).tobytes() == stored.percentile[eligible].tobytes() == written["percentile"].to_numpy().tobytes()
    )
    assert [answer["stage_percentile"] for answer in answers] == stored.stage_percentile[eligible].tolist() == written["stage_percentile"].tolist()
    if bundle.calibrated:
        probability = np.array([answer["probability"] for answer in answers])
        assert probability.tobytes() == together.tobytes() == written["probability"].to_numpy(dtype=float).tobytes()
    else:
        assert {answer["probability"] for answer in answers} == {None}
        assert written["probability"].isna().all()
    for name in ("score", "band", "stage", "model_version", "release"):
        assert [answer[name] for answer in answers] == written[name].tolist()


@pytest.mark.parametrize("task", TASKS)
def test_batch_has_one_row_for_each_user_asked_about_and_none_for_others(task, rest, batch):
    states = {answer["user_id"]: answer["status"] for answer in rest[task]}
    written = batch.loc[batch["model"] == task, "user_id"]
    assert set(states.values()) == STATES
    assert written.is_unique
    assert set(written) == {user for user, status in states.items() if status == "OK"}


def test_one_by_one_over_http_is_the_same_as_together(published, serve, rest, tmp_path):
    client = serve(published.root, tmp_path)
    for task in TASKS:
        assert [client.get(f"/v1/scores/{task}/{answer['user_id']}").json for answer in rest[task][::10]] == rest[task][::10]


def test_a_batch_of_some_tasks_is_that_part_of_the_whole(published, batch, tmp_path):
    commands.score(workspace=published.root.parent, out=tmp_path / "some.parquet", task=["churn"])
    some = pq.read_table(tmp_path / "some.parquet").to_pandas()
    assert some.equals(batch[batch["model"] == "churn"].reset_index(drop=True))


def test_percentiles_count_those_below_and_half_of_the_equals(release):
    for task in TASKS:
        score = release.scores[task].score
        known = score[~np.isnan(score)]
        expected = [100 * ((known < one).sum() + 0.5 * (known == one).sum()) / len(known) for one in known]
        np.testing.assert_allclose(release.scores[task].percentile[~np.isnan(score)], expected, rtol=0, atol=1e-12)


def test_an_export_agrees_with_the_scores(releases, serve, rest, tmp_path):
    client = serve(releases, tmp_path)
    client.post("/v1/audiences", {"task": "lookalike", "top_percent": 100, "name": "all"})
    job = client.post("/v1/audiences/all/exports?format=parquet").json
    workspace = Workspace(releases.parent, "", f"sqlite:///{tmp_path / 'ledger.db'}")
    assert work(workspace, Ledger(workspace.ledger_url), once=True) == 1
    written = pq.read_table(workspace.exports / client.get(f"/v1/jobs/{job['id']}").json["result"]["file"]).to_pandas()
    expected = {answer["user_id"]: answer["percentile"] for answer in rest["lookalike"] if answer["status"] == "OK"}
    assert dict(zip(written["user_id"], written["percentile"], strict=True)) == expected
