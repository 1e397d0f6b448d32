"""Tables small enough to check in the head, as a log and as a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import pandas as pd
import pytest

from features.engine import Engine
from features.events import EventLog
from features.files import digest_of
from features.shop import SimulatedShop, simulate
from features.shopfile import Shop
from features.snapshot import Snapshot, build_snapshot
from features.sources.batch import Batch, canonical_events, canonical_products
from features.tiles import open_tiles

MakeLog = Callable[..., EventLog]
MakeSnapshot = Callable[..., Snapshot]


@pytest.fixture(scope="session")
def shop() -> Shop:
    return Shop("Test shop", "UTC", "EUR", attributes=("age",))


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    """Events as dictionaries -> Batch. Times are text in UTC; equal dictionaries are the same event; the user is "u"."""

    def make(events: Sequence[dict[str, Any]], products: Sequence[dict[str, Any]] = (), complete_until: date | None = None) -> Batch:
        rows = pd.DataFrame([{"user_id": "u", "event_id": digest_of(event), "known_at": event["occurred_at"], **event} for event in events])
        for name in ("occurred_at", "known_at"):
            rows[name] = pd.to_datetime(rows[name], format="ISO8601", utc=True).dt.as_unit("us")
        until = complete_until or rows["occurred_at"].max().date() + timedelta(days=1)
        return Batch("test", canonical_events(rows), until, canonical_products(pd.DataFrame(list(products))) if products else None)

    return make


@pytest.fixture(scope="session")
def make_log(tmp_path_factory: pytest.TempPathFactory, make_batch: Callable[..., Batch], shop: Shop) -> MakeLog:
    """Events as dictionaries -> a new EventLog that holds them."""

    def make(events: Sequence[dict[str, Any]], products: Sequence[dict[str, Any]] = (), complete_until: date | None = None, zone: str = shop.zone) -> EventLog:
        log = EventLog(tmp_path_factory.mktemp("log"), zone, shop.currency)
        log.append(make_batch(events, products, complete_until))
        return log

    return make


@pytest.fixture(scope="session")
def make_snapshot(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> MakeSnapshot:
    """A log and a date -> Snapshot."""
    engines: dict[int, Engine] = {}

    def make(log: EventLog, as_of: date, threads: int = 1) -> Snapshot:
        engine = engines.setdefault(threads, Engine(threads))
        return build_snapshot(open_tiles(log, shop, tmp_path_factory.mktemp("tiles"), engine), as_of, engine)

    return make


@pytest.fixture(scope="session")
def simulated() -> SimulatedShop:
    """2,000 users over 400 days; nobody may change it."""
    return simulate(users=2000, days=400, seed=1)
