"""F13, F45: who was suppressed or deleted is in no answer from then on, whichever release is in service and whenever it was made."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import encore
from features import identity
from features.files import digest_of
from features.workspace import Workspace, open_workspace
from serving import commands
from serving.ledger import Ledger
from serving.pointer import current_id, point_to, rollback
from serving.publish import publish
from serving.release import load_release
from serving.tombstones import FILE, read_tombstones, tombstone, write_tombstones
from serving.work import work

TASKS = ("repeat_order", "churn", "lookalike")


@pytest.fixture
def bystander(published):
    """Somebody who stays."""
    return eligible(published)[2]


@pytest.fixture
def ann(published):
    """Suppressed after the publication."""
    return eligible(published)[0]


@pytest.fixture
def bob(published):
    """Deleted after the publication."""
    return eligible(published)[1]


def eligible(published):
    """Users whom all three predictions are about, the best churners first: an audience has them."""
    release = load_release(published.root / published.second)
    score = sum(release.scores[task].score for task in TASKS)
    best = (-release.scores["churn"].score).argsort()
    return [release.users[row].decode() for row in best if score[row] == score[row]]


@pytest.fixture
def service(releases, serve, tmp_path, ann, bob):
    """A service that ran before the two were buried, with an audience of everybody."""
    client = serve(releases, tmp_path)
    assert client.post("/v1/audiences", {"task": "churn", "top_percent": 100, "name": "all"}).status == 201
    assert client.get(f"/v1/journeys/all/{ann}").json["branch"] == "in"
    write_tombstones(releases, {tombstone(ann.encode()): "no_profiling", tombstone(bob.encode()): "deleted"})
    client.app.state.current.refresh()
    return client


def statuses(client, user):
    """The status of a user's score by every way there is to ask for it."""
    found = set()
    for task in TASKS:
        asked = [client.get(f"/v1/scores/{task}/{user}").json, client.get(f"/v1/scores/{task}/{user}?reasons=true").json]
        asked += client.post(f"/v1/scores/{task}", {"user_ids": [user]}).json["scores"]
        asked += client.post(f"/v1/scores/{task}", {"user_ids": [user], "reasons": True}).json["scores"]
        found |= {(score["status"], score["score"], score["percentile"], score["stage"], score["reasons"] is None) for score in asked}
    return found | {
        (score["status"], score["score"], score["percentile"], score["stage"], True) for score in client.get(f"/v1/users/{user}/scores").json["scores"]
    }


def test_every_way_to_ask_says_suppressed_or_not_found_and_nothing_else(service, ann, bob):
    assert statuses(service, ann) == {("SUPPRESSED", None, None, None, True)}
    assert statuses(service, bob) == {("NOT_FOUND", None, None, None, True)}


def test_others_in_the_same_call_are_scored_as_before(service, ann, bob, bystander, shared_client):
    before = shared_client.get(f"/v1/scores/churn/{bystander}").json
    scores = service.post("/v1/scores/churn", {"user_ids": [ann, bystander, bob, "nobody", ""]}).json["scores"]
    assert [score["status"] for score in scores] == ["SUPPRESSED", "OK", "NOT_FOUND", "NOT_FOUND", "INVALID"]
    assert scores[1] == before


@pytest.mark.parametrize("audience", ["churn", "all"])
def test_a_journey_falls_back_and_says_why(service, ann, bob, bystander, audience):
    answers = {user: service.get(f"/v1/journeys/{audience}/{user}").json for user in (ann, bob, bystander)}
    assert [(answer["branch"], answer["status"], answer["score"]) for answer in (answers[ann], answers[bob])] == [
        ("fallback", "SUPPRESSED", None),
        ("fallback", "NOT_FOUND", None),
    ]
    assert answers[bystander]["branch"] in ("in", "low", "medium", "high")


def test_audiences_count_and_name_them_no_more(service, shared_client, ann, bob):
    cut = {"task": "churn", "top_percent": 100}
    before, after = shared_client.post("/v1/audiences", cut).json, service.post("/v1/audiences", cut).json
    assert (after["size"], after["eligible"]) == (before["size"] - 2, before["eligible"] - 2)
    members = service.get("/v1/audiences/all/members?limit=10000").json["user_ids"]
    assert len(members) == after["size"]
    assert not {ann, bob} & {*members}


def test_exports_and_score_runs_leave_them_out(service, releases, tmp_path, ann, bob, bystander):
    job = service.post("/v1/audiences/all/exports?format=parquet").json
    workspace = Workspace(releases.parent, "", f"sqlite:///{tmp_path / 'ledger.db'}")
    assert work(workspace, Ledger(workspace.ledger_url), once=True) == 1
    exported = pq.read_table(workspace.exports / service.get(f"/v1/jobs/{job['id']}").json["result"]["file"])["user_id"].to_pylist()
    commands.score(workspace=releases.parent, out=tmp_path / "scores.parquet")
    scored = pq.read_table(tmp_path / "scores.parquet")["user_id"].to_pylist()
    for written in (exported, scored):
        assert bystander in written
        assert not {ann, bob} & {*written}


def test_a_rollback_brings_nobody_back(service, releases, published, ann, bob):
    assert rollback(releases) == published.first
    service.app.state.current.refresh()
    assert service.get("/health/ready").json["release"] == published.first
    assert {status for status, *_ in statuses(service, ann) | statuses(service, bob)} == {"SUPPRESSED", "NOT_FOUND"}


def test_nor_does_a_service_that_starts_later(service, releases, serve, tmp_path, ann):
    assert {status for status, *_ in statuses(serve(releases, tmp_path), ann)} == {"SUPPRESSED"}


def test_somebody_who_is_in_no_snapshot_is_known_to_be_suppressed(service, releases):
    write_tombstones(releases, {tombstone("顾客".encode()): "suppressed"})
    service.app.state.current.refresh()
    assert service.get("/v1/scores/churn/%E9%A1%BE%E5%AE%A2").json["status"] == "SUPPRESSED"
    assert service.post("/v1/scores/churn", {"user_ids": ["顾客", "half \ud800"]}).json["scores"][0]["status"] == "SUPPRESSED"


def test_a_list_that_vanishes_or_is_damaged_takes_nobody_back_and_no_new_service_answers_from_a_damaged_one(service, releases, serve, tmp_path, ann):
    (releases / FILE).write_text((releases / FILE).read_text().replace("no_profiling", "deleted"))
    service.app.state.current.refresh()
    assert {status for status, *_ in statuses(service, ann)} == {"SUPPRESSED"}
    assert "encore publish" in service.get("/health/ready").json["failure"]
    late = serve(releases, tmp_path)
    assert (late.get("/health/ready").status, late.get(f"/v1/scores/churn/{ann}").status, late.get(f"/v1/journeys/churn/{ann}").status) == (503, 503, 200)
    (releases / FILE).unlink()
    service.app.state.current.refresh()
    assert {status for status, *_ in statuses(service, ann)} == {"SUPPRESSED"}
    assert service.get("/health/ready").json["failure"] is None


def test_tombstones_count_though_the_pointer_names_a_release_that_is_refused(service, releases, published, bystander):
    (releases / published.first / "release.json").write_text("{")
    point_to(releases, published.first)
    write_tombstones(releases, {tombstone(bystander.encode()): "suppressed"})
    service.app.state.current.refresh()
    assert service.get(f"/v1/scores/churn/{bystander}").json["status"] == "SUPPRESSED"


def test_the_list_only_grows_and_nobody_who_was_deleted_becomes_suppressed(tmp_path):
    one, two = tombstone(b"ann@shop"), tombstone(b"bob@shop")
    assert write_tombstones(tmp_path, {one: "deleted"}) == 1
    assert write_tombstones(tmp_path, {one: "no_marketing", two: "no_profiling"}) == 2
    assert read_tombstones(tmp_path) == {one: "deleted", two: "no_profiling"}
    assert b"@shop" not in (tmp_path / FILE).read_bytes()


def test_what_an_older_list_calls_suppressed_is_no_profiling(tmp_path):
    older = {tombstone(b"u"): "suppressed"}
    (tmp_path / FILE).write_text(json.dumps({"tombstones": older, "sha256": digest_of(older)}))
    assert read_tombstones(tmp_path) == {tombstone(b"u"): "no_profiling"}


@pytest.mark.parametrize("user", ["u", "", "顾客", "a b", "x" * 256])
def test_a_tombstone_is_the_logs(user):
    assert tombstone(user.encode()) == identity.tombstone(user)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"tombstones": {}}', '{"tombstones": {"a": "b"}, "sha256": ""}', '{"tombstones": 5, "sha256": 5}'])
def test_a_list_that_is_none_is_refused_and_mended_from_the_log(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(Exception, match="damaged"):
        read_tombstones(tmp_path)
    write_tombstones(tmp_path, {tombstone(b"u"): "deleted"})
    assert read_tombstones(tmp_path) == {tombstone(b"u"): "deleted"}


def test_the_commands_reach_the_service_and_the_next_release(small_workspace, serve, tmp_path, monkeypatch):
    root = tmp_path / "workspace"
    shutil.copytree(small_workspace.root, root, ignore=shutil.ignore_patterns("mlflow"))
    monkeypatch.setenv("ENCORE_MLFLOW_URI", small_workspace.mlflow_uri)
    client, release = serve(root / "releases", tmp_path), load_release(root / "releases" / current_id(root / "releases"))
    scores = release.scores["repeat_order"].score
    ann, bob, carl = (release.users[row].decode() for row in (scores == scores).nonzero()[0][:3])
    for command, user in (("suppress", ann), ("forget", bob)):
        told = CliRunner().invoke(encore.app, [command, user, "--workspace", str(root)])
        assert told.exit_code == 0, told.output
    client.app.state.current.refresh()

    def told():
        return [client.get(f"/v1/scores/repeat_order/{user}").json["status"] for user in (ann, bob, carl)]

    served = load_release(root / "releases" / client.get("/health/ready").json["release"])
    assert (told(), served.manifest["formerly"]) == (["SUPPRESSED", "NOT_FOUND", "OK"], [release.id])  # without bob's row

    made = publish(open_workspace(root))
    client.app.state.current.refresh()
    assert (told(), client.get("/health/ready").json["release"], made != release.id) == (["SUPPRESSED", "NOT_FOUND", "OK"], made, True)
    now = load_release(root / "releases" / made)
    assert len(now.users) == len(release.users) - 2
    assert {*json.loads((root / "releases" / made / FILE).read_bytes())["tombstones"].values()} == {"no_profiling", "deleted"}
    assert {*now.labels} >= {"layers_layer", "layers_rfm_group"}

    (root / "releases" / FILE).unlink()  # the release still knows what was known when it was made
    assert serve(root / "releases", tmp_path).get(f"/v1/scores/repeat_order/{ann}").json["status"] == "SUPPRESSED"
