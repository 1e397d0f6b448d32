"""The service under bad requests and in bad surroundings: it stays up, says what is wrong, and repeats nothing."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from serving.current import Current
from serving.pointer import point_to

SCORES, AUDIENCES = "/v1/scores/repeat_order", "/v1/audiences"
MARKER = "secret-marker"

# Runs the real `encore serve` in a Python that has none of the trainer's libraries and may call nobody.
ALONE = """
import socket, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"mlflow", "sklearn", "joblib", "matplotlib", "requests"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def connect(self, address):
    raise AssertionError(f"the service called {address}")

sys.meta_path.insert(0, Absent())
socket.socket.connect = socket.socket.connect_ex = connect
import encore
encore.app(["serve", "--workspace", sys.argv[1], "--port", sys.argv[2]])
"""


def ask(port, target):
    """Status and JSON of a GET over a real connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def until(condition, seconds=60.0):
    """Wait for something to become true; returns what it was."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


# --- F1, F2: what is missing when the service starts ----------------------------------------------------------------


def test_the_service_starts_without_registry_trainer_network_and_release_and_takes_up_a_release_by_itself(published, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "ENCORE_MLFLOW_URI": "http://127.0.0.1:9"}
    service = subprocess.Popen([sys.executable, "-c", ALONE, str(tmp_path), str(port)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert until(lambda: service.poll() is not None or ask(port, "/health/live")[0] == 200)
        assert service.poll() is None, service.stderr.read().decode()
        assert (ask(port, "/health/ready")[0], ask(port, f"{SCORES}/u")[0], ask(port, "/v1/journeys/churn/u")[0]) == (503, 503, 200)

        shutil.copytree(published.root, tmp_path / "arriving")
        (tmp_path / "arriving").rename(tmp_path / "releases")
        ready = until(lambda: (found := ask(port, "/health/ready"))[0] == 200 and found)
        assert (ready[1]["status"], ready[1]["release"], ready[1]["failure"]) == ("ready", published.second, None)
        scores = [ask(port, f"{SCORES}/{user}?reasons=true")[1] for user in published.snapshot.user_ids[:20]]
        assert {score["release"] for score in scores} == {published.second}
        assert "OK" in {score["status"] for score in scores}

        service.terminate()
        assert service.wait(10) in (0, -15)
    finally:
        service.kill()
        service.wait()
        service.stderr.close()


def test_starting_and_scoring_call_nobody(published, serve, tmp_path, monkeypatch):
    def connect(*_):
        raise AssertionError("a network call")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    client = serve(published.root, tmp_path)
    assert client.get("/health/ready").status == 200
    assert client.post(SCORES, {"user_ids": list(published.snapshot.user_ids), "reasons": True}).status == 200


@pytest.mark.parametrize("folder", ["absent", "empty", "a file"])
def test_without_a_release_the_service_lives_is_not_ready_and_asks_to_come_back(serve, tmp_path, folder):
    if folder == "empty":
        (tmp_path / "releases").mkdir()
    if folder == "a file":
        (tmp_path / "releases").write_text("")
    client = serve(tmp_path / "releases", tmp_path)
    ready = client.get("/health/ready")
    assert client.get("/health/live").status == 200
    assert (ready.status, ready.headers["retry-after"], ready.json["reason"], bool(ready.json["failure"])) == (503, "30", "no_model", True)
    cut = {"task": "churn", "top_n": 1}
    for answer in (client.get(f"{SCORES}/u"), client.post(SCORES, {"user_ids": ["u"]}), client.get("/v1/models"), client.post(AUDIENCES, cut)):
        assert (answer.status, answer.headers["content-type"], answer.headers["retry-after"]) == (503, "application/problem+json", "30")
        assert answer.json["type"] == "urn:encore:problem:no-release"
    assert "encore_ready 0.0" in client.get("/metrics").body.decode()


def test_a_release_that_is_published_later_is_taken_up(published, serve, tmp_path):
    client = serve(tmp_path / "releases", tmp_path)
    assert client.get("/health/ready").status == 503
    shutil.copytree(published.root, tmp_path / "releases")
    client.app.state.current.refresh()
    assert (client.get("/health/ready").status, client.get(f"{SCORES}/user-000001").status) == (200, 200)
    assert "encore_ready 1.0" in client.get("/metrics").body.decode()


def test_the_watch_outlives_whatever_a_release_does_and_tries_again(releases, published, monkeypatch):
    current = Current(releases, timedelta(hours=48))
    current.refresh()
    point_to(releases, published.first)
    with monkeypatch.context() as patch:
        patch.setattr("serving.current.load_release", lambda _: 1 / 0)
        patch.setattr("serving.current.RETRY", 0.0)
        current.refresh()
    assert (current.scorer.release.id, current.failure) == (published.second, "ZeroDivisionError: division by zero")
    current.refresh()
    assert (current.scorer.release.id, current.failure) == (published.first, None)


# --- F10, F11: bodies that are no JSON, or JSON that is no request ----------------------------------------------------

BROKEN = {
    "malformed": b'{"user_ids": ["secret-marker"',
    "bad UTF-8": b'{"user_ids": ["secret-marker\xff\xfe"]}',
    "5,000 digits": b'{"secret-marker": ' + b"9" * 5_000 + b"}",
    "3,000 deep": b'{"user_ids": ' + b"[" * 3_000 + b'"secret-marker"' + b"]" * 3_000 + b"}",
    "3,000 objects deep": b'{"secret-marker": ' * 3_000 + b"1" + b"}" * 3_000,
    "100,000 brackets": b"[" * 100_000,
    "half a surrogate as a name": b'{"user_ids": ["u"], "secret-marker\\ud800": 1}',
    "unknown field": b'{"user_ids": ["u"], "secret-marker": "secret-marker"}',
    "another shape": b'{"user_ids": {"secret-marker": "secret-marker"}}',
    "a string": b'"secret-marker"',
    "two values": b'{"user_ids": ["u"]} "secret-marker"',
    "single quotes": b"{'user_ids': ['secret-marker']}",
    "zero byte": b'{"user_ids": ["secret-marker"]}\0',
    "nothing": b"",
}


@pytest.mark.parametrize("fault", BROKEN)
@pytest.mark.parametrize("path", [SCORES, AUDIENCES])
def test_a_broken_body_is_a_problem_that_repeats_nothing(client, path, fault):
    answer = client.post(path, BROKEN[fault])
    assert answer.status in (400, 422)
    assert (answer.headers["content-type"], answer.json["status"]) == ("application/problem+json", answer.status)
    assert MARKER not in answer.body.decode()
    assert len(answer.body) < 1_000
    assert client.get("/health/live").status == 200


def test_of_duplicate_keys_the_last_one_counts(client):
    answer = client.post(SCORES, b'{"user_ids": ["first"], "user_ids": ["last"]}')
    assert [score["user_id"] for score in answer.json["scores"]] == ["last"]


NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"nan"', '"1"', "false", "true", "[]", "{}", "9" * 5_000, "9" * 400 + ".0"]


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("field", ["top_n", "top_percent", "min_probability"])
def test_what_is_no_finite_number_is_refused(client, field, value):
    answer = client.post(AUDIENCES, f'{{"task": "churn", "{field}": {value}}}'.encode())
    assert answer.status in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "é", ""])
def test_a_body_of_another_type_is_a_problem(client, content_type):
    answer = client.request("POST", SCORES, b"secret-marker", {"content-type": content_type})
    assert (answer.status in (400, 415, 422), answer.headers["content-type"]) == (True, "application/problem+json")
    assert MARKER not in answer.body.decode()


# --- F12: large bodies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [SCORES, AUDIENCES, "/nowhere"])
def test_two_megabytes_are_refused_unread(client, path):
    answer = client.request("POST", path, b"x" * 2_000_000, {"content-type": "application/json"})
    assert (answer.status, answer.headers["content-type"]) == (413, "application/problem+json")
    assert answer.json["detail"] == "The body is larger than 1,000,000 bytes. Send it in parts."
    assert answer.headers["x-request-id"]


def test_two_hundred_megabytes_of_unannounced_chunks_are_refused_when_the_limit_is_passed(client):
    taken = []

    def chunks():
        for number in range(2_000):
            taken.append(number)
            yield b"x" * 100_000

    answer = client.post(SCORES, chunks())
    assert (answer.status, answer.headers["content-type"], answer.json["type"]) == (413, "application/problem+json", "urn:encore:problem:content-too-large")
    assert len(taken) == 11


@pytest.mark.parametrize("length", ["9" * 5_000, "99999999999999999999999", "2000000"])
def test_an_announced_length_is_believed_before_anything_is_read(client, length):
    answer = client.request("POST", SCORES, iter([b"{}"]), {"content-type": "application/json", "content-length": length})
    assert answer.status == 413


def test_a_body_below_the_limit_is_read_in_whatever_chunks(client):
    body = json.dumps({"user_ids": ["x" * 200] * 1_000}).encode()
    answer = client.post(SCORES, (body[place : place + 1_000] for place in range(0, len(body), 1_000)))
    assert (answer.status, len(answer.json["scores"])) == (200, 1_000)


# --- F13, F14, and what problems say --------------------------------------------------------------------------------


def test_one_bad_id_among_many_costs_only_itself(client, published):
    users = list(published.snapshot.user_ids)[:333]
    mixed = [user for good in users for user in (good, "", "nobody")]
    answers = client.post(SCORES, {"user_ids": mixed}).json["scores"]
    assert [answer["user_id"] for answer in answers] == mixed
    assert [answer["status"] for answer in answers[1::3]] == ["INVALID"] * 333
    assert [answer["status"] for answer in answers[2::3]] == ["NOT_FOUND"] * 333
    assert answers[0::3] == client.post(SCORES, {"user_ids": users}).json["scores"]


REFUSED = [
    ("GET", "/v1/scores/secret-marker/u", None),
    ("POST", "/v1/scores/secret-marker", {"user_ids": ["u"]}),
    ("GET", f"{SCORES}/u?reasons=secret-marker", None),
    ("POST", AUDIENCES, {"task": "secret-marker", "top_n": 1}),
    ("POST", AUDIENCES, {"task": "churn", "top_n": "secret-marker"}),
    ("POST", AUDIENCES, {"task": "churn", "top_n": 1, "name": "/secret-marker"}),
    ("POST", AUDIENCES, {"task": "churn", "top_n": 2, "name": "secret-marker"}),
    ("GET", f"{AUDIENCES}/x-secret-marker", None),
    ("GET", f"{AUDIENCES}/x-secret-marker/members?offset=secret-marker", None),
    ("POST", f"{AUDIENCES}/x/exports?format=secret-marker", None),
    ("GET", "/v1/jobs/secret-marker", None),
    ("GET", "/secret-marker", None),
    ("PUT", "/v1/scores/secret-marker", None),
]


@pytest.mark.parametrize(("method", "target", "value"), REFUSED)
def test_no_refusal_repeats_what_was_sent(client, method, target, value):
    if value and value.get("name") == MARKER:
        client.post(AUDIENCES, {**value, "top_n": 1})
    answer = client.request(method, target, json.dumps(value).encode(), {"content-type": "application/json"})
    assert 400 <= answer.status < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert MARKER not in answer.body.decode()
    assert {"type", "title", "status", "detail"} <= set(answer.json) <= {"type", "title", "status", "detail", "errors"}


def test_an_id_longer_than_all_others_is_not_looked_for(client, monkeypatch):
    scorer = client.app.state.current.scorer
    assert scorer.row("user-000001") is not None

    def searched(*_):
        raise AssertionError("numpy copies all ids to look for a longer one")

    monkeypatch.setattr("serving.scorer.np.searchsorted", searched)
    assert scorer.row("user-000001-and-more") is None
