"""Scores of posted events: what one costs, and what keeping histories costs the release. Writes bench/EVENTS.md.

    python bench/events.py [--users 20000] [--days 400]

A simulated shop with its own features; the model is the blend as Encore fits it, over all features of the snapshot. CPU time of one thread
is what a busy machine leaves comparable; the time on the wall stands beside it. Each request is asked several times; of CPU the fastest
counts, of the wall every one.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from features.events import EventLog
from features.shop import simulate
from features.shopfile import Shop
from features.store import SnapshotStore
from features.tiles import open_tiles

RESULTS = Path(__file__).with_name("EVENTS.md")
ROUNDS, REQUESTS, ROWS = 5, 200, 20_000
TASK = "repeat_order"


def make(root: Path, users: int, days: int) -> list[str]:
    """Ingest, fit and publish; lines about what histories cost."""
    from serving.facts import facts_of, histories_behind
    from serving.pointer import activate
    from serving.release import write_release
    from training.bundle import Bundle, golden_rows
    from training.models import Recipe, fit
    from training.task import AskedTask
    from training.tasks import TASKS

    log = EventLog(root / "log", "Europe/Berlin", "EUR")
    batch = simulate(users=users, days=days, seed=3, zone="Europe/Berlin").batch
    log.append(batch)
    tiles = open_tiles(log, Shop("Bench shop", "Europe/Berlin", "EUR", attributes=("age",), tiers=(0, 10_000, 30_000, 80_000)), root / "tiles")
    snapshot = SnapshotStore(root / "snapshots").get(tiles, log.complete_until)
    names, asked = tuple(snapshot.feature_names), AskedTask(TASKS[TASK], 30, 90)
    X = snapshot.matrix(names)
    chance = 1 / (1 + np.exp(0.05 * np.nan_to_num(X[:, names.index("orders_recency")], nan=90.0) - 1))
    y = (np.random.default_rng(1).random(len(X)) < chance).astype(np.int8)
    blend = fit(X[:ROWS], y[:ROWS], np.arange(min(ROWS, len(X))).astype(object), Recipe())
    words = {name: {"name": name, "meaning": name, "unit": "count", "actionable": True} for name in names}
    about = {**asked.describe(), "features": words, "last_cutoff": str(snapshot.as_of), "rows": ROWS, "positives": int(y.sum())}
    bundle = Bundle(names, blend, about, {}, golden_rows(Bundle(names, blend, about, {}, {}), X[:20]))
    told = {"version": "1", "run_id": "bench", "kind": "model", "decision": "Planted.", "metrics": {}, "asks": asked.condition(snapshot.frame)}
    models = {TASK: (bundle, asked.eligible(snapshot.frame).to_numpy(dtype=bool), told)}
    now = {"scored_at": datetime.now(UTC).isoformat(timespec="seconds")}
    facts = facts_of(tiles, snapshot)
    began, cpu = time.perf_counter(), time.process_time()
    kept = histories_behind(tiles, snapshot, facts, models)
    took = f"{time.perf_counter() - began:.1f} s ({time.process_time() - cpu:.1f} s of CPU)"
    release = write_release(root / "releases", snapshot, models, now, facts=facts, histories=kept)
    activate(root / "releases", release)
    size, vectors = ((root / "releases" / release / name).stat().st_size for name in ("histories.arrow", "snapshot.arrow"))
    rows = ", ".join(f"{len(next(iter(table.columns.values()))):,} of {name}" for name, table in kept.tables.items())
    return [
        f"{users:,} users, {batch.events.num_rows:,} events over {days} days, {len(names)} features.\n",
        f"Histories: {size / 1e6:.1f} MB, {size / users:.0f} bytes a user ({rows}); the vectors beside them have {vectors / 1e6:.1f} MB. "
        f"Making them took {took}.\n",
    ]


def requests(scorer: Any) -> dict[str, Sequence[Any]]:
    """What -> bodies: 30 events of somebody unknown; 5 events of users with a stored history."""
    from serving.event_schemas import EventsRequest

    until = date.fromisoformat(scorer.release.manifest["as_of"])
    random = np.random.default_rng(5)

    def events(number: int, spread: float) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for place in range(number):
            moment = datetime(until.year, until.month, until.day, 18, tzinfo=UTC) - timedelta(days=spread * float(random.random()), minutes=place)
            product = f"care-{int(random.integers(0, 30)):02d}"
            kind = str(random.choice(["page_view", "product_view", "cart_add", "search", "order", "order_item"], p=[0.3, 0.35, 0.1, 0.1, 0.075, 0.075]))
            row: dict[str, Any] = {"event": kind, "occurred_at": moment.isoformat()}
            row |= {"product_id": product} if kind in ("product_view", "cart_add", "order_item") else {}
            row |= {"order_id": f"o{place}", "value_cents": 2500, "quantity": 1} if kind.startswith("order") else {}
            row |= {"source": "google", "medium": "cpc"} if kind == "page_view" else {}
            found.append(row)
        return found

    eligible = np.flatnonzero(~np.isnan(scorer.release.scores[TASK].score))
    known = [scorer.release.users[row].decode() for row in random.choice(eligible, REQUESTS)]
    as_of = str(until + timedelta(days=1))
    return {
        "unknown user, 30 events": [EventsRequest.model_validate({"events": events(30, 60), "as_of": as_of}) for _ in range(REQUESTS)],
        "known user, stored history and 5 events": [EventsRequest.model_validate({"events": events(5, 0), "as_of": as_of, "user_id": user}) for user in known],
    }


def timed(ask: Callable[[Any], bytes], bodies: Sequence[Any]) -> str:
    for body in bodies:
        ask(body)
    cpu, wall = [], []
    for body in bodies:
        fastest = 1e9
        for _ in range(ROUNDS):
            began, spent = time.perf_counter_ns(), time.thread_time_ns()
            ask(body)
            fastest = min(fastest, (time.thread_time_ns() - spent) / 1e6)
            wall.append((time.perf_counter_ns() - began) / 1e6)
        cpu.append(fastest)
    return " | ".join(f"{value:.1f}" for values in (cpu, wall) for value in (statistics.median(values), float(np.quantile(values, 0.99))))


def main() -> None:
    from features import compiled

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=400)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        child = os.fork()  # publishing compiles the loops; the service, which is measured, runs them as they are written
        if child == 0:
            (root / "lines").write_text("\n".join(make(root, told.users, told.days)))
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise SystemExit("The release could not be made.")
        compiled.interpret()
        from serving.current import Current
        from serving.events import PostedEvents

        current = Current(root / "releases", timedelta(hours=48))
        current.refresh()
        posted = PostedEvents(current)
        posted.warm()
        rows = [f"| {what} | {timed(lambda body: posted.score(TASK, body), bodies)} |" for what, bodies in requests(current.scorer).items()]
        lines = (root / "lines").read_text()
    head = f"# Scores of posted events\n\n`python bench/events.py --users {told.users} --days {told.days}`, Python {platform.python_version()}. "
    table = "| request, inside the process | CPU ms, median | p99 | wall ms, median | p99 |\n|---|---|---|---|---|"
    load = f"The load average was {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n"
    RESULTS.write_text("\n".join([head + load, lines, table, *rows]) + "\n", encoding="utf-8")
    print(RESULTS.read_text())  # noqa: T201


if __name__ == "__main__":
    main()
