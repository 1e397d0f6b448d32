"""The custom activity of Salesforce's Journey Builder: what it says of itself, whom it believes, and what it answers in every state."""

from __future__ import annotations

import base64
import hmac
import json
import time
from dataclasses import replace
from datetime import datetime

import pytest

from features.errors import InvalidShopFile
from features.workspace import open_workspace
from serving.app import service_settings
from serving.border.keys import create_key
from serving.journeys import known
from serving.journeys.activities import activities, remember
from serving.journeys.activity import ROOT
from serving.journeys.known import KnownAudiences
from serving.journeys.token import JourneyBuilder
from serving.ledger import Ledger

KEY = "the JWT Signing Secret of an installed package"
CALLS = ("save", "validate", "publish", "execute", "stop")
IDS = {"activityObjectID": "0a074b98-bef8-4c9f-b3a7-db94ab1dda5b", "interactionId": "61f97634-5a98-4706-bb84-cbf384e5284f"}


def part(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def token(said, key=KEY, header=None, digest="sha256"):
    """A JSON Web Token by the letter of RFC 7519, and no library."""
    start = part({"alg": "HS256", "typ": "JWT"} if header is None else header) + b"." + part(said)
    return start + b"." + part(hmac.digest(key.encode(), start, digest))


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine may keep the ledger's answer waiting; what is tested here is what it says."""
    monkeypatch.setattr(known, "PATIENCE", 30.0)


@pytest.fixture
def builder(client):
    """Calls as Journey Builder makes them: the service, told its key."""
    client.app.state.journey_builder = JourneyBuilder(KEY)
    yield client
    client.app.state.journey_builder = None


def call(client, name, said, **how):
    body = said if isinstance(said, bytes) else token(said, **how)
    return client.request("POST", ROOT + name, body, {"content-type": "application/jwt"})


def executed(client, user, audience="vip", branches="audience"):
    arguments = [{"audience": audience, "branches": branches}, {"user_id": user}]
    return call(client, "execute", {**IDS, "inArguments": arguments, "outArguments": [], "keyValue": "somebody else", "mode": 0})


# --- config.json ------------------------------------------------------------------------------------------------------------


def test_config_has_the_shape_that_journey_builder_reads(builder):
    answer = builder.get(ROOT + "config.json")
    config = answer.json
    assert (answer.status, config["workflowApiVersion"], config["type"].lower()) == (200, "1.1", "restdecision")
    execute = config["arguments"]["execute"]
    assert execute["url"] == "https://shop.test/v1/journeys/sfmc/execute"
    assert execute["useJwt"] is True
    assert 1_000 <= execute["timeout"] <= 100_000
    assert 0 <= execute["retryCount"] <= 5
    assert set(config["configurationArguments"]) == {"save", "publish", "validate", "stop"}
    for name, told in config["configurationArguments"].items():
        assert (told["url"], told["useJwt"]) == (f"https://shop.test/v1/journeys/sfmc/{name}", True)
    assert {outcome["arguments"]["branchResult"] for outcome in config["outcomes"]} == {"low", "medium", "high", "in", "out", "holdout", "fallback"}
    assert all(outcome["metaData"]["label"] for outcome in config["outcomes"])
    schema = config["schema"]["arguments"]["execute"]
    for direction in ("inArguments", "outArguments"):
        names = [name for argument in execute[direction] for name in argument]
        assert sorted(names) == sorted(name for argument in schema[direction] for name in argument)


def test_a_customer_key_is_named_in_every_call(builder):
    assert "customerKey" not in json.dumps(builder.get(ROOT + "config.json").json)
    builder.app.state.journey_builder = JourneyBuilder(KEY, "encore-key")
    config = builder.get(ROOT + "config.json").json
    calls = [config["arguments"]["execute"], *config["configurationArguments"].values()]
    assert [told["customerKey"] for told in calls] == ["encore-key"] * 5


@pytest.mark.parametrize("host", ["evil.test/x?", "a b", "", "x" * 10 + "@y", "h\u00e9"])
def test_a_host_that_is_none_makes_no_addresses(builder, host):
    answer = builder.request("GET", ROOT + "config.json", headers={"host": host.encode().decode("latin-1")})
    assert (answer.status, b"evil" in answer.body) == (400, False)


def test_the_page_may_be_framed_by_salesforce_alone_and_runs_nothing_but_its_own(builder):
    for path in (ROOT, ROOT + "index.html"):
        page = builder.get(path)
        policy = page.headers["content-security-policy"]
        assert (page.status, page.headers["content-type"].split(";")[0]) == (200, "text/html")
        assert "frame-ancestors https://*.exacttarget.com https://*.marketingcloudapps.com" in policy
        assert "unsafe" not in policy
        assert b"<script src=" in page.body
        assert b"onclick" not in page.body
    for other in ("/v1/journeys/churn/u", ROOT + "config.json", ROOT + "activity.js", "/docs", "/nowhere"):
        assert "frame-ancestors 'none'" in builder.get(other).headers["content-security-policy"]


# --- whom it believes -------------------------------------------------------------------------------------------------------

NOW = time.time()
FORGED = {
    "nothing": b"",
    "json": b'{"inArguments": []}',
    "no text": b"\xff\xfe.\xff.\xff",
    "two parts": b"a.b",
    "another key": token(IDS, key="x" * 40),
    "no key at all": token(IDS, key=""),
    "the algorithm none": part({"alg": "none", "typ": "JWT"}) + b"." + part(IDS) + b".",
    "none, with a signature": token(IDS, header={"alg": "none"}),
    "another hash": token(IDS, header={"alg": "HS512", "typ": "JWT"}, digest="sha512"),
    "a public key's algorithm": token(IDS, header={"alg": "RS256", "typ": "JWT"}),
    "no algorithm": token(IDS, header={"typ": "JWT"}),
    "changed since": token(IDS).replace(part(IDS), part({**IDS, "x": 1})),
    "over": token({**IDS, "exp": NOW - 120}),
    "made too long ago": token({**IDS, "iat": NOW - 600}),
    "not yet": token({**IDS, "nbf": NOW + 86_400}),
    "from the future": token({**IDS, "iat": NOW + 86_400}),
    "no object": token([IDS]),
    "a time that is none": token({**IDS, "exp": "soon"}),
    "nested": part(b'{"alg":' + b"[" * 100_000) + b"." + part(IDS) + b".x",
    "nested, and signed": token(b'{"a":' + b"[" * 100_000),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_what_is_not_signed_as_it_should_be_is_refused_and_nothing_happens(builder, forged):
    for name in CALLS:
        answer = call(builder, name, forged)
        assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")
        assert KEY not in answer.body.decode()
    assert activities(builder.app.state.ledger) == []


@pytest.mark.parametrize("times", [{}, {"iat": 0, "exp": 60}, {"exp": -30}, {"iat": -290}])
def test_what_is_signed_is_believed_whether_or_not_it_names_times(builder, times):
    now = time.time()
    assert call(builder, "save", {**IDS, "aud": "x", "iss": "y", "jti": 7, "sub": 8, **{name: now + seconds for name, seconds in times.items()}}).status == 200


def test_with_keys_in_use_journey_builder_needs_none_and_nobody_else_gets_in(published, serve, tmp_path):
    create_key(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}"), "somebody", ["score"], days=30)
    client = serve(published.root, tmp_path)
    client.app.state.journey_builder = JourneyBuilder(KEY)
    assert executed(client, "nobody", "churn", "prediction").json["branchResult"] == "fallback"
    assert [client.get(ROOT + name).status for name in ("", "index.html", "config.json", "activity.js", "activity.css", "icon.svg")] == [200] * 6
    closed = ("activities", "x", "execute/x", "config.json/", "../sfmc/activities", "index.html%2f")
    assert [client.get(ROOT + name).status for name in closed] == [401] * len(closed)
    assert client.post("/v1/journeys/sfmc", {"user_id": "u"}).status == 401


def test_without_a_key_of_salesforces_there_is_no_activity(client):
    for answer in (client.get(ROOT + "config.json"), client.get(ROOT), call(client, "execute", IDS), call(client, "save", b"")):
        assert (answer.status, "ENCORE_SFMC_JWT_KEY" in answer.json["detail"]) == (404, True)


def test_a_key_that_could_be_guessed_is_refused_and_never_shown(tmp_path):
    (tmp_path / "encore.toml").write_text("")
    workspace = open_workspace(tmp_path, environment={})
    with pytest.raises(InvalidShopFile, match="has 12 bytes; it must have 32 or more") as told:
        service_settings(workspace, {"ENCORE_SFMC_JWT_KEY": "E9!wU3@0P02l"})
    assert "E9!w" not in str(told.value)
    settings = service_settings(workspace, {"ENCORE_SFMC_JWT_KEY": KEY})
    assert settings.journey_builder == JourneyBuilder(KEY)
    assert KEY not in repr(settings)


# --- execute ----------------------------------------------------------------------------------------------------------------


def test_a_contact_takes_the_branch_that_the_journey_route_says(builder, published):
    builder.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "vip"})
    for user in published.snapshot.user_ids[::20]:
        for audience, branches in (("vip", "audience"), ("churn", "prediction")):
            told, asked = executed(builder, user, audience, branches), builder.get(f"/v1/journeys/{audience}/{user}").json
            assert (told.status, told.json["branchResult"], told.json.get("score")) == (200, asked["branch"], asked["score"])


def test_the_contact_key_stands_in_for_a_user_id_that_the_journey_did_not_give(builder):
    builder.post("/v1/audiences", {"task": "churn", "top_n": 1, "name": "one"})
    member = builder.get("/v1/audiences/one/members").json["user_ids"][0]
    said = {"inArguments": [{"audience": "one", "branches": "audience"}], "keyValue": member}
    assert call(builder, "execute", said).json["branchResult"] == "in"


def test_a_branch_that_the_activity_does_not_have_is_never_taken(builder, published):
    user = published.snapshot.user_ids[0]
    assert executed(builder, user, "churn", "audience").json["branchResult"] == "fallback"
    assert executed(builder, user, "churn", "").json["branchResult"] in ("low", "medium", "high", "fallback")


ODD = [
    {},
    {"inArguments": None},
    {"inArguments": [1, None, "x"]},
    {"inArguments": [{"audience": {"a": 1}, "user_id": []}]},
    {"inArguments": [{"audience": "\0", "user_id": "\ud800"}]},
    {"inArguments": [{"audience": "x" * 100_000, "user_id": 7, "branches": "nothing"}]},
    {"keyValue": True},
]


@pytest.mark.parametrize("said", ODD)
def test_odd_arguments_fall_back(builder, said):
    answer = call(builder, "execute", said)
    assert (answer.status, answer.json["branchResult"]) == (200, "fallback")


@pytest.mark.parametrize("state", ["no release", "no ledger", "a fault"])
def test_whatever_is_broken_the_contact_stays_in_the_journey(published, serve, tmp_path, monkeypatch, state):
    client = serve(tmp_path / "none" if state == "no release" else published.root, tmp_path)
    client.app.state.journey_builder = JourneyBuilder(KEY)
    if state == "no ledger":
        client.app.state.keyring.look()
        (tmp_path / "ledger.db").mkdir()
    if state == "a fault":
        monkeypatch.setattr("serving.journeys.ask.fallback", lambda *_: 1 / 0)
        monkeypatch.setattr("serving.journeys.ask.of_prediction", lambda *_: 1 / 0)
        monkeypatch.undo()
        monkeypatch.setattr("serving.score_json.ScoreJson.said", lambda *_: 1 / 0)
    answer = executed(client, published.snapshot.user_ids[0], "churn" if state == "a fault" else "vip", "prediction")
    assert (answer.status, answer.json["branchResult"]) == (200, "fallback")


def test_beyond_what_the_service_can_do_a_contact_stays_and_an_administrator_is_told(builder):
    gate = builder.app
    while not hasattr(gate, "most"):
        gate = gate.middleware_stack if hasattr(gate, "middleware_stack") else gate.app
    gate.at_once, before = gate.most, gate.at_once
    try:
        told = {name: call(builder, name, IDS) for name in CALLS}
        assert builder.get(ROOT + "config.json").status == 429
    finally:
        gate.at_once = before
    assert (told["execute"].status, told["execute"].json["branchResult"]) == (200, "fallback")
    assert {told[name].status for name in CALLS if name != "execute"} == {429}


# --- save, validate, publish, stop --------------------------------------------------------------------------------------------


def lifecycle(client, name, audience="vip", branches="audience", ids=IDS):
    """A call that has no arguments, but the query that the page put into its address."""
    return client.request("POST", f"{ROOT}{name}?audience={audience}&branches={branches}", token(ids), {"content-type": "application/jwt"})


@pytest.mark.parametrize(
    ("audience", "branches", "says"),
    [
        ("", "audience", "No audience or prediction was chosen"),
        ("vip", "audience", "There is no audience of that name; there are: at risk."),
        ("at%20risk", "", "audience or prediction"),
        ("chrun", "prediction", "it has churn, lookalike, repeat_order"),
        ("churn", "audience", "Choose to split by a prediction"),
    ],
)
def test_what_is_wrong_blocks_publishing_in_words(builder, audience, branches, says):
    builder.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "at risk"})
    for name in ("validate", "publish"):
        answer = lifecycle(builder, name, audience, branches)
        assert (answer.status, says in answer.json["detail"]) == (422, True)
        assert "chrun" not in answer.json["detail"]
    assert activities(builder.app.state.ledger) == []


def test_what_is_right_may_be_published(builder):
    builder.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "vip"})
    assert lifecycle(builder, "validate").status == 200
    assert lifecycle(builder, "validate", "churn", "prediction").status == 200
    assert call(builder, "validate", {**IDS, "inArguments": [{"audience": "vip", "branches": "audience", "user_id": "u"}]}).status == 200


@pytest.mark.parametrize("broken", ["release", "ledger"])
def test_what_cannot_be_known_now_blocks_publishing_and_never_stopping(published, serve, tmp_path, broken):
    client = serve(tmp_path / "none" if broken == "release" else published.root, tmp_path)
    client.app.state.journey_builder = JourneyBuilder(KEY)
    if broken == "ledger":
        client.app.state.keyring.look()
        (tmp_path / "ledger.db").mkdir()
    assert {lifecycle(client, name).status for name in ("validate", "publish")} == {503}
    assert lifecycle(client, "save").status == (503 if broken == "ledger" else 200)
    assert lifecycle(client, "stop").status == 200


def test_activities_are_remembered_and_a_state_never_goes_back(builder):
    builder.post("/v1/audiences", {"task": "churn", "top_n": 20, "name": "vip"})
    other = {**IDS, "interactionId": "the next version"}
    for name in ("save", "save", "publish", "publish", "stop", "publish", "save", "stop"):
        assert lifecycle(builder, name).status == 200
    lifecycle(builder, "save", ids=other)
    told = builder.get(ROOT + "activities").json
    assert [(one["journey"], one["audience"], one["state"]) for one in told] == [
        (IDS["interactionId"], "vip", "stopped"),
        ("the next version", "vip", "saved"),
    ]
    assert datetime.fromisoformat(told[0]["saved_at"]) <= datetime.fromisoformat(told[0]["changed_at"])


def test_both_databases_remember_alike(ledger_url):
    ledger = Ledger(ledger_url)
    for state, audience in (("saved", "a"), ("saved", "b"), ("published", "b"), ("saved", "c"), ("stopped", ""), ("published", "d")):
        remember(ledger, "x" * 100, "j", audience, state)
    (found,) = activities(ledger)
    assert (found.activity, found.audience, found.state) == ("x" * 64, "b", "stopped")
    ledger.close()


def test_two_calls_at_once_are_one_activity(ledger_url):
    from concurrent.futures import ThreadPoolExecutor

    ledger = Ledger(ledger_url)
    activities(ledger)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda state: remember(ledger, "a", "j", "vip", state), ["saved", "published", "stopped", "saved"] * 5))
    assert [one.state for one in activities(ledger)] == ["stopped"]
    ledger.close()


def test_an_activity_known_before_is_answered_by_a_service_that_forgot_it(builder, published):
    """Nothing of execute depends on what was remembered of the activity."""
    builder.post("/v1/audiences", {"task": "churn", "top_percent": 100, "name": "vip"})
    member = builder.get("/v1/audiences/vip/members").json["user_ids"][0]
    before = executed(builder, member).json
    lifecycle(builder, "stop")
    builder.app.state.journeys = replace(builder.app.state.journeys, known=KnownAudiences())
    assert executed(builder, member).json == before
