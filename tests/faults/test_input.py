"""F10 to F14 on every route: whatever is sent, the answer is one that the API describes, names nothing that was sent, and costs little."""

from __future__ import annotations

import json
import re
import time

import pytest

SCORES, AUDIENCES = "/v1/scores/repeat_order", "/v1/audiences"
MARKER = "secret-marker"
PARAMETERS = {"task": "repeat_order", "version": "30", "name": "repeat_order", "key": "vip", "user_id": "u", "audience": "vip", "job_id": "j"}

BROKEN = {
    "malformed": b'{"secret-marker": ',
    "bad UTF-8": b'{"secret-marker": "\xff\xfe"}',
    "UTF-16": '{"secret-marker": 1}'.encode("utf-16"),
    "5,000 digits": b'{"secret-marker": ' + b"9" * 5_000 + b"}",
    "3,000 deep": b'{"secret-marker": ' + b"[" * 3_000 + b"]" * 3_000 + b"}",
    "3,000 objects deep": b'{"secret-marker": ' * 3_000 + b"1" + b"}" * 3_000,
    "half a surrogate as a name": b'{"secret-marker\\ud800": 1}',
    "a number that is none": b'{"secret-marker": NaN}',
    "infinity": b'{"secret-marker": 1e999}',
    "a list": b'["secret-marker"]',
    "a string": b'"secret-marker"',
    "null": b"null",
    "nothing": b"",
}


def posts(client):
    """Every operation that takes a body, as a path that can be asked for."""
    paths = client.get("/openapi.json").json["paths"]
    found = [path for path, methods in paths.items() if "requestBody" in methods.get("post", {})]
    return [re.sub(r"{(\w+)}", lambda name: PARAMETERS.get(name[1], "x"), path) for path in found]


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_body_is_a_problem_on_every_route(client, fault):
    routes = posts(client)
    assert len(routes) >= 4
    for path in routes:
        answer = client.post(path, BROKEN[fault])
        if path.startswith("/v1/journeys/") and "/sfmc/" not in path:  # whatever is sent, the contact stays in the journey
            assert (answer.status, answer.json["branch"], MARKER in answer.body.decode()) == (200, "fallback", False)
            continue
        kind = "application/json" if path.startswith("/v2/") else "application/problem+json"  # that protocol has errors of its own
        refused = (401, 404) if path.startswith("/v1/journeys/sfmc/") else (400, 422)  # nothing that is not signed is even looked at
        assert (path, answer.status in refused, answer.headers["content-type"]) == (path, True, kind)
        assert MARKER not in answer.body.decode()
        assert len(answer.body) < 2_000


NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"nan"', '"1"', "false", "[]", "9" * 5_000]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_feature_that_is_no_finite_number_is_refused_without_its_name(client, value):
    answer = client.post(f"{SCORES}:vector", b'{"features": {"secret-marker": %s}}' % value.encode())
    assert answer.status in (400, 422)
    assert MARKER not in answer.body.decode()
    if answer.status == 422:
        assert answer.json["errors"][0]["at"] == "body.features.*"


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("field", ["size", "top_percent", "similarity"])
def test_a_dial_that_is_no_finite_number_is_refused(client, field, value):
    body = f'{{"name": "samples", "seed": {{"user_ids": ["{MARKER}"]}}, "{field}": {value}}}'
    answer = client.post("/v1/lookalikes", body.encode())
    assert answer.status in (400, 422)
    assert MARKER not in answer.body.decode()


@pytest.mark.parametrize("value", ["NaN", "1e999", "-1", "", "0x10", "1.5", "9" * 5_000, "٣"])
@pytest.mark.parametrize("field", ["offset", "limit"])
def test_a_page_that_is_no_number_is_refused(client, field, value):
    client.post(AUDIENCES, {"task": "churn", "top_n": 5, "name": "vip"})
    answer = client.get(f"{AUDIENCES}/vip/members?{field}=" + "".join(f"%{byte:02X}" for byte in value.encode()))
    assert (answer.status, answer.json["errors"][0]["at"]) == (422, f"query.{field}")


def test_of_duplicate_keys_the_last_one_counts_on_other_routes_too(client):
    answer = client.post(AUDIENCES, b'{"task": "nowhere", "task": "churn", "top_n": 1, "top_n": 7}')
    assert (answer.status, answer.json["size"], answer.json["rule"]["task"]) == (200, 7, "churn")


def test_ten_thousand_ids_are_too_many(client):
    answer = client.post(SCORES, {"user_ids": ["u"] * 10_000})
    assert (answer.status, answer.json["errors"][0]["at"]) == (422, "body.user_ids")
    assert "at most 1000 items" in answer.json["errors"][0]["problem"]


def test_no_text_of_a_request_comes_back_in_a_place(client):
    places = [
        (f"{SCORES}:vector", {"features": {MARKER: "x"}}),
        (f"{SCORES}:vector", {"features": {MARKER: 1e400}}),
        (SCORES, {"user_ids": ["u"], MARKER: {MARKER: 1}}),
        ("/v1/lookalikes", {"name": "x", "seed": {MARKER: 1}, "size": 1}),
        ("/v1/lookalikes", {"name": MARKER.upper(), "seed": {"user_ids": [MARKER, 1]}, "size": 1}),
    ]
    for path, body in places:
        answer = client.post(path, body)
        assert answer.status in (400, 422)
        assert MARKER not in answer.body.decode().lower()


ODD_IDS = ["", "nobody", "x" * 257, "x" * 900_000, "a/b", "../../etc/passwd", "a\0b", "a\nb", "\u202e", "%2e%2e", "顾客", "{user_id}", "u;drop table", "=1+1"]


def test_odd_ids_cost_only_themselves_and_keep_their_places(client, published):
    known = published.snapshot.user_ids[0]
    mixed = [entry for odd in ODD_IDS for entry in (known, odd, *([odd] if len(odd) < 1_000 else []))]
    answers = client.post(SCORES, {"user_ids": mixed})
    scores = answers.json["scores"]
    assert (answers.status, [score["user_id"] for score in scores]) == (200, mixed)
    sound = [score for score in scores if score["user_id"] == known]
    assert (len(sound), len({json.dumps(score) for score in sound})) == (len(ODD_IDS), 1)
    assert {score["status"] for score in scores if score["user_id"] != known} == {"NOT_FOUND", "INVALID"}


KEYS = ["a\0b", "x" * 300, "../x", "顾客", "' or 1=1 --", "\ud7ff\uffff"]


@pytest.mark.parametrize("key", KEYS)
def test_a_name_that_nothing_can_have_is_nobodys_on_either_database(published, serve, tmp_path, ledger_url, key):
    client = serve(published.root, tmp_path)
    client.app.state.ledger = type(client.app.state.ledger)(ledger_url)
    name = "".join(f"%{byte:02X}" for byte in key.encode())
    paths = [f"{AUDIENCES}/{name}", f"{AUDIENCES}/{name}/members", f"/v1/jobs/{name}", f"/v1/lookalikes/{name}"]
    answers = [client.get(path) for path in paths] + [client.request("POST", f"{AUDIENCES}/{name}/exports"), client.delete(f"/v1/lookalikes/{name}")]
    assert {answer.status for answer in answers} <= {404, 422}
    assert client.get(f"/v1/journeys/{name}/u").json["branch"] == "fallback"
    client.app.state.ledger.close()


# --- F12, for real ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
def test_two_hundred_megabytes_are_refused_without_being_held(live, announced):
    before, megabyte, began = live.resident(), b"x" * 1_000_000, time.monotonic()
    framing = b"content-length: 200000000" if announced else b"transfer-encoding: chunked"
    with live.connect() as connection:
        connection.sendall(b"POST /v1/scores/repeat_order HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" + framing + b"\r\n\r\n")
        sent, most = 0, before
        try:
            for _ in range(200):
                connection.sendall(megabyte if announced else b"f4240\r\n" + megabyte + b"\r\n")
                sent, most = sent + 1, max(most, live.resident())
            connection.sendall(b"" if announced else b"0\r\n\r\n")
        except ConnectionError:
            pass  # hung up on in the middle is well, too
        status = connection.recv(100).split(b" ")[1]
    assert (status, sent) == (b"413", 200)
    assert most - before < 20_000_000
    assert time.monotonic() - began < 60
    assert live.get("/health/live").status == 200
