"""The share of orders with a discount: sums in the head, a published posterior, another likelihood, and a shop that is found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import betabinom

from features.errors import NoUsableData
from features.events import EventLog
from features.shopfile import Shop
from features.store import SnapshotStore
from features.tiles import open_tiles
from training.blend import Matrix, Vector
from training.bundle import Bundle, load_bundle, save_bundle
from training.examples import Examples, make_examples
from training.fit_share import fit_beta, fit_share
from training.outcomes import ordered_at_a_discount
from training.share import Share, counts_of
from training.task import AskedTask
from training.tasks import TASKS

NEVER = float("nan")
COLUMNS = ("orders", "full_price")
EVEN = Share(1.0, 1.0, (1.0, 0.0), (4.0, 0.5))


def shop(customers: int, a: float, b: float, seed: int) -> tuple[Matrix, Vector]:
    """Customers x (orders, share at full price), and the chance that each of them has of a discount."""
    random = np.random.default_rng(seed)
    orders, chance = random.geometric(0.15, customers), random.beta(a, b, customers)
    return np.column_stack([orders, 1 - random.binomial(orders, chance) / orders]), chance


# --- in the head ----------------------------------------------------------------------------------------------------


def test_one_order_says_less_than_ten() -> None:
    rows = np.array([[1, 0.0], [10, 0.0], [10, 1.0], [4, 0.5], [0, NEVER], [NEVER, NEVER]])
    np.testing.assert_allclose(EVEN.scores(rows), [2 / 3, 11 / 12, 1 / 12, 1 / 2, 1 / 2, 1 / 2])
    np.testing.assert_allclose(EVEN.details(rows)["discount_share"], EVEN.scores(rows))


def test_who_never_ordered_may_have_any_share() -> None:
    told = EVEN.details(np.array([[0.0, NEVER]]))
    assert (told["discount_share_low"][0], told["discount_share_high"][0]) == pytest.approx((0.1, 0.9))


def test_the_line_moves_the_chance_and_not_the_share() -> None:
    rows = np.array([[10.0, 0.2]])
    moved = replace(EVEN, platt=(1.0, np.log(2)))
    assert moved.scores(rows)[0] == pytest.approx(2 * 9 / (2 * 9 + 3))
    assert moved.details(rows) == EVEN.details(rows)


def test_shares_of_the_log_odds_add_up_and_the_usual_customer_has_none() -> None:
    rows, _ = shop(50, 2, 3, seed=1)
    model = Share(2.0, 3.0, (1.3, -0.2), (5.0, 0.6))
    shares = model.contributions(np.vstack([rows, [[5.0, 0.6], [NEVER, 0.1]]]))
    scores = model.scores(np.vstack([rows, [[5.0, 0.6], [NEVER, 0.1]]]))
    np.testing.assert_allclose(shares.sum(axis=1), np.log(scores / (1 - scores)), atol=1e-12)
    np.testing.assert_allclose(shares[-2, :-1], 0, atol=1e-12)


# --- what was published, and another implementation -------------------------------------------------------------------


def test_the_posterior_of_the_seventy_first_group_of_rats() -> None:
    # Gelman et al. 2013, section 5.1: 4 of 14 with a prior of Beta(1.4, 8.6) have mean .223 and standard deviation .083.
    yes, no = Share(1.4, 8.6, (1.0, 0.0), (14.0, 0.7)).posterior(np.array([[14.0, 10 / 14]]))
    assert float(yes[0] / (yes[0] + no[0])) == pytest.approx(0.223, abs=3e-3)  # 5.4 / 24 is .225: the book printed its prior rounded
    assert float(np.sqrt(yes * no / ((yes + no) ** 2 * (yes + no + 1)))[0]) == pytest.approx(0.083, abs=1e-3)


def test_no_other_prior_is_likelier_by_the_likelihood_of_scipy() -> None:
    rows, _ = shop(400, 0.8, 2.0, seed=2)
    yes, orders = counts_of(rows)
    a, b = fit_beta(yes, orders)
    best = betabinom.logpmf(yes, orders, a, b).sum()
    for up in (0.97, 1.03):
        assert betabinom.logpmf(yes, orders, a * up, b).sum() < best
        assert betabinom.logpmf(yes, orders, a, b * up).sum() < best
        assert betabinom.logpmf(yes, orders, a * up, b * up).sum() < best


@pytest.mark.parametrize(("a", "b"), [(0.6, 1.4), (3.0, 4.0), (12.0, 2.0)])
def test_how_the_customers_of_a_simulated_shop_differ_is_found_again(a: float, b: float) -> None:
    rows, chance = shop(20_000, a, b, seed=3)
    yes, orders = counts_of(rows)
    found = fit_beta(yes, orders)
    assert found == pytest.approx((a, b), rel=0.08)
    told = Share(*found, (1.0, 0.0), (4.0, 0.5)).details(rows)
    assert ((told["discount_share_low"] < chance) & (chance < told["discount_share_high"])).mean() == pytest.approx(0.8, abs=0.01)
    plain = yes / orders
    assert ((told["discount_share"] - chance) ** 2).mean() < 0.9 * ((plain - chance) ** 2).mean()


def test_customers_who_are_all_alike_get_the_share_of_the_shop() -> None:
    orders = np.random.default_rng(4).integers(1, 30, 4_000)
    yes = np.random.default_rng(5).binomial(orders, 0.3)
    a, b = fit_beta(yes.astype(float), orders.astype(float))
    assert a / (a + b) == pytest.approx(0.3, abs=0.01)
    assert a + b > 200


def test_the_order_of_customers_does_not_matter() -> None:
    rows, _ = shop(500, 2, 5, seed=6)
    assert fit_beta(*counts_of(rows)) == fit_beta(*counts_of(rows[::-1]))


def test_a_shop_without_discounts_is_refused_with_counts() -> None:
    with pytest.raises(NoUsableData, match="of 5 orders 0 have one"):
        fit_beta(np.zeros(2), np.array([2.0, 3.0]))
    with pytest.raises(NoUsableData, match="of 5 orders 5 have one"):
        fit_beta(np.array([2.0, 3.0]), np.array([2.0, 3.0]))


def test_a_season_with_more_discounts_moves_the_line(tmp_path: Path) -> None:
    rows, chance = shop(4_000, 2.0, 5.0, seed=7)
    odds = 2 * chance / (1 - chance)  # the next order has twice the odds of the past ones
    y = (np.random.default_rng(8).random(len(rows)) < odds / (1 + odds)).astype(np.int8)
    examples = Examples(rows, COLUMNS, y, np.arange(len(rows)).astype(object), np.full(len(rows), date(2024, 1, 1), dtype=object))
    model = fit_share(rows, examples, COLUMNS)
    assert model.scores(rows).mean() == pytest.approx(y.mean(), abs=0.005)
    assert model.scores(rows).mean() > model.details(rows)["discount_share"].mean() + 0.08
    bundle = Bundle(COLUMNS, model, {"task": "discount_affinity"}, {}, {})
    save_bundle(bundle, tmp_path / "bundle")
    assert load_bundle(tmp_path / "bundle").model == model


# --- the question -----------------------------------------------------------------------------------------------------


def orders_of(placed: list[tuple[str, str, int, int]]) -> list[dict[str, object]]:
    told = [{"user_id": user, "occurred_at": f"{day} 10:00", "discount_cents": off, "coupon_cents": coupon} for user, day, off, coupon in placed]
    return [{"event": "order", "order_id": str(number), "value_cents": 900, **order} for number, order in enumerate(told)]


PLACED = [
    *((user, "2024-01-05", 0, 0) for user in ("full, then reduced", "coupon", "reduced, then full", "both on a day", "stays away")),
    ("full, then reduced", "2024-06-02", 0, 0), ("full, then reduced", "2024-06-03", 100, 0), ("coupon", "2024-06-30", 0, 50),
    ("reduced, then full", "2024-06-09", 10, 0), ("reduced, then full", "2024-06-10", 0, 0),
    ("both on a day", "2024-06-20", 0, 0), ("both on a day", "2024-06-20", 5, 0), ("stays away", "2024-07-01", 500, 0),
]  # fmt: skip


def test_only_the_first_day_with_orders_counts(make_log: Callable[..., EventLog], shop: Shop, tmp_path: Path) -> None:
    tiles = open_tiles(make_log(orders_of(PLACED)), shop, tmp_path)
    assert sorted(ordered_at_a_discount(tiles.between(date(2024, 6, 1), date(2024, 7, 1)))) == ["both on a day", "coupon", "reduced, then full"]


def test_who_did_not_order_has_no_answer_but_is_asked_about(make_log: Callable[..., EventLog], shop: Shop, tmp_path: Path) -> None:
    tiles, store = open_tiles(make_log(orders_of(PLACED)), shop, tmp_path / "tiles"), SnapshotStore(tmp_path / "snapshots")
    asked, cutoff = AskedTask(TASKS["discount_affinity"], 30, 30), date(2024, 6, 1)
    found = make_examples(asked, [cutoff], date(2024, 1, 5), tiles, store)
    assert dict(zip(found.users, found.y, strict=True)) == {"both on a day": 1, "coupon": 1, "full, then reduced": 0, "reduced, then full": 1}
    assert asked.eligible(store.get(tiles, cutoff).frame)["stays away"]
    assert len(found.buyers[cutoff]) == 5
