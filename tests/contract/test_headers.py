"""What answers carry beside their bodies: tags and ages of scores, compression, what a browser may do, whose request it was."""

from __future__ import annotations

import gzip
import json
import re
import time
from datetime import timedelta

import pytest

PATH = "/v1/scores/repeat_order"
USER = f"{PATH}/user-000001"
SCORED = [USER, f"{USER}?reasons=true", "/v1/users/user-000001/scores"]


def get(client, target, **headers):
    return client.request("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})


# --- ETag and age -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", SCORED)
def test_who_has_the_answer_is_told_that_it_is_still_right(client, target):
    first = client.get(target)
    tag = first.headers["etag"]
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = get(client, target, if_none_match=known)
        assert (again.status, again.body, again.headers["etag"], "content-length" in again.headers) == (304, b"", tag, False)
        assert {"cache-control", "vary", "x-request-id"} <= set(again.headers)
    changed = get(client, target, if_none_match='W/"other"')
    assert (changed.status, changed.body) == (200, first.body)


def test_tags_tell_users_tasks_releases_ages_and_deletions_apart_and_agree_between_processes(published, serve, tmp_path):
    client, other, stale = (serve(published.root, tmp_path, *age) for age in ((), (), (timedelta(0),)))
    targets = [USER, f"{PATH}/user-000002", f"{PATH}/nobody", "/v1/scores/churn/user-000001", f"{USER}?reasons=true"]
    tags = [client.get(target).headers["etag"] for target in targets]
    assert len(set(tags)) == len(targets)
    assert tags == [other.get(target).headers["etag"] for target in targets]
    assert stale.get(USER).headers["etag"] not in tags


@pytest.mark.parametrize("target", SCORED)
def test_no_cache_keeps_a_score_beyond_its_expiry_nor_a_minute(published, serve, tmp_path, target):
    fresh, soon, stale = (serve(published.root, tmp_path, good_for=timedelta(days=days)) for days in (9_000, 9_000, -9_000))
    assert fresh.get(target).headers["cache-control"] == "private, max-age=60, must-revalidate"
    assert stale.get(target).headers["cache-control"] == "private, max-age=0, must-revalidate"
    scorer = soon.app.state.current.scorer
    scorer.expires_at = scorer.scored_at + timedelta(seconds=time.time() + 20.9 - scorer.scored_at.timestamp())
    age = int(re.fullmatch("private, max-age=([0-9]+), must-revalidate", soon.get(target).headers["cache-control"])[1])
    assert 0 < age <= 20


@pytest.mark.parametrize(
    "target", ["/v1/models", "/v1/audiences", "/v1/journeys/none/user-000001", "/health/ready", "/metrics", "/nowhere", "/v1/scores/none/u"]
)
def test_nobody_keeps_other_answers(client, target):
    assert client.get(target).headers["cache-control"] == "no-store"


def test_a_score_varies_with_who_asks(client):
    assert client.get(USER).headers["vary"] == "authorization, x-api-key"


# --- compression ----------------------------------------------------------------------------------------------------------


def test_large_answers_are_packed_for_who_can_unpack_them_and_small_ones_never(client, published):
    body = json.dumps({"user_ids": list(published.snapshot.user_ids)[:200]}).encode()
    headers = {"content-type": "application/json"}
    plain = client.request("POST", PATH, body, headers)
    packed = client.request("POST", PATH, body, {**headers, "accept-encoding": "gzip, br"})
    assert "content-encoding" not in plain.headers
    assert (packed.headers["content-encoding"], "accept-encoding" in packed.headers["vary"].lower()) == ("gzip", True)
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 5
    assert all("content-encoding" not in get(client, target, accept_encoding="gzip").headers for target in SCORED)


# --- browsers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [USER, "/v1/models", "/health/live", "/docs", "/redoc", "/openapi.json", "/nowhere", "/v1/scores/none/u"])
def test_every_answer_tells_browsers_to_do_nothing_with_it(client, target):
    headers = client.get(target).headers
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    if target not in ("/docs", "/redoc"):
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert not {"server", "x-powered-by"} & set(headers)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_may_load_what_they_are_made_of_and_nothing_from_elsewhere(client, page):
    answer = client.get(page)
    policy, text = answer.headers["content-security-policy"], answer.body.decode()
    loaded = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert loaded
    assert all(address.startswith("/") and not address.startswith("//") for address in loaded)
    assert "default-src 'self'" in policy
    assert "http" not in policy


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PUT"])
@pytest.mark.parametrize("target", [USER, PATH, "/v1/audiences", "/health/live", "/docs", "/nowhere"])
def test_no_page_of_another_origin_may_ask(client, method, target):
    headers = {"origin": "https://shop.example", "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    answer = client.request(method, target, b"", headers)
    assert not [name for name in answer.headers if name.startswith("access-control")]


# --- request ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "Trace_1.2-3", "x" * 64])
def test_the_callers_id_of_a_request_comes_back(client, sent):
    assert {get(client, target, x_request_id=sent).headers["x-request-id"] for target in (USER, "/nowhere", "/v1/models")} == {sent}


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", "a\tb", "user@example.org", "é", "<script>", '"quoted"'])
def test_what_is_no_id_gets_a_new_one(client, sent):
    assert re.fullmatch("[0-9a-f]{32}", get(client, USER, x_request_id=sent).headers["x-request-id"])


def test_a_fault_is_a_problem_with_all_headers_and_the_id_by_which_the_log_has_it(client, monkeypatch, caplog):
    monkeypatch.setattr(client.app.state.current.scorer, "release", None)
    monkeypatch.setattr("features.logs.log.propagate", True)
    answer = get(client, "/v1/models", x_request_id="mine")
    assert (answer.status, answer.json["type"], answer.headers["content-type"]) == (500, "urn:encore:problem:fault", "application/problem+json")
    assert (answer.headers["x-request-id"], answer.headers["cache-control"]) == ("mine", "no-store")
    assert {record.facts["request_id"] for record in caplog.records if record.message == "fault"} == {"mine"}
