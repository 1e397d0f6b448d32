"""The conditions of audiences: a slow loop beside the fast path, the laws of logic, and every mistake told at once."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.conditions import of_values
from features.views.layers import GROUPS
from features.vocabulary import STAGES
from serving.audiences.columns import BANDS, feature, fetch
from serving.audiences.conditions import CLOSED, DEEPEST, hints_of, holds, mistakes_of
from serving.audiences.cut import cut
from serving.audiences.memory import is_remembered
from serving.audiences.rules import InvalidRule, Rule, read_rule
from serving.audiences.words import condition_of
from serving.release import load_release
from serving.scorer import Scorer, band
from training.shop_value import LAYERS, VISITOR

PATH = "/v1/audiences"
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def release(published):
    return load_release(published.root / published.second)


@pytest.fixture(scope="module")
def table(release):
    """Every user as a dictionary, by the long way: what the scorer and the mapped columns say, one value at a time."""
    scorer, users = Scorer(release, timedelta(days=1)), []
    told = {task: scorer.score(task, [user.decode() for user in release.users]) for task in release.scores}
    labels = {name: label.to_pylist() for name, label in release.labels.items()}
    for row in range(len(release.users)):
        values = {("feature", name): float(release.vectors[row, place]) for place, name in enumerate(release.features)}
        values |= {("feature", name): words[row] for name, words in labels.items()} | {("feature", "stage"): STAGES[release.stages[row]]}
        for task, scores in told.items():
            one = scores[row]
            values |= {(measure, task): getattr(one, measure) for measure in ("probability", "percentile", "stage_percentile", "band")}
        users.append(values)
    return users


def fulfils(condition, user):
    """What a condition means, one user at a time."""
    if "all" in condition:
        return all(fulfils(part, user) for part in condition["all"])
    if "any" in condition:
        return any(fulfils(part, user) for part in condition["any"])
    if "not" in condition:
        return not fulfils(condition["not"], user)
    subject = next(name for name in condition if name in ("feature", "probability", "percentile", "stage_percentile", "band"))
    value = user[(subject, condition[subject])]
    known = value is not None and not (isinstance(value, float) and math.isnan(value))
    if not condition.get("known", True):
        return not known and not {"at_least", "at_most", "is"} & set(condition)
    if not known:
        return False
    if "at_least" in condition and value < condition["at_least"]:
        return False
    if "at_most" in condition and value > condition["at_most"]:
        return False
    allowed = condition.get("is", value)
    return value in (allowed if isinstance(allowed, list) else [allowed])


NUMBERS = st.sampled_from(["orders_count", "orders_recency", "orders_revenue_90d", "cycle_mean_gap", "discounts_share", "activity_recency"])
VALUES = st.sampled_from([0, 1, 2, 3.5, 10, 40, 90, 5_000])
LEAVES = st.one_of(
    st.builds(lambda name, word, value: {"feature": name, word: value}, NUMBERS, st.sampled_from(["at_least", "at_most", "is"]), VALUES),
    st.builds(lambda name, low, high: {"feature": name, "at_least": low, "at_most": high}, NUMBERS, VALUES, VALUES),
    st.builds(lambda name, values: {"feature": name, "is": values}, NUMBERS, st.lists(VALUES, min_size=1, max_size=3)),
    st.builds(lambda name, known: {"feature": name, "known": known}, st.one_of(NUMBERS, st.sampled_from(["layers_layer", "touch_last_source"])), st.booleans()),
    st.builds(lambda words: {"feature": "layers_layer", "is": words}, st.lists(st.sampled_from(CLOSED["layers_layer"]), min_size=1, max_size=3)),
    st.builds(lambda word: {"feature": "stage", "is": word}, st.sampled_from(STAGES)),
    st.builds(
        lambda task, words: {"band": task, "is": words}, st.sampled_from(["churn", "repeat_order", "lookalike"]), st.lists(st.sampled_from(BANDS), min_size=1)
    ),
    st.builds(lambda task, least: {"probability": task, "at_least": least}, st.sampled_from(["churn", "repeat_order"]), st.floats(0, 1)),
    st.builds(
        lambda name, task, most: {name: task, "at_most": most},
        st.sampled_from(["percentile", "stage_percentile"]),
        st.sampled_from(["churn", "lookalike"]),
        st.integers(0, 100),
    ),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.builds(lambda some: {"all": some}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda some: {"any": some}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(lambda one: {"not": one}, parts),
    ),
    max_leaves=6,
)


@FEW
@given(condition=CONDITIONS)
def test_a_condition_picks_whom_a_slow_reader_of_it_picks(release, table, condition):
    assert mistakes_of(condition, release) == []
    assert holds(condition, release).tolist() == [fulfils(condition, user) for user in table]


@FEW
@given(first=CONDITIONS, second=CONDITIONS)
def test_the_laws_of_logic_hold_unknown_values_included(release, first, second):
    a, b = holds(first, release), holds(second, release)
    assert np.array_equal(holds({"not": first}, release), ~a)
    assert np.array_equal(holds({"not": {"all": [first, second]}}, release), holds({"any": [{"not": first}, {"not": second}]}, release))
    assert np.array_equal(holds({"all": [first, second]}, release), a & b)
    assert np.array_equal(holds({"any": [second, first]}, release), a | b)
    assert np.array_equal(holds({"all": [first, {"any": [first, second]}]}, release), a)


def test_short_words_and_attributes_mean_their_columns(release):
    for short, column in (("layer", "layers_layer"), ("group", "layers_rfm_group"), ("age", "attributes_age")):
        assert np.array_equal(holds({"feature": short, "known": True}, release), holds({"feature": column, "known": True}, release))


def test_the_words_of_layers_and_groups_are_those_of_the_views():
    assert set(CLOSED["layers_layer"]) == {*LAYERS, VISITOR}
    assert CLOSED["layers_rfm_group"] == GROUPS


def test_bands_are_those_that_scores_show(release, table):
    percentile = release.scores["churn"].percentile
    for word in BANDS:
        assert holds({"band": "churn", "is": word}, release).tolist() == [not math.isnan(value) and band(value) == word for value in percentile]


def test_a_goal_says_the_same_by_the_same_words(release):
    condition = {"feature": "orders_count", "at_least": 2, "at_most": 5}
    assert np.array_equal(holds(condition, release), of_values(condition, feature(release, "orders_count")))


def test_several_features_are_taken_out_of_the_vectors_together_and_are_right(release):
    names = ["orders_count", "cycle_position", "activity_recency"]
    fresh = release.__class__(**vars(release))
    fetch(fresh, names)
    for name in names:
        assert is_remembered(fresh, ("feature", name))
        assert np.array_equal(feature(fresh, name), release.vectors[:, release.features.index(name)], equal_nan=True)


# --- mistakes -------------------------------------------------------------------------------------------------------

WRONG = {
    "all": [
        {"feature": "order_count", "at_least": 2},
        {"feature": "orders_count", "at_leest": 2},
        {"feature": "orders_count"},
        {"feature": "orders_count", "at_least": "many"},
        {"feature": "layer", "at_least": 3},
        {"feature": "layer", "is": "lapsd"},
        {"probability": "chrun", "at_least": 0.5},
        {"probability": "lookalike", "at_least": 0.5},
        {"value": "churn", "at_least": 5},
        {"band": "churn", "is": "top"},
        {"any": []},
        {"not": 3},
        {"all": [{"feature": "orders_count", "known": "yes"}], "feature": "orders_count"},
        {"at_least": 3},
        {"feature": "orders_count", "is": float("nan")},
    ]
}


def test_all_mistakes_are_told_at_once_each_with_its_place_and_the_nearest_name(release):
    told = [str(mistake) for mistake in mistakes_of(WRONG, release)]
    for said in (
        "where.all[0]: unknown feature 'order_count'. Did you mean 'orders_count'?",
        "where.all[1]: unknown word 'at_leest'. Did you mean 'at_least'?",
        "where.all[2]: says nothing; give at_least, at_most, is or known",
        "where.all[3]: \"at_least\" must be a number 'many'",
        'where.all[4]: it holds words: say "is", not "at_least"',
        "Did you mean 'lapsed'?",
        "where.all[6]: unknown prediction 'chrun'. Did you mean 'churn'?",
        "where.all[7]: 'lookalike' gives a rank, no probability; a percentile and a band every prediction has",
        "where.all[8]: 'churn' gives a probability, no value",
        "where.all[9]: unknown word; known: low, medium, high 'top'",
        'where.all[10]: "any" must be a list of conditions',
        "where.all[11].not: must be a condition",
        'where.all[12]: "all" stands alone in its braces',
        "where.all[13]: names 0 things",
        'where.all[14]: "is" must be a number here',
    ):
        assert any(said in line for line in told), said
    with pytest.raises(InvalidRule, match=r"mistake\(s\)"):
        cut(release, Rule(where=WRONG))


def test_over_http_they_never_repeat_what_was_sent(client):
    sent = {"all": [{"feature": "anna@example.com", "at_least": 1}, {"feature": "layer", "is": "Anna"}, {"probability": "anna", "known": True}]}
    refused = client.post(PATH, {"where": sent})
    assert (refused.status, refused.json["type"], refused.headers["content-type"]) == (422, "urn:encore:problem:invalid-rule", "application/problem+json")
    assert [one["at"] for one in refused.json["errors"]] == ["where.all[0]", "where.all[1]", "where.all[2]"]
    assert b"anna" not in refused.body.lower()


def test_a_word_that_no_user_has_is_a_hint_and_no_mistake(release, client):
    condition = {"feature": "touch_last_source", "is": "gogle"}
    assert mistakes_of(condition, release) == []
    assert [hint.near for hint in hints_of(condition, release)] == [
        None if "google" not in release.labels["touch_last_source"].dictionary.to_pylist() else "google"
    ]
    answer = client.post(f"{PATH}:preview", {"where": condition})
    assert (answer.status, answer.json["size"], len(answer.json["hints"])) == (200, 0, 1)


def test_conditions_too_deep_or_too_many_are_refused(release, client):
    deep = {"feature": "orders_count", "at_least": 1}
    for _ in range(DEEPEST + 2):
        deep = {"not": deep}
    many = {"any": [{"feature": "orders_count", "is": number} for number in range(500)]}
    for condition in (deep, many):
        assert [mistake.problem.partition(":")[0] for mistake in mistakes_of(condition, release)] == ["too much"]
        assert client.post(PATH, {"where": condition}).status == 422
    for depth in (500, 50_000):
        assert client.post(PATH, b'{"where":' + b'{"not":' * depth + b"{}" + b"}" * depth + b"}").status in (400, 422)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tsak": "churn", "top_n": 3}, "Did you mean 'task'?"),
        ({"task": "churn", "top_n": 2.5}, "must be a whole number"),
        ({"task": "churn", "top_percent": 200}, "must be a number from 0 to 100"),
        ({"task": "churn", "band": "top"}, "must be low, medium or high"),
    ],
)
def test_a_rule_of_the_command_line_is_checked_whole(given, said):
    with pytest.raises(InvalidRule) as refused:
        read_rule({**given, "min_percentile": "x"})
    assert said in str(refused.value)
    assert "min_percentile" in str(refused.value)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule(), "Say whom"),
        (Rule("churn"), "Give a cut of 'churn'"),
        (Rule(top_n=3), "give the prediction to rank by"),
        (Rule("churn", top_n=3, band="low"), "Give one cut; 2 were given: top_n, band."),
        (Rule("churn", min_percentile=60, max_percentile=40), "nobody could be in it"),
        (Rule("churn", budget=100.0), "A budget needs contact_cost"),
        (Rule("churn", top_n=3, contact_cost=1.0), "belong to a budget"),
        (Rule("lookalike", budget=100.0, coupon_cost=1.0), "gives no probability"),
    ],
)
def test_a_rule_that_makes_no_sense_says_why(release, rule, said):
    with pytest.raises(InvalidRule, match=said.replace("(", r"\(")):
        cut(release, rule)


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "condition"),
    [
        ("orders_count >= 2", {"feature": "orders_count", "at_least": 2}),
        ("super users", {"feature": "layers_layer", "is": ["super user"]}),
        ("orders_count > 2", {"all": [{"feature": "orders_count", "known": True}, {"not": {"feature": "orders_count", "at_most": 2}}]}),
        ("layer is not lapsed", {"all": [{"feature": "layers_layer", "known": True}, {"not": {"feature": "layers_layer", "is": "lapsed"}}]}),
        (
            "cycle_mean_gap is unknown and stage is second or first",
            {"all": [{"feature": "cycle_mean_gap", "known": False}, {"feature": "stage", "is": ["second", "first"]}]},
        ),
    ],
)
def test_words_mean_what_the_rules_of_seeds_mean_by_them(release, words, condition):
    assert np.array_equal(holds(condition_of(words, release), release), holds(condition, release))


def test_words_that_mean_nothing_are_all_told(release):
    with pytest.raises(InvalidRule) as refused:
        condition_of("order_count >= 2 and layr is lapsed", release)
    assert "orders_count" in str(refused.value)
    assert "layer" in str(refused.value)
