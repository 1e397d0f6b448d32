"""The shops that bench/models.py trains on: real data through the real ingest, each in a workspace of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

from features.events import day_number, day_of
from features.ingest import ingest_sources
from features.sources.batch import Batch, canonical_events
from features.tiles import Tiles
from features.workspace import Workspace, open_workspace

EXAMPLES = Path(__file__).parent.parent / "examples"
LEVELS, SPAN = (100, 250, 500, 900, 1500), 91  # of spend in the shop's currency, in the days that count for the level
CDNOW = """
name = "CDNOW"
zone = "America/New_York"
currency = "USD"

[[sources]]
kind = "table"
path = "orders.parquet"
rows = "orders"
time_zone = "America/New_York"
complete_until = "1998-07-01"
columns = { user_id = "customer_id", order_id = "order_id", occurred_at = "order_ts", amount = "amount", quantity = "n_items" }
"""


def open_shop(source: str, data: Path, work: Path) -> Workspace:
    """A workspace with everything of one source ingested; one that is there already is used as it is."""
    workspace = open_workspace(work / source, {})
    if not (workspace.root / "ingested").exists():
        workspace.root.mkdir(parents=True, exist_ok=True)
        SHOPS[source](workspace, data)
        (workspace.root / "ingested").touch()
    return workspace


def _complete_journey(workspace: Workspace, data: Path) -> None:
    workspace.shop_file.write_bytes((files("features.sources") / "complete_journey.toml").read_bytes())
    ingest_sources(workspace)


def _uci(workspace: Workspace, data: Path) -> None:
    shutil.copy(EXAMPLES / "uci_online_retail.toml", workspace.shop_file)
    (workspace.root / "order_items.parquet").symlink_to((data / "uci_online_retail" / "order_items.parquet").resolve())
    ingest_sources(workspace)


def _cdnow(workspace: Workspace, data: Path) -> None:
    workspace.shop_file.write_text(CDNOW, encoding="utf-8")
    (workspace.root / "orders.parquet").symlink_to((data / "cdnow" / "orders.parquet").resolve())
    ingest_sources(workspace)


def _with_levels(workspace: Workspace, data: Path) -> None:
    """Complete Journey as if it had a loyalty programme: the spend of the last 91 days is the growth value and gives the level."""
    described = (files("features.sources") / "complete_journey.toml").read_text(encoding="utf-8")
    told = described.replace("attributes = [", 'attributes = ["growth_value", ').replace("\n[[sources]]", f"\ntiers = {[0, *LEVELS]}\n\n[[sources]]", 1)
    workspace.shop_file.write_text(told, encoding="utf-8")
    ingest_sources(workspace)
    shop = workspace.shop()
    workspace.log(shop).append(level_events(workspace.tiles(shop)))


def level_events(tiles: Tiles) -> Batch:
    """attribute_set (growth value) and tier_changed, at the end of each day on which a member's differ from the day before."""
    end, zone = tiles.log.complete_until, tiles.shop.zone
    spent = tiles.before(end).days("revenue_cents")
    first = int(spent["day"].min())
    days = pd.RangeIndex(first, day_number(end))
    daily = spent.pivot_table(index="user_id", columns="day", values="value", aggfunc="sum", fill_value=0).reindex(columns=days, fill_value=0)
    total = np.cumsum(daily.to_numpy(np.int64), axis=1)
    value = total.copy()
    value[:, SPAN:] -= total[:, :-SPAN]
    value //= 100
    level = np.maximum.accumulate(np.searchsorted(LEVELS, value, side="right"), axis=1)  # once reached, a level is kept
    frames = []
    for event, detail, stated in (("attribute_set", "growth_value", value), ("tier_changed", None, level)):
        began = np.argmax(total > 0, axis=1)  # a member from the first order on
        before = np.column_stack([np.full(len(stated), -1), stated[:, :-1]])
        user, place = np.nonzero((stated != before) & (np.arange(len(days)) >= began[:, None]) | (np.arange(len(days)) == began[:, None]))
        evening = {int(number): pd.Timestamp(day_of(int(number)), tz=zone) + pd.Timedelta(hours=23, minutes=30) for number in days}
        frame = pd.DataFrame({"user_id": daily.index.to_numpy()[user], "event": event, "detail": detail, "level": stated[user, place]})
        frame["occurred_at"] = pd.Series(days.to_numpy()[place]).map(evening).dt.tz_convert("UTC")
        frame["event_id"] = f"{event}-" + frame["user_id"] + "-" + pd.Series(days.to_numpy()[place]).astype(str)
        frames.append(frame)
    return Batch("levels", canonical_events(*frames), end)


SHOPS: Mapping[str, Callable[[Workspace, Path], None]] = {
    "complete_journey": _complete_journey,
    "complete_journey_tiers": _with_levels,
    "uci_online_retail": _uci,
    "cdnow": _cdnow,
}
