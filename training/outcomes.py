"""Outcomes that several tasks ask about. Each gives the users who did it in the window."""

from __future__ import annotations

import pandas as pd

from features.tiles import Window


def ordered(window: Window) -> pd.Series[str]:
    """Users with at least one valid order in the window."""
    return window.days("orders")["user_id"]


def redeemed_offer(window: Window) -> pd.Series[str]:
    """Users who redeemed, in the window, a coupon of a campaign that they received on its first day."""
    received, redeemed = window.keys("received"), window.keys("redeemed")
    offered = received.loc[received["day"] == window.start, ["user_id", "key"]]
    answered: pd.Series[str] = redeemed.merge(offered, on=["user_id", "key"])["user_id"]
    return answered
