"""What `/v1/journeys` promises: 200 in every state, for a non-200 throws the contact out of the journey."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from datetime import timedelta

import pytest

from serving.ledger import Ledger
from serving.pointer import point_to

PATH = "/v1/journeys"
FLAT = (str, int, float, bool, type(None))


def branch(client, target):
    """The body of an answer that must be 200 and flat."""
    answer = client.get(f"{PATH}/{target}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert all(isinstance(value, FLAT) for value in answer.json.values())
    assert answer.json["fallback"] == (answer.json["branch"] == "fallback")
    return answer.json


def test_members_are_in_and_others_out(client):
    client.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "at risk"})
    client.post("/v1/audiences", {"task": "churn", "top_percent": 100, "name": "everybody"})
    members = client.get("/v1/audiences/at%20risk/members").json["user_ids"]
    everybody = client.get("/v1/audiences/everybody/members").json["user_ids"]
    for user in everybody:
        assert branch(client, f"at%20risk/{user}")["branch"] == ("in" if user in members else "out")


def test_an_audience_can_be_asked_for_by_its_id(client):
    audience = client.post("/v1/audiences", {"task": "churn", "top_n": 1, "name": "one"}).json
    member = client.get("/v1/audiences/one/members").json["user_ids"][0]
    assert branch(client, f"{audience['id']}/{member}")["branch"] == "in"


def test_a_predictions_name_gives_the_band_and_the_score(client):
    everybody = client.post("/v1/audiences", {"task": "churn", "top_percent": 100, "name": "everybody"})
    assert everybody.status == 201
    bands = set()
    for user in client.get("/v1/audiences/everybody/members").json["user_ids"][::5]:
        score, answer = client.get(f"/v1/scores/churn/{user}").json, branch(client, f"churn/{user}")
        assert answer["branch"] == score["band"]
        assert {name: answer[name] for name in ("score", "probability", "percentile", "release", "task")} == {
            name: score[name] for name in ("score", "probability", "percentile", "release", "task")
        }
        bands.add(answer["branch"])
    assert bands == {"low", "medium", "high"}


@pytest.mark.parametrize(
    ("user", "status"),
    [("nobody", "NOT_FOUND"), ("%00%0A", "INVALID"), ("", "INVALID"), ("%FF", "NOT_FOUND"), ("a%2Fb/..%2F", "NOT_FOUND"), ("x" * 5_000, "INVALID")],
)
def test_a_user_of_whom_nothing_is_known_falls_back(client, user, status):
    client.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "at risk"})
    for audience in ("churn", "at%20risk"):
        answer = branch(client, f"{audience}/{user}")
        assert (answer["branch"], answer["status"], answer["score"]) == ("fallback", status, None)


def test_a_user_whom_the_task_does_not_ask_about_falls_back(client, published):
    users = client.post("/v1/scores/churn", {"user_ids": list(published.snapshot.user_ids)}).json["scores"]
    other = next(score["user_id"] for score in users if score["status"] == "NOT_ELIGIBLE")
    assert (branch(client, f"churn/{other}")["branch"], branch(client, f"churn/{other}")["status"]) == ("fallback", "NOT_ELIGIBLE")


@pytest.mark.parametrize("audience", ["none", "%00", "%FF", "..", "%0A", "x" * 5_000])
def test_an_unknown_audience_falls_back(client, audience):
    assert branch(client, f"{audience}/user-000001")["status"] == "UNKNOWN_AUDIENCE"


@pytest.mark.parametrize("target", ["", "churn", "/user-000001", "//"])
def test_a_template_that_left_something_out_falls_back(client, target):
    assert (branch(client, target)["branch"], branch(client, target)["status"]) == ("fallback", "INVALID")


@pytest.mark.parametrize("audience", ["churn", "at%20risk", "none"])
def test_without_a_release_everybody_falls_back(serve, tmp_path, audience):
    answer = branch(serve(tmp_path / "none", tmp_path), f"{audience}/user-000001")
    assert (answer["branch"], answer["status"], answer["user_id"]) == ("fallback", "NO_RELEASE", "user-000001")


def test_without_a_ledger_predictions_are_answered_and_audiences_fall_back(published, serve, tmp_path):
    client = serve(published.root, tmp_path)
    client.app.state.keyring.look()
    (tmp_path / "ledger.db").mkdir()
    assert branch(client, "at%20risk/user-000001")["status"] == "UNAVAILABLE"
    assert branch(client, "churn/nobody")["status"] == "NOT_FOUND"


def test_a_ledger_that_hangs_keeps_no_journey_waiting(published, serve, tmp_path):
    client = serve(published.root, tmp_path)
    assert branch(client, "churn/nobody")["status"] == "NOT_FOUND"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        client.app.state.ledger = Ledger(f"postgresql://encore@127.0.0.1:{silent.getsockname()[1]}/encore")

        async def story():
            began, told = time.monotonic(), []
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(ask(f"{PATH}/at-risk-{number % 5}/user-000001", told))
            return time.monotonic() - began, told

        async def ask(path, told):
            async def send(message):
                told.append(message)

            async def receive():
                return {"type": "http.request", "body": b"", "more_body": False}

            await client.app({"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "app": client.app}, receive, send)

        seconds, told = asyncio.run(story())
    bodies = [json.loads(message["body"]) for message in told if message["type"] == "http.response.body"]
    assert [(body["branch"], body["status"]) for body in bodies] == [("fallback", "UNAVAILABLE")] * 20
    assert seconds < 4, "each waits a second, and all the same one"


def test_an_audience_asked_for_once_is_answered_while_the_ledger_is_away(published, serve, tmp_path):
    client = serve(published.root, tmp_path)
    client.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "vip"})
    member = client.get("/v1/audiences/vip/members").json["user_ids"][0]
    assert branch(client, f"vip/{member}")["branch"] == "in"
    (tmp_path / "ledger.db").write_bytes(b"no database any more " * 100)
    assert branch(client, f"vip/{member}")["branch"] == "in"


def test_stale_scores_still_choose_a_branch_and_say_so(published, serve, tmp_path):
    client = serve(published.root, tmp_path, good_for=timedelta(0))
    client.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "vip"})
    member = client.get("/v1/audiences/vip/members").json["user_ids"][0]
    assert (branch(client, f"vip/{member}")["branch"], branch(client, f"vip/{member}")["status"]) == ("in", "STALE")
    assert branch(client, f"churn/{member}")["status"] == "STALE"


def test_a_fault_nobody_thought_of_falls_back(client, monkeypatch):
    monkeypatch.setattr("serving.scorer.Scorer.score", lambda *_: 1 / 0)
    assert branch(client, "churn/user-000001")["status"] == "UNAVAILABLE"


def test_a_new_release_moves_the_members(published, releases, serve, tmp_path):
    client = serve(releases, tmp_path)
    client.post("/v1/audiences", {"task": "lookalike", "top_n": 40, "name": "like"})
    for release in (published.first, published.second):
        point_to(releases, release)
        client.app.state.current.refresh()
        members = client.get("/v1/audiences/like/members").json["user_ids"]
        answers = {user: branch(client, f"like/{user}") for user in published.snapshot.user_ids[::9]}
        assert {answer["release"] for answer in answers.values()} == {release}
        assert all((answer["branch"] == "in") == (user in members) for user, answer in answers.items())
