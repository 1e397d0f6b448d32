"""Outcomes that several tasks ask about. Each gives the users who did it in the window."""

from __future__ import annotations

from datetime import date

from ibis import Table

from features.events import day_number
from features.tiles import Tiles


def ordered(window: Tiles, start: date) -> Table:
    """Users with at least one valid order in the window."""
    return window.user_days.filter(window.user_days.orders > 0).select("user_id")


def redeemed_offer(window: Tiles, start: date) -> Table:
    """Users who redeemed, in the window, a coupon of a campaign that they received on its first day."""
    rows = window.user_campaigns
    offered = rows.filter((rows.day == day_number(start)) & (rows.received > 0)).select("user_id", "campaign")
    return rows.filter(rows.redeemed > 0).semi_join(offered, ["user_id", "campaign"]).select("user_id")
