"""The shop report in numbers: who comes back and when, what customers are worth, and what it all rests on.

Everything is strictly before one date. A share is {"value", "low", "high"} with its 95 % interval by Wilson (1927, JASA 22);
a share that some customers had no time for yet is a Kaplan-Meier estimate, with the same interval at its effective sample
size (Rothman 1978, J Chronic Dis 31). Both agree where everybody had the time. A value that the data do not permit is None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.cycle import RepurchaseCycle, cycle_by_category, cycle_by_consumption, time_to_next
from features.errors import NoUsableData
from features.events import day_number, day_of
from features.happened import Window
from features.norms import DEFAULT_CYCLE, ENOUGH_REPURCHASERS
from features.snapshot import Snapshot
from features.tiles import Tiles
from training.intervals import quantile_interval, returned_by, share
from training.shop_value import layers, months, value_groups

Report: TypeAlias = dict[str, Any]
Days: TypeAlias = npt.NDArray[np.int64]

LAST_NUMBER = 10  # of the order whose successors are counted
WITHIN = (30, 60, 90, 180, 365)  # days after an order
VISITS = ("sessions", "page_views", "product_views")
LONGEST_PAUSES = 5


def shop_report(tiles: Tiles, snapshot: Snapshot, left_out: Mapping[str, int] | None = None) -> Report:
    """All numbers of the report as of the snapshot's date, ready for strict JSON.

    Args:
        tiles: of the log that the snapshot was made from.
        left_out: reason -> rows that ingests could not accept.

    Raises:
        NoUsableData: there is no valid order before that date.
    """
    as_of = snapshot.as_of
    history = tiles.before(as_of)
    orders, visits = order_days(history), visit_days(history)
    if orders.empty:
        raise NoUsableData(f"There is no valid order before {as_of}, so there is nothing to report. Ingest orders, or choose a later --as-of.")
    norms = snapshot.manifest["norms"]
    cycle = RepurchaseCycle(norms["cycle"] if norms["repurchasers"] >= ENOUGH_REPURCHASERS else None, norms["repurchasers"])
    horizon = tiles.shop.horizons.get("second_order", cycle.repurchase_horizon)
    return {
        "shop": tiles.shop.name,
        "currency": tiles.shop.currency,
        "as_of": as_of.isoformat(),
        "repeat_curve": repeat_curve(orders, as_of),
        "cycle": cycle_numbers(tiles, orders, cycle, as_of),
        "second_order": second_order(orders, visits, as_of, horizon),
        "value_groups": value_groups(snapshot),
        "layers": layers(snapshot),
        "months": months(orders, visits, history.days("refund_cents"), as_of),
        "basis": basis(tiles, snapshot, orders, visits, left_out or {}),
    }


def order_days(history: Window) -> pd.DataFrame:
    """The days on which a user placed valid orders, by user and day.

    orders and cents of the day, its number among the user's order days (1 for the first), and the user's next order day
    (NaN where none is known).
    """
    revenue = history.days("revenue_cents").rename(columns={"value": "cents"})
    days = history.days("orders").rename(columns={"value": "orders"}).merge(revenue, on=["user_id", "day"], how="left")
    days = days.fillna({"cents": 0}).astype({"cents": "int64"}).sort_values(["user_id", "day"], ignore_index=True)
    by_user = days.groupby("user_id", sort=False)["day"]
    return days.assign(number=by_user.cumcount() + 1, following=by_user.shift(-1))


def visit_days(history: Window) -> pd.DataFrame:
    """user_id and day of every day on which the source saw the user in the shop; no rows where it tells of no visits."""
    seen: pd.DataFrame = pd.concat([history.days(column)[["user_id", "day"]] for column in VISITS], ignore_index=True)
    return seen.drop_duplicates(ignore_index=True)


def waits(orders: pd.DataFrame, as_of: date) -> tuple[Days, npt.NDArray[np.bool_]]:
    """Days from each order day to the next or to the last day that is known, and whether there was a next."""
    followed = orders["following"].notna().to_numpy()
    waited = (orders["following"].fillna(day_number(as_of) - 1) - orders["day"]).to_numpy(np.int64)
    return waited, followed


def repeat_curve(orders: pd.DataFrame, as_of: date) -> list[dict[str, Any]]:
    """For each number n: of the users with an n-th order day, how many had another, so far and within so many days."""
    per_user, rows = orders.groupby("user_id")["orders"].sum(), []
    for number in range(1, LAST_NUMBER + 1):
        mine = orders[orders["number"] == number]
        if mine.empty:
            break
        waited, followed = waits(mine, as_of)
        time_left = day_number(as_of) - 1 - mine["day"]
        at_least, more = int((per_user >= number).sum()), int((per_user > number).sum())
        rows.append(
            {
                "number": number,
                "customers": len(mine),
                "returned": int(followed.sum()),
                "share": share(int(followed.sum()), len(mine)),
                "within_days": dict(zip(map(str, WITHIN), returned_by(waited, followed, list(WITHIN)), strict=True)),
                "watched_for_days": {str(days): int((time_left >= days).sum()) for days in WITHIN},
                "by_orders": {"customers": at_least, "returned": more, "share": share(more, at_least)},
            }
        )
    return rows


def cycle_numbers(tiles: Tiles, orders: pd.DataFrame, cycle: RepurchaseCycle, as_of: date) -> dict[str, Any]:
    """The repurchase cycle in all its ways, and the horizons that follow from it."""
    span = orders.groupby("user_id")["day"].agg(["first", "last", "size"])
    span = span[span["size"] > 1]
    gaps = np.sort(((span["last"] - span["first"]) / (span["size"] - 1)).to_numpy(np.float64))
    low, high = quantile_interval(gaps, 0.9)
    censored = time_to_next(tiles, as_of)
    categories = sorted(cycle_by_category(tiles, as_of).items(), key=lambda item: (-item[1].repurchasers, item[0]))
    return {
        "induction": {
            "days": {"value": float(np.quantile(gaps, 0.9)) / 3 if len(gaps) else None, "low": low and low / 3, "high": high and high / 3},
            "repurchasers": cycle.repurchasers,
            "is_enough": cycle.days is not None,
            "days_in_use": DEFAULT_CYCLE if cycle.days is None else cycle.days,
            "repurchase_horizon_days": cycle.repurchase_horizon,
            "churn_horizon_days": cycle.churn_horizon,
        },
        "next_order": {
            "median_days": {"value": censored.median, "low": censored.low, "high": censored.high},
            "orders": censored.orders,
            "followed": censored.followed,
            "after_any_order": curve(orders, as_of),
            "after_first_order": curve(orders[orders["number"] == 1], as_of),
        },
        "by_category": [{"category": name, "days": found.days, "repurchasers": found.repurchasers} for name, found in categories],
        "by_consumption": [{"of": name, "days": days} for name, days in sorted(cycle_by_consumption(tiles, as_of).items())],
    }


def curve(orders: pd.DataFrame, as_of: date) -> dict[str, list[Any]]:
    """Day by day the Kaplan-Meier share that ordered again, for at most a year: days, value, low and high of equal length."""
    waited, followed = waits(orders, as_of)
    days = list(range(min(max(WITHIN), int(waited.max(initial=0))) + 1))
    points = returned_by(waited, followed, days)
    return {"days": days, **{name: [point[name] for point in points] for name in ("value", "low", "high")}}


def second_order(orders: pd.DataFrame, visits: pd.DataFrame, as_of: date, horizon: int) -> dict[str, Any]:
    """A second order as a return visit times a conversion after it, within `horizon` days after the day of the first order.

    Only first orders whose days are over count, and where the source tells of visits, only those placed since it does. An
    order is a visit too, seen or not. Without visits the two factors are None.
    """
    firsts, end = orders[orders["number"] == 1], day_number(as_of)
    over = firsts[firsts["day"] + horizon < end]
    since = None if visits.empty else int(visits["day"].min())
    if since is not None:
        over = over[over["day"] >= since]
    second = over["following"] - over["day"] <= horizon
    came = visits.merge(over[["user_id", "day"]].rename(columns={"day": "first"}), on="user_id")
    came = came[(came["day"] > came["first"]) & (came["day"] <= came["first"] + horizon)]
    seen = over["user_id"].isin(came["user_id"])
    n, came_back, ordered = len(over), int((seen | second).sum()), int(second.sum())
    return {
        "horizon_days": horizon,
        "visits_known_since": None if since is None else day_of(since).isoformat(),
        "first_orders": n,
        "still_open": int((firsts["day"] + horizon >= end).sum()),
        "returned": None if since is None else came_back,
        "ordered": ordered,
        "ordered_unseen": None if since is None else int((second & ~seen).sum()),
        "return_rate": None if since is None else share(came_back, n),
        "conversion_after_return": None if since is None else share(ordered, came_back),
        "second_order_rate": share(ordered, n),
    }


def basis(tiles: Tiles, snapshot: Snapshot, orders: pd.DataFrame, visits: pd.DataFrame, left_out: Mapping[str, int]) -> dict[str, Any]:
    """What the numbers rest on."""
    first, end = int(orders["day"].min()), day_number(snapshot.as_of)
    without = np.setdiff1d(np.arange(first, end), orders["day"].to_numpy())
    runs = [(int(run[0]), len(run)) for run in np.split(without, np.flatnonzero(np.diff(without) > 1) + 1) if len(run)]
    longest = sorted(runs, key=lambda run: (-run[1], run[0]))[:LONGEST_PAUSES]
    weekdays = pd.Series([day_of(int(day)).strftime("%A") for day in without], dtype="str").value_counts()
    return {
        "first_order_day": day_of(first).isoformat(),
        "last_order_day": day_of(int(orders["day"].max())).isoformat(),
        "first_visit_day": None if visits.empty else day_of(int(visits["day"].min())).isoformat(),
        "users": snapshot.table.num_rows,
        "customers": int(orders["user_id"].nunique()),
        "orders": int(orders["orders"].sum()),
        "order_days": len(orders),
        "revenue_cents": int(orders["cents"].sum()),
        "days": end - first,
        "days_without_order": len(without),
        "without_order_by_weekday": {str(name): int(days) for name, days in sorted(weekdays.items(), key=lambda item: (-item[1], str(item[0])))},
        "longest_pauses": [{"from": day_of(start).isoformat(), "days": days} for start, days in longest],
        "streams": sorted(tiles.log.manifest["streams"]),
        "left_out": {reason: left_out[reason] for reason in sorted(left_out)},
    }


def left_out_rows(quarantine: Path) -> dict[str, int]:
    """Reason -> rows that ingests could not accept, from the lists they left in a folder."""
    counts: Counter[str] = Counter()
    for path in sorted(quarantine.glob("*.csv")):
        counts.update(pd.read_csv(path, usecols=["reason"])["reason"])
    return dict(counts)
