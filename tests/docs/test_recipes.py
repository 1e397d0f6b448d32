"""The recipes for journey tools: requests are asked, templates rendered, functions run, states brought about. What they say comes back, comes back."""

from __future__ import annotations

import base64
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import liquid
import pyarrow as pa
import pytest
import sqlalchemy as sa
import uvicorn

import encore
from features.exports import export_problems
from features.tombstones import NO_MARKETING
from serving.border.keys import create_key
from serving.destinations.table import SCHEMA
from serving.journeys.token import JourneyBuilder
from serving.ledger import Ledger
from serving.tombstones import tombstone, write_tombstones

RECIPES = Path(encore.__file__).parent / "docs" / "recipes"
PAGES = {page.stem: page.read_text() for page in sorted(RECIPES.glob("*.md"))}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


KINDS = ("treatment", "control", "business_as_usual", "out", "other")


class Shop:
    """A service with a key and the recipes' audience `at-risk`, whose members' groups are known.

    user: a member of each group by its name, somebody outside as `out`, and one whom `churn` is not about as `other`.
    """

    def __init__(self, client, ledger, published, root, user=None):
        self.client, self.ledger, self.root = client, ledger, root
        kept = {"task": "churn", "top_percent": 60, "name": "at-risk", "holdout": {"control": 0.3, "business_as_usual": 0.2}}
        self.key = create_key(ledger, "tool", ["admin"], days=30)
        assert self.ask("POST", "/v1/audiences", kept).status == 201
        self.user = dict(user or {})
        for user in () if self.user else published.snapshot.user_ids:
            answer = self.ask("GET", f"/v1/journeys/at-risk/{user}").json
            if len(self.user) == len(KINDS):
                break
            self.user.setdefault("other" if answer["status"] == "NOT_ELIGIBLE" else answer["group"] or "out", user)

    def ask(self, method, path, body=None, headers=None):
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.request(method, path, raw, {"x-api-key": self.key, "content-type": "application/json", **(headers or {})})

    def requested(self, text, user):
        """The answer to a request of a page; its KEY is the shop's and its 1029 a user."""
        head, _, body = text.partition("\n\n")
        first, *lines = head.strip().splitlines()
        method, path = first.split()
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if headers.get("authorization", "").startswith("Basic "):
            name, _, password = base64.b64decode(headers["authorization"][6:]).decode().partition(":")
            assert password == "KEY"
            headers["authorization"] = "Basic " + base64.b64encode(f"{name}:{self.key}".encode()).decode()
        headers = {name: value.replace("KEY", self.key) for name, value in headers.items()}
        body = re.sub(r'"?1029"?', json.dumps(user), body)
        return self.client.request(method, path.replace("1029", quote(user)), body.strip().encode(), {"host": "shop.test", **headers})


@pytest.fixture
def shop(steady, published, releases, serve, tmp_path):
    client = serve(releases, tmp_path)
    shop = Shop(client, Ledger(f"sqlite:///{tmp_path / 'ledger.db'}"), published, releases, steady.user)
    client.app.state.keyring.look()
    return shop


# --- requests and answers ---------------------------------------------------------------------------------------------------------

REQUESTS = [(page, request) for page in PAGES for request in blocks(page, "http")]


@pytest.fixture(scope="module")
def steady(published, serve, tmp_path_factory):
    """A shop for tests that only ask."""
    folder = tmp_path_factory.mktemp("recipes")
    client = serve(published.root, folder)
    shop = Shop(client, Ledger(f"sqlite:///{folder / 'ledger.db'}"), published, published.root)
    client.app.state.keyring.look()
    client.app.state.journey_builder = JourneyBuilder("k" * 40)
    return shop


@pytest.mark.parametrize(("page", "request_text"), REQUESTS, ids=[f"{page}-{number}" for number, (page, _) in enumerate(REQUESTS)])
def test_every_request_is_answered(steady, page, request_text):
    answer = steady.requested(request_text, steady.user["treatment"])
    assert answer.status == 200
    if "/v1/journeys/at-risk" in request_text:
        assert (answer.json["branch"], answer.json["group"]) == ("in", "treatment")


def test_no_request_gets_in_without_its_key(steady):
    for _, text in REQUESTS:
        if "sfmc" not in text:
            assert steady.requested(text.replace("KEY", "enc_wrong").replace("ZW5jb3JlOktFWQ==", "ZW5jb3JlOktFWQ=="), "u").status == 401 or "Basic" in text


def test_the_answers_shown_have_the_fields_that_answers_have(steady):
    shown = [json.loads(text) for text in blocks("README", "json")]
    asked = [text for text in blocks("README", "http") if text.startswith("GET")]
    assert len(shown) == len(asked) == 2
    for text, answer in zip(asked, shown, strict=True):
        assert list(answer) == list(steady.requested(text, steady.user["treatment"]).json)


def test_the_config_shown_is_part_of_the_config_served(steady):
    (shown,), (asked,) = map(json.loads, blocks("salesforce", "json")), blocks("salesforce", "http")
    served = steady.requested(asked, "u").json

    def is_part(some, whole):
        return all(is_part(value, whole[name]) for name, value in some.items()) if isinstance(some, dict) else some == whole

    assert is_part(json.loads(json.dumps(shown).replace("encore.example.com", "encore.example.com")), served)


# --- every state ------------------------------------------------------------------------------------------------------------------------


def state_rows():
    rows = re.findall(r"^\| ([^|]+) \| `(\w+)` \| `(\w+)` \| (60 s|not) \|$", PAGES["README"], re.MULTILINE)
    return {state: row for state, *row in rows}


def brought_about(shop, serve, folder, state):
    """Bring a state about; returns the path that is asked for in it."""
    member, user = f"/v1/journeys/at-risk/{shop.user['treatment']}", shop.user
    if state == "may not be profiled, or not be spoken to":
        write_tombstones(shop.root, {tombstone(user["treatment"].encode()): NO_MARKETING})
        shop.client.app.state.current.refresh()
    if state == "nothing was published":
        shop.client = serve(folder / "none", folder)
    if state.startswith("the ledger is away"):
        shop.client = serve(shop.root, folder)
        shop.client.app.state.keyring.look()
        (folder / "ledger.db").write_bytes(b"no database any more " * 100)
    return {
        "in its control group": f"/v1/journeys/at-risk/{user['control']}",
        "in its group of business as usual": f"/v1/journeys/at-risk/{user['business_as_usual']}",
        "not in the audience": f"/v1/journeys/at-risk/{user['out']}",
        "asked for a prediction": f"/v1/journeys/churn/{high(shop)}",
        "not one of those the prediction is about": f"/v1/journeys/churn/{user['other']}",
        "unknown user": "/v1/journeys/at-risk/nobody",
        "the template left the user out": "/v1/journeys/at-risk/",
        "no such audience": f"/v1/journeys/none/{user['treatment']}",
    }.get(state, member)


def high(shop):
    """Somebody of the high band of churn."""
    made = shop.ask("POST", "/v1/audiences", {"task": "churn", "top_n": 1, "name": "one"})
    return shop.ask("GET", "/v1/audiences/one/members").json["user_ids"][0] if made.status == 201 else "nobody"


def test_the_page_tells_of_every_state():
    assert len(state_rows()) == 12


@pytest.mark.parametrize("state", state_rows())
def test_every_state_is_answered_as_the_page_says(shop, serve, tmp_path, state):
    branch, status, kept = state_rows()[state]
    answer = shop.ask("GET", brought_about(shop, serve, tmp_path, state))
    assert (answer.status, answer.json["branch"], answer.json["status"]) == (200, branch, status)
    assert answer.headers["cache-control"] == ("private, max-age=60, must-revalidate" if kept == "60 s" else "no-store")


# --- templates ----------------------------------------------------------------------------------------------------------------------------


def test_the_message_of_braze_says_something_else_to_each_branch(steady):
    (template,) = blocks("braze", "liquid")
    call = re.search(r"{% connected_content https://encore\.example\.com(\S+/)\{\{\$\{user_id\} \| url_encode\}\} .*:save (\w+) %}\n", template)
    path, name = call.groups()
    message = template.replace(call[0], "").replace("{% abort_message(", "[abort ").replace('") %}', '"]')
    said = {}
    for who, user in {**steady.user, "stranger": "nobody"}.items():
        answer = steady.ask("GET", path + quote(user)).json
        said[who] = liquid.render(message, **{name: answer, "custom_text": "x"}).strip()
    assert said["treatment"].startswith("A reason to come back")
    assert said["out"] == said["business_as_usual"] == "Our news of the week."
    assert said["control"] == said["stranger"] == liquid.render(message, **{name: None}).strip() == '[abort "held out, or nothing known"]'


def test_the_condition_of_customerio_keeps_the_control_group_out(steady):
    (condition,) = blocks("customerio", "liquid")
    (path,) = re.findall(r"`https://encore:KEY@encore\.example\.com(\S+)\{\{customer\.id\}\}`", PAGES["customerio"])
    ways = {
        who: liquid.render(condition, customer={"encore_branch": steady.ask("GET", path + user).json["branch"]}).strip() for who, user in steady.user.items()
    }
    assert ways == {"treatment": "yes", "control": "nobody sends", "business_as_usual": "no", "out": "no", "other": ways["other"]}


# --- functions that tools run -----------------------------------------------------------------------------------------------------------------


@contextmanager
def listening(app):
    """The service on a port of its own, for programs of other languages."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def node(script, **environment):
    """What a script prints as JSON."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed here: the functions of Segment and HubSpot are not run")
    done = subprocess.run([program, "-e", script], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_function_of_segment_tells_each_event_its_status(steady):
    (code,) = blocks("segment", "javascript")
    events = [{"type": "track", "userId": user} for user in (steady.user["treatment"], "nobody", steady.user["out"])]
    # Segment's runtime has RetryError; where the traits go is Segment, which is not here: they are printed instead.
    code = code.replace('await fetch("https://api.segment.io/v1/batch", {', "sent.push({")
    script = f"""const sent = []; class RetryError extends Error {{}}
{code}
(async () => {{
  const settings = {{ encoreUrl: process.env.URL, encoreKey: process.env.KEY, writeKey: "w" }};
  const statuses = await onBatch({json.dumps(events)}, settings);
  let retried = false;
  try {{ await onBatch({json.dumps(events)}, {{ ...settings, encoreUrl: "http://127.0.0.1:9" }}); }} catch (error) {{ retried = error instanceof RetryError; }}
  console.log(JSON.stringify({{ statuses, batch: sent.map((one) => JSON.parse(one.body).batch).flat(), retried }}));
}})();"""
    with listening(steady.client.app) as url:
        told = node(script, URL=url, KEY=steady.key)
    scores = {one["user_id"]: one for one in steady.ask("POST", "/v1/scores/churn", {"user_ids": [event["userId"] for event in events]}).json["scores"]}
    assert [one["status"] for one in told["statuses"]] == [200 if scores[event["userId"]]["status"] == "OK" else 204 for event in events]
    assert {one["userId"]: one["traits"]["churn_score"] for one in told["batch"]} == {
        user: score["score"] for user, score in scores.items() if score["status"] == "OK"
    }
    assert told["retried"] is True


def test_the_action_of_hubspot_branches(steady):
    (code,) = blocks("hubspot", "javascript")
    users = [*steady.user.values(), "nobody", None]
    script = f"""{code}
(async () => {{
  const found = [];
  for (const user_id of {json.dumps(users)})
    await exports.main({{ inputFields: {{ user_id }} }}, ({{ outputFields }}) => found.push(outputFields));
  console.log(JSON.stringify(found));
}})();"""
    with listening(steady.client.app) as url:
        told = node(script, ENCORE_URL=url, ENCORE_KEY=steady.key)
    expected = [steady.ask("GET", f"/v1/journeys/at-risk/{user or ''}").json for user in users]
    assert told == [{name: answer[name] for name in ("branch", "status", "score")} for answer in expected]
    assert told[-1]["status"] == "INVALID"


def test_retry_after_is_in_seconds_and_journeys_have_none(published, serve, tmp_path):
    client = serve(published.root, tmp_path)
    key = create_key(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}"), "hubspot", ["score"], days=30, per_second=0.5)
    client.app.state.keyring.look()
    headers = {"x-api-key": key, "content-type": "application/json"}
    posted = [client.request("POST", "/v1/scores/churn", b'{"user_ids": ["u"]}', headers) for _ in range(2)]
    assert [answer.status for answer in posted] == [200, 429]
    assert 1 <= int(posted[1].headers["retry-after"]) <= 2
    journey = client.request("POST", "/v1/journeys/churn", b'{"user_id": "u"}', headers)
    assert (journey.status, journey.json["branch"], journey.json["status"], "retry-after" in journey.headers) == (200, "fallback", "LIMITED", False)


# --- exports -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")])
def test_every_export_shown_is_one(page):
    for text in blocks(page, "toml"):
        exports = tomllib.loads(text)["exports"]
        assert [export_problems(export) for export in exports] == [[] for _ in exports]
        assert f"encore export {exports[0]['name']}" in PAGES[page] or page == "sensors"


def test_the_rows_for_hightouch_come_from_the_table_and_have_one_key():
    (query,) = blocks("reverse-etl", "sql")
    columns = ", ".join(f"{field.name} {'boolean' if pa.types.is_boolean(field.type) else 'text'}" for field in SCHEMA)
    with sa.create_engine("sqlite://").connect() as connection:
        connection.exec_driver_sql(f"create table predictive_scores ({columns}, primary key (user_id, model))")
        rows = [("a", "churn", 41, "high"), ("a", "repeat_order", 3, "low"), ("b", "churn", 7, "low")]
        connection.exec_driver_sql("insert into predictive_scores (user_id, model, score, band) values (?, ?, ?, ?)", rows)
        found = [tuple(row) for row in connection.exec_driver_sql(query)]
    assert [(user, int(churn), band, repeat and int(repeat)) for user, churn, band, repeat in sorted(found)] == [("a", 41, "high", 3), ("b", 7, "low", None)]
    named = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in PAGES["reverse-etl"].splitlines() if line.startswith("| `"))))
    assert named == set(SCHEMA.names)
