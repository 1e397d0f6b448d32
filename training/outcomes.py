"""Outcomes that several tasks ask about. Each gives the users who did it in the window."""

from __future__ import annotations

import pandas as pd

from features.happened import Window


def ordered(window: Window) -> pd.Series[str]:
    """Users with at least one valid order in the window."""
    return window.days("orders")["user_id"]


def redeemed_offer(window: Window) -> pd.Series[str]:
    """Users who redeemed, in the window, a coupon of a campaign that they received on its first day."""
    received, redeemed = window.keys("received"), window.keys("redeemed")
    offered = received.loc[received["day"] == window.start, ["user_id", "key"]]
    answered: pd.Series[str] = redeemed.merge(offered, on=["user_id", "key"])["user_id"]
    return answered


def rose(window: Window) -> pd.Series[str]:
    """Users whose membership level rose in the window."""
    return window.rises()["user_id"]


def ordered_at_a_discount(window: Window) -> pd.Series[str]:
    """Users whose first day with valid orders in the window has one with a coupon or a reduced price."""
    orders = window.days("orders").merge(window.days("full_price_orders"), how="left", on=["user_id", "day"], suffixes=("", "_full"))
    first = orders.sort_values("day", kind="stable").drop_duplicates("user_id")
    reduced: pd.Series[str] = first.loc[first["value"] > first["value_full"].fillna(0), "user_id"]
    return reduced


def spent(window: Window) -> pd.Series[float]:
    """user_id -> cents of valid orders in the window, less what was refunded in it."""
    paid, back = (window.days(column).groupby("user_id")["value"].sum() for column in ("revenue_cents", "refund_cents"))
    net: pd.Series[float] = paid.sub(back.reindex(paid.index).fillna(0)).astype(float)
    return net[net > 0]


def waited(window: Window) -> pd.Series[float]:
    """user_id -> days from the start of the window to the first valid order in it; 0 is its first day."""
    first: pd.Series[float] = (window.days("orders").groupby("user_id")["day"].min() - window.start).astype(float)
    return first
