"""What look-alikes did afterwards, against others like them in recency, frequency and spend.

It says whether the ranking found people who go on to do it. It is no effect of a campaign: who is in an audience differs from who
is not in more than what is matched, and only a part of the audience that is kept out by lot tells what the campaign adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from features.snapshot import Snapshot
from features.tiles import Tiles
from training.evaluate import Z_95
from training.intervals import share
from training.lookalike.methods import Rules, fifth
from training.lookalike.rules import Mask
from training.lookalike.seed_sources import products_asked

NO_EFFECT = (
    "This compares users, matched on recency, frequency and spend before the date; it is not the effect of a campaign. For that, keep a part of the "
    "audience out by lot."
)


def afterwards(tiles: Tiles, snapshot: Snapshot, members: Mask, others: Mask, how: Mapping[str, Any], days: int) -> dict[str, Any] | None:
    """What members and others did in the days from the snapshot's date on, as JSON; None where the log ends at that date or there is nobody to match.

    Args:
        members, others: rows of the snapshot. how: of the seed; what its receivers were to buy counts, any valid order where nothing
            is said. days: at most so many, fewer where the log ends earlier.

    A member is matched with the others of the same fifth of recency, of frequency and of spend; the others' rates are weighted by how many
    members a cell has. The interval of the difference is the normal one of a stratified difference of shares, its variances with one
    added to each outcome (Agresti, Caffo 2000, The American Statistician 54), so that a cell of nobody who did is not taken for certain.
    """
    until = min(snapshot.as_of + timedelta(days=days), tiles.log.complete_until)
    if until <= snapshot.as_of or not members.any() or not others.any():
        return None
    did = _did(tiles, snapshot, until, how)
    found = matched_difference(did, members, others, _cells(snapshot, members | others))
    return {
        "from": snapshot.as_of.isoformat(),
        "until": until.isoformat(),
        "days": (until - snapshot.as_of).days,
        "what": " or ".join([*how.get("bought", ()), *(f"category {name}" for name in how.get("bought_categories", ()))]) or "anything",
        "members": {"users": int(members.sum()), "did": int(did[members].sum()), "rate": share(int(did[members].sum()), int(members.sum()))},
        "others": {"users": int(others.sum()), "did": int(did[others].sum()), "rate": share(int(did[others].sum()), int(others.sum()))},
        "matched": found,
        "note": NO_EFFECT,
    }


def matched_difference(did: Mask, members: Mask, others: Mask, cells: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Rates of members and of others in the same cells, weighted by members, and their difference with a 95 % interval.

    users: members in a cell with others; alone: those in a cell without. The rates and the difference are None where nobody is matched.
    """
    size = int(cells.max()) + 1
    n1, n0 = (np.bincount(cells[rows], minlength=size) for rows in (members, others))
    x1, x0 = (np.bincount(cells[rows & did], minlength=size) for rows in (members, others))
    both = (n1 > 0) & (n0 > 0)
    found: dict[str, Any] = {"users": int(n1[both].sum()), "alone": int(n1[~both].sum()), "cells": int(both.sum())}
    if not both.any():
        return found | {"members": None, "others": None, "difference": None}
    weight = n1[both] / n1[both].sum()
    of_members, of_others = (float((weight * x[both] / n[both]).sum()) for x, n in ((x1, n1), (x0, n0)))
    spread = sqrt(float(sum((weight**2 * _variance(x[both], n[both])).sum() for x, n in ((x1, n1), (x0, n0)))))
    gap = of_members - of_others
    return found | {"members": of_members, "others": of_others, "difference": {"value": gap, "low": gap - Z_95 * spread, "high": gap + Z_95 * spread}}


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The comparison in words."""
    rate, plain, matched = found["members"]["rate"], found["others"]["rate"], found["matched"]
    lines = [
        f"In the {found['days']} days from {found['from']}, {rate['value']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}] of {found['members']['users']:,} "
        f"look-alikes bought {found['what']}; of the {found['others']['users']:,} other candidates {plain['value']:.1%}."
    ]
    if matched["difference"] is None:
        return [*lines, "No other candidate is like a look-alike in recency, frequency and spend, so nothing more can be said.", found["note"]]
    gap = matched["difference"]
    alone = f" ({matched['alone']:,} look-alikes have no such others and are left out)" if matched["alone"] else ""
    lines.append(
        f"Of others of the same recency, frequency and spend {matched['others']:.1%}, against {matched['members']:.1%}: a difference of "
        f"{100 * gap['value']:+.1f} points [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]{alone}."
    )
    return [*lines, found["note"]]


def _did(tiles: Tiles, snapshot: Snapshot, until: date, how: Mapping[str, Any]) -> Mask:
    """Who of the snapshot bought it; a visitor who was recognised since did what the user did."""
    bought = tiles.between(snapshot.as_of, until).keys("purchases")
    if how.get("bought") or how.get("bought_categories"):
        bought = bought[bought["key"].isin(products_asked(how.get("bought", ()), how.get("bought_categories", ()), tiles)[0])]
    buyers, owners = {*bought["user_id"]}, tiles.current_ids
    return np.fromiter((user in buyers or owners.get(user) in buyers for user in snapshot.user_ids), bool, len(snapshot.user_ids))


def _cells(snapshot: Snapshot, rows: Mask) -> npt.NDArray[np.int64]:
    """For each user the number of the fifths of recency, frequency and spend, among these rows; rules whose columns are missing match everybody."""
    cells = np.zeros(len(rows), dtype=np.int64)
    for place, name in enumerate(name for name in Rules().rfm if name in snapshot.feature_names):
        values = snapshot.table[name].to_numpy(zero_copy_only=False)[rows]
        cells[rows] = 5 * cells[rows] + fifth(-values if place == 0 else values).astype(np.int64) - 1
    return cells


def _variance(x: npt.NDArray[np.int64], n: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    rate = (x + 1) / (n + 2)
    return np.asarray(rate * (1 - rate) / (n + 2))
