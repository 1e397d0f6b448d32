"""What the simulated shop was given, and only it knows, is what the models find: who redeems, who rises, whom a campaign moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import spearmanr

from features.events import EventLog
from features.shop import WARMTH, WEEKDAY, SimulatedShop, campaign_lift, redemption_probability, simulate
from features.shop_events import CANCELLED, TIER_CENTS
from features.shopfile import Shop
from features.sources.batch import canonical_events
from features.store import SnapshotStore
from features.tiles import Tiles, open_tiles
from training.baselines import baselines_of
from training.blend import Vector
from training.bundle import Bundle
from training.evidence import area_within
from training.examples import Examples
from training.fit import BLEND, core_of
from training.fit_uplift import trial_of
from training.pack import make_bundle
from training.prepare import prepare
from training.task import AskedTask
from training.tasks import TASKS
from training.uplift import Fitted, cross_fit, t_logistic
from training.uplift_evidence import gather_uplift_evidence

SHOP = Shop("Test shop", "UTC", "EUR", attributes=("age", "growth_value"), tiers=(0, *TIER_CENTS))
VALID, MONTH = 21, 30
DRAWS = 200


@dataclass(frozen=True)
class World:
    played: SimulatedShop
    events: pd.DataFrame
    tiles: Tiles
    store: SnapshotStore


@dataclass(frozen=True)
class Found:
    """A model, fitted on early cutoffs, and what it and its baselines say of later ones."""

    model: Bundle
    test: Examples
    scores: dict[str, Vector]


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    played = simulate(users=3000, days=400, seed=1)
    events = played.batch.events.to_pandas()
    folder = tmp_path_factory.mktemp("planted")
    log = EventLog(folder / "log", SHOP.zone, SHOP.currency)
    log.append(replace(played.batch, events=canonical_events(events, growth(events))))
    return World(played, events, open_tiles(log, SHOP, folder / "tiles"), SnapshotStore(folder / "snapshots"))


def valid_orders(events: pd.DataFrame) -> pd.DataFrame:
    cancelled = events.loc[events["event"] == "order_cancelled", "order_id"]
    return events[(events["event"] == "order") & ~events["order_id"].isin(cancelled)].sort_values(["occurred_at", "event_id"])


def growth(events: pd.DataFrame) -> pd.DataFrame:
    """The growth value that decides on the level: what was spent so far, as a shop's membership system would tell it."""
    orders = valid_orders(events)
    told = orders[["user_id", "occurred_at", "known_at"]].assign(event="attribute_set", detail="growth_value", event_id="growth-" + orders["order_id"])
    return told.assign(level=orders.groupby("user_id")["value_cents"].cumsum().astype("Int64"))


def fitted(world: World, name: str, horizon: int) -> Found:
    asked = AskedTask(TASKS[name], horizon, horizon)
    ready = prepare(asked, world.tiles.log.complete_until, world.tiles, world.store)
    model = make_bundle(asked, ready.train, world.tiles, ready.train.names, core_of(asked, BLEND))
    rules = {who: make_bundle(asked, ready.train, world.tiles, columns, how) for who, (columns, how) in baselines_of(asked, ready.train).items()}
    return Found(model, ready.test, {who: bundle.scores(ready.test.of(bundle.features)) for who, bundle in {"model": model, **rules}.items()})


def truths(test: Examples, of: Callable[[date], pd.Series]) -> Vector:
    known = {cutoff: of(cutoff) for cutoff in set(test.as_of)}
    return np.array([known[cutoff][user] for user, cutoff in zip(test.users, test.as_of, strict=True)])


def agreement(scores: Vector, truth: Vector, as_of: npt.NDArray[np.object_]) -> float:
    """Rank correlation, mean over the cutoffs: how a cutoff differs from another, nobody was asked."""
    return float(np.mean([spearmanr(scores[as_of == cutoff], truth[as_of == cutoff]).statistic for cutoff in sorted(set(as_of))]))


def slope(truth: Vector, score: Vector, test: Examples) -> tuple[float, float]:
    """The 95 % interval, over customers, of how much truer chance there is per predicted chance, within a cutoff: 1 where sizes are right."""
    centred = [pd.Series(values).groupby(test.as_of).transform(lambda at: at - at.mean()).to_numpy() for values in (truth, score)]
    customers, who = np.unique(test.users.astype(str), return_inverse=True)
    both, own = (np.bincount(who, one * centred[1]) for one in centred)
    random = np.random.default_rng(0)
    drawn = (random.integers(0, len(customers), len(customers)) for _ in range(400))
    low, high = np.percentile([both[rows].sum() / own[rows].sum() for rows in drawn], [2.5, 97.5])
    return float(low), float(high)


# --- who redeems: sensitivity to discounts ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coupons(world) -> tuple[Found, Vector]:
    campaign = {start: name for name, start in world.played.campaigns.groupby("campaign")["start"].first().items()}
    found = fitted(world, "coupon_response", VALID)
    return found, truths(found.test, lambda cutoff: redemption_probability(world.played, campaign[cutoff]))


def test_the_known_chance_of_a_redemption_is_what_happens(coupons):
    found, truth = coupons
    assert abs(found.test.y.sum() - truth.sum()) < 4 * np.sqrt((truth * (1 - truth)).sum())


def test_who_redeems_is_ranked_nearly_as_by_the_truth(coupons):
    found, truth = coupons
    area = {who: area_within(found.test.y, scores, found.test.as_of) for who, scores in {**found.scores, "truth": truth}.items()}
    assert area["truth"] > area["model"] > area["truth"] - 0.10
    assert agreement(found.scores["model"], truth, found.test.as_of) > agreement(found.scores["rfm"], truth, found.test.as_of) + 0.05
    assert agreement(found.scores["model"], truth, found.test.as_of) > 0.65


def test_a_predicted_point_is_about_a_point_of_the_true_chance_of_a_redemption(coupons):
    # Campaigns pull with 2.5, 1.2 and 0, which no feature says: a model of some is a third off on others.
    found, truth = coupons
    low, high = slope(truth, found.scores["model"], found.test)
    assert 0.7 < low < high < 1.5


def test_sensitivity_speaks_through_discounts_and_campaigns_and_through_nothing_else(coupons, world):
    found, _ = coupons
    sensitivity = world.played.truth["sensitivity"].reindex(found.test.users).to_numpy()
    shares = found.model.contributions(found.test.X)[:, :-1]

    def told_by(*families: str) -> float:
        return float(spearmanr(shares[:, [name.startswith(families) for name in found.model.features]].sum(axis=1), sensitivity).statistic)

    assert told_by("discounts_") > 0.2
    assert told_by("campaigns_") > 0.1
    for family in ("activity_", "products_", "orders_", "attributes_"):
        assert abs(told_by(family)) < 0.1


# --- whose next order has a discount -------------------------------------------------------------------------------------


def test_a_shrunken_share_knows_sensitivity_better_than_a_plain_one_and_than_the_blend(world):
    found = fitted(world, "discount_affinity", MONTH)
    sensitivity = world.played.truth["sensitivity"].reindex(found.test.users).to_numpy()
    known = {who: spearmanr(scores, sensitivity).statistic for who, scores in found.scores.items()}
    assert known["share"] > 0.5
    assert known["share"] > max(known["rule"], known["rfm"], known["model"]) + 0.03


# --- who rises: what is missing to the next level, and how fast it comes ----------------------------------------------


@pytest.fixture(scope="module")
def tiers(world) -> tuple[Found, Vector]:
    found = fitted(world, "tier_upgrade", MONTH)
    return found, truths(found.test, lambda cutoff: rise_probability(world, cutoff))


def rise_probability(world: World, as_of: date) -> pd.Series:
    """Chance that spending reaches the next level within a month, by playing the month many times from the latent state."""
    played, truth, random = world.played, world.played.truth, np.random.default_rng(as_of.toordinal())
    orders, today = valid_orders(world.events), (as_of - played.start).days
    spent = orders[orders["occurred_at"].dt.tz_localize(None) < pd.Timestamp(as_of)].groupby("user_id")["value_cents"].sum()
    spent = spent.reindex(truth.index, fill_value=0).to_numpy(np.int64)
    reach = np.append(TIER_CENTS, np.iinfo(np.int64).max)[np.searchsorted(TIER_CENTS, spent, side="right")]
    someone = np.flatnonzero((truth["alive_until"] >= today) & (truth["arrival"] < today))
    purse, state = np.zeros((len(someone), DRAWS), np.int64), np.repeat(played.interest[someone, today - 1, None], DRAWS, axis=1)
    stays, alive = 1 - truth["dropout"].to_numpy()[someone, None], np.ones((len(someone), DRAWS), bool)
    rate, values = truth["order_rate"].to_numpy()[someone, None], orders["value_cents"].to_numpy()
    for day in range(today, today + MONTH):
        alive &= random.random(alive.shape) < stays
        state = (random.random(state.shape) < np.where(state == 1, 0.85, 0.03)).astype(np.int8)
        chance = -np.expm1(-rate * WARMTH[state] * WEEKDAY[(played.start.weekday() + day) % 7]) * (1 - CANCELLED)
        orders_now = alive & (random.random(alive.shape) < chance)
        purse[orders_now] += random.choice(values, int(orders_now.sum()))
    rises = pd.Series(0.0, truth.index)
    rises.iloc[someone] = (spent[someone, None] + purse >= reach[someone, None]).mean(axis=1)
    return rises


def test_who_rises_is_ranked_nearly_as_by_the_truth(tiers):
    found, truth = tiers
    area = {who: area_within(found.test.y, scores, found.test.as_of) for who, scores in {**found.scores, "truth": truth}.items()}
    assert area["truth"] > area["model"] > area["truth"] - 0.08
    assert area["model"] > max(area["rule"], area["rfm"]) + 0.02


def test_the_less_is_missing_the_more_it_raises(tiers):
    found, _ = tiers
    place = found.model.features.index("membership_to_next_tier")
    missing, share = found.test.X[:, place], found.model.contributions(found.test.X)[:, place]
    known = ~np.isnan(missing)
    assert known.mean() > 0.9
    assert spearmanr(missing[known], share[known]).statistic < -0.95


def test_a_predicted_point_is_a_point_of_the_true_chance_to_rise(tiers):
    found, truth = tiers
    low, high = slope(truth, found.scores["model"], found.test)
    assert 0.7 < low < high < 1.4
    assert high > 0.85


# --- whom a campaign moves ----------------------------------------------------------------------------------------------


def test_the_mean_effect_of_campaigns_by_lot_covers_what_was_planted_and_its_order_is_the_planted_one(world):
    asked = AskedTask(TASKS["uplift"], VALID, VALID)
    ready = prepare(asked, world.tiles.log.complete_until, world.tiles, world.store)
    campaign = {start: name for name, start in world.played.campaigns.groupby("campaign")["start"].first().items()}
    truth = truths(ready.train, lambda cutoff: campaign_lift(world.played, campaign[cutoff]))
    trial = trial_of(ready.train)
    parts = cross_fit(trial, repeats=1, fit=lambda rows: Fitted(t_logistic(rows), {}))
    effect = gather_uplift_evidence(trial, parts, resamples=200).metrics["average_effect"]
    assert effect["low"] < truth.mean() < effect["high"]
    assert effect["low"] > 0
    assert truth.mean() > 0.02
    found = np.mean([spearmanr(part.effect, truth[part.rows]).statistic for part in parts])
    assert found > 0.1
