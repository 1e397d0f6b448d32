"""The Open Inference Protocol (V2): tensors in, the scores that every other way gives, to the bit; errors as the protocol has them."""

from __future__ import annotations

import json

import numpy as np
import pytest

MODEL = "/v2/models/churn"


@pytest.fixture
def scorer(client):
    return client.app.state.current.scorer


@pytest.fixture
def vectors(scorer):
    """Rows of eligible users in the model's order, and those users."""
    release = scorer.release
    rows = np.flatnonzero(~np.isnan(release.scores["churn"].score))[:9]
    return release.vectors[rows][:, release.bundles["churn"].align(release.features)], [release.users[row].decode() for row in rows]


def none(values):
    return [None if value != value else value for value in values]


def tensor(rows, name="features", **more):
    return {"name": name, "shape": list(rows.shape), "datatype": "FP64", "data": none(rows.ravel().tolist()), **more}


def outputs(answer):
    assert answer.status == 200, answer.body
    return {one["name"]: one["data"] for one in answer.json["outputs"]}


def test_the_server_tells_of_itself_and_of_its_health(client, serve, tmp_path):
    assert client.get("/v2").json == {"name": "encore", "version": "1", "extensions": []}
    assert (client.get("/v2/health/live").json, client.get("/v2/health/ready").json) == ({"live": True}, {"ready": True})
    nothing = serve(tmp_path / "none", tmp_path)
    assert nothing.get("/v2/health/live").status == 200
    assert (nothing.get("/v2/health/ready").status, nothing.get("/v2/health/ready").json) == (503, {"ready": False})
    refused = nothing.get(MODEL)
    assert (refused.status, list(refused.json), refused.headers["retry-after"]) == (503, ["error"], "30")


def test_a_model_tells_its_tensors_in_the_order_of_its_manifest(client, scorer):
    told = client.get(MODEL).json
    assert told == client.get(f"{MODEL}/versions/30").json
    assert (told["name"], told["versions"], told["platform"]) == ("churn", ["30"], "encore")
    assert [one["name"] for one in told["inputs"]] == list(scorer.release.bundles["churn"].features)
    assert {(one["datatype"], tuple(one["shape"])) for one in told["inputs"] + told["outputs"]} == {("FP64", (-1,))}
    assert [one["name"] for one in told["outputs"]] == ["probability", "score", "percentile"]
    assert [one["name"] for one in client.get("/v2/models/lookalike").json["outputs"]] == ["score", "percentile"]
    assert client.get(f"{MODEL}/ready").json == client.get(f"{MODEL}/versions/30/ready").json == {"name": "churn", "ready": True}


@pytest.mark.parametrize("task", ["churn", "repeat_order", "lookalike"])
def test_every_form_of_the_same_rows_gives_the_stored_scores_to_the_bit(client, scorer, task):
    release, bundle = scorer.release, scorer.release.bundles[task]
    places = np.flatnonzero(~np.isnan(release.scores[task].score))[::60]
    rows, users = release.vectors[places][:, bundle.align(release.features)], [release.users[place].decode() for place in places]
    path = f"/v2/models/{task}/infer"
    flat = tensor(rows)
    nested = {**flat, "data": [none(row) for row in rows.tolist()]}
    columns = [tensor(rows[:, [place]], name) for place, name in enumerate(bundle.features)][::-1]  # by name: the order does not matter
    vectors = [{**one, "shape": [len(rows)]} for one in columns]
    forms = [outputs(client.post(path, {"inputs": inputs})) for inputs in ([flat], [nested], columns, vectors)]
    assert forms[0] == forms[1] == forms[2] == forms[3]
    known = outputs(client.post(path, {"inputs": [{"name": "user_id", "shape": [len(users)], "datatype": "BYTES", "data": users}]}))
    assert {name: known[name] for name in forms[0]} == forms[0]
    scores = client.post(f"/v1/scores/{task}", {"user_ids": users}).json["scores"]
    for name in forms[0]:
        assert forms[0][name] == [score[name] for score in scores]


def test_unknown_users_have_no_value_and_a_status(client, vectors):
    users = [vectors[1][0], "nobody", ""]
    found = outputs(client.post(f"{MODEL}/infer", {"inputs": [{"name": "user_id", "shape": [3], "datatype": "BYTES", "data": users}]}))
    assert found["status"] == ["OK", "NOT_FOUND", "INVALID"]
    assert [value is None for value in found["probability"]] == [False, True, True]


def test_the_id_comes_back_and_only_the_outputs_that_were_asked_for(client, vectors):
    request = {"id": "42", "inputs": [tensor(vectors[0])], "outputs": [{"name": "percentile"}], "parameters": {"any": 1}}
    answer = client.post(f"{MODEL}/versions/30/infer", request).json
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("42", "churn", "30")
    assert [(one["name"], one["shape"], one["datatype"]) for one in answer["outputs"]] == [("percentile", [len(vectors[0])], "FP64")]
    assert "id" not in client.post(f"{MODEL}/infer", {"inputs": [tensor(vectors[0])]}).json


def test_numbers_are_read_as_their_type_says(client, scorer, vectors):
    rows = vectors[0]
    whole = np.trunc(np.nan_to_num(rows, nan=3))
    exact = outputs(client.post(f"{MODEL}/infer", {"inputs": [tensor(whole)]}))
    as_integers = {**tensor(whole), "datatype": "INT64", "data": whole.astype(int).ravel().tolist()}
    assert outputs(client.post(f"{MODEL}/infer", {"inputs": [as_integers]})) == exact
    tenth = np.full(rows.shape, 0.1)
    single = outputs(client.post(f"{MODEL}/infer", {"inputs": [tensor(tenth, datatype="FP32")]}))["probability"]
    assert single == scorer.release.bundles["churn"].scores(tenth.astype(np.float32).astype(np.float64)).tolist()


WIDTH = "the width"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"datatype": "FP8"}, "inputs[0].datatype"),
        ({"shape": [1]}, "has 1"),
        ({"shape": "1"}, "inputs[0].shape"),
        ({"shape": [-1, 2]}, "inputs[0].shape"),
        ({"shape": [True]}, "inputs[0].shape"),
        ({"shape": [2, WIDTH]}, "elements"),
        ({"data": "secret-marker"}, "inputs[0].data"),
        ({"data": ["secret-marker"], "shape": [1, 1]}, "single tensor"),
        ({"data": [["a"], [1]]}, "shape"),
        ({"data": None}, "inputs[0].data"),
        ({"name": 7}, "name"),
        ({"name": "secret-marker", "shape": [1], "data": [1]}, "single tensor"),
        ({"parameters": {"binary_data_size": 8}}, "binary_data=False"),
        ({"datatype": "BYTES"}, "features are numbers"),
        ({"name": "user_id"}, "BYTES"),
    ],
)
def test_a_wrong_tensor_is_a_400_that_says_where_and_repeats_nothing(client, vectors, change, words):
    rows = vectors[0][:1]
    change = {
        name: [rows.shape[1] if size == WIDTH else size for size in value] if isinstance(value, list) and name == "shape" else value
        for name, value in change.items()
    }
    answer = client.post(f"{MODEL}/infer", {"inputs": [{**tensor(rows), **change}]})
    assert (answer.status, list(answer.json), answer.headers["content-type"]) == (400, ["error"], "application/json")
    assert words in answer.json["error"]
    assert "secret-marker" not in answer.body.decode()


@pytest.mark.parametrize("value", ["1", True, [1], {}, 10**400, "NaN"])
def test_an_element_that_is_no_number_of_its_type_is_refused(client, vectors, value):
    sent = tensor(vectors[0][:1])
    sent["data"][0] = value
    assert client.post(f"{MODEL}/infer", {"inputs": [sent]}).status == 400
    assert client.post(f"{MODEL}/infer", {"inputs": [{**sent, "datatype": "INT8"}]}).status == 400


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"{}", b'{"inputs": []}', b'{"inputs": [1]}', b'{"inputs": {}}', b'{"inputs": [NaN]}', b"\xff", b"[" * 50_000]
)
def test_what_is_no_inference_request_is_a_400(client, body):
    answer = client.post(f"{MODEL}/infer", body)
    assert (answer.status, list(answer.json)) == (400, ["error"])


def test_tensors_in_binary_are_refused_with_what_to_do(client):
    answer = client.request("POST", f"{MODEL}/infer", b"{}", {"content-type": "application/octet-stream", "inference-header-content-length": "2"})
    assert (answer.status, "binary_data=False" in answer.json["error"]) == (400, True)


def test_features_that_are_missing_odd_or_said_twice_are_refused(client, scorer, vectors):
    names, rows = scorer.release.bundles["churn"].features, vectors[0][:2]
    columns = [tensor(rows[:, place], name) for place, name in enumerate(names)]
    for inputs, words in (
        (columns[1:], f"1 of the model's {len(names)} features are not among the inputs, such as {names[0]}"),
        ([*columns, {**columns[0], "name": "secret-marker"}], f"inputs[{len(names)}] is not a feature"),
        ([*columns, columns[0]], "same name"),
        ([*columns[1:], tensor(rows[:1, 0], names[0])], "same shape"),
    ):
        answer = client.post(f"{MODEL}/infer", {"inputs": inputs})
        assert (answer.status, words in answer.json["error"]) == (400, True)
        assert "secret-marker" not in answer.body.decode()
    asked = {"inputs": columns, "outputs": [{"name": "secret-marker"}]}
    assert client.post(f"{MODEL}/infer", asked).json["error"] == "outputs[0] is not an output of this model; it has probability, score, percentile."


@pytest.mark.parametrize("path", ["/v2/models/secret-marker", "/v2/models/secret-marker/ready", f"{MODEL}/versions/31", f"{MODEL}/versions/31/ready"])
def test_what_is_not_in_service_is_a_404_of_the_protocol(client, path):
    answer = client.get(path)
    assert (answer.status, list(answer.json)) == (404, ["error"])
    assert "secret-marker" not in answer.body.decode()
    assert client.post(f"{path.removesuffix('/ready')}/infer", {"inputs": []}).status == 404


def test_no_rows_have_no_scores(client, scorer):
    width = len(scorer.release.bundles["churn"].features)
    found = outputs(client.post(f"{MODEL}/infer", {"inputs": [{"name": "features", "shape": [0, width], "datatype": "FP64", "data": []}]}))
    assert found == {"probability": [], "score": [], "percentile": []}


def test_the_body_that_the_description_gives_as_an_example_is_answered(client):
    described = client.get("/openapi.json").json["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"]
    assert outputs(client.post(f"{MODEL}/infer", json.loads(json.dumps(described["example"]))))["status"] == ["NOT_FOUND", "NOT_FOUND"]
