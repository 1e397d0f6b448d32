"""Posted events and a kept history as one: the rows that the log would have of them, and their tiles together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from features import calendar
from features.bucket import CHANGE_TYPES, DAY_TYPES, KEY_TYPES, Array, Bucket, merged
from features.histories import History, mark_of
from features.tiling import FIELDS
from features.vocabulary import LOG_SCHEMA

Event = Mapping[str, Any]  # columns of EVENT_SCHEMA without ids of users; event and occurred_at are there, the others may be, moments with their zone
Row = tuple[Event, datetime, int]  # an event, when its row became known, and 1 or -1
PLACED = ("order", "order_item")  # what a cancellation takes back


def rows_of(events: Sequence[Event], past: History | None) -> tuple[list[Row], int]:
    """What `ledger.post` makes of these facts, and how many cancellations are of orders that nobody knows here.

    An order and its lines count until they are cancelled, as of when that was known. Of the past count the orders that the events cancel
    or say anew, by their `event_id`: from then on as never placed or as the new version.
    """
    off: dict[str, datetime] = {}
    for event in events:
        if event["event"] == "order_cancelled" and event.get("order_id") is not None and event.get("product_id") is None:
            moment = max(event["occurred_at"], known_at(event))
            off[event["order_id"]] = min(moment, off.get(event["order_id"], moment))
    placed = [event for event in events if event["event"] in PLACED]
    orders = {event["order_id"] for event in placed if event.get("order_id") is not None}
    taken_back, of_old, found = ([], {}, set()) if past is None else _taken_back(past, placed, off, orders)
    off |= {order: min(moment, off.get(order, moment)) for order, moment in of_old.items()}
    rows: list[Row] = []
    for event in events:
        known = known_at(event)
        until = off.get(event.get("order_id", "")) if event["event"] in PLACED else None
        if until is None or until > known:
            rows.append((event, known, 1))
        if until is not None and until > known:
            rows.append((event, until, -1))
    return rows + taken_back, len(off.keys() - of_old.keys() - orders - found)


def _taken_back(past: History, placed: Sequence[Event], off: Mapping[str, datetime], orders: set[str]) -> tuple[list[Row], dict[str, datetime], set[str]]:
    """Rows that end what the past has of orders that are cancelled or said anew; which of the posted orders it knows to be cancelled and
    since when; which of the cancelled ones it has."""
    anew: dict[int, datetime] = {}
    for event in placed:
        if event.get("event_id") is not None:
            mark = mark_of(event["event_id"])
            anew[mark] = min(known_at(event), anew.get(mark, known_at(event)))
    order_of = {mark_of(order): order for order in off.keys() | orders}
    rows: list[Row] = []
    of_old: dict[str, datetime] = {}
    found: set[str] = set()
    for kept in past.orders([*order_of], [*anew]) if order_of or anew else ():
        order = order_of.get(kept.order)
        found |= {order} if order is not None else set()
        if kept.row["event"] not in PLACED:
            if order in orders and order is not None:
                of_old[order] = min(kept.row["occurred_at"], of_old.get(order, kept.row["occurred_at"]))
            continue
        ends = [moment for moment in (off.get(order or ""), anew.get(kept.event)) if moment is not None]
        if ends:
            rows.append((kept.row, min(ends), -1))
    return rows, of_old, found


def known_at(event: Event) -> datetime:
    """When an event became known: where nobody says, when it occurred."""
    known: datetime = event.get("known_at") or event["occurred_at"]
    return known


def since(events: Sequence[Event], zone: str, day: int) -> list[Event]:
    """The events that happened or became known on a day or later."""
    days, _, _ = _days([event["occurred_at"] for event in events] + [known_at(event) for event in events], zone)
    is_new = np.maximum(days[: len(events)], days[len(events) :]) >= day
    return [event for event, is_one in zip(events, is_new.tolist(), strict=True) if is_one]


def _days(moments: Sequence[datetime], zone: str) -> tuple[Array, Array, Array]:
    """The days of moments on the shop's clock, its hours, and the moments themselves."""
    times = pa.array(moments, LOG_SCHEMA.field("occurred_at").type)
    clock = calendar.local(times, zone)
    return calendar.day(clock).to_numpy(), calendar.hour(clock).to_numpy(), times.cast("int64").to_numpy()


def before(rows: Sequence[Row], zone: str, cut: int) -> tuple[list[Event], dict[str, Array], int]:
    """The rows that a cutoff may see, their numbers as `tiling.Events` wants them, and how many events they are."""
    number = len(rows)
    days, hours, moments = _days([event["occurred_at"] for event, _, _ in rows] + [known for _, known, _ in rows], zone)
    numbers = {"day": days[:number], "known_day": days[number:], "hour": hours[:number], "moment": moments[:number]}
    numbers["sign"] = np.array([sign for _, _, sign in rows], np.int32)
    seen = (numbers["day"] < cut) & (numbers["known_day"] < cut)
    events = [event for (event, _, _), is_seen in zip(rows, seen.tolist(), strict=True) if is_seen]
    numbers = {name: values[seen] for name, values in numbers.items()}
    numbers |= {name: np.array([event.get(name) or 0 for event in events], np.int64) for name in FIELDS}
    numbers["has_level"] = np.array([event.get("level") is not None for event in events], np.bool_)
    return events, numbers, int((numbers["sign"] > 0).sum())


def products_of(past: History) -> list[int]:
    """Where the products that the past names stand among the shop's."""
    places = past.histories.products[np.unique(past.rows("keys")["key"])]
    return [place for place in places.tolist() if place >= 0]


def joined(past: History, new: Bucket) -> Bucket:
    """The tiles of what is kept of a user and those of what came since."""
    days, keys, changes = (dict(past.rows(table)) for table in ("days", "keys", "changes"))
    keys["key"], key_names = _own(keys["key"], past.histories.keys)
    changes["text"], texts = _own(changes["text"], past.histories.texts)
    changes |= {"known": changes.pop("since"), "value": np.ones(len(changes["name"]), np.int64)}
    for rows in (days, keys):
        rows["known"] = rows["day"]  # before the first day that the past does not know, which is all that matters
    for rows in (days, keys, changes):
        rows["user"] = np.zeros(len(rows["day"]), np.int32)
    names = pa.array(past.histories.names, pa.string())
    kept = Bucket(pa.array([""]), typed(days, DAY_TYPES), typed(keys, KEY_TYPES), typed(changes, CHANGE_TYPES), key_names, names, texts)
    return merged(kept, new)


def typed(rows: Mapping[str, Array], types: Mapping[str, Any]) -> dict[str, Array]:
    """The columns of a bucket's table, in its order and its types."""
    return {name: rows[name].astype(kind) for name, kind in types.items()}


def _own(codes: Array, words: pa.Array) -> tuple[Array, pa.Array]:
    """Places in a long list of sorted words as places in the list of those that are used."""
    used = np.unique(codes[codes >= 0])
    return np.where(codes < 0, -1, np.searchsorted(used, codes)), words.take(pa.array(used, pa.int64()))
