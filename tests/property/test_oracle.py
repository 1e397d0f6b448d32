"""Every feature and label of small logs against a slow reading of the raw events, and what must not change any of them.

The logs are drawn: crowds of three people and two visitors who may log in, events of all kinds over 120 days and some up to
500 days older, at few moments so that many coincide, known late or early, restated, cancelled, with empty fields. Each crowd
does more of some kinds. A witness has one event of every kind, so that every snapshot has every feature. An ingest and a
snapshot take half a second whatever their size, so each example holds some crowds, and few are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from features.bought import with_bought
from features.events import EventLog
from features.files import parquet_bytes, sha256_of_bytes
from features.goods import goods_named
from features.shopfile import Shop
from features.snapshot import Snapshot, catalogue
from features.sources.batch import canonical_products
from features.store import SnapshotStore
from features.tiles import open_tiles
from features.vocabulary import EVENTS

Event = dict[str, Any]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2024, 2, 20, tzinfo=UTC)  # within 120 days summer time begins in New York and in London
ZONES = ("Europe/London", "America/New_York", "Asia/Shanghai")
# Not shrunk: at a second an example, that would take minutes.
SETTINGS = {"deadline": None, "derandomize": True, "database": None, "phases": [Phase.explicit, Phase.generate], "suppress_health_check": list(HealthCheck)}
few, fewer = settings(max_examples=8, **SETTINGS), settings(max_examples=3, **SETTINGS)

# --- what is drawn --------------------------------------------------------------------------------------------------

CROWDS = 12
KINDS = [*EVENTS, *8 * ["order"], *6 * ["order_item"], *4 * ["product_view", "page_view"], *3 * ["session_start", "attribute_set", "order_cancelled"]]
PEOPLE, VISITORS = ("ann", "bob", "eve"), ("phone", "tablet")
LINKS = [("ann", "phone"), ("eve", "phone"), ("bob", "tablet")]  # the first that is known says whose phone it is
IDS = [*20 * [(person, None) for person in PEOPLE], *8 * [(None, visitor) for visitor in VISITORS], *LINKS]
DELAYS = (0, 0, 0, 0, 0, 0, 1, 30, 600, -1, -24, -25)  # hours from an event to when it is known; -25 is a wrong clock, left out
cutoffs = st.builds(lambda days: START.date() + days * DAY, st.integers(98, 125))
randoms = st.randoms(use_true_random=True)  # by a seed that is drawn: thousands of single draws would be slow


def moment(random: Random) -> datetime:
    days = random.choice([random.randint(0, 119), *2 * [random.randint(85, 119)], random.choice([90, 98, 99, 100, 101]), random.randint(-380, -1)])
    return START + days * DAY + random.choice([0, 3, 4, 5, 12, 16, 21, 23]) * HOUR + random.choice([0, 0, 59]) * timedelta(minutes=1)


def maybe(random: Random, *values: Any) -> Any:
    return random.choice([None, *values, *values])


def fact(random: Random, kind: str, who: tuple[str | None, str | None], happened: datetime) -> list[Event]:
    """What is said of one event: once, or corrected up to twice."""
    user, visitor = who
    said: list[Event] = [
        {
            "user_id": user, "anonymous_id": visitor, "event": kind, "occurred_at": happened, "known_at": happened + random.choice(DELAYS) * HOUR,
            "order_id": maybe(random, "o1", "o2", "o3", "o4", "o5"), "product_id": maybe(random, "p0", "p1", "p2", "p3", "p4", "p5", "p8", "p9"),
            "quantity": maybe(random, 0, 1, 2, 5), "value_cents": maybe(random, 0, 999, 1000, 12345), "discount_cents": maybe(random, 0, 0, 100),
            "coupon_cents": maybe(random, 0, 0, 50), "currency": "EUR", "campaign": maybe(random, "spring", "easter", "xmas"),
            "channel": maybe(random, "app", "web", "store"), "source": maybe(random, "google", "wechat", "friend"),
            "medium": maybe(random, "cpc", "email", "social"), "detail": maybe(random, "age", "growth_value", "shoe size"),
            "level": maybe(random, 0, 1, 2, 5, 120),
        }
    ]  # fmt: skip
    if kind == "order_cancelled":
        said[0]["product_id"] = random.choice([None, None, None, "p0"])  # a product: only that line was cancelled
    elif not (user and visitor):
        for _ in range(random.choice([0, 0, 0, 0, 1, 2])):
            other = random.choice([{}, {"level": maybe(random, 1, 3), "source": maybe(random, "google", "friend"), "value_cents": maybe(random, 500)}])
            moved = {"occurred_at": happened - random.choice([0, 0, 30]) * HOUR, "known_at": said[-1]["known_at"] + random.choice([1, 26, 300]) * HOUR}
            said.append({**random.choice([said[0], said[-1]]), **other, **moved})
    return said


def crowd(random: Random, number: int, mark: str = "", when: Callable[[Random], datetime] = moment) -> list[Event]:
    """What is said of three people and their devices; the facts of each mark have ids of their own."""
    favourites = random.sample(list(EVENTS), 5)
    kinds = [*KINDS, *len(KINDS) // 4 * favourites]
    said: list[Event] = []
    for place in range(random.randint(20, 130)):
        if not said or random.random() < 0.8:  # else the same happens again at the same moment
            what = random.choice(kinds), random.choice(IDS), when(random)
        for event in fact(random, *what):
            names = {name: f"{event[name]}{number}" for name in ("user_id", "anonymous_id") if event[name]}
            said.append({**event, **names, "event_id": f"{number}-{mark}{place:03d}"})
    return said


def crowds(random: Random, mark: str = "", when: Callable[[Random], datetime] = moment) -> list[Event]:
    return [event for number in range(CROWDS) for event in crowd(random, number, mark, when)]


EMPTY = dict.fromkeys(("user_id", "anonymous_id", "order_id", "product_id", "quantity", "value_cents", "discount_cents", "coupon_cents"))
EMPTY |= dict.fromkeys(("campaign", "channel", "source", "medium", "detail", "level"))
WITNESS = [
    {**EMPTY, "user_id": "witness", "event_id": f"w-{kind}", "event": kind, "occurred_at": START - 400 * DAY, "known_at": START - 400 * DAY, "product_id": "p0"}
    for kind in EVENTS
]

# --- the claims -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_shop(oracle: ModuleType) -> Shop:
    return Shop("Test shop", "UTC", "EUR", attributes=("age", "growth_value"), tiers=oracle.TIERS, daily_use=oracle.USES)


@pytest.fixture(scope="module")
def log_of(make_log: Callable[..., EventLog], oracle: ModuleType) -> Callable[..., EventLog]:
    """Events, in a zone -> a log that has them and the witness's."""

    def log(events: Sequence[Event], zone: str = ZONES[0]) -> EventLog:
        rows = [{**event, **{name: event[name].isoformat() for name in ("occurred_at", "known_at")}} for event in [*WITNESS, *events]]
        return make_log(rows, oracle.PRODUCTS, zone=zone)

    return log


@pytest.fixture(scope="module")
def snapshot_of(full_shop: Shop, oracle: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Snapshot]:
    def snapshot(log: EventLog, as_of: date) -> Snapshot:
        folder = tmp_path_factory.mktemp("made")
        tiles = open_tiles(log, full_shop, folder / "tiles")
        return with_bought(SnapshotStore(folder / "snapshots").get(tiles, as_of, threads=1), tiles, [f"bought_{name}_365d" for name in oracle.GOODS])

    return snapshot


def test_the_oracle_knows_every_feature_and_no_other(oracle, full_shop):
    goods = goods_named([f"bought_{name}_365d" for name in oracle.GOODS], canonical_products(pd.DataFrame(oracle.PRODUCTS)))
    names = {oracle.meaning(feature.name)[0] for feature in catalogue(full_shop, frozenset(EVENTS), goods)}
    assert names == oracle.MEANS.keys()


@few
@given(randoms, cutoffs, st.sampled_from(ZONES))
def test_every_feature_and_label_is_what_the_oracle_finds(oracle, log_of, snapshot_of, random, as_of, zone):
    events = crowds(random)
    snapshot = snapshot_of(log_of(events, zone), as_of)
    names, norms = snapshot.feature_names + snapshot.label_names, snapshot.manifest["norms"]
    assert len(names) > 250
    rows, wrong = {row["user_id"]: row for row in snapshot.table.to_pylist()}, []
    for number in range(CROWDS):
        said = [event for event in events if event["event_id"].startswith(f"{number}-")]
        for user in (f"{name}{number}" for name in PEOPLE + VISITORS):
            seen, row = oracle.Seen(user, said, as_of, zone, norms), rows.pop(user, None)
            assert (row is not None) == bool(seen.rows), user
            if row is not None:
                assert row["stage"] == ("first", "second", "repeat")[min(2, oracle.MEANS["orders_count"](seen, None))]
                expected = {name: oracle.MEANS[means](seen, window) for name, (means, window) in zip(names, map(oracle.meaning, names), strict=True)}
                wrong += [(user, name, row[name], expected[name]) for name in names if not is_same(row[name], expected[name], name)]
    assert not wrong
    assert rows.keys() == {"witness"}


def is_same(seen: object, expected: Any, name: str) -> bool:
    """Numbers to a tolerance (an entropy is made of millionths), words exactly; NaN is no value."""
    tolerance = 1e-6 if "entropy" in name else 1e-9
    if isinstance(seen, float) and expected is not None:
        return math.isclose(seen, float(expected), rel_tol=tolerance, abs_tol=tolerance)
    return seen == expected or (isinstance(seen, float) and math.isnan(seen) and expected is None)


def digest_of(snapshot: Snapshot) -> str:
    """Of the bytes of all values."""
    return sha256_of_bytes(parquet_bytes(snapshot.table))


@fewer
@given(randoms, cutoffs)
def test_rows_in_another_order_and_twice_say_the_same(log_of, snapshot_of, random, as_of):
    events = crowds(random)
    once, twice = log_of(events), log_of(random.sample(events, len(events)) + random.sample(events, len(events)))
    assert once.digest == twice.digest
    assert digest_of(snapshot_of(once, as_of)) == digest_of(snapshot_of(twice, as_of))


@fewer
@given(randoms)
def test_what_happened_more_than_a_day_after_it_was_known_is_left_out(log_of, random):
    events = crowds(random)
    kept = [event for event in events if event["occurred_at"] - event["known_at"] <= DAY]
    assert len(kept) < len(events)
    assert log_of(events).digest == log_of(kept).digest


@fewer
@given(randoms, cutoffs)
def test_what_happens_later_or_is_known_late_changes_nothing_as_of_then(log_of, snapshot_of, random, as_of):
    midnight = datetime.combine(as_of, time(), ZoneInfo(ZONES[0])).astimezone(UTC)
    # A visitor may be known to be a user from before they do anything.
    later = [event for event in crowds(random, "later", lambda random: midnight + random.randint(0, 1500) * HOUR) if event["occurred_at"] >= midnight]
    later = [event for event in later if not (event["user_id"] and event["anonymous_id"])]
    late = [{**event, "known_at": max(event["known_at"], midnight) + place * timedelta(seconds=1)} for place, event in enumerate(crowds(random, "late"))]
    events = crowds(random)
    assert digest_of(snapshot_of(log_of([*events, *later, *late]), as_of)) == digest_of(snapshot_of(log_of(events), as_of))


@pytest.mark.parametrize("zone", ZONES)
def test_history_ends_the_microsecond_before_midnight_on_the_shops_clock(log_of, snapshot_of, zone):
    cutoffs = [date(2024, 3, 11), date(2024, 4, 1), date(2024, 7, 1), date(2024, 10, 28), date(2024, 11, 4)]
    events = []
    for as_of in cutoffs:
        midnight, tick = datetime.combine(as_of, time(), ZoneInfo(zone)).astimezone(UTC), timedelta(microseconds=1)
        for name, happened, known in [("before", midnight - tick, midnight - tick), ("at", midnight, midnight - tick), ("late", midnight - DAY, midnight)]:
            ids = {"user_id": f"{name} {as_of}", "event_id": f"{name} {as_of}"}
            events.append({**EMPTY, **ids, "event": "order", "value_cents": 100, "occurred_at": happened, "known_at": known})
    log = log_of(events, zone)
    for as_of in cutoffs:
        frame = snapshot_of(log, as_of).frame
        assert frame.loc[f"before {as_of}", ["orders_recency", "orders_count_7d", "rhythm_evening_share"]].tolist() == [1, 1, 1]
        assert f"at {as_of}" not in frame.index
        assert f"late {as_of}" not in frame.index
