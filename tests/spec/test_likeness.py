"""Expansion of a seed: what each method does on people whom one can check in the head, and what the proof says of planted likeness."""

from __future__ import annotations

import json

import numpy as np
import pytest

from features.errors import NoUsableData, UnknownName
from training.blend import Trees
from training.lookalike import choose, methods, proof
from training.lookalike.base_rate import probabilities
from training.lookalike.bulk import tree_scores
from training.lookalike.likeness import Likeness
from training.lookalike.methods import Rules, centroid, fit_likeness, knn, members, rankings, rfm, scores_of
from training.lookalike.population import Population, population
from training.lookalike.proof import BANDS, prove
from training.lookalike.recall import over_splits, recall_at, recalls, split_seed
from training.models import fit_trees

RULES = Rules("spend", ("recency", "orders", "spend"))


@pytest.fixture(autouse=True)
def _few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "CURVE", (30,))
    monkeypatch.setattr(proof, "CURVE_SPLITS", range(2))
    monkeypatch.setattr(proof, "SPLITS", range(5))
    monkeypatch.setattr(choose, "SIZES", (50,))


def planted(users: int = 1_500, seed: int = 150, kink: bool = False, draw: int = 0) -> tuple[Population, np.ndarray]:
    """Customers whose likeness hangs on two of eight columns, not on spend; the seed is drawn from the most alike third."""
    random = np.random.default_rng(draw)
    X = random.normal(size=(users, 8))
    X[:, 5:] = np.exp(X[:, 5:])
    truth = np.abs(X[:, 0]) * 2 if kink else X[:, 0] + X[:, 1]
    alike = np.argsort(-truth)[: users // 3]
    ids = np.array([f"u{number:05d}" for number in range(users)], dtype=object)
    names = ("a", "b", "c", "d", "e", "recency", "orders", "spend")
    return population(X, names, ids, ids[random.choice(alike, seed, replace=False)]), truth


def small(X: list[list[float]], seed: str) -> Population:
    return population(np.array(X, dtype=float), ("recency", "orders", "spend"), list("abcdefghij"[: len(X)]), seed)


def test_a_seed_that_is_everybody_leaves_nobody_to_find() -> None:
    with pytest.raises(NoUsableData, match="Widen the candidate filter"):
        small([[1, 2, 3], [4, 5, 6]], "ab")


def test_a_seed_of_strangers_and_a_user_in_both_seeds_are_refused() -> None:
    X = np.zeros((3, 1))
    with pytest.raises(NoUsableData, match="None of the 1 seed users"):
        population(X, ("a",), list("abc"), ["x"])
    with pytest.raises(NoUsableData, match="are both in the seed"):
        population(X, ("a",), list("abc"), ["a"], ["a"])
    with pytest.raises(NoUsableData, match="twice"):
        population(X, ("a",), list("aab"), ["a"])


def test_people_are_kept_in_order_of_their_ids() -> None:
    people = population(np.array([[2.0], [1.0]]), ("a",), ["v", "u"], ["v"])
    assert list(people.users) == ["u", "v"]
    assert people.X.tolist() == [[1.0], [2.0]]
    assert people.seed.tolist() == [False, True]


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(UnknownName, match="spent"):
        small([[1, 2, 3], [4, 5, 6]], "a").column("spent")


def test_rfm_adds_up_fifths_of_recency_frequency_and_spend() -> None:
    people = small([[5, 1, 10], [4, 2, 20], [3, 3, 30], [2, 4, 40], [1, 5, np.nan]], "a")
    # the last one: bought most recently (5), most often (5), and no spend is known (1)
    assert rfm(people, RULES.rfm).tolist() == [1 + 1 + 2, 2 + 2 + 3, 3 + 3 + 4, 4 + 4 + 5, 5 + 5 + 1]


def test_the_centroid_looks_at_the_direction_and_not_at_the_size() -> None:
    table = np.array([[1.0, 1.0], [9.0, 9.0], [-1.0, 1.0], [-3.0, -3.0]])
    assert centroid(table, np.array([True, False, False, False])) == pytest.approx([1.0, 1.0, 0.0, -1.0])


def test_a_seed_user_is_not_a_neighbour_of_itself() -> None:
    table = np.array([[0.0], [1.0], [3.0], [10.0]])
    near = knn(table, np.array([True, True, False, False]), neighbours=1)
    assert near == pytest.approx([-1.0, -1.0, -2.0, -9.0])


def test_recall_counts_users_of_equal_score_at_the_rate_of_their_group() -> None:
    hidden = np.array([True, True, False, False, False, False, False, False, False, False])
    assert recall_at(-np.arange(10.0), hidden, (0.1, 0.2, 1.0)).tolist() == [0.5, 1.0, 1.0]
    assert recall_at(np.zeros(10), hidden, (0.1, 0.5)) == pytest.approx([0.1, 0.5])
    assert recall_at(np.array([-np.inf] * 2 + [1.0] * 8), hidden, (0.8,)).tolist() == [0.0]


def test_a_fifth_of_the_seed_is_hidden_and_as_many_as_asked_are_shown() -> None:
    people, _ = planted()
    hidden, kept_out = split_seed(people, split=3, shown=50)
    assert (hidden.sum(), kept_out.sum(), (people.seed & ~hidden & ~kept_out).sum()) == (30, 70, 50)
    assert not (hidden & kept_out).any()
    assert not (hidden & ~people.seed).any()


def test_the_interval_over_splits_allows_for_their_overlap() -> None:
    # deviation 1, three splits: t(.975, 2) = 4.3027, times sqrt(1/3 + 1/4)
    assert over_splits([1.0, 2.0, 3.0]) == pytest.approx({"value": 2.0, "low": 2 - 3.2863, "high": 2 + 3.2863}, abs=1e-3)
    assert over_splits([0.5]) == {"value": 0.5, "low": None, "high": None}


def test_the_score_is_the_sum_of_signed_reasons_and_survives_json() -> None:
    people, _ = planted()
    made = fit_likeness(people)
    scores = made.scores(people.X)
    assert made.contributions(people.X).sum(axis=1) == pytest.approx(scores, abs=1e-9)
    assert scores.mean() == pytest.approx(0.0, abs=1e-9)
    again = Likeness.of(json.loads(json.dumps(made.describe())), made.texts)
    assert np.array_equal(again.scores(people.X), scores)
    assert np.argsort(-np.abs(made.contributions(people.X)[:, :-1]).mean(axis=0))[:2].tolist() in ([0, 1], [1, 0])


def test_millions_are_scored_as_one_by_one() -> None:
    people, _ = planted()
    X = np.where(np.random.default_rng(9).random(people.X.shape) < 0.2, np.nan, people.X)
    gaps = population(X, people.names, people.users, people.users[people.seed])
    made = fit_likeness(gaps)
    assert np.array_equal(tree_scores(made.trees, X), Trees(made.trees).raw(X))
    assert scores_of(made, X) == pytest.approx(made.scores(X), abs=1e-12)
    assert scores_of(made, X.astype(np.float32)) == pytest.approx(made.scores(X.astype(np.float32).astype(float)), abs=1e-12)
    with pytest.raises(ValueError, match="bulk scoring knows likeness alone"):
        tree_scores(fit_trees(X, gaps.seed.astype(np.int8), 3, (0,)), X)


def test_what_is_served_ranks_as_what_is_proven() -> None:
    people, _ = planted()
    proven = members(people)
    for parts in (("logistic", "bagging"), ("logistic",), ("bagging",)):
        name = "ensemble" if len(parts) == 2 else parts[0]
        served = fit_likeness(people, parts).scores(people.X)
        assert np.array_equal(np.argsort(-served[:300]), np.argsort(-proven[name][:300]))


def test_trees_find_a_likeness_that_no_line_can_draw() -> None:
    people, truth = planted(kink=True)
    scores, others = members(people), people.unlabelled
    found = {name: np.corrcoef(values[others], truth[others])[0, 1] for name, values in scores.items()}
    assert found["bagging"] > 0.6 > 0.3 > abs(found["logistic"])


def test_a_seed_drawn_by_lots_is_like_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "BAGS", 6)
    random, (people, _) = np.random.default_rng(5), planted()
    anybody = random.choice(people.users, 300, replace=False)
    nothing = prove(population(people.X, people.names, people.users, anybody), RULES)
    found = nothing.recall["ensemble"]["10"]
    assert found["low"] < 0.1 < found["high"]
    assert not nothing.better_than_rules


def test_explicit_negatives_undo_the_choice_of_who_got_a_sample() -> None:
    """Samples went to heavy buyers; among them those with a high `a` came back. Without the others the model learns `spend`."""
    people, _ = planted(users=3_000)
    got = np.argsort(-people.X[:, 7])[:600]
    came = people.X[got, 0] > 0.5
    told = population(people.X, people.names, people.users, people.users[got[came]], people.users[got[~came]])
    untold = population(people.X, people.names, people.users, people.users[got[came]])
    led_by_spend = [abs(np.corrcoef(members(one)["ensemble"][told.unlabelled], people.X[told.unlabelled, 7])[0, 1]) for one in (told, untold)]
    assert led_by_spend[0] < 0.1 < 0.2 < led_by_spend[1]
    # Among everybody the rule "heavy buyers" would find all of the seed; among those who got a sample it finds no more than chance.
    among_receivers, among_all = (recalls(one, lambda known: {"spend": known.column("spend")}, range(5), shares=(0.2,)) for one in (told, untold))
    assert np.mean([split["spend"][0] for split in among_all]) > 0.8
    assert np.mean([split["spend"][0] for split in among_receivers]) == pytest.approx(0.2, abs=0.1)


def test_the_proof_says_what_it_is_better_than_and_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "BAGS", 6)
    people, _ = planted(seed=300)
    told = prove(people, RULES)
    text = json.dumps(told.describe())
    assert told.gain["spend"]["10"]["low"] > 0
    assert told.gain["rfm"]["10"]["low"] > 0
    assert not told.better_than_rules  # where likeness is one direction in plain columns, the centroid finds it as well
    assert told.recall["ensemble"]["10"]["value"] > 0.2
    assert told.lift_over_random["ensemble"]["10"]["value"] == pytest.approx(10 * told.recall["ensemble"]["10"]["value"])
    assert told.lift["spend"]["10"]["low"] > 1
    assert set(told.curve) == {30, 240}
    assert "u00" not in text
    assert told.describe() == prove(people, RULES, told.choice).describe()


def test_the_ensemble_is_served_unless_a_member_is_surely_better(monkeypatch: pytest.MonkeyPatch) -> None:
    people, _ = planted()
    finds = {"ensemble": 0.50, "logistic": 0.52, "bagging": 0.40}
    for wobble, chosen in ((0.2, "ensemble"), (0.001, "logistic")):
        found = [{name: np.array([finds[name] + wobble * ((split + place) % 3)]) for place, name in enumerate(finds)} for split in range(5)]
        monkeypatch.setattr(choose, "recalls", lambda *_, found=found: found)
        assert choose.choose(people).chosen == chosen


def test_rules_whose_columns_are_missing_are_left_out() -> None:
    people, _ = planted()
    assert {"spend", "rfm", "rfm_logistic"} & set(rankings(people, Rules())) == set()


def test_probabilities_come_from_the_base_rate_and_average_to_it() -> None:
    bands = (0.04, 0.20, 0.35, 0.50, 0.60, 0.80, 1.00)
    top = (np.arange(100_000) + 0.0) / 100_000
    p = probabilities(top, 0.05, bands)
    assert p[0] == pytest.approx(0.05 * 4)  # 4 % of the hidden in the top 1 %
    assert p.mean() == pytest.approx(0.05, rel=1e-3)
    assert (np.diff(p) <= 1e-12).all()
    assert len(bands) == len(BANDS)
    with pytest.raises(ValueError, match="base rate"):
        probabilities(top, 5, bands)
