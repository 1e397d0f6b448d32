"""Audiences of two million users: cut, curve, split; and a live audience of 400,000 written to the ledger. Writes bench/AUDIENCES.md.

    python bench/audiences.py DIR [--users 2000000] [--postgresql URL]

The release has the planted behaviour of bench/service_release.py (60 features), the orders' recency, and two predictions by small blends: how
large a model is changes nothing here. It is made in DIR unless it is there. Each cold line is a process of its own that has loaded the
release and asked nothing yet, on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from measure import report, run, timed
from service_release import ROWS, behaviour, bundle, outcomes, snapshot

from features.snapshot import Snapshot
from serving.audiences.curve import curve
from serving.audiences.cut import cut
from serving.audiences.holdout import DEFAULT
from serving.audiences.members import save, split
from serving.audiences.profit import Economics
from serving.audiences.refresh import refresh
from serving.audiences.rules import Rule
from serving.audiences.suggested import suggested
from serving.ledger import AUDIENCES, MEMBERS, Ledger
from serving.pointer import activate, current_id
from serving.release import Release, load_release, write_release
from training.models import Recipe, fit

PAGE = Path(__file__).with_name("AUDIENCES.md")
TASK, OTHER, TENTH = "buys", "stays", Rule("buys", top_percent=10)
WHERE = {"all": [{"feature": "behaviour_05", "at_least": 2}, {"not": {"feature": "behaviour_06", "at_least": 20}}, {"percentile": OTHER, "at_least": 30}]}
EVIDENCE = {"bias_by_cutoff": {"a": 0.004, "b": -0.006, "c": 0.002, "d": 0.003}}


def make(root: Path, users: int) -> None:
    """The release with recency, and evidence of its calibration, written and published under `root`."""
    planted = snapshot(users)
    recency = pa.array(np.floor(np.random.default_rng(5).exponential(60.0, users)))
    manifest = {**planted.manifest, "features": [*planted.manifest["features"], {"name": "orders_recency"}], "recipe": f"audiences of {users}"}
    table = Snapshot(planted.table.append_column("orders_recency", recency), manifest)
    facts = {"version": "1", "run_id": "bench", "kind": "model", "decision": "Planted.", "metrics": {}, **EVIDENCE}
    rows = behaviour(ROWS, seed=2)
    models = {task: fit(rows, outcomes(rows, seed), np.arange(ROWS).astype(object), Recipe(trees=20, seeds=1)) for task, seed in ((TASK, 3), (OTHER, 4))}
    parts = {task: (bundle(task, model, rows), np.ones(users, dtype=bool), facts) for task, model in models.items()}
    activate(root, write_release(root, table, parts, {"scored_at": datetime.now(UTC).isoformat(timespec="seconds")}))


def cold(root: Path, what: str) -> None:
    """A piece of work in this process alone, as measure.run reads it."""
    release, facts = opened(root), {}
    with timed("seconds", facts):
        WORKS[what](release)
    report(facts)


def opened(root: Path) -> Release:
    release = load_release(root / current_id(root))
    release.marks.max()  # the pages are there, as in a service that runs
    release.users.view(np.uint8)[::4096].max()
    return release


def everything(release: Release) -> None:
    """What the issue asks for: cut, curve with profit, split."""
    audience = cut(release, TENTH)
    curve(release, TASK, None, Economics(18, 5, 0.1), 200)
    split(release, audience.rows, "bench", DEFAULT)


def filtered(release: Release) -> None:
    audience = cut(release, replace(TENTH, where=WHERE))
    curve(release, TASK, WHERE, Economics(18, 5, 0.1), 200)
    split(release, audience.rows, "bench", DEFAULT)


WORKS: dict[str, Callable[[Release], object]] = {
    "cut + curve + split": everything,
    "cut + curve + split, a condition on two features and a prediction": filtered,
    "cut": lambda release: cut(release, TENTH),
    "split (2 M lots)": lambda release: split(release, np.arange(len(release.users)), "bench", DEFAULT),
    "loading alone": lambda release: None,
}


def warm(release: Release) -> dict[str, float]:
    """Median seconds of a slider's move: another cut of a ranking that is known."""
    cut(release, TENTH), split(release, np.arange(10), "bench", DEFAULT), curve(release, TASK)
    cut(release, replace(TENTH, where=WHERE))
    sizes = np.random.default_rng(1).integers(1, len(release.users), 50)

    def move(size: int) -> None:
        split(release, cut(release, Rule(TASK, top_n=int(size))).rows, "bench", DEFAULT)

    def move_filtered(size: int) -> None:
        split(release, cut(release, Rule(TASK, top_n=int(size), where=WHERE)).rows, "bench", DEFAULT)

    works: dict[str, Callable[[int], object]] = {
        "move: cut + split": move,
        "move with a condition": move_filtered,
        "curve of 200 points with profit": lambda size: curve(release, TASK, None, Economics(18, 5, 0.1), 200),
    }
    return {name: statistics.median(clocked(partial(work, int(size))) for size in sizes) for name, work in works.items()}


def clocked(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ledger_times(release: Release, url: str, size: int) -> dict[str, float]:
    """Seconds to write a snapshot, a first refresh, one that changes nothing, and one in which a tenth leaves and as many come."""
    with closing(Ledger(url)) as ledger:
        ledger.audiences()
        found = {"snapshot saved": clocked(lambda: save(ledger, release, "bench-snapshot", Rule(TASK, top_n=size), "snapshot", DEFAULT))}
        save(ledger, release, "bench-live", Rule(TASK, top_n=size), "live", DEFAULT)
        found["live, first refresh"] = clocked(lambda: refresh(ledger, release, ["bench-live"]))
        found["live, nothing changed"] = clocked(lambda: refresh(ledger, release, ["bench-live"]))
        order = release.scores[TASK].score.argsort()[::-1][: size // 10]
        moved = release.scores[TASK].score.copy()
        moved[order] = 0.0  # the best tenth falls out, and as many come from below
        later = replace(release, id=f"{release.id}-later", scores={**release.scores, TASK: replace(release.scores[TASK], score=moved)})
        found["live, a tenth changed"] = clocked(lambda: refresh(ledger, later, ["bench-live"]))
        with ledger.connection() as connection:
            connection.execute(MEMBERS.delete())
            connection.execute(AUDIENCES.delete())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--members", type=int, default=400_000)
    parser.add_argument("--postgresql", help="URL of an empty database to measure as well.")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    told = parser.parse_args()
    root = told.folder / "releases"
    if told.work:
        cold(root, told.work)
        return
    if not root.exists():
        make(root, told.users)
    lines = {name: run("audiences.py", str(told.folder), "--work", name, environment={"OMP_NUM_THREADS": "1"}) for name in WORKS}
    release = opened(root)
    moves = warm(release)
    skipped = sum(one.audience is None for one in suggested(release))
    with tempfile.TemporaryDirectory(dir=told.folder) as scratch:
        databases = {"SQLite": ledger_times(release, f"sqlite:///{scratch}/ledger.db", told.members)}
    if told.postgresql:
        databases["PostgreSQL"] = ledger_times(release, told.postgresql, told.members)
    results = {"users": len(release.users), "members": told.members, "cold": {n: [s.seconds, s.cpu, s.memory_mb] for n, s in lines.items()},
               "moves": moves, "ledger": databases, "skipped": skipped}  # fmt: skip
    (told.folder / "audiences.json").write_text(json.dumps(results))
    PAGE.write_text(page(results))
    sys.stdout.write(PAGE.read_text())


def page(found: dict[str, object]) -> str:
    cold_lines = [f"| {name} | {s:.2f} | {c:.2f} | {m:,.0f} |" for name, (s, c, m) in found["cold"].items()]  # type: ignore[attr-defined]
    moves = [f"| {name} | {1000 * seconds:.1f} |" for name, seconds in found["moves"].items()]  # type: ignore[attr-defined]
    databases: dict[str, dict[str, float]] = found["ledger"]  # type: ignore[assignment]
    names = list(databases)
    rows = [f"| {what} | " + " | ".join(f"{databases[name][what]:.1f}" for name in names) + " |" for what in databases[names[0]]]
    return "\n".join(
        [
            "# Audiences, measured",
            "",
            f"`python bench/audiences.py DIR`, two cores, a release of {found['users']:,} users with 61 features and two predictions; nothing else tuned.",
            "",
            "Cold: a process that has loaded the release and asked nothing yet. Memory is the most the process held, the pages of the mapped release among it.",
            "",
            "| cold | seconds | CPU seconds | MB |",
            "|---|---|---|---|",
            *cold_lines,
            "",
            "Warm: the ranking is known, as after the first cut of a release. Medians of 50.",
            "",
            "| warm | ms |",
            "|---|---|",
            *moves,
            "",
            f"Ledger: an audience of {found['members']:,} members with its hold-out, seconds, each one transaction.",
            "",
            f"| seconds | {' | '.join(names)} |",
            f"|---|{'---|' * len(names)}",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main()
