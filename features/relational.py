"""Parts of features in SQL: the same declarations as `windows`, compiled by Ibis from the rows of the log.

It runs on the embedded DuckDB, on Spark, and compiles for warehouses. Only integers and texts are computed here; the
numbers that a feature shows come from `snapshot.finish`, whichever engine counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import ibis
import pyarrow as pa
import pyarrow.compute as pc
from ibis import Table
from ibis.expr.types import BooleanValue, IntegerValue

from features.aggregates import ChangePart, DayPart, GapPart, Ints, KeyPart, Part
from features.events import before, day_number
from features.kernels import MILLIONTH, NONE
from features.tile_columns import CHANGES, DAY_CODES, DAY_COLUMNS, DIMENSIONS, KEY_CODES, KEY_COLUMNS, DayColumn, events_of

Interest = Mapping[str, tuple[str, ...]]


def integers(events: Table, products: Table, as_of: date, parts: Sequence[Part], interest: Interest) -> Table:
    """user_id, facts (rows known before `as_of`, less those taken back) and the parts in their order, as part_0, ...

    Args:
        events: rows of the log, LOG_SCHEMA. products: PRODUCT_SCHEMA and `lasts`, minutes that one piece lasts or 0.
    """
    history = before(events, as_of).mutate(age=(ibis.literal(day_number(as_of)) - events.day).cast("int64"))
    named = {part: f"part_{number}" for number, part in enumerate(parts)}
    tables = [history.group_by("user_id").aggregate(facts=history.sign.sum().cast("int64"))]
    days = _days(history, products, [part for part in parts if isinstance(part, DayPart)], interest)
    tables += _day_parts(days, {part: name for part, name in named.items() if isinstance(part, DayPart)})
    if gaps := {part: name for part, name in named.items() if isinstance(part, GapPart)}:
        tables.append(_gap_parts(days, gaps))
    keys = {part: name for part, name in named.items() if isinstance(part, KeyPart)}
    for column, dimension in dict.fromkeys((part.column, part.dimension) for part in keys):
        mine = {part: name for part, name in keys.items() if (part.column, part.dimension) == (column, dimension)}
        tables.append(_key_parts(history, products, column, dimension, mine))
    changes = {part: name for part, name in named.items() if isinstance(part, ChangePart)}
    for changed in dict.fromkeys(part.name for part in changes):
        tables.append(_change_parts(history, changed, {part: name for part, name in changes.items() if part.name == changed}))
    return _side_by_side(tables, {"facts": "int64", **{name: _type(part) for part, name in named.items()}})


def _side_by_side(tables: Sequence[Table], types: Mapping[str, str]) -> Table:
    """Tables with at most one row per user as one: stacked, and the one value of each column taken. Three dozen joins
    would need the memory of three dozen sorts at once."""
    stacked = [
        table.select(
            user_id=table.user_id.nullif(""), **{name: table[name].cast(kind) if name in table.columns else ibis.null(kind) for name, kind in types.items()}
        )
        for table in tables
    ]
    rows = ibis.union(*stacked)
    return rows.group_by("user_id").aggregate(**{name: rows[name].max() for name in types})


def _type(part: Part) -> str:
    is_text = (isinstance(part, KeyPart) and part.kind == "top_key") or (isinstance(part, ChangePart) and part.field == "text")
    return "string" if is_text else "int64"


def collected(table: pa.Table, parts: Sequence[Part]) -> tuple[pa.Array, dict[Part, Ints | pa.DictionaryArray]]:
    """Users with a fact that stands, in order, and their parts as `windows` gives them, from what `integers` computed."""
    rows = table.filter(pc.greater(table["facts"], 0)).sort_by("user_id")
    found: dict[Part, Ints | pa.DictionaryArray] = {}
    for number, part in enumerate(parts):
        column = rows[f"part_{number}"]
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            found[part] = column.cast(pa.string()).combine_chunks().dictionary_encode()
        else:
            empty = 0 if _counts(part) else NONE
            found[part] = pc.fill_null(column.cast(pa.int64()), empty).to_numpy(zero_copy_only=False)
    return rows["user_id"].cast(pa.string()).combine_chunks(), found


def _counts(part: Part) -> bool:
    """Whether nothing counts as zero."""
    if isinstance(part, KeyPart):
        return part.kind != "top_key"
    return part.kind in {DayPart: ("sum", "days"), GapPart: ("count", "total", "squares"), ChangePart: ()}[type(part)]


def _total(rows: Table, condition: BooleanValue, amount: IntegerValue | int = 1) -> IntegerValue:
    return ibis.cases((condition, ibis.coalesce(amount, 0) * rows.sign), else_=0).sum().cast("int64")


def _days(history: Table, products: Table, parts: Sequence[DayPart], interest: Interest) -> Table:
    """One row per user and day with the wanted columns."""
    columns = dict.fromkeys([part.column for part in parts] + ["orders"])
    rows = history
    if "supply_minutes" in columns:
        lasts = products.select("product_id", "lasts").filter(products.lasts > 0)
        rows = rows.left_join(lasts, "product_id").drop("product_id_right")
        rows = rows.mutate(supply_minutes=rows.lasts * ibis.greatest(ibis.coalesce(rows.quantity, 0), 1))
    sums = {}
    for name in columns:
        if name in DAY_CODES:
            column = DAY_COLUMNS[DAY_CODES[name]]
            sums[name] = _total(rows, _condition(rows, column), 1 if column.amount is None else rows[column.amount])
        else:
            sums[name] = _total(rows, rows.event.isin(events_of(name, interest)))
    return rows.group_by("user_id", "day", "age").aggregate(**sums)


def _condition(rows: Table, column: DayColumn) -> BooleanValue:
    found = rows.event.isin(column.events)
    if column.hours != (0, 24):
        found &= (rows.hour >= column.hours[0]) & (rows.hour < column.hours[1])
    if column.weekend:
        found &= ((rows.day + 4) % 7).isin([0, 6])  # 1970-01-01 was a Thursday
    if column.positive:
        found &= rows[column.positive].fill_null(0) > 0
    for name in column.zero:
        found &= rows[name].fill_null(0) <= 0
    if column.at_most is not None:
        found &= rows.level.fill_null(0).between(1, column.at_most)
    return found


def _day_parts(days: Table, named: Mapping[DayPart, str]) -> list[Table]:
    def value(part: DayPart) -> IntegerValue:
        column, within = days[part.column], ibis.literal(True) if part.window is None else days.age <= part.window
        if part.kind == "sum":
            return ibis.cases((within, column), else_=0).sum().cast("int64")
        if part.kind == "days":
            return ibis.cases((within & (column > 0), 1), else_=0).sum().cast("int64")
        age = ibis.cases((column > 0, days.age), else_=ibis.null("int64"))
        return age.min() if part.kind == "since" else age.max()

    return [days.group_by("user_id").aggregate(**{name: value(part) for part, name in named.items()})] if named else []


def _gap_parts(days: Table, named: Mapping[GapPart, str]) -> Table:
    placed = days.filter(days.orders > 0).select("user_id", "day")
    mine = ibis.window(group_by="user_id", order_by="day")
    placed = placed.mutate(gap=(placed.day - placed.day.lag().over(mine)).cast("int64"))
    placed = placed.mutate(previous=placed.gap.lag().over(mine), back=ibis.row_number().over(ibis.window(group_by="user_id", order_by=placed.day.desc())))
    latest = placed.back == 0
    values = {
        "count": placed.gap.count(),
        "total": placed.gap.sum(),
        "squares": (placed.gap * placed.gap).sum(),
        "longest": placed.gap.max(),
        "last": ibis.cases((latest, placed.gap)).max(),
        "earlier": ibis.cases((latest, placed.previous)).max(),
    }
    return placed.group_by("user_id").aggregate(**{name: values[part.kind].cast("int64") for part, name in named.items()})


def _key_parts(history: Table, products: Table, column: str, dimension: str, named: Mapping[KeyPart, str]) -> Table:
    declared = KEY_COLUMNS[KEY_CODES[column]]
    rows = history.filter(history.event.isin(declared.events) & history[declared.field].notnull())
    amount = 1 if declared.amount is None else ibis.coalesce(rows[declared.amount], 0)
    daily = rows.mutate(key=rows[declared.field]).group_by("user_id", "age", "key").aggregate(n=(amount * rows.sign).sum().cast("int64"))
    daily = daily.filter(daily.n > 0)
    if dimension in DIMENSIONS:
        known = products.filter(products[dimension].notnull()).select(key="product_id", code=dimension)
        daily = daily.inner_join(known, "key")
    else:
        daily = daily.mutate(code=daily.key)
    windows = {part.window: f"n_{part.window or 'ever'}" for part in named}
    counts = daily.group_by("user_id", "code").aggregate(
        **{name: ibis.cases((ibis.literal(True) if window is None else daily.age <= window, daily.n), else_=0).sum() for window, name in windows.items()}
    )
    tops = {part.window for part in named if part.kind == "top_key"}
    places = {f"place_{window or 'ever'}": _place(counts, counts[windows[window]].desc(), counts.code.asc()) for window in tops}
    counts = counts.mutate(**places)
    return counts.group_by("user_id").aggregate(**{name: _key_part(counts, part, counts[windows[part.window]]) for part, name in named.items()})


def _key_part(counts: Table, part: KeyPart, n: IntegerValue) -> ibis.Value:
    some = ibis.cases((n > 0, n))
    if part.kind == "top_key":
        return ibis.cases(((counts[f"place_{part.window or 'ever'}"] == 0) & (n > 0), counts.code)).max()
    found = {
        "kinds": lambda: some.count(),
        "total": lambda: n.sum(),
        "top": lambda: n.max(),
        "information": lambda: (some.cast("float64").ln() * some * MILLIONTH).round().cast("int64").sum(),
        "again": lambda: (n > 1).cast("int64").sum(),
        "count": lambda: ibis.cases((counts.code == part.value, n), else_=0).sum(),
    }[part.kind]()
    return found.cast("int64")


def _place(rows: Table, *order: ibis.Value) -> IntegerValue:
    return ibis.row_number().over(ibis.window(group_by="user_id", order_by=list(order)))


def _change_parts(history: Table, changed: str, named: Mapping[ChangePart, str]) -> Table:
    if changed in CHANGES:
        events, field = CHANGES[changed]
        rows = history.filter(history.event.isin(events))
    else:
        field = "level"
        rows = history.filter((history.event == "attribute_set") & (history.detail == changed.removeprefix("attribute.")))
    rows = rows.filter(rows[field].notnull())
    stands = rows.group_by("user_id", "occurred_at", value=rows[field]).aggregate(n=rows.sign.sum(), since=rows.known_day.min())
    stands = stands.filter(stands.n > 0)
    keys = [stands.occurred_at, stands.since, stands.value]
    ranked = stands.mutate(first=_place(stands, *(key.asc() for key in keys)), last=_place(stands, *(key.desc() for key in keys)))
    return ranked.group_by("user_id").aggregate(**{name: ibis.cases((ranked[part.kind] == 0, ranked.value)).max() for part, name in named.items()})
