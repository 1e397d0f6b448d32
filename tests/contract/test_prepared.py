"""Prepared answers are the documented ones: the short way and the long way say the same, of every user and in every state."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.release import load_release
from serving.schemas import ScoreBody, ScoresBody, score_body
from serving.score_json import ScoreJson
from serving.score_texts import rounded
from serving.scorer import Scorer

TASKS = ("repeat_order", "churn", "lookalike")
ODD = ["", "nobody", "a/b", 'quote"backslash\\', "tab\t", "\u202e", "顾客", "\x7f", "half \ud800", "x" * 256, "x" * 257, "user-000001\0"]

# What a serving process must not load: each of these costs more memory than all that it needs.
HEAVY = ("ibis", "duckdb", "pandas", "numba", "scipy", "sklearn", "lightgbm", "mlflow", "sqlglot", "matplotlib")
ALONE = """
import json, sys
from datetime import timedelta
from pathlib import Path
import encore
from serving.app import create_app, ServiceSettings
app = create_app(ServiceSettings(Path(sys.argv[1]), "sqlite://", timedelta(hours=48)))
app.state.current.refresh()
scorer = app.state.current.scorer
for task in scorer.tasks:
    known = [user.decode() for user in scorer.release.users[:50]]
    assert app.state.answers.ready(task).many(known)
    assert any(score.reasons for score in scorer.score(task, known, reasons=True))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.fixture(scope="module")
def scorer(published):
    return Scorer(load_release(published.root / published.second), timedelta(hours=48))


def documented(scorer, task, user_ids):
    """What pydantic makes of the scorer's answers."""
    return [json.loads(score_body(score).model_dump_json()) for score in scorer.score(task, user_ids)]


@pytest.mark.parametrize("good_for", [48, -1], ids=["fresh", "stale"])
@pytest.mark.parametrize("task", TASKS)
def test_prepared_text_is_what_the_documented_model_says_of_everybody(published, task, good_for):
    scorer = Scorer(load_release(published.root / published.second), timedelta(days=365 * good_for))
    prepared, ids = ScoreJson(scorer, task), [*published.snapshot.user_ids, *ODD]
    expected = documented(scorer, task, ids)
    assert {answer["status"] for answer in expected} == {"STALE" if good_for < 0 else "OK", "NOT_ELIGIBLE", "NOT_FOUND", "INVALID"}
    assert json.loads(prepared.many(ids)) == {"scores": expected}
    assert [json.loads(prepared.one(user)) for user in ids] == expected
    assert all(set(json.loads(prepared.one(user))) == set(ScoreBody.model_fields) for user in ids)
    ScoresBody.model_validate_json(prepared.many(ids))


@settings(max_examples=300, deadline=None)
@given(user=st.text(st.characters(codec=None), max_size=40))
def test_any_text_can_be_an_id(scorer, user):
    assert [json.loads(ScoreJson(scorer, "churn").one(user))] == documented(scorer, "churn", [user])


@settings(max_examples=200, deadline=None)
@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3), details=st.floats(allow_infinity=False))
def test_any_number_is_written_to_the_last_bit(scorer, numbers, details):
    release = scorer.release
    place = int(np.flatnonzero(~np.isnan(release.scores["churn"].score))[0])
    columns = {name: values[place : place + 1].copy() for name, values in release.scores["churn"].columns().items()}
    columns |= {
        "score": np.array(numbers[:1]),
        "percentile": np.array(numbers[1:2]),
        "stage_percentile": np.array(numbers[2:]),
        'detail.a"b': np.array([details]),
    }
    one = type(release)(
        **{
            **vars(release),
            "users": release.users[place : place + 1],
            "stages": release.stages[place : place + 1],
            "scores": {"churn": type(release.scores["churn"]).of(columns)},
            "bundles": {"churn": release.bundles["churn"]},
        }
    )
    if math.isinf(100 * numbers[0]):
        return  # no probability is as large
    answer = json.loads(ScoreJson(Scorer(one, timedelta(hours=48)), "churn").one(one.users[0].decode()))
    assert (answer["probability"], answer["percentile"], answer["stage_percentile"]) == tuple(numbers)
    assert answer["details"] == {'a"b': None if math.isnan(details) else details}
    assert [answer] == documented(Scorer(one, timedelta(hours=48)), "churn", [one.users[0].decode()])


@pytest.mark.parametrize("query", [("", "?reasons=false"), ("?reasons=true", "?reasons=1")], ids=["without reasons", "with reasons"])
@pytest.mark.parametrize("task", TASKS)
def test_the_short_way_and_the_documented_route_answer_alike(client, published, task, query):
    for user in [*list(published.snapshot.user_ids)[:40], "nobody", "a%2Fb", "%00", "%E9%A1%BE"]:
        short, long = (client.get(f"/v1/scores/{task}/{user}{asked}") for asked in query)
        assert (short.status, short.json) == (long.status, long.json)
        assert short.headers.keys() == long.headers.keys()
        own = {"x-request-id", "content-length", "etag"}  # a tag is made of an answer's bytes, in which fields may stand in another order
        assert {name: text for name, text in short.headers.items() if name not in own} == {name: text for name, text in long.headers.items() if name not in own}
        assert short.headers["content-length"] == str(len(short.body))


@pytest.mark.parametrize("user", ["known", "nobody", "a%2Fb", "%00", ""])
def test_all_scores_of_a_user_are_those_of_each_prediction(client, published, user):
    user = published.snapshot.user_ids[5] if user == "known" else user
    assert client.get(f"/v1/users/{user}/scores").json == {
        "scores": [client.get(f"/v1/scores/{task}/{user}").json for task in client.app.state.current.scorer.tasks]
    }


def counts(client):
    lines = client.get("/metrics").body.decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(("encore_scores_total", "encore_requests_total"))}


def test_both_ways_are_counted_alike(client, published):
    user = published.snapshot.user_ids[0]
    before = counts(client)
    client.get(f"/v1/scores/churn/{user}")
    short = counts(client)
    client.get(f"/v1/scores/churn/{user}?reasons=false")
    long = counts(client)
    added = {name: short[name] - before.get(name, 0) for name in short if "/metrics" not in name and short[name] != before.get(name, 0)}
    assert added == {name: long[name] - short[name] for name in long if "/metrics" not in name and long[name] != short[name]}
    assert sorted(added.values()) == [1, 1]


def test_many_ids_are_looked_up_as_one_is(scorer, published):
    ids = [*published.snapshot.user_ids[::7], *ODD, "zzz", "!", published.snapshot.user_ids[3], f"{published.snapshot.user_ids[3]}-and-more"]
    alone = [scorer.row(user) if user and "\0" not in user and "\ud800" not in user else None for user in ids]
    assert scorer.rows(ids).tolist() == [-1 if row is None else row for row in alone]
    plain = [user for user in ids if user.isascii() and user.isprintable()]
    assert scorer.rows(plain).tolist() == [row for user, row in zip(ids, scorer.rows(ids).tolist(), strict=True) if user in plain]
    assert scorer.rows([]).tolist() == []


@pytest.mark.parametrize("kind", ["probability", "rank", "value", "date", "effect"])
def test_many_are_written_as_one_is_whatever_the_prediction_is_of(scorer, kind):
    """Of the columns of a real release, read as if they were another kind's, with details that have gaps."""
    release, bundle = scorer.release, scorer.release.bundles["churn"]
    stored = release.scores["churn"]
    gaps = np.where(np.arange(len(stored.score)) % 3 == 0, np.nan, 1e-7 * np.arange(len(stored.score)))
    scores = replace(stored, score=stored.score * 1e3 - 100, details={"median_days": gaps, 'a"b\\': stored.score})
    bundles = {"churn": replace(bundle, about={**bundle.about, "kind": kind})}
    prepared = ScoreJson(Scorer(replace(release, bundles=bundles, scores={"churn": scores}), timedelta(hours=48)), "churn")
    ids = [*[user.decode() for user in release.users], *ODD]
    assert json.loads(prepared.many(ids)) == {"scores": [json.loads(prepared.one(user)) for user in ids]}
    assert json.loads(prepared.many([])) == {"scores": []}


@settings(max_examples=500, deadline=None)
@given(
    values=st.lists(
        st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 100), st.integers(0, 20_000).map(lambda half: half / 200)), max_size=20
    )
)
def test_two_decimals_are_those_of_python(values):
    assert rounded(np.array(values, dtype=np.float64)).tolist() == [round(value, 2) for value in values]


def test_ids_that_json_has_to_escape_are_escaped_among_many(scorer):
    release = scorer.release
    rows = np.flatnonzero(~np.isnan(release.scores["churn"].score))[:3]
    names = [b'a"quote', b"back\\slash", "\u987e\u5ba2".encode()]
    one = {name: values[rows] for name, values in release.scores["churn"].columns().items()}
    small = replace(
        release, users=np.array(sorted(names)), stages=release.stages[rows], vectors=release.vectors[rows], bundles={"churn": release.bundles["churn"]},
        scores={"churn": type(release.scores["churn"]).of(one)},
    )  # fmt: skip
    prepared, ids = ScoreJson(Scorer(small, timedelta(hours=48)), "churn"), [name.decode() for name in names]
    answers = json.loads(prepared.many(ids))["scores"]
    assert [answer["user_id"] for answer in answers] == ids
    assert answers == [json.loads(prepared.one(user)) for user in ids]
    assert {answer["status"] for answer in answers} == {"OK"}


def test_the_serving_process_loads_no_engine_and_no_trainer(published):
    done = subprocess.run([sys.executable, "-c", ALONE, str(published.root)], capture_output=True, text=True, env=os.environ, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert {"numpy", "pyarrow", "fastapi"} <= loaded
    assert not loaded & set(HEAVY)


BODIES = [
    {"user_ids": ["nobody"]},
    {"user_ids": [""], "reasons": False},
    {"user_ids": ["u"], "reasons": True},
    {"user_ids": []},
    {"user_ids": ["u"] * 1_001},
    {"user_ids": [1]},
    {"user_ids": ["u"], "other": 1},
    {"user_ids": ["u"], "reasons": 1},
    [],
    b"{",
    b"\xff",
    b'{"user_ids": ["\\ud800"]}',
    b'{"user_ids": ["a"], "user_ids": ["b"]}',
    b"[" * 10_000,
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_many_by_the_short_way_are_answered_and_refused_as_by_the_documented_route(client, published, body):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    short = client.request("POST", "/v1/scores/churn", raw, headers)
    long = client.request("POST", "/v1/scores/churn?", raw, {**headers, "content-type": "application/json; charset=utf-8"})
    assert (short.status, short.json) == (long.status, long.json)
    assert {name: short.headers[name] for name in short.headers if name not in ("x-request-id", "content-length")} == {
        name: long.headers[name] for name in long.headers if name not in ("x-request-id", "content-length", "vary")
    }
