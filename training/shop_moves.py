"""What changed among a shop's users between two dates: moves between layers, first orders of visitors; and the membership levels of now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from features.snapshot import Snapshot
from features.store import SnapshotStore
from features.tiles import Tiles
from training.intervals import share
from training.labels import people_now
from training.shop_value import LAYERS, VISITOR

DAYS = 30  # between the two dates
MOST_SOURCES = 8
KNOWN = ("awareness", "weak", "strong")  # levels of interest, weakest first
UNKNOWN, NO_INTEREST, OTHER = "unknown", "none", "other"  # source; interest; the sources that are not named


def moves_and_firsts(tiles: Tiles, store: SnapshotStore, now: Snapshot, first_day: Any) -> dict[str, Any]:
    """`moves` and `first_orders` against the snapshot of 30 days before; both None where the data do not reach so far back.

    Args:
        first_day: the day of the first event.
    """
    before = now.as_of - timedelta(days=DAYS)
    if before <= first_day:
        return {"days": DAYS, "moves": None, "first_orders": None}
    then = store.get(tiles, before)
    frame = then.frame.set_axis(people_now(tiles, then.frame.index))
    frame = frame[~frame.index.duplicated(keep="last")]
    return {
        "days": DAYS,
        "since": before.isoformat(),
        "moves": moves(frame, now.frame),
        "first_orders": first_orders(frame, now.frame, tuple(tiles.shop.interest)),
    }


def moves(then: pd.DataFrame, now: pd.DataFrame) -> dict[str, Any]:
    """How many users went from one layer to another.

    layers: those that anybody was or is in. counts: layers of then x layers of now; users who were not known then are in `new`, by layer of now.
    """
    both = pd.DataFrame({"now": now["layers_layer"]}).join(then["layers_layer"].rename("then"), how="left")
    names = [name for name in (VISITOR, *LAYERS) if (both == name).any(axis=None)]
    table = pd.crosstab(both["then"], both["now"]).reindex(index=names, columns=names, fill_value=0)
    arrived = both.loc[both["then"].isna(), "now"].value_counts().reindex(names, fill_value=0)
    return {"layers": names, "counts": table.to_numpy(np.int64).tolist(), "new": arrived.to_numpy(np.int64).tolist()}


def first_orders(then: pd.DataFrame, now: pd.DataFrame, levels: Sequence[str]) -> dict[str, Any]:
    """Of those who had not ordered by then, how many have now: all, by the strongest interest of the 30 days before, and by where they first came from.

    Args:
        then, now: snapshots' frames of the same users' ids. levels: of interest; Encore's own are ordered by strength,
            others as the shop file lists them, strongest last.
    """
    levels = sorted(levels, key=lambda level: KNOWN.index(level) if level in KNOWN else -1)
    visitors = then[then["orders_count"] <= 0]
    ordered = now["orders_count"].reindex(visitors.index).fillna(0).to_numpy() > 0
    interest = np.full(len(visitors), NO_INTEREST, dtype=object)
    for level in levels:
        name = f"interest_{level}_30d"
        if name in visitors:
            interest[visitors[name].to_numpy() > 0] = level
    told: dict[str, Any] = {
        "all": _rate(ordered),
        "by_interest": [{"name": name, **_rate(ordered[interest == name])} for name in (*reversed(levels), NO_INTEREST)],
    }
    if "touch_first_source" in visitors:
        source = visitors["touch_first_source"].astype(object).where(visitors["touch_first_source"].notna(), UNKNOWN)
        common = [str(name) for name in source.value_counts().sort_index().sort_values(ascending=False, kind="stable").index]
        named = common if len(common) <= MOST_SOURCES else common[: MOST_SOURCES - 1]
        source = source.where(source.isin(named), OTHER)
        told["by_source"] = [{"name": name, **_rate(ordered[(source == name).to_numpy()])} for name in dict.fromkeys([*named, OTHER]) if (source == name).any()]
    return told


def tiers(now: pd.DataFrame) -> list[dict[str, Any]] | None:
    """Users, customers, orders and revenue of each membership level, and of those without one; None for a shop that has no levels."""
    if "membership_tier" not in now:
        return None
    found = []
    for level in [*sorted(now["membership_tier"].dropna().unique()), None]:
        mine = now[now["membership_tier"].isna() if level is None else now["membership_tier"] == level]
        buyers = mine[mine["orders_count"] > 0]
        revenue, orders = float(buyers["orders_revenue"].sum()), int(buyers["orders_count"].sum())
        found.append(
            {
                "level": None if level is None else int(level),
                "users": len(mine),
                "customers": len(buyers),
                "orders": orders,
                "revenue_cents": round(revenue),
                "mean_revenue_cents": revenue / len(buyers) if len(buyers) else None,
            }
        )
    return found


def _rate(ordered: Any) -> dict[str, Any]:
    return {"visitors": len(ordered), "ordered": int(ordered.sum()), "rate": share(int(ordered.sum()), len(ordered))}
