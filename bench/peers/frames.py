"""pandas computes the catalogue from the log's parts, cutoff by cutoff. python bench/peers/frames.py DATA --cutoffs N --out DIR

Texts are read as categories, users are grouped by integer codes, and rows of each group of events are cut out once.
"""

from __future__ import annotations

import sys
from functools import cache, cached_property
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from generate import SHOP
from logs import monthly, open_log
from measure import report, timed

from features.aggregates import ChangePart, DayPart, KeyPart, Part
from features.events import day_number
from features.snapshot import catalogue
from features.tile_columns import CHANGES, DAY_CODES, DAY_COLUMNS, KEY_CODES, KEY_COLUMNS, DayColumn, events_of
from features.view import Derived, Feature
from features.views.touch import OWNED, PAID
from peers.arguments import peer_arguments, places
from peers.sql import READ

TEXTS = ("user_id", "event", "product_id", "campaign", "detail", "channel", "source", "medium")


def read(files: list[Path]) -> pd.DataFrame:
    columns = [*READ, "known_day", "sign", "order_id"]
    return pa.concat_tables([pq.read_table(path, columns=columns, read_dictionary=list(TEXTS)) for path in files]).unify_dictionaries().to_pandas()


class Cutoff:
    """The features of all users known before a day."""

    def __init__(self, events: pd.DataFrame, products: pd.DataFrame, cut: int) -> None:
        self.cut, self.products = cut, products.set_index("product_id")
        gone = events.loc[(events["sign"] < 0) & (events["event"] == "order") & (events["known_day"] < cut), "order_id"]
        cancelled = events["event"].isin(["order", "order_item"]) & events["order_id"].isin(gone)
        rows = events[(events["sign"] > 0) & (events["day"] < cut) & (events["known_day"] < cut) & ~cancelled]
        user, self.users = pd.factorize(rows["user_id"], sort=True)
        self.rows = rows.assign(user=user)
        self.rows_of = cache(self._rows_of)
        self.part = cache(self._part)

    def _rows_of(self, events: tuple[str, ...]) -> pd.DataFrame:
        return self.rows[self.rows["event"].isin(events)]

    def _all(self, values: pd.Series, empty: float = np.nan) -> pd.Series:
        return values.reindex(range(len(self.users)), fill_value=empty)

    def _part(self, part: Part) -> pd.Series:
        match part:
            case DayPart():
                return self._day(part)
            case KeyPart():
                return self._key(part)
            case ChangePart():
                return self._change(part)
        return self._gaps[part.kind]

    def _day(self, part: DayPart) -> pd.Series:
        column = DAY_COLUMNS[DAY_CODES[part.column]] if part.column in DAY_CODES else DayColumn(part.column, events_of(part.column, SHOP.interest))
        rows = self._supplied if part.column == "supply_minutes" else self.rows_of(column.events)
        kept = np.ones(len(rows), np.bool_)
        if part.window is not None and part.kind in ("sum", "days"):
            kept &= (rows["day"] >= self.cut - part.window).to_numpy()
        if column.hours != (0, 24):
            kept &= rows["hour"].between(column.hours[0], column.hours[1] - 1).to_numpy()
        if column.weekend:
            kept &= ((rows["day"] + 4) % 7).isin([0, 6]).to_numpy()
        for name in (column.positive, column.amount if part.kind != "sum" else None):
            kept &= (rows[name] > 0).to_numpy() if name else True
        for name in column.zero:
            kept &= (rows[name].fillna(0) <= 0).to_numpy()
        if column.at_most is not None:
            kept &= rows["level"].between(1, column.at_most).to_numpy()
        grouped = rows[kept].groupby("user")
        match part.kind:
            case "sum":
                return self._all(grouped[column.amount].sum() if column.amount else grouped.size(), 0)
            case "days":
                return self._all(grouped["day"].nunique(), 0)
            case "since":
                return self._all(self.cut - grouped["day"].max())
        return self._all(self.cut - grouped["day"].min())

    @cached_property
    def _supplied(self) -> pd.DataFrame:
        minutes = {name: round(1440 / use) for name, use in SHOP.daily_use.items()}
        rows = self.rows_of(("order_item",))
        lasts = rows["product_id"].astype("str").map(self.products["category"]).map(minutes)
        return rows.assign(supply_minutes=lasts * rows["quantity"].fillna(0).clip(lower=1)).dropna(subset=["supply_minutes"])

    @cached_property
    def _gaps(self) -> dict[str, pd.Series]:
        days = self.rows_of(("order",))[["user", "day"]].drop_duplicates().sort_values(["user", "day"])
        days["gap"] = days.groupby("user")["day"].diff()
        gaps = days.dropna()
        grouped, latest = gaps.groupby("user")["gap"], gaps.iloc[::-1].groupby("user")["gap"]
        found = {"count": grouped.size(), "total": grouped.sum(), "longest": grouped.max(), "squares": (gaps["gap"] ** 2).groupby(gaps["user"]).sum()}
        found |= {kind: latest.nth(place).set_axis(gaps.loc[latest.nth(place).index, "user"]) for place, kind in enumerate(("last", "earlier"))}
        return {kind: self._all(values, 0 if kind in ("count", "total", "squares") else np.nan) for kind, values in found.items()}

    def _counts(self, column: str, dimension: str, window: int | None) -> pd.DataFrame:
        of = KEY_COLUMNS[KEY_CODES[column]]
        rows = self.rows_of(of.events)
        rows = rows[(rows["day"] >= self.cut - window)] if window else rows
        words = rows[of.field] if dimension == of.field else rows[of.field].astype("str").map(self.products[dimension])
        counts = pd.DataFrame({"user": rows["user"], "word": words.astype("str").where(words.notna())}).dropna()
        return counts.groupby(["user", "word"]).size().rename("n").reset_index()

    @cached_property
    def _counted(self) -> dict[tuple[str, str, int | None], pd.DataFrame]:
        return {}

    def _key(self, part: KeyPart) -> pd.Series:
        key = (part.column, part.dimension, part.window)
        if key not in self._counted:
            self._counted[key] = self._counts(*key)
        counts = self._counted[key]
        grouped = counts.groupby("user")["n"]
        match part.kind:
            case "kinds":
                return self._all(grouped.size(), 0)
            case "total":
                return self._all(grouped.sum(), 0)
            case "top":
                return self._all(grouped.max(), 0)
            case "again":
                return self._all((counts["n"] > 1).groupby(counts["user"]).sum(), 0)
            case "information":
                return self._all((counts["n"] * np.log(counts["n"])).groupby(counts["user"]).sum(), 0)
        first = counts.sort_values(["user", "n", "word"], ascending=[True, False, True]).drop_duplicates("user")
        return self._all(first.set_index("user")["word"], None)

    def _change(self, part: ChangePart) -> pd.Series:
        events, field = CHANGES.get(part.name, (("attribute_set",), "level"))
        rows = self.rows_of(events)
        rows = (rows if part.name in CHANGES else rows[rows["detail"] == part.name.removeprefix("attribute.")]).dropna(subset=[field])
        moments = rows.groupby("user")["occurred_at"]
        place = moments.idxmin() if part.kind == "first" else moments.idxmax()
        values = rows.loc[place.to_numpy(), field]
        return self._all(values.astype("str" if field != "level" else "float64").set_axis(place.index), None if field != "level" else np.nan)

    def features(self, wanted: list[Feature]) -> pd.DataFrame:
        found: dict[str, pd.Series] = {}
        for feature in wanted:
            if not isinstance(feature.column.source, Derived):
                value = finished(feature.parts, [self.part(part) for part in feature.parts])
            elif feature.name in DERIVED:
                value = DERIVED[feature.name](found)
            else:
                continue
            found[feature.name] = value if feature.is_label or feature.column.empty is None else value.fillna(feature.column.empty)
        numbers = {name for name in found if not pd.api.types.is_numeric_dtype(found[name].dtype)}
        frame = pd.DataFrame({name: values if name in numbers else values.astype("float64") for name, values in found.items()})
        return frame.set_axis(pd.Index(self.users.astype("str"), name="user_id"))


def finished(parts: tuple[Part, ...], values: list[pd.Series]) -> pd.Series:
    match [part.kind for part in parts]:
        case [_]:
            return values[0]
        case ["information", "total"]:
            total = values[1].where(values[1] > 0)
            return (np.log(total) - values[0] / total).clip(lower=0)
        case ["count", "total", "squares"]:
            count = values[0].where(values[0] > 0).astype("float64")
            return np.sqrt((count * values[2] - values[1] ** 2) / count**2)
        case ["count", "total"]:
            return values[1] / values[0].where(values[0] > 0)
    above, below = parts
    if isinstance(above, DayPart) and isinstance(below, DayPart) and above.window != below.window:
        return values[0] * below.window / above.window / values[1].where(values[1] != 0)
    return values[0] / values[1].where(values[1] != 0)


def _one_of(words: pd.Series, known: tuple[str, ...]) -> pd.Series:
    return words.isin(known).astype("float64").where(words.notna())


def _next_tier(found: dict[str, pd.Series]) -> pd.Series:
    reach = found["membership_tier"].fillna(0).map(dict(enumerate(SHOP.tiers[1:])))
    return (reach - found["membership_growth_value"]).clip(lower=0)


DERIVED = {
    "cycle_position": lambda found: found["orders_recency"] / found["cycle_mean_gap"],
    "cycle_overdue": lambda found: found["orders_recency"] - found["cycle_mean_gap"],
    "cycle_supply_left": lambda found: found["cycle_supply"] / 1440 - found["cycle_supply_age"],
    "discounts_price_trend": lambda found: found["discounts_item_price_90d"] / found["discounts_item_price"].where(found["discounts_item_price"] > 0),
    "membership_to_next_tier": _next_tier,
    "touch_first_paid": lambda found: _one_of(found["touch_first_medium"], PAID),
    "touch_last_paid": lambda found: _one_of(found["touch_last_medium"], PAID),
    "touch_last_owned": lambda found: _one_of(found["touch_last_medium"], OWNED),
    "touch_same_source": lambda found: (found["touch_first_source"] == found["touch_last_source"]).astype("float64").where(found["touch_first_source"].notna()),
}


def main() -> None:
    chosen = peer_arguments(__doc__)
    for log_directory, out in places(chosen):
        log, facts, rows = open_log(log_directory), {}, 0
        with timed("seconds", facts):
            events, products = read(log.parts), pd.read_parquet(log.directory / "products" / "products.parquet")
            for cutoff in monthly()[-chosen.cutoffs :]:
                frame = Cutoff(events, products, day_number(cutoff)).features(catalogue(SHOP, log.kinds))
                frame.to_parquet(out / f"{cutoff}.parquet", compression="lz4")
                rows += len(frame)
        facts |= {"rows": rows, "features": frame.shape[1]}
    report(facts)


if __name__ == "__main__":
    main()
