"""What `/v1/audiences` promises: exactly the best, honest numbers, one name one rule, an export that is the members."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.workspace import Workspace
from serving.audiences.cut import cut
from serving.audiences.rules import SETTINGS, InvalidRule, Rule
from serving.destinations.files import write_csv
from serving.jobs import Jobs
from serving.ledger import Ledger
from serving.release import load_release
from serving.work import work

PATH = "/v1/audiences"
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def release(published):
    return load_release(published.root / published.second)


def best_first(release, task):
    """A slow, obvious ranking: by score, then by id."""
    scored = [(-score, user) for score, user in zip(release.scores[task].score, release.users, strict=True) if not np.isnan(score)]
    return [user for _, user in sorted(scored)]


def members(release, rule):
    return list(release.users[cut(release, rule).rows])


# --- whom a rule picks ----------------------------------------------------------------------------------------------


@FEW
@given(task=st.sampled_from(["repeat_order", "churn", "lookalike"]), number=st.integers(1, 1_000))
def test_top_n_takes_exactly_the_best(release, task, number):
    assert members(release, Rule(task, top_n=number)) == best_first(release, task)[:number]


@FEW
@given(task=st.sampled_from(["repeat_order", "churn", "lookalike"]), percent=st.floats(0, 100, exclude_min=True))
def test_top_percent_takes_that_share_of_the_eligible_and_the_best_of_them(release, task, percent):
    ranked = best_first(release, task)
    taken = members(release, Rule(task, top_percent=percent))
    assert abs(len(taken) - len(ranked) * percent / 100) <= 0.5
    assert taken == ranked[: len(taken)]


@FEW
@given(task=st.sampled_from(["repeat_order", "churn"]), least=st.floats(0, 1))
def test_min_probability_takes_all_from_there_up_and_nobody_below(release, task, least):
    taken = set(members(release, Rule(task, min_probability=least)))
    score = release.scores[task].score
    assert taken == {user for user, value in zip(release.users, score, strict=True) if value >= least}


@FEW
@given(task=st.sampled_from(["repeat_order", "churn"]), sizes=st.tuples(st.integers(1, 400), st.integers(1, 400)))
def test_a_larger_audience_holds_the_smaller_one_and_expects_no_less(release, task, sizes):
    small, large = (cut(release, Rule(task, top_n=size)) for size in sorted(sizes))
    assert set(small.rows) <= set(large.rows)
    assert small.expected <= large.expected


@FEW
@given(task=st.sampled_from(["repeat_order", "churn"]), size=st.integers(1, 400))
def test_expected_is_the_sum_of_probabilities_and_the_best_beat_chance(release, task, size):
    audience = cut(release, Rule(task, top_n=size))
    chances = release.scores[task].score[audience.rows]
    everybody = release.scores[task].score[~np.isnan(release.scores[task].score)]
    assert audience.expected == pytest.approx(chances.sum(), abs=1e-9)
    assert audience.at_random == pytest.approx(everybody.mean() * audience.size, abs=1e-9)
    assert 0 <= audience.low <= audience.expected <= audience.high <= audience.size
    assert audience.expected >= audience.at_random - 1e-9


def test_equal_scores_stand_in_the_order_of_ids(release):
    scores = release.scores["churn"]
    flat = replace(scores, score=np.where(np.isnan(scores.score), np.nan, 0.5))
    tied = release.__class__(**{**vars(release), "scores": {"churn": flat}})
    assert members(tied, Rule("churn", top_n=50)) == sorted(members(tied, Rule("churn", top_n=1_000)))[:50]


def test_a_look_alike_promises_no_conversions_and_cannot_be_cut_by_probability(release, client):
    audience = client.post(PATH, {"task": "lookalike", "top_n": 10}).json
    assert (audience["size"], audience["expected_conversions"], audience["expected_low"], audience["at_random"]) == (10, None, None, None)
    with pytest.raises(InvalidRule, match="cut it by top_n or top_percent"):
        cut(release, Rule("lookalike", min_probability=0.5))
    refused = client.post(PATH, {"task": "lookalike", "min_probability": 0.5})
    assert (refused.status, refused.json["type"]) == (422, "urn:encore:problem:invalid-rule")


# --- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cuts", [{}, {"top_n": 1, "top_percent": 1}, {"top_n": 1, "min_probability": 0.1}, {"top_n": 1, "top_percent": 1, "min_probability": 0}]
)
def test_exactly_one_cut_of_a_ranking_must_be_given(client, cuts):
    refused = client.post(PATH, {"task": "churn", **cuts})
    assert (refused.status, refused.headers["content-type"]) == (422, "application/problem+json")
    assert refused.json["errors"][0]["problem"] == f"give one cut of {', '.join(SETTINGS)}; {len(cuts)} were given"


@pytest.mark.parametrize(
    "cut_at",
    [
        {"top_n": 0},
        {"top_n": -1},
        {"top_n": 1.5},
        {"top_n": "1"},
        {"top_percent": 0},
        {"top_percent": 101},
        {"min_probability": 1.1},
        {"skip_percent": 1, "band": "high"},
        {"top_percent": 2, "skip_percent": 2},
        {"top_percent": 2, "skip_percent": -1},
    ],
)
def test_a_cut_out_of_range_is_refused(client, cut_at):
    assert client.post(PATH, {"task": "churn", **cut_at}).status == 422


def test_an_unknown_task_is_not_found(client):
    refused = client.post(PATH, {"task": "chrun", "top_n": 1})
    assert (refused.status, refused.json["detail"]) == (404, "Unknown prediction. Did you mean 'churn'? Known: churn, lookalike, repeat_order.")


def test_without_a_name_nothing_is_kept(client):
    audience = client.post(PATH, {"task": "churn", "top_n": 5})
    assert (audience.status, audience.json["id"], audience.json["name"]) == (200, None, None)
    assert client.get(PATH).json == []


def test_the_same_name_and_rule_again_is_the_same_audience(client):
    request = {"task": "churn", "top_percent": 10, "name": "Going soon"}
    first, again = client.post(PATH, request), client.post(PATH, {**request, "top_percent": 10.0})
    assert (first.status, again.status) == (201, 200)
    assert first.json == again.json == client.get(f"{PATH}/Going%20soon").json == client.get(f"{PATH}/{first.json['id']}").json
    assert client.get(PATH).json == [first.json]
    assert first.json["rule"] == {"task": "churn", "top_percent": 10.0}


def test_the_same_name_with_another_rule_is_a_conflict_and_changes_nothing(client):
    kept = client.post(PATH, {"task": "churn", "top_n": 5, "name": "vip"}).json
    for other in ({"task": "churn", "top_n": 6}, {"task": "repeat_order", "top_n": 5}, {"task": "churn", "top_percent": 5}):
        refused = client.post(PATH, {**other, "name": "vip"})
        assert (refused.status, refused.headers["content-type"], refused.json["type"]) == (409, "application/problem+json", "urn:encore:problem:name-taken")
        assert "top_n" in refused.json["detail"]
    assert client.get(f"{PATH}/vip").json == kept


def test_the_name_of_a_prediction_is_no_name_for_an_audience(client):
    answer = client.post(PATH, {"task": "repeat_order", "top_n": 5, "name": "churn"})
    assert (answer.status, answer.json["type"]) == (409, "urn:encore:problem:name-taken")


@pytest.mark.parametrize("name", ["", " ", "a/b", "../x", "=1+1", "-x", "x" * 201, "a\n", "n\u0000", "名"])
def test_names_that_would_harm_a_path_or_a_sheet_are_refused(client, name):
    assert client.post(PATH, {"task": "churn", "top_n": 5, "name": name}).status == 422


def test_members_come_best_first_a_page_at_a_time(client, release, published):
    client.post(PATH, {"task": "churn", "top_n": 25, "name": "pages"})
    pages, offset = [], 0
    while offset is not None:
        page = client.get(f"{PATH}/pages/members?offset={offset}&limit=10").json
        pages.append(page["user_ids"])
        offset = page["next_offset"]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [user for page in pages for user in page] == [user.decode() for user in best_first(release, "churn")[:25]]
    assert client.get(f"{PATH}/pages/members?offset=25").json == {"release": published.second, "user_ids": [], "next_offset": None}
    assert client.get(f"{PATH}/pages/members?offset=15&limit=10").json["next_offset"] is None
    assert [client.get(f"{PATH}/pages/members?{query}").status for query in ("limit=0", "limit=10001", "offset=-1", "offset=1e3")] == [422] * 4


def test_an_unknown_audience_or_job_is_not_found(client):
    for target in (f"{PATH}/none", f"{PATH}/none/members", "/v1/jobs/none", f"{PATH}/%00%0A"):
        assert (client.get(target).status, client.get(target).headers["content-type"]) == (404, "application/problem+json")
    assert client.post(f"{PATH}/none/exports").status == 404


# --- exports --------------------------------------------------------------------------------------------------------


@pytest.fixture
def workspace(releases):
    return Workspace(releases.parent, "", f"sqlite:///{releases.parent / 'ledger.db'}")


def test_an_export_writes_exactly_the_members(releases, serve, workspace):
    client = serve(releases, workspace.root)
    client.post(PATH, {"task": "churn", "top_n": 30, "name": "Leaving soon"})
    job = client.post(f"{PATH}/Leaving%20soon/exports")
    assert (job.status, job.json["state"], job.json["kind"]) == (202, "queued", "export")
    assert work(workspace, Ledger(workspace.ledger_url), once=True) == 1
    done = client.get(f"/v1/jobs/{job.json['id']}").json
    assert (done["state"], done["result"]["rows"]) == ("done", 30)
    with (workspace.exports / done["result"]["file"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["user_id"] for row in rows] == client.get(f"{PATH}/Leaving%20soon/members").json["user_ids"]
    scores = client.post("/v1/scores/churn", {"user_ids": [row["user_id"] for row in rows]}).json["scores"]
    assert [float(row["percentile"]) for row in rows] == [score["percentile"] for score in scores]
    assert work(workspace, Ledger(workspace.ledger_url), once=True) == 0


def test_names_that_look_alike_export_to_files_of_their_own(releases, serve, workspace):
    client = serve(releases, workspace.root)
    for number, name in enumerate(("vip 1", "vip.1", "VIP-1")):
        client.post(PATH, {"task": "churn", "top_n": number + 1, "name": name})
        client.post(f"{PATH}/{name.replace(' ', '%20')}/exports")
    assert work(workspace, Ledger(workspace.ledger_url), once=True) == 3
    assert sorted(len(file.read_text().splitlines()) - 1 for file in workspace.exports.iterdir()) == [1, 2, 3]


def test_an_export_that_fails_is_told_and_the_worker_goes_on(releases, serve, workspace):
    client = serve(releases, workspace.root)
    client.post(PATH, {"task": "churn", "top_n": 3, "name": "some"})
    jobs = [client.post(f"{PATH}/some/exports").json["id"] for _ in range(2)]
    shutil.rmtree(releases)
    assert work(workspace, Ledger(workspace.ledger_url), once=True) == 2
    for job in jobs:
        failed = client.get(f"/v1/jobs/{job}").json
        assert (failed["state"], failed["result"]["reason"]) == ("failed", "Nothing was published yet. Run: encore publish")


def test_two_workers_never_run_the_same_job(tmp_path):
    first, second = (Jobs(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) for _ in range(2))
    queued = {first.queue("export", {}).id for _ in range(6)}
    taken = [jobs.claim().id for _ in range(3) for jobs in (first, second)]
    assert sorted(taken) == sorted(queued)
    assert first.claim() is None


def test_text_cannot_run_as_a_formula_and_numbers_stay_numbers(tmp_path):
    texts = ["=1+1", "+8613800000000", "-2", "@SUM(A1)", "\tx", "\rx", "\nx", "plain", 'a"b,c', "", None]
    table = pa.table({"user_id": pa.array(texts, pa.string()), "score": pa.array([-1.5] * len(texts))})
    write_csv(table, tmp_path / "export.csv", ("user_id",))
    with (tmp_path / "export.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["user_id"] for row in rows] == ["'=1+1", "'+8613800000000", "'-2", "'@SUM(A1)", "'\tx", "'\rx", "'\nx", "plain", 'a"b,c', "", ""]
    assert {row["score"] for row in rows} == {"-1.5"}
    assert table["user_id"].to_pylist() == texts


# --- a broken ledger ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["a directory", "not a database", "no place for it"])
def test_without_its_ledger_the_service_scores_and_says_that_audiences_must_wait(published, serve, tmp_path, fault):
    client = serve(published.root, tmp_path / "file" if fault == "no place for it" else tmp_path)
    client.app.state.keyring.look()  # a service that could never look lets nobody in: see tests/faults/test_keys.py
    if fault == "a directory":
        (tmp_path / "ledger.db").mkdir()
    elif fault == "not a database":
        (tmp_path / "ledger.db").write_bytes(b"this is no database, " * 100)
    else:
        (tmp_path / "file").write_text("")
    named = {"task": "churn", "top_n": 5, "name": "vip"}
    for answer in (client.post(PATH, named), client.get(PATH), client.get(f"{PATH}/vip"), client.post(f"{PATH}/vip/exports"), client.get("/v1/jobs/x")):
        assert (answer.status, answer.headers["content-type"], answer.headers["retry-after"]) == (503, "application/problem+json", "30")
        assert answer.json["type"] == "urn:encore:problem:ledger-unavailable"
    assert client.post(PATH, {"task": "churn", "top_n": 5}).json["size"] == 5
    assert client.post("/v1/scores/churn", {"user_ids": ["user-000001"]}).status == 200
    assert client.get("/health/ready").status == 200
    assert (client.get("/v1/journeys/vip/user-000001").status, client.get("/v1/journeys/vip/user-000001").json["status"]) == (200, "UNAVAILABLE")


def test_a_ledger_that_comes_back_is_used_again(published, serve, tmp_path):
    client = serve(published.root, tmp_path)
    client.app.state.keyring.look()
    (tmp_path / "ledger.db").mkdir()
    assert client.get(PATH).status == 503
    (tmp_path / "ledger.db").rmdir()
    assert client.get(PATH).status == 200
