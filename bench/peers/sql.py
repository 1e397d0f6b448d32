"""The catalogue as one wide SQL query over raw events, as an analyst would write it by hand: for DuckDB and for Spark.

Written from the definitions (tile columns and parts), not from the code that computes them, so that equal numbers mean
something. An order that was cancelled is left out with its lines, which is the only kind of take-back in the synthetic log.
"""

from __future__ import annotations

from collections.abc import Sequence

from features.aggregates import ChangePart, DayPart, GapPart, KeyPart, Part
from features.shopfile import Shop
from features.tile_columns import CHANGES, DAY_CODES, DAY_COLUMNS, KEY_CODES, KEY_COLUMNS, DayColumn, events_of
from features.view import Derived, Feature
from features.views.touch import OWNED, PAID

# Derived features that SQL says easily; the others (layers, RFM groups) need quantiles over the whole shop first.
DERIVED = {
    "cycle_position": "orders_recency / NULLIF(cycle_mean_gap, 0)",
    "cycle_overdue": "orders_recency - cycle_mean_gap",
    "cycle_supply_left": "cycle_supply / 1440.0 - cycle_supply_age",
    "discounts_price_trend": "CASE WHEN discounts_item_price > 0 THEN discounts_item_price_90d / discounts_item_price END",
    "touch_first_paid": f"CASE WHEN touch_first_medium IN {PAID} THEN 1.0 WHEN touch_first_medium IS NOT NULL THEN 0.0 END",
    "touch_last_paid": f"CASE WHEN touch_last_medium IN {PAID} THEN 1.0 WHEN touch_last_medium IS NOT NULL THEN 0.0 END",
    "touch_last_owned": f"CASE WHEN touch_last_medium IN {OWNED} THEN 1.0 WHEN touch_last_medium IS NOT NULL THEN 0.0 END",
    "touch_same_source": "CASE WHEN touch_first_source = touch_last_source THEN 1.0 WHEN touch_first_source IS NOT NULL THEN 0.0 END",
}
READ = ("user_id", "event", "day", "hour", "product_id", "campaign", "detail", "channel", "source", "medium", "occurred_at",
        "value_cents", "discount_cents", "coupon_cents", "quantity", "level")  # fmt: skip
GAPS = {"count": "gaps", "total": "gap_total", "squares": "gap_squares", "longest": "longest_gap", "last": "last_gap", "earlier": "earlier_gap"}


class WideQuery:
    """The text of the query for one cutoff.

    Args:
        features: the catalogue; those that no SQL is known for are left out (see `names`).
        events, products: what to select from.
    """

    def __init__(self, features: Sequence[Feature], shop: Shop, cut: int, events: str, products: str) -> None:
        self.shop, self.cut, self.events, self.products = shop, cut, events, products
        tiers = " ".join(f"WHEN membership_tier = {rank} THEN {reach}" for rank, reach in enumerate(shop.tiers[1:]))
        next_tier = f"CASE {tiers.replace('membership_tier', 'COALESCE(membership_tier, 0)')} END"
        reach = f"CASE WHEN {next_tier} - membership_growth_value IS NOT NULL THEN GREATEST({next_tier} - membership_growth_value, 0) END"
        self.derived = {**DERIVED, "membership_to_next_tier": reach}
        self.features = [feature for feature in features if not isinstance(feature.column.source, Derived) or feature.name in self.derived]
        self.parts = list(dict.fromkeys(part for feature in self.features for part in feature.parts))

    @property
    def names(self) -> list[str]:
        return [feature.name for feature in self.features]

    def standing(self) -> str:
        """The events that count, for an engine that would read them again for each of its steps: `text` can start from it."""
        return f"WITH {self._gone()} SELECT * FROM ({self._standing().removeprefix('standing AS (')} AS chosen"  # noqa: S608

    def text(self, standing: bool = False) -> str:
        """The query; with `standing`, a table of that name is there."""
        streams = sorted({(part.column, part.dimension) for part in self.parts if isinstance(part, KeyPart)})
        supplied = any(self._is_supply(part) for part in self.parts)
        tables = ["active", "changes", *(f"by_{column}_{dimension}" for column, dimension in streams), "gap", *(["supply"] if supplied else [])]
        steps = [] if standing else [self._gone(), self._standing()]
        steps += [self._wide(), self._active(), self._changes(), *(self._stream(*stream) for stream in streams), self._gap()]
        steps += [self._supply()] if supplied else []
        joins = "\n".join(f"LEFT JOIN {table} ON {table}.user_id = wide.user_id" for table in tables)
        values = ",\n".join(self._value(feature) for feature in self.features)
        return f"WITH {', '.join(steps)}\nSELECT wide.user_id,\n{values}\nFROM wide\n{joins}"

    def _gone(self) -> str:
        return f"gone AS (SELECT DISTINCT order_id AS gone_id FROM {self.events} WHERE event = 'order' AND sign < 0 AND known_day < {self.cut})"  # noqa: S608

    def _standing(self) -> str:
        return f"""standing AS (SELECT {", ".join(READ)}
            FROM {self.events} LEFT JOIN gone ON CASE WHEN event IN ('order', 'order_item') THEN order_id END = gone_id
            WHERE sign > 0 AND day < {self.cut} AND known_day < {self.cut} AND gone_id IS NULL)"""  # noqa: S608

    def _wide(self) -> str:
        """One aggregate per part."""
        mine = [part for part in self.parts if isinstance(part, DayPart) and part.kind != "days" and not self._is_supply(part)]
        values = [f"{self._day(part)} AS {_name(part)}" for part in mine]
        return f"wide AS (SELECT user_id, {', '.join(values)} FROM standing GROUP BY user_id)"  # noqa: S608

    def _changes(self) -> str:
        """Apart from the sums: Spark would sort, not hash, for all of them because of these texts."""
        mine = [part for part in self.parts if isinstance(part, ChangePart)]
        values = ", ".join(f"{self._change(part)} AS {_name(part)}" for part in mine)
        used = sorted({event for part in mine for event in CHANGES.get(part.name, (("attribute_set",), ""))[0]})
        return f"changes AS (SELECT user_id, {values} FROM standing WHERE {_in('event', used)} GROUP BY user_id)"  # noqa: S608

    def _day(self, part: DayPart) -> str:
        column = DAY_COLUMNS[DAY_CODES[part.column]] if part.column in DAY_CODES else DayColumn(part.column, events_of(part.column, self.shop.interest))
        tests = [_in("event", column.events), *([f"day >= {self.cut - part.window}"] if part.window else [])]
        if column.hours != (0, 24):
            tests.append(f"hour >= {column.hours[0]} AND hour < {column.hours[1]}")
        if column.weekend:
            tests.append("(day + 4) % 7 IN (0, 6)")
        if column.positive:
            tests.append(f"{column.positive} > 0")
        tests += [f"COALESCE({name}, 0) <= 0" for name in column.zero]
        if column.at_most is not None:
            tests.append(f"level BETWEEN 1 AND {column.at_most}")
        if part.kind != "sum" and column.amount:
            tests.append(f"{column.amount} > 0")
        case = f"CASE WHEN {' AND '.join(tests)} THEN"
        match part.kind:
            case "sum":
                return f"SUM({case} {column.amount or 1} END)"
            case "since":
                return f"{self.cut} - MAX({case} day END)"
        return f"{self.cut} - MIN({case} day END)"

    def _active(self) -> str:
        """Days with something: two levels of GROUP BY, which is cheaper than COUNT(DISTINCT)."""
        mine = [part for part in self.parts if isinstance(part, DayPart) and part.kind == "days"]
        columns = list(dict.fromkeys(part.column for part in mine))
        inner = ", ".join(f"{self._day(DayPart('sum', column))} AS {column}" for column in columns)
        case = "COUNT(CASE WHEN {} > 0 AND day >= {} THEN 1 END) AS {}"
        values = ", ".join(case.format(part.column, self.cut - (part.window or 10**6), _name(part)) for part in mine)
        by_day = f"SELECT user_id, day, {inner} FROM standing GROUP BY user_id, day"  # noqa: S608
        return f"active AS (SELECT user_id, {values} FROM ({by_day}) AS daily GROUP BY user_id)"  # noqa: S608

    def _change(self, part: ChangePart) -> str:
        events, field = CHANGES.get(part.name, (("attribute_set",), "level"))
        detail = "" if part.name in CHANGES else f" AND detail = '{part.name.removeprefix('attribute.')}'"
        moment = f"CASE WHEN {_in('event', events)}{detail} AND {field} IS NOT NULL THEN occurred_at END"
        return f"{'MIN_BY' if part.kind == 'first' else 'MAX_BY'}({field}, {moment})"

    def _stream(self, column: str, dimension: str) -> str:
        """A count per user and value, then what is wanted of the counts."""
        of = KEY_COLUMNS[KEY_CODES[column]]
        mine = [part for part in self.parts if isinstance(part, KeyPart) and (part.column, part.dimension) == (column, dimension)]
        windows = list(dict.fromkeys(part.window for part in mine))
        longest = "" if None in windows else f" AND day >= {self.cut - max(window for window in windows if window)}"
        counts = ", ".join(f"COUNT({'*' if window is None else f'CASE WHEN day >= {self.cut - window} THEN 1 END'}) AS n_{window}" for window in windows)
        join = "" if dimension == of.field else f"JOIN {self.products} USING (product_id)"
        inner = f"""SELECT user_id, {dimension} AS word, {counts} FROM standing {join}
            WHERE {_in("event", of.events)}{longest} AND {of.field} IS NOT NULL AND {dimension} IS NOT NULL GROUP BY user_id, {dimension}"""  # noqa: S608
        values = ",\n".join(f"{_KEY_VALUES[part.kind].format(n=f'n_{part.window}')} AS {_name(part)}" for part in mine)
        return f"by_{column}_{dimension} AS (SELECT user_id,\n{values}\nFROM ({inner}) AS counted GROUP BY user_id)"

    def _gap(self) -> str:
        return """gap AS (SELECT user_id, COUNT(gap) AS gaps, SUM(gap) AS gap_total, SUM(gap * gap) AS gap_squares, MAX(gap) AS longest_gap,
            MAX(CASE WHEN place = 1 THEN gap END) AS last_gap, MAX(CASE WHEN place = 2 THEN gap END) AS earlier_gap FROM (
            SELECT user_id, day - LAG(day) OVER (PARTITION BY user_id ORDER BY day) AS gap, ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY day DESC) AS place
            FROM (SELECT DISTINCT user_id, day FROM standing WHERE event = 'order') AS order_days) AS gapped GROUP BY user_id)"""

    def _supply(self) -> str:
        minutes = " ".join(f"WHEN category = '{name}' THEN {round(1440 / use)}" for name, use in self.shop.daily_use.items())
        total, first = (_name(DayPart(kind, "supply_minutes")) for kind in ("sum", "first"))
        return f"""supply AS (SELECT user_id, SUM(minutes) AS {total}, {self.cut} - MIN(day) AS {first}
            FROM (SELECT user_id, day, GREATEST(COALESCE(quantity, 0), 1) * CASE {minutes} END AS minutes FROM standing JOIN {self.products} USING (product_id)
            WHERE event = 'order_item') AS supplied WHERE minutes > 0 GROUP BY user_id)"""  # noqa: S608

    @staticmethod
    def _is_supply(part: Part) -> bool:
        return isinstance(part, DayPart) and part.column == "supply_minutes"

    def _value(self, feature: Feature) -> str:
        value = self.derived.get(feature.name) or _finished(feature.parts)
        if feature.is_label:
            return f"{value} AS {feature.name}"
        return f"CAST({value if feature.column.empty is None else f'COALESCE({value}, {feature.column.empty})'} AS DOUBLE) AS {feature.name}"


# Of the counts n of one user's values. A text is the most frequent one, the first by name if several.
_KEY_VALUES = {
    "kinds": "COUNT(CASE WHEN {n} > 0 THEN 1 END)",
    "total": "SUM({n})",
    "top": "MAX({n})",
    "again": "COUNT(CASE WHEN {n} > 1 THEN 1 END)",
    "information": "SUM(CASE WHEN {n} > 0 THEN {n} * LN({n}) END)",
    "top_key": "MIN(CASE WHEN {n} > 0 THEN CONCAT(LPAD(CAST(1000000 - {n} AS VARCHAR(7)), 7, '0'), word) END)",
}


def _finished(parts: Sequence[Part]) -> str:
    """How the parts of a regular feature become its value."""
    names = [_name(part) for part in parts]
    match [part.kind for part in parts]:
        case ["top_key"]:
            return f"SUBSTRING({names[0]}, 8)"
        case [_]:
            return names[0]
        case ["information", "total"]:
            return f"GREATEST(LN(NULLIF({names[1]}, 0)) - {names[0]} / NULLIF({names[1]}, 0), CASE WHEN {names[1]} > 0 THEN 0 END)"
        case ["count", "total"]:
            return "gap_total / NULLIF(gaps, 0)"
        case ["count", "total", "squares"]:
            return "SQRT((gaps * gap_squares - gap_total * gap_total) / NULLIF(CAST(gaps AS DOUBLE) * gaps, 0))"
    above, below = parts
    if isinstance(above, DayPart) and isinstance(below, DayPart) and above.window != below.window:
        return f"(COALESCE({names[0]}, 0) * {below.window} / {above.window}.0) / NULLIF({names[1]}, 0)"
    zero = "COALESCE({}, 0)" if above.kind != "top" else "{}"
    return f"{zero.format(names[0])} / NULLIF({names[1]}, 0)"


def _in(name: str, values: Sequence[str]) -> str:
    return f"{name} = '{values[0]}'" if len(values) == 1 else f"{name} IN ({', '.join(repr(value) for value in values)})"


def _name(part: Part) -> str:
    match part:
        case DayPart():
            return f"{part.kind}_{part.column}_{part.window}"
        case KeyPart():
            return f"{part.kind}_{part.column}_{part.dimension}_{part.window}"
        case GapPart():
            return GAPS[part.kind]
        case ChangePart():
            return f"{part.kind}_{part.name.replace('.', '_')}_{part.field}"
