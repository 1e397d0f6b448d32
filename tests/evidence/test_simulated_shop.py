"""On a shop whose truth is known: the model finds it, and does not find what is not there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.stats import spearmanr

from features.events import EventLog
from features.shop import SimulatedShop, order_probability, simulate
from features.shopfile import Shop
from features.sources.batch import Batch
from features.store import SnapshotStore
from features.tiles import Tiles, open_tiles
from training.bundle import Bundle
from training.card import model_card
from training.evidence import gather_evidence
from training.examples import Examples, make_examples
from training.fit import BLEND, INDICATIVE, Candidate, core_of, fit_task
from training.gates import decide
from training.kinds import PROBABILITY, RANK
from training.models import Recipe, fit
from training.pack import make_bundle
from training.prepare import first_day
from training.task import AskedTask
from training.tasks import TASKS

ASKED = AskedTask(TASKS["repeat_order"], 30, 30)
SHOP = Shop("Test shop", "UTC", "EUR")
KINDS = ("order", "order_cancelled", "product_view")  # fewer kinds, fewer features, a quicker snapshot


@pytest.fixture(scope="module")
def played() -> SimulatedShop:
    shop = simulate(users=2000, days=250, seed=1)
    return replace(shop, batch=replace(shop.batch, products=None, events=shop.batch.events.filter(pc.is_in(shop.batch.events["event"], pa.array(KINDS)))))


def tiles_of(batch: Batch, folder) -> Tiles:
    log = EventLog(folder / "log", SHOP.zone, SHOP.currency)
    log.append(batch)
    return open_tiles(log, SHOP, folder / "tiles")


@pytest.fixture(scope="module")
def world(played, tmp_path_factory) -> tuple[Tiles, SnapshotStore]:
    folder = tmp_path_factory.mktemp("simulated")
    return tiles_of(played.batch, folder), SnapshotStore(folder / "snapshots")


@pytest.fixture(scope="module")
def candidate(world) -> Candidate:
    tiles, store = world
    return fit_task(ASKED, tiles.log.complete_until, tiles, store)


@pytest.fixture(scope="module")
def examples(candidate, world) -> Examples:
    tiles, store = world
    return make_examples(ASKED, (*candidate.split.train, *candidate.split.test), first_day(tiles), tiles, store)


def oracle(played: SimulatedShop, test: Examples) -> np.ndarray:
    chance = {cutoff: order_probability(played, cutoff, ASKED.horizon) for cutoff in set(test.as_of)}
    return np.array([chance[cutoff][user] for user, cutoff in zip(test.users, test.as_of, strict=True)])


def test_the_model_beats_the_recency_rule_and_the_rfm_logistic_surely(candidate):
    gains = candidate.evidence.gains
    assert gains["rule"]["auc"]["low"] > 0.02
    assert gains["rfm"]["auc"]["low"] > 0
    assert candidate.evidence.metrics["model"]["auc"]["value"] > 0.70


def test_the_ranking_is_near_the_one_that_knows_the_truth(candidate, played):
    truth = oracle(played, candidate.test)
    scores = candidate.evidence.scores
    agreement = {name: spearmanr(values, truth).statistic for name, values in scores.items()}
    assert agreement["model"] > 0.65
    assert agreement["model"] > agreement["rfm"] + 0.03
    assert agreement["rfm"] > agreement["rule"]


def test_training_ends_a_horizon_before_the_test(candidate):
    split = candidate.split
    assert split.train[-1] + timedelta(days=ASKED.horizon) <= split.test[0]
    assert candidate.evaluated.about["last_cutoff"] == split.train[-1].isoformat()
    assert candidate.served.about["last_cutoff"] == split.test[-1].isoformat()


def test_shuffled_labels_score_like_chance(candidate):
    mean, error = candidate.evidence.shuffled
    assert abs(mean - 0.5) <= 3 * error
    assert error < 0.02


def test_no_honest_feature_trips_the_alarm(candidate):
    assert max(candidate.evidence.alone.values()) < 0.8


def test_a_copy_of_the_label_among_the_features_trips_it(candidate, examples, monkeypatch):
    monkeypatch.setattr("training.evidence.SHUFFLES", 3)
    leaky = replace(examples, X=np.column_stack([examples.X, examples.y]), names=(*examples.names, "planted"))
    train, test = leaky.at(candidate.split.train), leaky.at(candidate.split.test)
    parts = fit(train.X, train.y, train.users, Recipe(trees=30, seeds=1, folds=0))
    bundle = Bundle(leaky.names, parts, {"task": "repeat_order", "calibrated": True}, {}, {})
    evidence = gather_evidence(ASKED, bundle, {}, train, test)
    assert next(iter(evidence.alone.items())) == ("planted", 1.0)
    assert next(iter(evidence.importance)) == "planted"
    decision = decide(evidence, test, None, RANK, provisional=False)
    assert not decision.promote
    assert "FAIL  single feature: AUC alone above 0.9: planted (1.000)" in decision.text


def test_deleting_everything_after_the_cutoff_changes_no_score(candidate, played, world, tmp_path):
    tiles, store = world
    cutoff = candidate.split.test[0]
    midnight = pa.scalar(np.datetime64(cutoff, "us").item(), played.batch.events.schema.field("occurred_at").type)
    known = pc.and_(pc.less(played.batch.events["occurred_at"], midnight), pc.less(played.batch.events["known_at"], midnight))
    cut = tiles_of(replace(played.batch, events=played.batch.events.filter(known), complete_until=cutoff), tmp_path)
    names = candidate.evaluated.features
    then, now = SnapshotStore(tmp_path / "snapshots").get(cut, cutoff), store.get(tiles, cutoff)
    assert then.user_ids.equals(now.user_ids)
    assert candidate.evaluated.scores(then.matrix(names)).tobytes() == candidate.evaluated.scores(now.matrix(names)).tobytes()


def test_both_bundles_and_the_baselines_reproduce_their_golden_rows(candidate):
    for bundle in (candidate.served, candidate.evaluated, *candidate.baselines.values()):
        bundle.check_golden_rows()
        assert len(bundle.golden["rows"]) == 20


def test_a_nowcast_that_holds_is_in_what_is_judged_and_in_what_is_served(candidate, world, monkeypatch):
    monkeypatch.setattr("training.evidence.SHUFFLES", 2)
    monkeypatch.setattr("training.evidence.RESAMPLES", 20)
    monkeypatch.setattr("training.nowcast.LARGEST_BIAS", 0.0)  # any bias asks for one
    monkeypatch.setattr("training.nowcast.Correction.holds", True)
    tiles, store = world
    moved = fit_task(ASKED, tiles.log.complete_until, tiles, store)
    split, first = candidate.split, candidate.test.as_of == candidate.split.test[0]
    assert moved.served.about["nowcast"]["window"] == split.test[-1].isoformat()
    assert moved.evaluated.about["nowcast"]["window"] == split.train[-1].isoformat()
    for name in ("served", "evaluated"):
        before, after = (getattr(which, name) for which in (candidate, moved))
        assert after.model.platt[1] - before.model.platt[1] == pytest.approx(after.about["nowcast"]["shift"])
        after.check_golden_rows()
    X = moved.test.of(moved.evaluated.features)[first]
    assert moved.evidence.scores["model"][first] == pytest.approx(moved.evaluated.scores(X), abs=1e-12)
    assert moved.evidence.describe()["nowcast"]["after"] == pytest.approx(moved.evidence.metrics["model"]["mean_bias"]["value"])
    assert "A nowcast moves its log-odds by " in model_card(moved, decide(moved.evidence, moved.test, None, PROBABILITY, provisional=False))


def test_fitting_again_gives_the_same_digest(candidate, examples, world):
    again = make_bundle(ASKED, examples.at(candidate.split.train), world[0], examples.names, core_of(ASKED, INDICATIVE if candidate.indicative else BLEND))
    assert again.digest == candidate.evaluated.digest
