"""The repurchase cycle in three ways, and norms, on numbers that a person can check."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.cycle import cycle_by_consumption, cycle_of, survival_curve, time_to_next
from features.events import EventLog
from features.norms import DEFAULT_CYCLE, norms_of
from features.shopfile import Shop
from features.store import SnapshotStore
from features.tiles import open_tiles

MakeLog = Callable[..., EventLog]


def test_rc_is_a_third_of_the_90th_percentile_of_mean_gaps() -> None:
    # 200 users whose mean gaps are 1, 2, ..., 200 days: the 90th percentile is 180.1.
    days = pd.DataFrame([(f"u{gap}", day) for gap in range(1, 201) for day in (0, gap, 2 * gap)], columns=["user_id", "day"])
    assert cycle_of(days).days == pytest.approx(180.1 / 3)
    assert cycle_of(days[days["user_id"] != "u1"]).days is None  # 199 repurchasers are too few


def test_the_survival_curve_counts_those_who_still_wait() -> None:
    # Waited 2 (ordered), 3 (still waiting), 5 (ordered), 5 (still waiting): 1 of 4 on day 2, then 1 of 2 on day 5.
    days, survival, spread = survival_curve(np.array([2, 3, 5, 5]), np.array([True, False, True, False]))
    assert days.tolist() == [2, 5]
    assert survival.tolist() == [0.75, 0.375]
    assert spread[0] ** 2 == pytest.approx(1 / (4 * 3))
    assert spread[1] ** 2 == pytest.approx(1 / (4 * 3) + 1 / (2 * 1))


def test_time_to_the_next_order(make_log: MakeLog, shop: Shop, tmp_path: Path) -> None:
    orders = [
        {"user_id": user, "event": "order", "occurred_at": f"2024-01-{day:02d} 10:00", "value_cents": 100} for user, day in [("a", 1), ("a", 4), ("b", 2)]
    ]
    tiles = open_tiles(make_log(orders, complete_until=date(2024, 2, 1)), shop, tmp_path)
    found = time_to_next(tiles, date(2024, 2, 1))
    assert (found.orders, found.followed) == (3, 1)  # a's first order is followed after 3 days; a's second and b's are not
    assert found.median is None  # two of three still wait


def test_by_consumption_it_is_quantity_over_daily_use(make_log: MakeLog, tmp_path: Path) -> None:
    shop = Shop("Test shop", "UTC", "EUR", daily_use={"cream": 0.02, "paper": 0.5})
    lines = [("cream", 1, 1), ("cream", 9, 2), ("roll", 3, 8)]
    events = [
        {"event": "order_item", "order_id": str(day), "product_id": product, "quantity": quantity, "occurred_at": f"2024-01-{day:02d} 10:00"}
        for product, day, quantity in lines
    ]
    log = make_log(events, products=[{"product_id": "cream", "category": "care"}, {"product_id": "roll", "category": "paper"}])
    found = cycle_by_consumption(open_tiles(log, shop, tmp_path), date(2024, 1, 10))
    assert found == {"cream": pytest.approx(1.5 / 0.02), "paper": pytest.approx(8 / 0.5)}


def test_supplies_run_out(make_log: MakeLog, tmp_path: Path) -> None:
    shop = Shop("Test shop", "UTC", "EUR", daily_use={"cream": 0.1})
    day = {"event": "order_item", "order_id": "1", "product_id": "cream", "quantity": 3, "occurred_at": "2024-01-01 10:00"}
    log = make_log([day, {"event": "order", "order_id": "1", "value_cents": 900, "occurred_at": "2024-01-01 10:00"}], complete_until=date(2024, 3, 1))
    store, tiles = SnapshotStore(tmp_path / "snapshots"), open_tiles(log, shop, tmp_path / "tiles")
    # Three pieces at a tenth a day last thirty days.
    assert store.get(tiles, date(2024, 1, 11)).frame["cycle_supply_left"].tolist() == [20.0]
    assert store.get(tiles, date(2024, 2, 5)).frame["cycle_supply_left"].tolist() == [-5.0]


def test_norms_split_buyers_at_the_median_the_mean_or_a_quantile() -> None:
    values = {
        "orders_recency": np.array([1.0, 3.0, 8.0, np.nan]),
        "orders_count": np.array([1.0, 2.0, 6.0, 0.0]),
        "orders_revenue": np.array([1000.0, 3000.0, 8000.0, 0.0]),
        "cycle_mean_gap": np.array([np.nan, 10.0, 20.0, np.nan]),
    }
    assert (norms_of(values).recency, norms_of(values).frequency, norms_of(values).monetary) == (3, 2, 3000)
    assert (norms_of(values, "mean").frequency, norms_of(values, "mean").monetary) == (3, 4000)
    assert norms_of(values, 1 - 1e-12).monetary == pytest.approx(8000)
    assert norms_of(values).first_order_cents == 1000
    assert (norms_of(values).cycle, norms_of(values).repurchasers) == (DEFAULT_CYCLE, 2)
