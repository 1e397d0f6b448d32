"""Amounts in another currency, made the shop's by a dated table of rates. Nothing is ever added up across currencies.

`rates = "rates.csv"` in the shop file names a CSV with the columns date, currency and rate: one unit of the currency is
`rate` units of the shop's own. An amount counts at the latest rate on or before the day, in the shop's zone, on which it
occurred. Without such a rate its row is left out, and without a table every foreign amount is. Sources read amounts in
the minor units of their own currency and keep the `currency`; `convert` does the rest for all of them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from features.errors import InvalidTable, NoUsableData, unknown_name
from features.money import DIGITS, minor_units
from features.shopfile import Shop

if TYPE_CHECKING:
    from features.sources.batch import Batch

AMOUNTS = ("value_cents", "discount_cents", "coupon_cents")
LARGEST = 10**15  # minor units in one row; more is a mistake and would not fit into sums
COLUMNS = ("date", "currency", "rate")
DAYS = "datetime64[D]"


@dataclass(frozen=True)
class Rates:
    """The rates of one currency: days in ascending order, and what one unit was worth from each of them on."""

    days: np.ndarray
    values: Sequence[Fraction]


def digits_of(currencies: pd.Series) -> pd.Series:
    """Digits after the point per row; two where the currency is not known."""
    return currencies.map(DIGITS).fillna(2).astype("int64")


def without_rate(currencies: pd.Series, moments: pd.Series, shop: Shop) -> pd.Series:
    """Per row, why an amount in its currency cannot be made the shop's; empty where it can, and where no currency is named.

    Raises:
        InvalidTable: the table of rates is wrong; all problems are listed.
    """
    reasons = pd.Series(None, index=currencies.index, dtype="string")
    foreign = (currencies != shop.currency).fillna(False) & currencies.notna() & moments.notna()
    if not foreign.any():
        return reasons
    named = currencies[foreign].astype("string")
    if shop.rates is None:
        reasons[foreign] = "in " + named + f", not in the shop's {shop.currency}; add rates"
        return reasons
    days = _days(moments[foreign], shop.zone)
    found = _found(named, days, read_rates(shop))
    missing = np.array([rate is None for rate in found], dtype=bool)
    text = "in " + named + f", and {shop.rates} has no rate for " + named + " on or before " + pd.Series(days.astype(str), named.index, dtype="string")
    reasons[foreign] = text.where(missing)
    return reasons


def convert(batch: Batch, shop: Shop) -> Batch:
    """The batch with all amounts in minor units of the shop's currency, rounded half up.

    A refund that states its order's total so far counts at the rate of the order's day: at the rate of its own day every
    later export would state another total. An order that cannot be converted is left out with all that belongs to it.

    Raises:
        InvalidTable: the table of rates is wrong; all problems are listed.
        NoUsableData: nothing can be converted.
    """
    if shop.rates is not None:
        read_rates(shop)  # a wrong table is reported when it is made, not when the first foreign order comes
    if set(pc.unique(batch.events["currency"]).to_pylist()) <= {None, shop.currency}:
        return batch
    frame = batch.events.select(["event", "order_id", "occurred_at", "currency", *AMOUNTS]).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    moments = _rate_moments(frame) if batch.refunds_are_totals else frame["occurred_at"]
    currencies = frame["currency"].where(frame[list(AMOUNTS)].notna().any(axis=1))
    reasons = without_rate(currencies, moments, shop)
    frame = _converted(frame, currencies.where(reasons.isna()), moments, shop)
    reasons = reasons.mask((frame[list(AMOUNTS)].abs() > LARGEST).any(axis=1), f"an amount too large to be true in {shop.currency}")
    lost = frame["order_id"].where(reasons.notna() & frame["event"].isin(["order", "order_item"]))
    reasons = reasons.fillna(frame["order_id"].map(reasons.groupby(lost).first()).astype("string"))
    if reasons.notna().all():
        counts = {str(reason): int(rows) for reason, rows in reasons.value_counts().sort_index().items()}
        raise NoUsableData(f"{batch.name} has no usable row: {counts}. Nothing was written.")
    events = batch.events
    for name in (*AMOUNTS, "currency"):
        place = events.column_names.index(name)
        events = events.set_column(place, events.schema.field(place), pa.array(frame[name], events.schema.field(place).type, from_pandas=True))
    left_out = pd.DataFrame({"file": batch.name, "line": pd.NA, "reason": reasons.dropna()}).astype({"file": "string", "line": "Int64", "reason": "string"})
    refused = pd.concat([batch.refused, left_out], ignore_index=True) if len(left_out) else batch.refused
    return replace(batch, events=events.filter(pa.array(reasons.isna())), refused=refused)


def read_rates(shop: Shop) -> Mapping[str, Rates]:
    """Currency -> its rates.

    Raises:
        InvalidTable: the file is missing or wrong; all problems are listed with their lines.
    """
    path = shop.path.parent / str(shop.rates)
    if not path.is_file():
        near = sorted(file.name for file in path.parent.glob("*.csv")) if path.parent.is_dir() else []
        raise InvalidTable(path.name, [unknown_name("file", path.name, near).replace("Known:", "Beside it:")])
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidTable(path.name, [f"the file is damaged or not a CSV: {error}"]) from None
    missing = [unknown_name("column", name, header) for name in COLUMNS if name not in header]
    if missing:
        raise InvalidTable(path.name, missing)
    seen: dict[tuple[str, str], int] = {}
    problems = [f"line {line}: {problem}" for line, row in rows for problem in _row_problems(row, line, seen, shop.currency)]
    if not rows:
        problems.append('the file has no rates; a line looks like "2024-03-01,USD,0.9237"')
    if problems:
        raise InvalidTable(path.name, problems)
    found: dict[str, list[tuple[str, Fraction]]] = {}
    for _, row in rows:
        found.setdefault(row["currency"].strip(), []).append((row["date"].strip(), Fraction(Decimal(row["rate"].strip()))))
    return {currency: Rates(np.array([day for day, _ in sorted(rates)], dtype=DAYS), [rate for _, rate in sorted(rates)]) for currency, rates in found.items()}


def _row_problems(row: Mapping[str, str | None], line: int, seen: dict[tuple[str, str], int], shop_currency: str) -> list[str]:
    day, currency, rate = ((row[name] or "").strip() for name in COLUMNS)
    problems = []
    if not _is_day(day):
        problems.append(f"date is '{day}'; it must be a day such as 2024-03-01")
    if not re.fullmatch(r"[A-Z]{3}", currency):
        problems.append(f"currency is '{currency}'; it must be an ISO code of three capital letters, such as USD")
    if not re.fullmatch(r"\d{1,9}(\.\d{1,12})?", rate) or not Decimal(rate):
        problems.append(f"rate is '{rate}'; it must be a number above zero with a point, such as 0.9237")
    elif currency == shop_currency and Decimal(rate) != 1:
        problems.append(f"rate of the shop's own {currency} is '{rate}'; one {currency} is one {currency}: leave the line out")
    first = seen.setdefault((day, currency), line)
    if first != line:
        problems.append(f"{currency} on {day} stands in line {first} already; keep one of the two")
    return problems


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _days(moments: pd.Series, zone: str) -> np.ndarray:
    return np.asarray(moments.dt.tz_convert(zone).dt.tz_localize(None).to_numpy(), dtype=DAYS)


def _found(currencies: pd.Series, days: np.ndarray, rates: Mapping[str, Rates]) -> list[Fraction | None]:
    """Per row the latest rate on or before its day."""
    found: list[Fraction | None] = [None] * len(currencies)
    for currency, known in rates.items():
        places = np.flatnonzero((currencies == currency).to_numpy(dtype=bool))
        for place, latest in zip(places, np.searchsorted(known.days, days[places], side="right") - 1, strict=True):
            found[place] = known.values[latest] if latest >= 0 else None
    return found


def _rate_moments(frame: pd.DataFrame) -> pd.Series:
    orders = frame[frame["event"] == "order"].drop_duplicates("order_id").set_index("order_id")["occurred_at"]
    placed = frame["order_id"].map(orders).where(frame["event"] == "refund")
    return placed.fillna(frame["occurred_at"])


def _converted(frame: pd.DataFrame, currencies: pd.Series, moments: pd.Series, shop: Shop) -> pd.DataFrame:
    """The amounts in the shop's currency on the rows that name another one in `currencies`."""
    foreign = currencies.notna() & (currencies != shop.currency).fillna(False)
    named = currencies[foreign].astype("string")
    frame = frame.assign(currency=frame["currency"].mask(frame["currency"].notna(), shop.currency))
    if named.empty:
        return frame
    found = _found(named, _days(moments[foreign], shop.zone), read_rates(shop))
    scale = minor_units(shop.currency)
    factors = [(rate or Fraction()) * scale / minor_units(currency) for rate, currency in zip(found, named, strict=True)]
    for name in AMOUNTS:
        own = [_half_up(amount, by) for amount, by in zip(frame.loc[foreign, name], factors, strict=True)]
        frame.loc[foreign, name] = pd.array(own, dtype="Int64")
    return frame


def _half_up(amount: Any, factor: Fraction) -> int | None:
    if pd.isna(amount):
        return None
    size = min((2 * abs(int(amount)) * factor.numerator + factor.denominator) // (2 * factor.denominator), LARGEST + 1)
    return size if amount >= 0 else -size
