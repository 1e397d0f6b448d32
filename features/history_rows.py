"""The making of histories, from tiles and from the log: for who publishes, where everything is installed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.bucket import Array, Bucket, Rows, statements
from features.catalogue import catalogue, parts_of
from features.engine import Engine
from features.events import day_number
from features.goods import goods_named
from features.histories import AMOUNTS, COLUMNS, KEPT_DAYS, KEPT_ORDERS, KINDS, Histories, Table
from features.requests import with_inputs
from features.tile_columns import CHANGES, DAY_CODES, DAY_COLUMNS, KEY_CODES, KEY_COLUMNS
from features.tiles import Tiles
from features.windows import Plan

BY_ORDER = frozenset(("order", "order_item"))  # events that a later cancellation takes back
OF_ORDERS = np.array([bool(BY_ORDER & {*column.events}) for column in DAY_COLUMNS])
OF_ORDERS_BY_KEY = np.array([bool(BY_ORDER & {*column.events}) for column in KEY_COLUMNS])
COUNTS = np.array([column.is_count for column in DAY_COLUMNS])


def histories_of(tiles: Tiles, users: pa.Array, as_of: date, names: Sequence[str], products: pa.Array) -> Histories:
    """The histories of some users as of a date, as far as the named features look back.

    Args:
        users: their ids, sorted. products: the product_ids that places of products are meant in, sorted.
    """
    features = with_inputs(names, catalogue(tiles.shop, tiles.log.kinds, goods_named(names, tiles.products)))
    plan, cut = Plan(parts_of(features), tiles.shop.interest), day_number(as_of)
    wanted = sorted({part.name for part in plan.changes})

    def rows_of(number: int) -> dict[str, Any]:
        bucket = tiles.bucket(number)
        owner = pc.fill_null(pc.index_in(bucket.users, users), -1).to_numpy(zero_copy_only=False).astype(np.int64)
        return {"days": _days(bucket, plan, cut, owner), "keys": _keys(bucket, plan, cut, owner), "changes": _changes(bucket, wanted, cut, owner)}

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(rows_of, range(len(tiles))))
    stacked = {table: _stacked([one[table] for one in found]) for table in ("days", "keys", "changes")}
    stacked["orders"] = _orders(tiles, users, cut)
    words: dict[str, pa.Array] = {}
    for kind, columns in (("keys", (("keys", "key"), ("orders", "product"))), ("texts", (("changes", "text"), ("orders", "channel")))):
        words[kind] = pc.unique(pa.concat_arrays([pc.unique(stacked[table][column]).drop_null().cast(pa.string()) for table, column in columns])).sort()
        for table, column in columns:
            stacked[table][column] = pc.fill_null(pc.index_in(stacked[table][column], words[kind]), -1).to_numpy(zero_copy_only=False)
    tables = {table: _table({name: rows[name] for name in COLUMNS[table]}, rows["user"], len(users)) for table, rows in stacked.items()}
    places = pc.fill_null(pc.index_in(words["keys"], products), -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Histories(cut, tables, words["keys"], words["texts"], tuple(wanted), places)


def _days(bucket: Bucket, plan: Plan, cut: int, owner: Array) -> dict[str, Any]:
    """A user's sums per day and column. What lies further back than any window asks for is kept only as far as its total, its first and
    its last day say it all; and of who did nothing that a feature asks for, one fact, since somebody known is not nobody."""
    rows = _added_up(_before(bucket.days, cut, owner), ("user", "day", "column"))
    age, column = cut - rows["day"], rows["column"]
    near, foldable = _near(plan)
    is_wanted = (np.diff(plan.group_of)[: len(DAY_COLUMNS)] > 0)[column] & (age <= plan.day_reach[column])
    is_far = is_wanted & foldable[column] & (age > near[column])
    kept = [_some(rows, is_wanted & ~is_far), _folded(_some(rows, is_far))]
    others = _some(rows, ~is_wanted & COUNTS[column])
    only = np.unique(others["user"], return_index=True)[1]
    together = _stacked([*kept, _some(others, only)])
    return _some(together, np.lexsort([together[name] for name in ("column", "day", "user")]))


def _near(plan: Plan) -> tuple[Array, Array]:
    """Of each day column: days within which every day counts for itself, and whether older days may be folded at all."""
    near, foldable = np.zeros(len(DAY_COLUMNS), np.int64), np.ones(len(DAY_COLUMNS), np.bool_)
    targets: dict[int, list[Any]] = {}
    for part, target in zip(plan.days, plan.day_targets, strict=True):
        targets.setdefault(target, []).append(part)
    for code in range(len(DAY_COLUMNS)):
        asked = [part for target in plan.groups[plan.group_of[code] : plan.group_of[code + 1]] for part in targets[int(target)]]
        near[code] = max([KEPT_DAYS, *(part.window or 0 for part in asked)])
        # An endless count of days needs each of them; so do the first and last days of amounts, which may cancel each other out.
        foldable[code] = not any((part.kind == "days" and part.window is None) or (part.kind != "sum" and not COUNTS[code]) for part in asked)
    near[OF_ORDERS] = np.maximum(near[OF_ORDERS], KEPT_ORDERS)
    if plan.gaps:
        foldable[DAY_CODES["orders"]] = False
    return near, foldable


def _folded(rows: Rows) -> Rows:
    """Old days of each user and column as two: the last one has the total, less the 1 on the first one of what is counted."""
    order = np.lexsort([rows[name] for name in ("day", "column", "user")])
    rows = _some(rows, order)
    group = rows["user"] * len(DAY_COLUMNS) + rows["column"]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(starts[1:], len(group)) - 1 if len(starts) else starts
    total = np.add.reduceat(rows["value"], starts) if len(starts) else rows["value"]
    first = _some(rows, starts[(ends > starts) & COUNTS[rows["column"][starts]]])
    last = _some(rows, ends)
    last["value"] = total - ((ends > starts) & COUNTS[last["column"]])
    return _stacked([{**first, "value": np.ones_like(first["value"])}, last])


def _keys(bucket: Bucket, plan: Plan, cut: int, owner: Array) -> dict[str, Any]:
    """A user's sums per day, column and key; what lies further back than any window once per column and key."""
    rows = _before(bucket.keys, cut, owner)
    rows = _added_up(_some(rows, cut - rows["day"] <= plan.key_reach[rows["column"]]), ("user", "day", "column", "key"))
    near = np.where(OF_ORDERS_BY_KEY, KEPT_ORDERS, 0)
    for part in plan.keys:
        near[KEY_CODES[part.column]] = max(near[KEY_CODES[part.column]], part.window or 0)
    is_far = cut - rows["day"] > near[rows["column"]]
    old = _some(rows, is_far & (rows["value"] > 0))
    if len(old["day"]):
        group = np.lexsort([old[name] for name in ("day", "key", "column", "user")])
        old = _some(old, group)
        is_new = np.any([np.diff(old[name], prepend=-1) != 0 for name in ("user", "column", "key")], axis=0)
        place = np.cumsum(is_new) - 1
        old["day"] = np.maximum.reduceat(old["day"], np.flatnonzero(is_new))[place]
        old = _added_up(old, ("user", "day", "column", "key"))
    kept = _stacked([_some(rows, ~is_far), old])
    kept = _some(kept, np.lexsort([kept[name] for name in ("key", "column", "day", "user")]))
    return {**kept, "key": _words(kept["key"], bucket.key_names)}


def _changes(bucket: Bucket, wanted: Sequence[str], cut: int, owner: Array) -> dict[str, Any]:
    """The statements that stand: the first and the last of each user and name, and all that a cancelled order may take back."""
    group = statements(bucket.changes)
    rows = {**bucket.changes, "group": group, "user": owner[bucket.changes["user"]]}
    names = bucket.names.to_pylist()
    place = np.array([wanted.index(name) if name in wanted else -1 for name in names] + [-1], np.int32)
    fed_by_orders = np.array([bool(BY_ORDER & {*CHANGES.get(name, ((),))[0]}) for name in wanted] + [False])
    rows = _some({**rows, "name": place[rows["name"]]}, (rows["user"] >= 0) & (rows["day"] < cut) & (rows["known"] < cut) & (place[rows["name"]] >= 0))
    if len(rows["user"]):
        starts = np.flatnonzero(np.diff(rows["group"], prepend=-1))
        since, stands = np.minimum.reduceat(rows["known"], starts), np.add.reduceat(rows["value"], starts) > 0
        rows = _some({**_some(rows, starts), "since": since}, stands)
        owned = rows["user"] * len(wanted) + rows["name"]
        is_edge = (np.diff(owned, prepend=-1) != 0) | (np.diff(owned, append=-1) != 0)
        rows = _some(rows, is_edge | fed_by_orders[rows["name"]])
    else:
        rows["since"] = rows["known"]
    return {**rows, "text": _words(rows["text"], bucket.texts)}


def _orders(tiles: Tiles, users: pa.Array, cut: int) -> dict[str, Any]:
    """Orders and lines of the last days that stand, and what is known to be cancelled."""
    said = ", ".join(f"'{kind}'" for kind in KINDS)
    query = f"""SELECT user_id, event, product_id, channel, {", ".join(AMOUNTS)},
        coalesce(md5_number_lower(order_id), 0) AS "order", coalesce(md5_number_lower(event_id), 0) AS mark,
        epoch_us(CASE WHEN event = 'order_cancelled' THEN greatest(occurred_at, known_at) ELSE occurred_at END) AS moment
        FROM log WHERE event IN ({said}) AND day < {cut} AND known_day < {cut} AND day >= {cut - KEPT_ORDERS}
        AND (event <> 'order_cancelled' OR (order_id IS NOT NULL AND product_id IS NULL))
        GROUP BY ALL HAVING sum(sign) > 0 ORDER BY ALL"""  # noqa: S608 - an order and its lines share a moment; their order is part of the bytes
    table = Engine().sql(query, log=tiles.log.parts)
    owner = pc.fill_null(pc.index_in(table["user_id"], users), -1).to_numpy()
    moment = table["moment"].to_numpy()
    table = table.take(pa.array(_of_known(owner, np.lexsort([moment, owner]))))
    rows: dict[str, Any] = {name: pc.fill_null(table[name], 0).to_numpy().astype(np.int64) for name in (*AMOUNTS, "moment")}
    rows["user"] = pc.index_in(table["user_id"], users).to_numpy().astype(np.int64)
    rows["kind"] = pc.index_in(table["event"], pa.array(KINDS)).to_numpy()
    rows |= {name: table[column].cast(pa.uint64()).to_numpy() for name, column in (("order", "order"), ("event", "mark"))}
    return rows | {name: table[column].combine_chunks() for name, column in (("product", "product_id"), ("channel", "channel"))}


def _of_known(owner: Array, order: Array) -> Array:
    return order[owner[order] >= 0]


def _before(rows: Rows, cut: int, owner: Array) -> dict[str, Array]:
    """The rows of known users that had happened and were known before the cutoff; users by their places."""
    mine = (rows["day"] < cut) & (rows["known"] < cut) & (owner[rows["user"]] >= 0)
    return {**_some({name: column for name, column in rows.items() if name not in ("user", "known")}, mine), "user": owner[rows["user"][mine]]}


def _added_up(rows: Rows, by: Sequence[str]) -> dict[str, Array]:
    """One row of each group, sorted by it: when something became known matters no longer. Sums of nothing are left out."""
    if not len(rows["user"]):
        return dict(rows)
    rows = _some(rows, np.lexsort([rows[name] for name in reversed(by)]))
    starts = np.flatnonzero(np.any([np.diff(rows[name], prepend=rows[name][0] - 1) != 0 for name in by], axis=0))
    value = np.add.reduceat(rows["value"], starts)
    return _some({**_some(rows, starts), "value": value}, value != 0)


def _some(rows: Mapping[str, Array], which: Array) -> dict[str, Array]:
    return {name: column[which] for name, column in rows.items()}


def _stacked(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def joined(columns: list[Any]) -> Any:
        return np.concatenate(columns) if isinstance(columns[0], np.ndarray) else pa.concat_arrays(columns)

    return {name: joined([rows[name] for rows in tables]) for name in tables[0]}


def _words(codes: Array, words: pa.Array) -> pa.Array:
    """Codes of a bucket's words as the words themselves, null for -1."""
    return words.take(pa.array(codes, mask=codes < 0)).cast(pa.string())


def _table(columns: Mapping[str, Array], user: Array, users: int) -> Table:
    """Rows sorted by user, in the narrowest whole numbers that hold them."""
    return Table(np.searchsorted(user, np.arange(users + 1)).astype(np.int64), {name: _narrow(column) for name, column in columns.items()})


def _narrow(values: Array) -> Array:
    if values.dtype == np.uint64:
        return values
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    return values.astype(next(kind for kind in (np.int8, np.int16, np.int32, np.int64) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))
