"""Kept histories and what is posted later: together they are the snapshot of the later date, to the bit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import EventLog
from features.histories import mark_of
from features.history_rows import histories_of
from features.requests import OneUser
from features.shop import simulate
from features.shopfile import Shop
from features.store import SnapshotStore
from features.tiles import open_tiles
from serving.facts import facts_of
from serving.histories import digest_of_histories, read_histories, write_histories

ZONE = "Europe/Berlin"
SHOP = Shop("Shop", ZONE, "EUR", attributes=("age", "growth_value"), tiers=(0, 10_000, 30_000, 80_000), daily_use={"care-full-size": 0.02, "brand-0": 1})
AGO = (0, 5, 40, 150)  # days before the end of the log


def bits(values):
    return np.array(list(values), np.float64).tobytes()


def midnight(day):
    return datetime.combine(day, time(), ZoneInfo(ZONE)).astimezone(UTC)


@dataclass(frozen=True)
class Played:
    batch: object
    tiles: object
    rows: dict
    snapshots: dict
    facts: dict
    histories: dict


def kept_of(tiles, snapshot, facts):
    users, products = (column.combine_chunks() for column in (snapshot.table["user_id"], facts.products["product_id"]))
    return histories_of(tiles, users, snapshot.as_of, snapshot.feature_names, products)


def play(folder, batch):
    log = EventLog(folder / "log", ZONE, "EUR")
    log.append(batch)
    tiles, store = open_tiles(log, SHOP, folder / "tiles"), SnapshotStore(folder / "snapshots")
    dates = [log.complete_until - timedelta(days=days) for days in AGO]
    snapshots = {as_of: store.get(tiles, as_of) for as_of in dates}
    facts = {as_of: facts_of(tiles, snapshot) for as_of, snapshot in snapshots.items()}
    kept = {as_of: kept_of(tiles, snapshot, facts[as_of]) for as_of, snapshot in snapshots.items()}
    rows = defaultdict(list)
    for row in batch.events.to_pylist():
        rows[row["user_id"]].append(row)
    return Played(batch, tiles, rows, snapshots, facts, kept)


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    return play(tmp_path_factory.mktemp("played"), late(simulate(users=160, days=420, seed=11, zone=ZONE).batch))


def late(batch):
    """The same shop, whose orders are cancelled 125 days later, so that many are after a date that knows the order."""
    rows = batch.events.to_pylist()
    last = max(row["occurred_at"] for row in rows)
    for row in rows:
        if row["event"] == "order_cancelled":
            moment = row["occurred_at"] + timedelta(days=125)
            row |= {"occurred_at": moment, "known_at": moment}
    return replace(batch, events=pa.Table.from_pylist([row for row in rows if row["occurred_at"] <= last], schema=batch.events.schema))


def maker(played, as_of, names=None):
    facts = played.facts[as_of]
    return OneUser(SHOP, facts.kinds, facts.norms, facts.products, names or played.snapshots[as_of].feature_names)


def since(played, user, start):
    """What happened or became known to a user from a date on."""
    return [row for row in played.rows[user] if max(row["occurred_at"], row["known_at"]) >= midnight(start)]


def same(played, until, user, found):
    snapshot = played.snapshots[until]
    place = snapshot.user_ids.get_loc(user)
    assert bits(found.values.values()) == snapshot.matrix(list(found.values))[place].tobytes()
    assert found.stage == snapshot.table["stage"][place].as_py()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_kept_history_and_what_came_since_are_the_later_snapshot_to_the_bit(played, data):
    dates = list(played.snapshots)
    until, start = (dates[place] for place in sorted(data.draw(st.lists(st.sampled_from(range(len(dates))), min_size=2, max_size=2))))
    known = list(played.snapshots[start].user_ids)
    user = data.draw(st.sampled_from(known))
    before = [row for row in played.rows[user] if row["known_at"] < midnight(start)]
    again = before[len(before) - data.draw(st.integers(0, 3)) :]  # what the history has is posted once more
    posted = data.draw(st.permutations(since(played, user, start) + again))
    found = maker(played, until).vector(posted, until, played.histories[start].of(known.index(user)))
    same(played, until, user, found)
    assert (found.stored, found.unresolved) == (len(again), 0)


def test_stored_orders_are_cancelled_and_refunded_by_what_comes_later(played):
    """Of those users whose orders were cancelled or refunded after the date: the same as the snapshot, and another vector than before."""
    dates = list(played.snapshots)
    until, seen = dates[0], defaultdict(int)
    for start in dates[1:]:
        known = list(played.snapshots[start].user_ids)
        for user in known:
            placed = {row["order_id"] for row in played.rows[user] if row["event"] == "order" and row["known_at"] < midnight(start)}
            kinds = {row["event"] for row in since(played, user, start) if row["event"] in ("order_cancelled", "refund") and row["order_id"] in placed}
            if any(seen[kind] < 8 for kind in kinds):
                same(played, until, user, maker(played, until).vector(since(played, user, start), until, played.histories[start].of(known.index(user))))
                for kind in kinds:
                    seen[kind] += 1
    assert seen["order_cancelled"] >= 3
    assert seen["refund"] >= 1


def test_a_log_that_ends_at_the_date_gives_the_same_histories_as_one_that_goes_on(played, tmp_path):
    start = list(played.snapshots)[2]
    rows = played.batch.events
    known = rows.filter(pa.array([moment < midnight(start) for moment in rows["known_at"].to_pylist()]))
    log = EventLog(tmp_path / "log", ZONE, "EUR")
    log.append(replace(played.batch, events=known, complete_until=start))
    tiles = open_tiles(log, SHOP, tmp_path / "tiles")
    snapshot = SnapshotStore(tmp_path / "snapshots").get(tiles, start)
    assert digest_of_histories(kept_of(tiles, snapshot, facts_of(tiles, snapshot))) == digest_of_histories(played.histories[start])


def test_files_hold_what_was_written(played, tmp_path):
    kept = played.histories[next(iter(played.snapshots))]
    write_histories(kept, tmp_path)
    again = read_histories(tmp_path)
    assert (again.day, again.users, again.names) == (kept.day, kept.users, kept.names)
    assert digest_of_histories(again) == digest_of_histories(kept)


def test_what_no_window_reaches_is_folded_and_still_says_the_same(played):
    """Windows of at most 30 days: of older days two rows are kept for a column, of which the last actions, the first and the totals are left."""
    until, start, *_ = played.snapshots
    snapshot, whole = played.snapshots[start], played.histories[start]
    few = [name for name in snapshot.feature_names if not name.endswith(("_60d", "_90d", "_180d", "_365d")) and not name.startswith(("layers", "membership"))]
    users, products = (column.combine_chunks() for column in (snapshot.table["user_id"], played.facts[start].products["product_id"]))
    short = histories_of(played.tiles, users, start, few, products)
    assert len(short.tables["days"].columns["day"]) < 0.6 * len(whole.tables["days"].columns["day"])
    one_user, known = maker(played, until, few), users.to_pylist()
    for user in known[::7]:
        same(played, until, user, one_user.vector(since(played, user, start), until, short.of(known.index(user))))


def order(day, number, **more):
    moment = datetime(2024, 5, day, 10, tzinfo=UTC)
    return {"event": "order", "occurred_at": moment.isoformat(), "order_id": number, "event_id": f"e{number}", "value_cents": 1000, "quantity": 1, **more}


@pytest.fixture(scope="module")
def two_orders(make_log, make_snapshot, shop, tmp_path_factory):
    """Orders a and b on the 1st and the 11th of May, kept until the 21st: what makes vectors, and the history."""
    log = make_log([order(1, "a"), order(11, "b")])
    snapshot, tiles = make_snapshot(log, date(2024, 5, 21)), open_tiles(log, shop, tmp_path_factory.mktemp("tiles"))
    facts = facts_of(tiles, snapshot)
    names = ["orders_count", "orders_revenue", "orders_recency"]
    users, products = (column.combine_chunks() for column in (snapshot.table["user_id"], facts.products["product_id"]))
    kept = histories_of(tiles, users, date(2024, 5, 21), names, products)
    return OneUser(shop, facts.kinds, facts.norms, facts.products, names), kept.of(0)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("posted", "count", "revenue", "recency", "counted"),
    [
        ([], 2, 2000, 12, (0, 0, 0)),
        ([{"event": "order", "occurred_at": "2024-05-22T09:00", "order_id": "c", "value_cents": 500}], 3, 2500, 1, (1, 0, 0)),
        ([{"event": "order", "occurred_at": "2024-05-11T10:00", "order_id": "b", "event_id": "eb", "value_cents": 1000}], 2, 2000, 12, (0, 1, 0)),
        ([{"event": "order_cancelled", "occurred_at": "2024-05-21T09:00", "order_id": "b"}], 1, 1000, 22, (1, 0, 0)),
        ([{"event": "order_cancelled", "occurred_at": "2024-05-21T09:00", "order_id": "x"}], 2, 2000, 12, (1, 0, 1)),
        # Known late: a new fact counts, and a new version of a stored one replaces it.
        ([{"event": "order", "occurred_at": "2024-05-19T09:00", "known_at": "2024-05-21T09:00", "order_id": "c", "value_cents": 500}], 3, 2500, 4, (1, 0, 0)),
        (
            [{"event": "order", "occurred_at": "2024-05-11T10:00", "known_at": "2024-05-21T09:00", "order_id": "b", "event_id": "eb", "value_cents": 700}],
            2, 1700, 12, (1, 0, 0),
        ),
    ],
)  # fmt: skip
def test_numbers_that_can_be_checked_in_the_head(two_orders, posted, count, revenue, recency, counted):
    one_user, past = two_orders
    events = [{**event, **{name: at(event[name]) for name in ("occurred_at", "known_at") if name in event}} for event in posted]
    found = one_user.vector(events, date(2024, 5, 23), past)
    assert tuple(found.values.values()) == (count, revenue, recency)
    assert (found.used, found.stored, found.unresolved) == counted


def test_marks_are_what_duckdb_makes_of_ids(two_orders):
    kept = two_orders[1].histories.tables["orders"].columns
    assert {*kept["order"].tolist()} == {mark_of("a"), mark_of("b")}
    assert {*kept["event"].tolist()} == {mark_of("ea"), mark_of("eb")}
