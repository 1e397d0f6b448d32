"""A posted vector has the score of the user whose features they are; names are held against the model's."""

from __future__ import annotations

import json
import math
import threading

import numpy as np
import pytest

from serving.release import load_release

TASKS = ("repeat_order", "churn", "lookalike")
SAME = ("task", "probability", "value", "effect", "score", "percentile", "band", "details", "model_version", "release", "baseline")


@pytest.fixture(scope="module")
def release(published):
    return load_release(published.root / published.second)


def features_of(release, task, row):
    bundle = release.bundles[task]
    values = release.vectors[row, bundle.align(release.features)]
    return {name: None if math.isnan(value) else float(value) for name, value in zip(bundle.features, values, strict=True)}


@pytest.mark.parametrize("task", TASKS)
def test_a_users_own_features_give_the_users_own_score(client, release, task):
    for row in np.flatnonzero(~np.isnan(release.scores[task].score))[::7]:
        user = client.get(f"/v1/scores/{task}/{release.users[row].decode()}?reasons=true").json
        features = features_of(release, task, row)
        posted = client.post(f"/v1/scores/{task}:vector", {"features": features, "reasons": True})
        assert posted.status == 200
        assert {name: posted.json[name] for name in SAME} == {name: user[name] for name in SAME}
        assert posted.json["reasons"] == user["reasons"]
        assert posted.json["missing"] == [name for name, value in features.items() if value is None]


def test_order_does_not_matter_and_what_is_not_given_is_no_value(client, release):
    features = features_of(release, "churn", int(np.flatnonzero(~np.isnan(release.scores["churn"].score))[0]))
    whole = client.post("/v1/scores/churn:vector", {"features": features}).json
    turned = client.post("/v1/scores/churn:vector", {"features": dict(reversed(features.items()))}).json
    left_out = client.post("/v1/scores/churn:vector", {"features": {name: value for name, value in features.items() if value is not None}}).json
    assert whole == turned == left_out
    assert whole["reasons"] is None
    nothing = client.post("/v1/scores/churn:vector", {"features": {}})
    assert (nothing.status, set(nothing.json["missing"])) == (200, set(features))


def test_a_name_that_the_model_does_not_have_is_refused_with_the_nearest(client, release):
    known = release.bundles["churn"].features[0]
    answer = client.post("/v1/scores/churn:vector", {"features": {f"{known}x": 1.0}})
    assert (answer.status, answer.json["type"]) == (422, "urn:encore:problem:unknown-feature")
    assert f"Did you mean '{known}'?" in answer.json["detail"]
    hidden = client.post("/v1/scores/churn:vector", {"features": {"secret-marker": 1.0}})
    assert "secret-marker" not in hidden.body.decode()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", '"1"', "true", "[1]"])
def test_what_is_no_finite_number_is_refused(client, release, value):
    name = release.bundles["churn"].features[0]
    answer = client.post("/v1/scores/churn:vector", f'{{"features": {{"{name}": {value}}}}}'.encode())
    assert (answer.status in (400, 422), answer.headers["content-type"]) == (True, "application/problem+json")


def test_an_unknown_prediction_is_not_found(client):
    answer = client.post("/v1/scores/chrun:vector", {"features": {}})
    assert (answer.status, answer.json["detail"]) == (404, "Unknown prediction. Did you mean 'churn'? Known: churn, lookalike, repeat_order.")


def test_the_models_say_which_names_to_post(client, release):
    for model in client.get("/v1/models").json["models"]:
        assert tuple(model["features"]) == release.bundles[model["task"]].features
        assert all(model["features"].values())


def test_many_threads_through_one_model_get_the_scores_of_one(release):
    bundle = release.bundles["repeat_order"]
    rows = release.vectors[:, bundle.align(release.features)]
    expected, wrong = bundle.scores(rows), []

    def ask():
        for row in range(len(rows)):
            if bundle.scores(rows[row : row + 1])[0] != expected[row]:
                wrong.append(row)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def both_ways(client, task, body, headers=None):
    """The short way, and the documented route, which a body of unannounced length takes."""
    short = client.request("POST", f"/v1/scores/{task}:vector", body, {"content-type": "application/json", **(headers or {})})
    return short, client.post(f"/v1/scores/{task}:vector", iter([body]))


@pytest.mark.parametrize(
    "body",
    [
        b'{"features": {}}',
        b'{"features": {"orders_count": 3, "orders_recency": 1e1, "orders_revenue": null}}',
        b'{"features": {"orders_count": 3, "orders_count": 4}}',
        b'{"features": {"orders_count": 3}, "reasons": true}',
        b'{"features": {"orders_count": 3}, "reasons": 1}',
        b'{"features": {"orders_count": NaN}}',
        b'{"features": {"orders_count": 1e999}}',
        b'{"features": {"orders_count": true}}',
        b'{"features": {"orders_count": "3"}}',
        b'{"features": {"ordres_count": 3}}',
        b'{"features": {"orders_count": 3}, "more": 1}',
        b'{"features": [1]}',
        b'{"features": {"half \\ud800": 1}}',
        b"{",
        b"",
        b"null",
        b'{"features": {"' + b"x" * 5_000 + b'": 1}}',
        b'{"features": ' + b'{"a":' * 2_000 + b"1" + b"}" * 2_001,
    ],
    ids=lambda body: body[:60].decode(),
)
@pytest.mark.parametrize("task", ["churn", "chrun"])
def test_the_short_way_and_the_documented_route_say_the_same(client, task, body):
    short, long = both_ways(client, task, body)
    assert (short.status, short.json, short.headers["content-type"]) == (long.status, long.json, long.headers["content-type"])
    assert short.headers["x-request-id"] != long.headers["x-request-id"]


def test_every_user_has_the_same_score_on_both_ways(client, release):
    for row in np.flatnonzero(~np.isnan(release.scores["repeat_order"].score))[::11]:
        short, long = both_ways(client, "repeat_order", json.dumps({"features": features_of(release, "repeat_order", row)}).encode())
        assert (short.status, short.json) == (200, long.json)


def test_a_body_of_another_type_takes_the_documented_route(client):
    answer = client.request("POST", "/v1/scores/churn:vector", b'{"features": {}}', {"content-type": "text/plain"})
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
