"""Measures the predictions on real data against the figures to beat, and writes bench/MODELS.md.

    python bench/models.py --data DIR [--only NAME ...] [--out FILE] [--work DIR]

DIR has uci_online_retail/, cdnow/ and hillstrom/; Complete Journey comes from its package. Every row goes the way that
`encore retrain` goes: event log, tiles, snapshots, examples, the same model and baselines, the same measures; only the
cutoffs are the row's own. What a row measured is kept in a JSON beside --out, so that one row can be run again alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import uplift
from models_brands import BRAND_ROWS, measure_brands
from models_page import UPLIFT, page
from models_rows import CYCLES, ROWS, Experiment
from models_shops import open_shop

from features.cycle import repurchase_cycle
from features.files import read_json, write_json
from features.store import SnapshotStore
from features.tiles import Tiles
from training.baselines import baselines_of
from training.blend import Matrix
from training.examples import Examples, make_examples, thinned
from training.fit import BLEND, INDICATIVE, core_of
from training.kinds import KINDS, RESAMPLES, Measured
from training.models import Recipe, fold_of
from training.pack import make_bundle
from training.prepare import Prepared, first_day
from training.split import MOST_CUTOFFS, Split
from training.task import AskedTask

ALL = {row.name: row for row in (*ROWS, *BRAND_ROWS)}
OUT = Path(__file__).with_name("MODELS.md")


def measure(row: Experiment, tiles: Tiles, store: SnapshotStore) -> dict[str, Any]:
    """Train a row's task on its training cutoffs, let model and baselines predict its test cutoffs, measure both."""
    cycle = repurchase_cycle(tiles, row.test[0])
    horizon = cycle.churn_horizon if row.horizon == CYCLES else row.horizon
    asked, first = AskedTask(row.task, horizon, cycle.churn_horizon), first_day(tiles)
    cutoffs = training_cutoffs(row, horizon, first)
    examples = make_examples(asked, (*cutoffs, *row.test), first, tiles, store)
    test = examples.at(row.test)
    if row.folds:
        folds = fold_of(test.users, row.folds)
        train, parts = test, [(test.take(folds != fold), folds == fold) for fold in range(row.folds)]
    else:
        train = thinned(examples.at(cutoffs))
        parts = [(train, np.ones(len(test), dtype=bool))]
    recipe = INDICATIVE if Prepared(asked, Split(cutoffs, row.test, horizon), train, test, train).indicative else BLEND
    told: dict[str, Matrix] = {}
    for known, rows in parts:
        for name, values in predictions(asked, known, test.take(rows), tiles, recipe, row.rc_rule).items():
            told.setdefault(name, np.zeros((len(test), *values.shape[1:])))[rows] = values
    kind = KINDS[asked.kind]
    by_cutoff = {cutoff: test.as_of == cutoff for cutoff in row.test}
    metrics = {name: with_margin(kind.evaluate(test, values, RESAMPLES)) for name, values in told.items()}
    if asked.kind == "date":
        metrics["model"] |= {
            f"{metric}_to_bgnbd": over(metrics["model"][metric], metrics["bgnbd"][metric]) for metric in ("integrated_brier", "restricted_mae")
        }
    return {
        "metrics": metrics,
        "gains": {name: kind.gain(kind.difference(test, told["model"], values)) for name, values in told.items() if name != "model"},
        "by_cutoff": {
            cutoff.isoformat(): {name: kind.evaluate(test.take(rows), values[rows], 0)[kind.main]["value"] for name, values in told.items()}
            for cutoff, rows in by_cutoff.items()
        },
        "horizon_days": horizon,
        "eligible": asked.describe()["eligible"],
        "train_cutoffs": [cutoff.isoformat() for cutoff in cutoffs],
        "test_cutoffs": [cutoff.isoformat() for cutoff in row.test],
        "rows": {"train": len(train), "test": len(test)},
        "base_rate": float(test.y.mean()),
        "features": len(test.names),
        "indicative": recipe == INDICATIVE,
    }


def training_cutoffs(row: Experiment, horizon: int, first: date) -> tuple[date, ...]:
    """The closed cutoffs before the first test cutoff, oldest first; those of the row, where it names them."""
    latest = row.test[0] - timedelta(days=horizon)
    if row.folds:
        return ()
    if row.train:
        if row.train[-1] > latest:
            raise ValueError(f"{row.name}: the label window of training cutoff {row.train[-1]} reaches into the test cutoff {row.test[0]}.")
        return row.train
    regular = [latest - timedelta(days=row.spacing * number) for number in range(MOST_CUTOFFS)]
    return tuple(cutoff for cutoff in reversed(regular) if cutoff >= first + timedelta(days=row.history))


def predictions(asked: AskedTask, train: Examples, test: Examples, tiles: Tiles, recipe: Recipe, rc_rule: bool) -> dict[str, Matrix]:
    """What the model and each baseline say of the test rows."""
    ways = {"model": (train.names, core_of(asked, recipe)), **baselines_of(asked, train)}
    bundles = {name: make_bundle(asked, train, tiles, columns, how) for name, (columns, how) in ways.items()}
    told = {name: KINDS[asked.kind].predict(bundle, test.of(bundle.features)) for name, bundle in bundles.items()}
    if rc_rule:
        told["RC rule"] = share_beyond(asked.window, train, test)
    return told


def share_beyond(days: int, train: Examples, test: Examples) -> Matrix:
    """The rule that people use: gone who has not bought for so many days; as a probability, the share that was in training."""
    beyond = train.column("orders_recency") > days
    return np.asarray(np.where(test.column("orders_recency") > days, train.y[beyond].mean(), train.y[~beyond].mean()))


def with_margin(measured: Measured) -> Measured:
    """The metrics, and by how much the calibration error exceeds what sampling alone gives."""
    if "ece" not in measured:
        return measured
    floor = measured["ece_floor"]["value"]
    above = {part: None if value is None else value - floor for part, value in measured["ece"].items()}
    return {**measured, "ece_above_floor": above}


def run(name: str, data: Path, work: Path) -> dict[str, Any]:
    """Measure one row, by name."""
    if name == UPLIFT:
        return {"lines": uplift.table(pd.read_parquet(data / uplift.FILE), None)}
    row = ALL[name]
    workspace = open_shop("complete_journey" if row.source == "brands" else row.source, data, work)
    tiles = workspace.tiles(workspace.shop())
    if row.source == "brands":
        return measure_brands(row, tiles, workspace.snapshots, work, say)
    return measure(row, tiles, workspace.snapshots)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def over(measured: Measured, base: Measured) -> Measured:
    """A measure, with its interval, as a share of what another had."""
    return {part: None if value is None else value / base["value"] for part, value in measured.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=(*ALL, UPLIFT), default=(*ALL, UPLIFT), metavar="NAME", help=", ".join((*ALL, UPLIFT)))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path, help="folder for logs and snapshots, to be used again")
    asked = parser.parse_args()
    kept = asked.out.with_suffix(".json")
    results: dict[str, Any] = dict(read_json(kept)) if kept.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only:
            began = time.perf_counter()
            found = run(name, asked.data, asked.work or Path(folder))
            results[name] = {**found, "seconds": round(time.perf_counter() - began, 1)}
            write_json(kept, results)
            asked.out.write_text(page(tuple(ALL.values()), results), encoding="utf-8")
            figures = ALL[name].figures if name in ALL else ()
            shown = ", ".join(f"{figure.metric} {found['metrics']['model'][figure.metric]['value']:.4f}" for figure in figures)
            say(f"{name}: {shown or 'done'} in {results[name]['seconds']} s")


if __name__ == "__main__":
    main()
