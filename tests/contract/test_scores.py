"""What `/v1/scores` promises: every user has an answer, every error is a problem, nothing that was sent comes back in one."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

PATH = "/v1/scores/repeat_order"
TASKS = ("repeat_order", "churn", "lookalike")
TOLERANCE = 1e-9  # of sums of contributions, in log-odds


def eligible(client, task):
    """Ids of the users whom the task asks about."""
    release = client.app.state.current.scorer.release
    return [user.decode() for user in release.users[~np.isnan(release.scores[task].score)]]


def not_eligible(client, task):
    release = client.app.state.current.scorer.release
    return release.users[np.isnan(release.scores[task].score)][0].decode()


# --- shapes ---------------------------------------------------------------------------------------------------------


def test_a_score_says_what_it_is_of_what_and_how_long_it_is_good(client, published):
    answer = client.get(f"{PATH}/{eligible(client, 'repeat_order')[0]}")
    score = answer.json
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert (score["task"], score["status"], score["release"], score["model_version"]) == ("repeat_order", "OK", published.second, "30")
    assert 0 < score["probability"] < 1
    assert score["score"] == round(100 * score["probability"], 2)
    assert 0 <= score["percentile"] <= 100
    assert 0 <= score["stage_percentile"] <= 100
    assert (score["stage"], score["reasons"], score["baseline"]) == ("repeat", None, False)
    assert score["band"] == ("low" if score["percentile"] < 20 else "high" if score["percentile"] >= 80 else "medium")
    assert score["as_of"] == published.snapshot.manifest["as_of"]
    assert score["scored_at"] < score["expires_at"]


def test_a_look_alike_ranks_and_gives_no_probability(client):
    score = client.get(f"/v1/scores/lookalike/{eligible(client, 'lookalike')[0]}").json
    assert score["probability"] is None
    assert score["score"] == round(score["percentile"], 2)


def test_many_scores_come_in_the_order_of_their_ids(client):
    ids = eligible(client, "churn")[::-1]
    scores = client.post("/v1/scores/churn", {"user_ids": ids}).json["scores"]
    assert [score["user_id"] for score in scores] == ids
    assert scores == [client.get(f"/v1/scores/churn/{user}").json for user in ids]


def test_a_thousand_ids_are_answered_and_one_more_is_refused(client):
    users = eligible(client, "repeat_order")
    ids = [users[place % len(users)] for place in range(1_001)]
    assert len(client.post(PATH, {"user_ids": ids[:1_000], "reasons": True}).json["scores"]) == 1_000
    refused = client.post(PATH, {"user_ids": ids})
    assert (refused.status, refused.headers["content-type"]) == (422, "application/problem+json")
    assert refused.json["errors"][0] == {"at": "body.user_ids", "problem": "List should have at most 1000 items after validation, not 1001"}


def test_duplicate_ids_have_equal_answers_in_their_places(client):
    first, second = eligible(client, "repeat_order")[:2]
    scores = client.post(PATH, {"user_ids": [second, first, second, "nobody", second], "reasons": True}).json["scores"]
    assert [score["user_id"] for score in scores] == [second, first, second, "nobody", second]
    assert scores[0] == scores[2] == scores[4] != scores[1]


def test_each_user_has_a_status_and_none_fails_the_others(client):
    known, other = eligible(client, "repeat_order")[0], not_eligible(client, "repeat_order")
    scores = client.post(PATH, {"user_ids": ["nobody", "", known, other, "tab\tid"], "reasons": True}).json["scores"]
    assert [score["status"] for score in scores] == ["NOT_FOUND", "INVALID", "OK", "NOT_ELIGIBLE", "INVALID"]
    assert [score["score"] is None for score in scores] == [True, True, False, True, True]
    assert [score["reasons"] is None for score in scores] == [True, True, False, True, True]


@pytest.mark.parametrize(
    "body", [{}, {"user_ids": []}, {"user_ids": "u"}, {"user_ids": [1]}, {"user_ids": [None]}, {"user_ids": ["u"], "reasons": 1}, [], None]
)
def test_a_request_of_another_shape_is_refused(client, body):
    answer = client.post(PATH, body)
    assert (answer.status, answer.headers["content-type"], answer.json["status"]) == (422, "application/problem+json", 422)
    assert answer.json["errors"]


# --- odd ids --------------------------------------------------------------------------------------------------------

ODD = [
    ("", "INVALID"),
    ("x" * 256, "NOT_FOUND"),
    ("x" * 257, "INVALID"),
    ("中" * 86, "INVALID"),
    ("a/b", "NOT_FOUND"),
    ("../../etc/passwd", "NOT_FOUND"),
    ("..", "NOT_FOUND"),
    (".", "NOT_FOUND"),
    ("a b?c#d&e=f", "NOT_FOUND"),
    ("100%", "NOT_FOUND"),
    ("顾客", "NOT_FOUND"),
    ("a\0b", "INVALID"),
    ("a\nb", "INVALID"),
    ("a\x1b[31m", "INVALID"),
    ("\u202euser", "INVALID"),
]


@pytest.mark.parametrize(("user", "status"), ODD)
def test_an_odd_id_has_an_answer_in_a_body_and_in_a_path(client, user, status):
    known = eligible(client, "repeat_order")[0]
    odd, sound = client.post(PATH, {"user_ids": [user, known]}).json["scores"]
    assert (odd["user_id"], odd["status"], sound["status"]) == (user, status, "OK")
    encoded = "".join(f"%{byte:02X}" for byte in user.encode())
    assert client.get(f"{PATH}/{encoded}").json == odd


def test_a_user_id_that_is_followed_by_a_zero_byte_is_not_that_user(client):
    known = eligible(client, "repeat_order")[0]
    assert client.get(f"{PATH}/{known}%00").json["status"] == "INVALID"


def test_bytes_in_a_path_that_are_no_text_are_nobody(client):
    assert client.get(f"{PATH}/%FF%FE%ED%A0%80").json["status"] in ("NOT_FOUND", "INVALID")


@pytest.mark.parametrize("escape", [rb"\ud800", rb"\udfff\ud800", rb"a\udc00b"])
def test_half_a_surrogate_pair_is_invalid_and_comes_back_as_a_replacement(client, escape):
    score = client.post(PATH, b'{"user_ids": ["' + escape + b'"]}').json["scores"][0]
    assert score["status"] == "INVALID"
    assert "\ufffd" in score["user_id"]


def test_an_id_of_nearly_a_megabyte_does_not_fail_the_others(client):
    known = eligible(client, "repeat_order")[0]
    answer = client.post(PATH, {"user_ids": ["x" * 999_000, known]})
    assert [score["status"] for score in answer.json["scores"]] == ["INVALID", "OK"]


# --- tasks ----------------------------------------------------------------------------------------------------------


def test_an_unknown_task_is_not_found_and_the_nearest_is_named(client):
    for answer in (client.get("/v1/scores/repeat_ordre/u"), client.post("/v1/scores/repeat_ordre", {"user_ids": ["u"]})):
        assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
        assert answer.json["type"] == "urn:encore:problem:unknown-name"
        assert answer.json["detail"] == "Unknown prediction. Did you mean 'repeat_order'? Known: churn, lookalike, repeat_order."


# --- reasons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_reasons_are_the_largest_of_shares_that_add_up_to_the_log_odds(client, published, task):
    bundle, users = published.bundles[task], eligible(client, task)[:50]
    places = [published.snapshot.user_ids.get_loc(user) for user in users]
    rows = published.snapshot.matrix(bundle.features)[places]
    shares = bundle.contributions(rows)
    for score, share, log_odds in zip(
        client.post(f"/v1/scores/{task}", {"user_ids": users, "reasons": True}).json["scores"], shares, bundle.model.logits(rows), strict=True
    ):
        given = {reason["feature"]: reason["contribution"] for reason in score["reasons"]}
        assert len(given) == 5
        assert all(share[bundle.features.index(name)] == contribution for name, contribution in given.items())
        assert list(given.values()) == sorted(share[:-1], key=abs, reverse=True)[:5]
        assert math.fsum(share) == pytest.approx(log_odds, abs=TOLERANCE)
        if score["probability"] is not None:
            assert 1 / (1 + math.exp(-math.fsum(share))) == pytest.approx(score["probability"], abs=TOLERANCE)
        assert all(reason["effect"] == ("raises" if reason["contribution"] > 0 else "lowers") for reason in score["reasons"])


def test_reasons_of_one_are_the_reasons_among_many(client):
    users = eligible(client, "repeat_order")[:20]
    many = client.post(PATH, {"user_ids": users, "reasons": True}).json["scores"]
    assert many == [client.get(f"{PATH}/{user}?reasons=true").json for user in users]


# --- age ------------------------------------------------------------------------------------------------------------


def test_scores_that_expired_are_given_as_stale(published, serve, tmp_path):
    client = serve(published.root, tmp_path, good_for=timedelta(0))
    score = client.get(f"{PATH}/{eligible(client, 'repeat_order')[0]}").json
    assert (score["status"], score["score"] is None) == ("STALE", False)
    assert client.get(f"{PATH}/nobody").json["status"] == "NOT_FOUND"
    ready = client.get("/health/ready")
    assert (ready.status, ready.json["status"], ready.json["stale"], ready.json["reason"]) == (200, "stale", True, "stale")


def test_scores_expire_at_the_moment_they_say(client):
    scorer = client.app.state.current.scorer
    user, moment = eligible(client, "churn")[0], timedelta(microseconds=1)
    assert scorer.score("churn", [user], scorer.expires_at - moment)[0].status == "OK"
    assert scorer.score("churn", [user], scorer.expires_at)[0].status == "STALE"


# --- the description of the API ---------------------------------------------------------------------------------------


def test_every_route_says_what_it_answers(client):
    paths = client.get("/openapi.json").json["paths"]
    operations = {(path, method): operation for path, methods in paths.items() for method, operation in methods.items()}
    assert all(operation.get("summary") and operation.get("description") for operation in operations.values())
    for (path, _), operation in operations.items():
        if path.startswith(("/v1/scores", "/v1/audiences", "/v1/models", "/v1/jobs")):
            errors = {code: response["content"] for code, response in operation["responses"].items() if code >= "4"}
            assert {"404", "413", "422", "503"} <= set(errors)
            assert all(list(content) == ["application/problem+json"] for content in errors.values())
    assert {"200", "201", "409"} <= set(operations["/v1/audiences", "post"]["responses"])
    assert "202" in operations["/v1/audiences/{key}/exports", "post"]["responses"]


def test_errors_of_the_router_are_problems_too(client):
    nowhere, wrong = client.get("/nowhere"), client.request("DELETE", PATH)
    assert (nowhere.status, nowhere.headers["content-type"]) == (404, "application/problem+json")
    assert (wrong.status, wrong.headers["content-type"]) == (405, "application/problem+json")
    assert wrong.headers["allow"]


def test_metrics_name_routes_and_never_users(client):
    client.get(f"{PATH}/secret-marker")
    client.get("/secret-marker")
    text = client.get("/metrics").body.decode()
    assert 'encore_requests_total{method="GET",route="/v1/scores/{task}/{user_id}",status="200"}' in text
    assert 'encore_scores_total{status="NOT_FOUND",task="repeat_order",version="30"}' in text
    assert "secret-marker" not in text


def test_every_answer_carries_an_id_of_its_own(client):
    ids = {client.get(target).headers["x-request-id"] for target in (f"{PATH}/u", "/health/live", "/nowhere", "/v1/scores/none/u")}
    assert len(ids) == 4
