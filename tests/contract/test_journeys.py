"""What `/v1/journeys` promises: 200 in every state, for a non-200 throws the contact out of the journey."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from features.tombstones import NO_MARKETING
from serving.audiences.refresh import refresh
from serving.journeys.answer import FURTHER
from serving.ledger import MEMBERS, Ledger
from serving.pointer import point_to
from serving.schemas import JourneyBody
from serving.tombstones import tombstone, write_tombstones

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
    monkeypatch.setattr("serving.score_json.ScoreJson.said", lambda *_: 1 / 0)
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


# --- hold-out -------------------------------------------------------------------------------------------------------------


def held_out(client, **cut):
    """A kept audience with a hold-out, and the group of each of its members, by the ledger's own rows."""
    request = {"task": "churn", "name": "kept", "top_n": 200, "holdout": {"control": 0.3, "business_as_usual": 0.2}, **cut}
    assert client.post("/v1/audiences", request).status == 201
    state = client.app.state
    refresh(state.ledger, state.current.scorer.release, ["kept"])
    with state.ledger.connection() as connection:
        return dict(connection.execute(sa.select(MEMBERS.c.user_id, MEMBERS.c.group).where(MEMBERS.c.left_at.is_(None))).all())


@pytest.mark.parametrize("kind", ["live", "snapshot"])
def test_the_control_group_is_held_out_and_business_as_usual_goes_the_way_of_everybody_else(client, published, kind):
    groups = held_out(client, kind=kind)
    assert set(groups.values()) == {"treatment", "control", "business_as_usual"}
    ways = {"treatment": "in", "control": "holdout", "business_as_usual": "out"}
    for user in published.snapshot.user_ids[::4]:
        answer = branch(client, f"kept/{user}")
        assert (answer["branch"], answer["group"]) == (ways[groups[user]], groups[user]) if user in groups else ("out", None)


def test_a_snapshot_keeps_its_members_and_a_user_their_group_through_releases(published, releases, serve, tmp_path):
    client = serve(releases, tmp_path)
    groups = held_out(client, kind="snapshot")
    before = {user: branch(client, f"kept/{user}") for user in published.snapshot.user_ids[::3]}
    point_to(releases, published.first)
    client.app.state.current.refresh()
    after = {user: branch(client, f"kept/{user}") for user in before}
    assert {answer["release"] for answer in after.values()} == {published.first}
    assert {user: answer["group"] for user, answer in after.items()} == {user: answer["group"] for user, answer in before.items()}
    assert {user for user, answer in after.items() if answer["group"]} == groups.keys() & before.keys()


@pytest.mark.parametrize("kind", ["live", "snapshot"])
def test_in_the_next_release_a_known_audience_needs_no_ledger(published, releases, serve, tmp_path, kind):
    client, same = serve(releases, tmp_path), serve(releases, tmp_path)
    held_out(client, kind=kind)
    users = published.snapshot.user_ids[::5]
    branch(client, f"kept/{users[0]}")
    for one in (client, same):
        point_to(releases, published.first)
        one.app.state.current.refresh()
    with_ledger = [branch(same, f"kept/{user}") for user in users]
    (tmp_path / "ledger.db").write_bytes(b"no database any more " * 100)
    assert [branch(client, f"kept/{user}") for user in users] == with_ledger


def test_who_may_not_be_spoken_to_is_not_told_apart_from_who_is_unknown(published, releases, serve, tmp_path):
    silent = published.snapshot.user_ids[0]
    client = serve(releases, tmp_path)
    client.post("/v1/audiences", {"task": "churn", "top_percent": 100, "name": "all"})
    write_tombstones(releases, {tombstone(silent.encode()): NO_MARKETING})
    client.app.state.current.refresh()
    for audience in ("churn", "all"):
        answer = branch(client, f"{audience}/{silent}")
        assert (answer["branch"], answer["status"], answer["score"]) == ("fallback", "SUPPRESSED", None)
    assert client.get(f"/v1/scores/churn/{silent}").json["status"] != "SUPPRESSED", "marketing alone is forbidden"


# --- what was remembered ----------------------------------------------------------------------------------------------------


def test_a_change_of_the_audience_is_seen_within_a_minute_and_nobody_waits_for_it(client, monkeypatch):
    held_out(client)
    member = next(user for user in client.get("/v1/audiences/kept/members").json["user_ids"] if branch(client, f"kept/{user}")["branch"] == "in")
    client.app.state.ledger.drop_audience("kept", "churn")
    assert branch(client, f"kept/{member}")["branch"] == "in"
    monkeypatch.setattr("serving.journeys.known.FRESH", 0.0)

    async def story():
        journeys, ledger = client.app.state.journeys, client.app.state.ledger
        first = await journeys.ask("kept", member, ledger)
        for _ in range(200):
            await asyncio.sleep(0.01)
            if (later := await journeys.ask("kept", member, ledger))["branch"] == "fallback":
                return first, later
        return first, later

    first, later = asyncio.run(story())
    assert (first["branch"], later["status"]) == ("in", "UNKNOWN_AUDIENCE")


def test_however_many_ask_at_once_the_ledger_is_asked_once(client, published):
    client.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "vip"})
    ledger, asked = client.app.state.ledger, []
    audience = ledger.audience
    ledger.audience = lambda key: asked.append(key) or audience(key)

    async def story():
        return await asyncio.gather(*(client.app.state.journeys.ask("vip", user, ledger) for user in published.snapshot.user_ids[:200]))

    answers = asyncio.run(story())
    assert {answer["branch"] for answer in answers} == {"in", "out"}
    assert asked == ["vip"]


# --- several at once, and tools that post --------------------------------------------------------------------------------------


def test_several_audiences_are_one_flat_answer(client):
    client.post("/v1/audiences", {"task": "churn", "top_percent": 100, "name": "At risk"})
    member = client.get("/v1/audiences/At%20risk/members").json["user_ids"][0]
    answer = branch(client, f"churn/{member}?also=At%20risk&also=repeat_order&also=nowhere&campaign=7")
    further = {"at_risk": "At%20risk", "repeat_order": "repeat_order", "nowhere": "nowhere"}
    one_by_one = {name: branch(client, f"{asked}/{member}") for name, asked in further.items()}
    assert {name: value for name, value in answer.items() if name in JourneyBody.model_fields} == branch(client, f"churn/{member}")
    for name, alone in one_by_one.items():
        assert {part: answer[f"{part}_{name}"] for part in FURTHER} == {part: alone[part] for part in FURTHER}


@pytest.mark.parametrize("query", ["also=", "also", "also=%FF&also=%00", "&".join(f"also=a{number}" for number in range(1_000)), "also[]=x&%C3%28"])
def test_an_odd_query_costs_nobody_their_answer(client, query):
    assert branch(client, f"churn/user-000001?{query}")["task"] == "churn"


def test_a_tool_that_posts_gets_the_same(client, published):
    client.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "vip"})
    for user in published.snapshot.user_ids[::50]:
        for audience in ("vip", "churn"):
            posted = client.post(f"{PATH}/{audience}?also=churn", {"user_id": user, "properties": {"email": "x"}})
            assert (posted.status, posted.json) == (200, branch(client, f"{audience}/{user}?also=churn"))


def test_a_number_is_an_id_as_people_write_it(client):
    assert client.post(f"{PATH}/churn", {"user_id": 1029}).json["user_id"] == "1029"


NAMES_NOBODY = [b"", b"{", b"[]", b'"u"', b'{"user_id": null}', b'{"user_id": {}}', b'{"user_id": true}', b'{"user_id": 1.5}', b"[" * 90_000, b"\xff"]


@pytest.mark.parametrize("body", NAMES_NOBODY)
def test_a_body_that_names_nobody_falls_back(client, body):
    answer = client.post(f"{PATH}/churn", body)
    assert (answer.status, answer.json["branch"], answer.json["status"]) == (200, "fallback", "INVALID")


# --- how long it may be kept ------------------------------------------------------------------------------------------------------


def test_what_a_release_says_may_be_kept_for_a_minute_and_what_is_wrong_now_never(published, serve, tmp_path):
    client, stale = (serve(published.root, tmp_path, good_for=timedelta(days=days)) for days in (9_000, 0))
    none, user = serve(tmp_path / "none", tmp_path), published.snapshot.user_ids[0]
    for target in (f"churn/{user}", "churn/nobody", f"churn/{user}?also=repeat_order"):
        told = client.get(f"{PATH}/{target}").headers
        assert (told["cache-control"], told["vary"]) == ("private, max-age=60, must-revalidate", "authorization, x-api-key")
    wrong_now = [(client, f"nowhere/{user}"), (client, f"churn/{user}?also=nowhere"), (client, "churn/"), (none, f"churn/{user}")]
    for one, target in wrong_now:
        assert one.get(f"{PATH}/{target}").headers["cache-control"] == "no-store"
    assert stale.get(f"{PATH}/churn/{user}").headers["cache-control"] in ("no-store", "private, max-age=0, must-revalidate")
