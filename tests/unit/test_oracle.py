"""The regular features against a slow reading of the raw events: a loop per user, no tiles and no engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
import pytest

from features.events import EventLog
from features.shop import simulate
from features.shopfile import DEFAULT_INTEREST
from features.vocabulary import EVENTS, NO_ACTIVITY

AS_OF = date(2024, 8, 1)
ZONE = "America/New_York"  # orders of the evening fall on the next day in UTC
Days = list[int]  # days before the cutoff on which something happened; yesterday is 1


def known_events(table: pd.DataFrame) -> pd.DataFrame:
    """What had happened and was known at the cutoff, without the orders known to be cancelled; with `ago` in days."""
    local = {name: table[name].dt.tz_convert(ZONE).dt.tz_localize(None).dt.normalize() for name in ("occurred_at", "known_at")}
    cut = pd.Timestamp(AS_OF)
    rows = table.assign(ago=(cut - local["occurred_at"]).dt.days, hour=table["occurred_at"].dt.tz_convert(ZONE).dt.hour)
    rows = rows[(local["occurred_at"] < cut) & (local["known_at"] < cut)]
    cancelled = set(rows.loc[rows["event"] == "order_cancelled", "order_id"])
    return rows[~(rows["event"].isin(["order", "order_item"]) & rows["order_id"].isin(cancelled))]


def count(ago: Days, window: int | None) -> int:
    return sum(1 for day in ago if window is None or day <= window)


def oracle(mine: pd.DataFrame) -> dict[str, float]:
    """Feature -> value for one user; NaN is "no value"."""

    def ago(*events: str) -> Days:
        return list(mine.loc[mine["event"].isin(events), "ago"])

    orders, views = mine[mine["event"] == "order"], ago("product_view")
    actions = ago(*(event for event in EVENTS if event not in NO_ACTIVITY))
    values: dict[str, float] = {
        "orders_recency": min(ago("order"), default=np.nan),
        "orders_tenure": max(ago("order"), default=np.nan),
        "orders_revenue": orders["value_cents"].sum(),
        "orders_revenue_90d": orders.loc[orders["ago"] <= 90, "value_cents"].sum(),
        "orders_basket_value": orders["value_cents"].mean(),
        "discounts_share": orders["discount_cents"].sum() / orders["value_cents"].sum() if len(orders) else np.nan,
        "rhythm_evening_share": (orders["hour"] >= 18).mean() if len(orders) else np.nan,
        "activity_recency": min(actions, default=np.nan),
        "activity_active_days_30d": len({day for day in actions if day <= 30}),
        "activity_view_trend_30d": count(views, 7) * 30 / (count(views, 30) * 7) if count(views, 30) else np.nan,
        "satisfaction_cancellations": len(ago("order_cancelled")),
        "satisfaction_stars": mine.loc[mine["event"] == "rating", "level"].mean(),
    }
    for window in (7, 14, 30, 60, 90, 180, 365, None):
        values["orders_count" + (f"_{window}d" if window else "")] = count(ago("order"), window)
    for window in (1, 7, 30, 90):
        values |= {f"activity_product_views_{window}d": count(views, window), f"activity_searches_{window}d": count(ago("search"), window)}
        values |= {f"interest_{level}_{window}d": count(ago(*events), window) for level, events in DEFAULT_INTEREST.items()}
    return values


@pytest.fixture(scope="module")
def played() -> pd.DataFrame:
    table = simulate(users=150, days=250, seed=5, zone=ZONE).batch.events.to_pandas()
    return table.astype(dict.fromkeys(("value_cents", "discount_cents", "level"), "float64"))


def test_regular_features_are_what_a_loop_over_raw_events_finds(tmp_path, make_snapshot: Callable, played):
    log = EventLog(tmp_path, ZONE, "EUR")
    log.append(simulate(users=150, days=250, seed=5, zone=ZONE).batch)
    frame = make_snapshot(log, AS_OF).frame
    slow = pd.DataFrame({user: oracle(mine) for user, mine in known_events(played).groupby("user_id")}).T.astype(float)
    assert frame.index.tolist() == slow.index.tolist()
    for name in slow:
        np.testing.assert_allclose(frame[name].to_numpy(float), slow[name].to_numpy(float), rtol=1e-12, err_msg=str(name))
