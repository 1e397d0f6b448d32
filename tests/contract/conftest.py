"""A shop in which time passes: scored on a day, and the days after it come into the log later. And what tests of audiences and of the console share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from features.events import EventLog
from features.shop import simulate
from features.shopfile import Shop
from features.sources.batch import Batch
from features.store import SnapshotStore
from features.tiles import open_tiles
from features.workspace import Workspace, open_workspace
from serving.facts import facts_of
from serving.ledger import Ledger
from serving.pointer import point_to
from serving.release import load_release, write_release
from serving.runs import Run, score_run
from serving.scorer import Scorer
from training.prepare import first_day
from training.shop_moves import moves_and_firsts, tiers
from training.shop_report import shop_report
from training.task import AskedTask
from training.tasks import TASKS

SHOP_FILE = """
name = "Small shop"
zone = "UTC"
currency = "EUR"
attributes = ["age"]
"""
START, SCORED, END = date(2024, 1, 1), date(2024, 1, 1) + timedelta(days=270), date(2024, 1, 1) + timedelta(days=300)
EVIDENCE = {"auc": {"value": 0.78, "low": 0.75, "high": 0.81}}  # what the fixture's models were measured at, about


@dataclass(frozen=True)
class Past:
    """A workspace whose log ended on SCORED when its users were scored. events: all of the 300 days, as a frame."""

    workspace: Workspace
    ledger: Ledger
    batch: Batch
    events: pd.DataFrame
    run: Run

    run_day = SCORED
    now = datetime(2024, 9, 27, tzinfo=UTC)

    def passes(self, until: date = END, without: Sequence[str] = ()) -> None:
        """Ingest what became known from SCORED on, before a day, but for the orders of some users."""
        self._ingest(between_days(self.batch.events, SCORED, until), until, lambda delayed: pc.invert(delayed), without)

    def comes_late(self, users: Sequence[str]) -> None:
        """Ingest the orders of some users of these days, which nobody had sent."""
        self._ingest(between_days(self.batch.events, SCORED, END), END, lambda delayed: delayed, users)

    def _ingest(self, events: pa.Table, until: date, chosen: Callable[[pa.Array], pa.Array], users: Sequence[str]) -> None:
        delayed = pc.and_(pc.is_in(events["user_id"], pa.array(list(users), pa.string())), pc.equal(events["event"], "order"))
        log = self.workspace.log(self.workspace.shop())
        log.append(replace(self.batch, events=events.filter(chosen(delayed)), products=None, complete_until=until))


def between_days(events: pa.Table, start: date, end: date) -> pa.Table:
    """What became known from one day on and before another."""
    low, high = (pa.scalar(datetime(day.year, day.month, day.day, tzinfo=UTC), pa.timestamp("us", "UTC")) for day in (start, end))
    heard = pc.if_else(pc.greater(events["known_at"], events["occurred_at"]), events["known_at"], events["occurred_at"])
    return events.filter(pc.and_(pc.greater_equal(heard, low), pc.less(heard, high)))


@pytest.fixture(scope="session")
def make_past(published) -> Callable[..., Past]:
    """A folder -> Past, of a shop of the same law as the one that the models learned from.

    Args:
        shuffled: score users by each other's vectors, as when a source changes its ids.
    """

    def make(root: Path, seed: int = 5, users: int = 1000, shuffled: bool = False, tasks: tuple[str, ...] = ("repeat_order",)) -> Past:
        workspace = open_workspace(root / "workspace", environment={})
        workspace.root.mkdir(parents=True)
        workspace.shop_file.write_text(SHOP_FILE)
        batch = simulate(users=users, days=300, seed=seed).batch
        shop = workspace.shop()
        workspace.log(shop).append(replace(batch, events=between_days(batch.events, START, SCORED), complete_until=SCORED))
        tiles = workspace.tiles(shop)
        snapshot = workspace.snapshots.get(tiles, SCORED)
        seen = snapshot
        if shuffled:
            rows = np.random.default_rng(seed).permutation(snapshot.table.num_rows)
            columns = {name: snapshot.table[name] if name in ("user_id", "stage") else snapshot.table[name].take(rows) for name in snapshot.table.column_names}
            seen = replace(snapshot, table=pa.table(columns, schema=snapshot.table.schema))
        models = {}
        for name in tasks:
            bundle = published.bundles[name]
            asked = AskedTask(TASKS[name], bundle.about["horizon_days"], bundle.about["window_days"])
            facts = {"version": "1", "run_id": "run", "kind": "model", "decision": "passed", "metrics": {"model": EVIDENCE}}
            models[name] = (bundle, asked.eligible(snapshot.frame).to_numpy(dtype=bool), facts)
        about = {"scored_at": "2024-09-27T03:00:00+00:00"}
        release = write_release(workspace.releases, seen, models, about, facts=facts_of(tiles, seen))
        point_to(workspace.releases, release)
        run = score_run(Scorer(load_release(workspace.releases / release), timedelta(hours=48)), workspace.root / "scores")
        return Past(workspace, Ledger(workspace.ledger_url), batch, batch.events.to_pandas(), run)

    return make


@pytest.fixture(scope="session")
def scored_once(make_past, tmp_path_factory) -> Past:
    """Scored on SCORED, with nothing later in the log. Nobody may change it."""
    return make_past(tmp_path_factory.mktemp("past"), tasks=("repeat_order", "churn", "lookalike"))


@pytest.fixture
def past(scored_once, tmp_path) -> Past:
    """A copy of it, for time to pass in."""
    root = shutil.copytree(scored_once.workspace.root, tmp_path / "workspace")
    workspace = open_workspace(root, environment={})
    return replace(
        scored_once,
        workspace=workspace,
        ledger=Ledger(workspace.ledger_url),
        run=replace(scored_once.run, folder=root / "scores" / scored_once.run.folder.name),
    )


@pytest.fixture(scope="session")
def release(published):
    """The release in service, loaded once. Nobody may change it."""
    return load_release(published.root / published.second)


# --- the console ----------------------------------------------------------------------------------------------------

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="session")
def shop_page(published):
    """What a publication says of the shop, with a name that means harm."""
    folder = published.root.parent
    tiles = open_tiles(EventLog(folder / "log", "UTC", "EUR"), Shop(f"Shop {SCRIPT}", "UTC", "EUR", attributes=("age",)), folder / "tiles")
    store = SnapshotStore(folder / "snapshots")
    return {
        **shop_report(tiles, published.snapshot),
        "changed": moves_and_firsts(tiles, store, published.snapshot, first_day(tiles)),
        "tiers": tiers(published.snapshot.frame),
    }


@pytest.fixture(scope="session")
def told_root(published, shop_page, tmp_path_factory) -> Path:
    """A release with pages, among them one whose feature means harm."""
    root = tmp_path_factory.mktemp("told") / "releases"
    before = load_release(published.root / published.second)
    facts = {"version": "1", "run_id": "run", "kind": "model", "decision": f"passed\npass  beats rule: {SCRIPT}", "metrics": {"model": {}}}
    models = {task: (bundle, ~np.isnan(before.scores[task].score), facts) for task, bundle in published.bundles.items()}
    entries = {one["name"]: {key: one[key] for key in ("family", "meaning", "unit", "actionable")} for one in published.snapshot.manifest["features"]}
    entries["orders_count"]["meaning"] = f"orders {SCRIPT}"
    pages = {"shop.json": json.dumps(shop_page).encode(), "features.json": json.dumps({"features": entries, "labels": {}}).encode()}
    release = write_release(root, published.snapshot, models, {"scored_at": before.manifest["scored_at"]}, pages=pages)
    point_to(root, release)
    return root


@pytest.fixture(scope="session")
def told(told_root, serve, tmp_path_factory):
    """A service of that release."""
    return serve(told_root, tmp_path_factory.mktemp("ledger"), timedelta(days=36_500))
