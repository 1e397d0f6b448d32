"""Which seed suits a shop's goods: those who bought after a sample, or its loyal and super users; with the reason in numbers."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np

from features.cycle import cycle_by_category, repurchase_cycle
from features.events import day_of
from features.norms import DEFAULT_CYCLE
from features.snapshot import Snapshot
from features.tiles import Tiles
from training.lookalike.contrast_words import amount
from training.lookalike.rules import conditions_of, holds
from training.lookalike.seed import FEW, LEAST, SeedRefused
from training.lookalike.seed_sources import campaigns_in, products_asked, receipts_of

FREQUENT = 60.0  # days: goods that are bought again within two months can be tried by a sample and judged before the launch is over
DEAR = 2.0  # times what the shop usually gets for an item
WITHIN = 60  # days to buy after a sample, where nothing better is known


def suggest_seed(tiles: Tiles, snapshot: Snapshot, product: str | None = None, category: str | None = None) -> dict[str, Any]:
    """A seed for the launch of a product like this one, or for the shop as a whole, as JSON: seed ("sampling", "super users" or
    "loyal"), why (sentences), the numbers they rest on, and what to do next.

    Frequent, low-priced goods: past receivers of a sample who bought. Rare or high-priced ones: loyal or super users.
    """
    if product or category:
        _, problems = products_asked([product] if product else [], [category] if category else [], tiles)
        if problems:
            raise SeedRefused("suggestion", problems)
    numbers = _numbers(tiles, snapshot, product, category)
    is_frequent, is_dear = numbers["cycle_days"] <= FREQUENT and numbers["cycle_is_measured"], (numbers["price_ratio"] or 0.0) >= DEAR
    why = _why(numbers, is_frequent, is_dear, str(snapshot.manifest["currency"]))
    if is_frequent and not is_dear:
        return {"seed": "sampling", "why": why, "numbers": numbers, "next": _next_sampling(tiles, product, category)}
    segment, more = _best_segment(snapshot)
    return {"seed": segment, "why": [*why, more], "numbers": numbers, "next": f'encore lookalike seed NAME --rule "{segment}"'}


def _numbers(tiles: Tiles, snapshot: Snapshot, product: str | None, category: str | None) -> dict[str, Any]:
    as_of, frame = snapshot.as_of, snapshot.frame
    cycle = repurchase_cycle(tiles, as_of)
    products = tiles.products.to_pandas().set_index("product_id")["category"]
    group = category or (str(products.get(product)) if product is not None and isinstance(products.get(product), str) else None)
    of_group = cycle_by_category(tiles, as_of).get(group) if group is not None else None
    days = of_group.days if of_group is not None else cycle.days
    buyers = frame["orders_count"] > 0
    price, usual = _prices(tiles, as_of, product, category) if product or category else (None, None)
    return {
        "as_of": as_of.isoformat(),
        "about": product or (f"category {category}" if category else "the shop"),
        "cycle_days": days if days is not None else DEFAULT_CYCLE,
        "cycle_is_measured": days is not None,
        "cycle_of": f"category {group}" if of_group is not None else "the shop",
        "repurchasers": of_group.repurchasers if of_group is not None else cycle.repurchasers,
        "order_value_cents": float(frame.loc[buyers, "orders_revenue"].sum() / frame.loc[buyers, "orders_count"].sum()) if buyers.any() else None,
        "orders_per_buyer": float(frame.loc[buyers, "orders_count"].mean()) if buyers.any() else None,
        "usual_price_cents": usual,
        "price_cents": price,
        "price_ratio": price / usual if price is not None and usual else None,
    }


def _prices(tiles: Tiles, as_of: date, product: str | None, category: str | None) -> tuple[float | None, float | None]:
    """What is usually paid for a piece of the product or category, and for one of anything: medians over the days on which a
    user bought a single product, the only ones whose amount is that product's alone. None below 30 such days."""
    asked, _ = products_asked([product] if product else [], [category] if category else [], tiles)
    window = tiles.before(as_of)
    lines = window.keys("quantity")
    days = lines.groupby(["user_id", "day"]).agg(products=("key", "nunique"), key=("key", "first"), pieces=("value", "sum")).reset_index()
    days = days[days["products"] == 1].merge(window.days("revenue_cents"), on=["user_id", "day"])
    paid = days["value"] / days["pieces"]
    mine = paid[days["key"].isin(asked)]
    return (float(np.median(mine)) if len(mine) >= LEAST else None), (float(np.median(paid)) if len(paid) >= LEAST else None)


def _why(numbers: dict[str, Any], is_frequent: bool, is_dear: bool, currency: str) -> list[str]:
    if not numbers["cycle_is_measured"]:
        lines = [f"The repurchase cycle is not known yet ({numbers['repurchasers']} users came back, 200 are needed): goods count as bought rarely."]
    else:
        lines = [
            f"Goods of {numbers['cycle_of']} are bought again about every {numbers['cycle_days']:.0f} days ({numbers['repurchasers']:,} repurchasers): "
            f"{'frequent' if is_frequent else 'rare'}, the border being {FREQUENT:.0f} days."
        ]
    if numbers["order_value_cents"] is not None:
        lines.append(
            f"An order is {amount(numbers['order_value_cents'], 'cents', currency)} on average, and a buyer has placed {numbers['orders_per_buyer']:.1f}."
        )
    if numbers["price_ratio"] is not None:
        lines.append(
            f"A piece of {numbers['about']} is {amount(numbers['price_cents'], 'cents', currency)}, {numbers['price_ratio']:.1f} times what the shop "
            f"usually gets for a piece: {'high-priced' if is_dear else 'low-priced'}, the border being {DEAR:.0f} times."
        )
    if is_frequent and not is_dear:
        return [*lines, "A sample is cheap, and whether its receivers buy is known soon: those who did show who the product is for, better than loyalty does."]
    return [*lines, "Few buy such goods soon after a sample, so buyers after one would be too few or too late; who buys most and best shows whom to look for."]


def _next_sampling(tiles: Tiles, product: str | None, category: str | None) -> str:
    bought = f"--bought {product}" if product else f'--bought-category "{category}"' if category else "--bought PRODUCT"
    ready = []
    for name in campaigns_in(tiles, ("sample_received",)):
        receipts = receipts_of(name, tiles)
        if len(receipts.first) >= FEW and day_of(int(receipts.first.max()) + WITHIN) <= tiles.log.complete_until:
            ready.append(name)
    if ready:
        return f"encore lookalike seed NAME --campaign {ready[-1]} {bought} --within {WITHIN}"
    command = f"encore lookalike seed NAME --file receivers.csv --received DATE {bought} --within {WITHIN}"
    return f"No sampling campaign in the log is over. With a list of receivers: {command}"


def _best_segment(snapshot: Snapshot) -> tuple[str, str]:
    """Super users where they are enough for a seed, else all loyal ones."""
    counts = {}
    for name in ("super user", "loyal"):
        conditions, problems = conditions_of(name, snapshot)
        counts[name] = 0 if problems else int(holds(conditions, snapshot).sum())
    chosen = "super users" if counts["super user"] >= FEW else "loyal"
    return chosen, f"There are {counts['super user']:,} super users and {counts['loyal']:,} loyal users; a seed should have {FEW} or more."
