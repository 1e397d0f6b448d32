"""What must hold for any log: only what had happened and was known before the cutoff counts, and nothing else does.

An ingest and a snapshot cost tenths of a second whatever their size, so each example holds many users at once; where two
histories are compared, they belong to two users of one snapshot.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from features.events import EventLog
from features.files import parquet_bytes
from features.vocabulary import EVENTS

AS_OF = date(2024, 3, 1)
MIDNIGHT = datetime(2024, 3, 1)
HOUR = timedelta(hours=1)
# What compares a user with the shop; `test_snapshots` shows that by equal norms these are equal too.
JUDGED = (
    "orders_relative",
    "cycle_shop_position",
    "layers_cycles_since",
    "layers_recent",
    "layers_frequent",
    "layers_spending",
    "layers_rfm_group",
    "layers_layer",
)
PRODUCTS = [{"product_id": f"p{n}", "category": f"c{n % 2}", "brand": f"b{n % 3}", "department": "d"} for n in range(4)]
# Not shrunk: at a second an example, that would take minutes.
few = settings(max_examples=6, deadline=None, database=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))


def event(occurred: st.SearchStrategy[int], known_after: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, Any]]:
    """One event; `occurred` in hours from the cutoff, `known_after` in hours from then."""

    def build(kind: str, hour: int, delay: int, number: int, level: int) -> dict[str, Any]:
        moment = MIDNIGHT + hour * HOUR
        return {
            "event": kind, "occurred_at": moment.isoformat(), "known_at": (moment + delay * HOUR).isoformat(), "order_id": f"o{number}",
            "product_id": f"p{number}", "campaign": f"k{number}", "detail": "age", "level": level, "quantity": level, "value_cents": 100 * level,
            "discount_cents": 10, "coupon_cents": 10 * (level % 2), "currency": "EUR",
        }  # fmt: skip

    return st.builds(build, st.sampled_from(list(EVENTS)), occurred, known_after, st.integers(0, 3), st.integers(1, 9))


past = event(st.integers(-2400, -100), st.sampled_from([0, 0, 30, 90]))  # known before the cutoff as well
future = st.one_of(event(st.integers(0, 2000), st.just(0)), event(st.integers(-500, -1), st.integers(500, 900)))
histories = st.lists(st.lists(past, min_size=1, max_size=12), min_size=8, max_size=8)


def of_user(user: str, events: list[dict[str, Any]], mark: str = "") -> list[dict[str, Any]]:
    """The events as those of one user, with ids and orders of their own."""
    return [{**each, "user_id": user, "event_id": f"{user}-{mark}{number:03d}", "order_id": f"{user}-{each['order_id']}"} for number, each in enumerate(events)]


def witness(day: str = "2024-01-05") -> list[dict[str, Any]]:
    """One event of every kind, so that every snapshot has every feature."""
    return [{"user_id": "witness", "event_id": f"w-{kind}", "event": kind, "occurred_at": day, "order_id": "w", "product_id": "p0"} for kind in EVENTS]


def bytes_of(snapshot) -> bytes:
    return parquet_bytes(snapshot.table)


@few
@given(histories, st.lists(st.lists(future, min_size=1, max_size=8), min_size=8, max_size=8))
def test_nothing_that_happens_or_becomes_known_later_changes_a_feature(make_log, make_snapshot, pasts, futures):
    events = witness()
    for number, (history, later) in enumerate(zip(pasts, futures, strict=True)):
        events += of_user(f"a{number}", history)
        events += of_user(f"b{number}", history) + of_user(f"b{number}", later, mark="x")
    frame = make_snapshot(make_log(events, PRODUCTS), AS_OF).frame
    for number in range(len(pasts)):
        assert frame.loc[f"a{number}"].equals(frame.loc[f"b{number}"])


@few
@given(histories, st.randoms(use_true_random=False))
def test_order_of_rows_repeated_rows_and_repeated_files_change_nothing(make_log, make_batch, make_snapshot, pasts, random):
    events = witness() + [each for number, history in enumerate(pasts) for each in of_user(f"a{number}", history)]
    shuffled = random.sample(events, len(events))
    half = len(events) // 2
    repeated: EventLog = make_log(shuffled[:half], PRODUCTS)
    for part in (shuffled[half:] + shuffled[: half + 3], events):
        repeated.append(make_batch(part, PRODUCTS))
    once = make_log(events, PRODUCTS)
    assert repeated.digest == once.digest
    assert bytes_of(make_snapshot(repeated, AS_OF)) == bytes_of(make_snapshot(once, AS_OF))


@few
@given(histories)
def test_a_users_features_do_not_depend_on_other_users(make_log, make_snapshot, pasts):
    users = [of_user(f"a{number}", history) for number, history in enumerate(pasts)]
    everybody = make_snapshot(make_log(witness() + sum(users, []), PRODUCTS), AS_OF).frame
    some = make_snapshot(make_log(witness() + sum(users[::3], []), PRODUCTS), AS_OF).frame
    own = [name for name in some if name not in JUDGED]
    assert len(own) > len(some.columns) - 10
    assert everybody.loc[some.index, own].equals(some[own])


def test_any_number_of_threads_gives_the_same_bytes(tmp_path, simulated, make_snapshot):
    log = EventLog(tmp_path, "UTC", "EUR")
    log.append(simulated.batch)
    assert bytes_of(make_snapshot(log, date(2024, 9, 1), threads=1)) == bytes_of(make_snapshot(log, date(2024, 9, 1), threads=2))


def test_every_view_says_empty_where_nothing_relevant_happened(make_log, make_snapshot):
    irrelevant = {"user_id": "quiet", "event": "attribute_set", "detail": "shoe size", "level": 42, "occurred_at": "2024-02-01"}
    snapshot = make_snapshot(make_log([irrelevant, *witness(day="2024-03-01")], PRODUCTS), AS_OF)
    (quiet,) = snapshot.table.to_pylist()
    assert len(snapshot.feature_names) > 200
    for entry in snapshot.manifest["features"]:
        assert quiet[entry["name"]] == pytest.approx(np.nan if entry["without_history"] is None else entry["without_history"], nan_ok=True), entry["name"]


@pytest.mark.parametrize("kind", ["order", "page_view", "attribute_set", "order_cancelled", "campaign_received"])
def test_a_log_of_one_event_has_a_snapshot(make_log, make_snapshot, kind):
    snapshot = make_snapshot(make_log([{"event": kind, "occurred_at": "2024-02-01"}]), AS_OF)
    assert snapshot.table.num_rows == 1
