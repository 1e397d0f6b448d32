"""What the log admits, and how a batch is held against what it has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from features import calendar
from features.engine import Engine
from features.errors import InvalidShopFile, InvalidTable
from features.vocabulary import CALENDAR, EVENT_SCHEMA, EVENTS, LOG_SCHEMA, LONGEST_ID

NO_USER = f"user id is empty, longer than {LONGEST_ID} bytes or has control characters"
FUTURE = "happened more than a day after it became known (a wrong device clock?)"
CLASH = "says something else than what is known under its id, and not that it became known later"
NAMED = ", ".join(f"coalesce({name}::VARCHAR, chr(0))" for name in LOG_SCHEMA.names if name not in ("sign", *CALENDAR, "occurred_at", "known_at"))
CONTENT_SUM = f"""(sum(sign * (md5_number_lower(concat_ws(chr(31), epoch_us(occurred_at), epoch_us(known_at), {NAMED}))::HUGEINT))
    % 18446744073709551616)::VARCHAR"""
UNPOSTED = pa.schema([field for field in LOG_SCHEMA if field.name not in CALENDAR])


def check_events(events: pa.Table, name: str, currency: str) -> None:
    """Hold a table against the canonical schema.

    Raises:
        InvalidTable: with every problem found.
    """
    problems = []
    for field in EVENT_SCHEMA:
        if field.name not in events.column_names:
            problems.append(f"column '{field.name}' is missing")
        elif events.schema.field(field.name).type != field.type:
            problems.append(f"column '{field.name}' is {events.schema.field(field.name).type}, not {field.type}")
        elif not field.nullable and events[field.name].null_count:
            problems.append(f"column '{field.name}' has {events[field.name].null_count} empty value(s); none is allowed")
    if not problems:
        unknown = sorted(set(pc.unique(events["event"]).to_pylist()) - set(EVENTS))
        problems += [f"event '{event}' is not a canonical event; known: {', '.join(EVENTS)}" for event in unknown]
        other = sorted(set(pc.unique(events["currency"]).to_pylist()) - {None, currency})
        if other:
            problems.append(f"amounts in {', '.join(other)} cannot be added to amounts in {currency}; convert them first")
    if problems:
        raise InvalidTable(name, problems)


def check_same_shop(manifest: Mapping[str, Any], zone: str, currency: str) -> None:
    """Days and amounts already in the log were made with the zone and currency of its first ingest.

    Raises:
        InvalidShopFile: the shop file says something else now.
    """
    was = {"zone": manifest["zone"], "currency": manifest["currency"]}
    changed = [f"{name} is '{now}', but the log was made with '{was[name]}'" for name, now in (("zone", zone), ("currency", currency)) if now != was[name]]
    if changed:
        raise InvalidShopFile("encore.toml", [f"{problem}; put it back, or ingest into a new workspace" for problem in changed])


def usable(events: pa.Table, quarantined: dict[str, int]) -> tuple[pa.Table, dict[str, int]]:
    """The rows that the log can take, with `given_id`, in a canonical order; the others are counted per reason."""
    given = pc.coalesce(events["user_id"], events["anonymous_id"])
    named = pc.and_(_is_usable(given), pc.or_(pc.is_null(events["anonymous_id"]), pc.fill_null(_is_usable(events["anonymous_id"]), True)))
    late = pc.subtract(events["occurred_at"], events["known_at"])
    on_time = pc.less_equal(late, pa.scalar(86_400_000_000, pa.duration("us")))
    for reason, bad in ((NO_USER, pc.invert(named)), (FUTURE, pc.and_(named, pc.invert(on_time)))):
        if count := pc.sum(bad).as_py():
            quarantined[reason] = count
    rows = events.append_column(pa.field("given_id", pa.string()), given).filter(pc.and_(named, on_time))
    return rows.sort_by([(name, "ascending") for name in ("given_id", "occurred_at", "event_id", "known_at")]), quarantined


def _is_usable(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether an id is one that somebody could ask for."""
    length = pc.binary_length(ids)
    sized = pc.and_(pc.greater(length, 0), pc.less_equal(length, LONGEST_ID))
    return pc.fill_null(pc.and_(sized, pc.invert(pc.match_substring_regex(ids, r"\p{C}"))), False)


def refund_growth(events: pa.Table, known: pa.Table) -> pa.Table:
    """Refunds that say their order's total so far, as what each adds to the known refunds of that order.

    A total that adds nothing is left out: it comes from an older export.
    """
    refunded = known["value_cents"].take(pc.index_in(events["order_id"], known["order_id"]))
    is_refund = pc.equal(events["event"], "refund")
    added = pc.if_else(is_refund, pc.subtract(events["value_cents"], pc.fill_null(refunded, 0)), events["value_cents"])
    grown = events.set_column(events.column_names.index("value_cents"), EVENT_SCHEMA.field("value_cents"), added)
    return grown.filter(pc.or_(pc.invert(is_refund), pc.fill_null(pc.greater(added, 0), False)))


def cancellations(engine: Engine, rows: pa.Table, parts: list[Path]) -> pd.DataFrame:
    """order_id, given_id and off_at: who cancelled an order and from when it counts as never placed, over the batch and the log.

    A cancellation that names a product cancels a line, not the order: it is counted, and its money comes back as a refund.
    """
    chosen = """SELECT event_id, order_id, given_id, greatest(occurred_at, known_at) AS off_at FROM {}
        WHERE event = 'order_cancelled' AND product_id IS NULL AND order_id IS NOT NULL"""
    queries = [chosen.format("rows"), *([f"{chosen.format('log')} AND sign > 0"] if parts else [])]
    # The earliest row of each: later ones only move it to another user.
    query = f"SELECT order_id, given_id, min(off_at) AS off_at FROM ({' UNION ALL '.join(queries)}) GROUP BY event_id, order_id, given_id"  # noqa: S608
    found = engine.sql(query, rows=rows, **_log(parts))
    schema = pa.schema([("order_id", pa.string()), ("given_id", pa.string()), ("off_at", pa.timestamp("us", "UTC"))])
    frame: pd.DataFrame = found.cast(schema).to_pandas()
    return frame


def affected(engine: Engine, rows: pa.Table, parts: list[Path], moved: set[str]) -> pa.Table:
    """The log's rows of every fact that the batch repeats, restates, cancels or moves to another user."""
    if not parts:
        return LOG_SCHEMA.empty_table()
    ids = rows.select(["event_id"])
    cancelled = rows.filter(pc.equal(rows["event"], "order_cancelled")).select(["order_id"])
    visitors = pa.table({"given_id": pa.array(sorted(moved), pa.string())})
    touched = """SELECT DISTINCT event_id FROM log WHERE event_id IN (SELECT event_id FROM ids)
        OR given_id IN (SELECT given_id FROM visitors) OR (event IN ('order', 'order_item') AND order_id IN (SELECT order_id FROM cancelled
            UNION ALL SELECT order_id FROM log WHERE event = 'order_cancelled' AND given_id IN (SELECT given_id FROM visitors)))"""
    found = engine.sql(f"SELECT * FROM log WHERE event_id IN ({touched})", ids=ids, cancelled=cancelled, visitors=visitors, **_log(parts))  # noqa: S608
    return found.select(LOG_SCHEMA.names).cast(LOG_SCHEMA)


def simple_rows(rows: pa.Table, existing: pa.Table, cancelled: pd.DataFrame, links: pa.Table) -> pa.ChunkedArray:
    """Whether a row is a new fact that nothing else touches."""
    counts = pc.value_counts(rows["event_id"])
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    tangled = pc.or_(pc.is_in(rows["event_id"], repeated), pc.is_in(rows["event_id"], pc.unique(existing["event_id"])))
    tangled = pc.or_(tangled, pc.is_in(rows["order_id"], pa.array(cancelled["order_id"], pa.string())))
    return pc.invert(pc.or_(tangled, pc.is_in(rows["given_id"], links["from_id"])))


def as_ledger(rows: pa.Table) -> pa.Table:
    """Simple rows as rows of the ledger."""
    columns = {"user_id": rows["given_id"], "sign": pa.array([1] * rows.num_rows, pa.int32())}
    return pa.table([columns.get(name, rows[name] if name in rows.column_names else None) for name in UNPOSTED.names], schema=UNPOSTED)


def content_sums(engine: Engine, rows: pa.Table) -> Mapping[int, int]:
    """Day from which rows are known to have happened -> a sum over hashes of those rows: equal for equal content,
    in whatever order and parts it came. What was said and taken back adds nothing."""
    query = f"SELECT greatest(day, known_day) AS day, {CONTENT_SUM} AS content FROM rows GROUP BY 1"  # noqa: S608
    return {row["day"]: int(row["content"]) % 2**64 for row in engine.sql(query, rows=rows).to_pylist()}


def happened_sums(engine: Engine, parts: list[Path], first: int) -> Mapping[int, int]:
    """The same by the day on which it happened, whenever it became known, for days from `first` on."""
    query = f"""SELECT day, {CONTENT_SUM} AS content FROM log WHERE day >= {first} GROUP BY day"""  # noqa: S608
    return {row["day"]: int(row["content"]) % 2**64 for row in engine.sql(query, log=parts).to_pylist()}


def localise(events: pa.Table, zone: str) -> pa.Table:
    """Add day, known_day and hour in the shop's zone."""
    occurred = calendar.local(events["occurred_at"], zone)
    columns = {"day": calendar.day(occurred), "known_day": calendar.day(calendar.local(events["known_at"], zone)), "hour": calendar.hour(occurred)}
    for name, values in columns.items():
        events = events.append_column(name, values)
    return events.select(LOG_SCHEMA.names).cast(LOG_SCHEMA)


def _log(parts: list[Path]) -> dict[str, Any]:
    return {"log": parts} if parts else {}
