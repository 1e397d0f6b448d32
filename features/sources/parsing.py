"""Columns of a file as typed values. What cannot be read becomes empty, with the reason beside it.

Nothing is guessed: a time without an offset needs a declared zone, an integer needs a declared unit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext

import numpy as np
import pandas as pd

UNITS = ("s", "ms", "us")
OFFSET = r"(?:[zZ]|[+-]\d\d:?\d\d)\s*$"  # at the end of an ISO 8601 time
NUMBER = r"[+-]?(\d{1,40}\.?\d{0,40}|\.\d{1,40})([eE][+-]?\d{1,3})?"
TOO_MUCH = Decimal(10**12)
EXACT = 200  # digits of arithmetic: no product of two numbers of a file is rounded on the way
EARLIEST, LATEST = pd.Timestamp("1990-01-01", tz="UTC"), pd.Timestamp("2100-01-01", tz="UTC")


@dataclass(frozen=True)
class Parsed:
    """A column read as some type.

    values: one per row, empty where the row has none or it cannot be read.
    reasons: one per row: why a value that is there cannot be read; empty where all is well.
    problem: what is wrong with the column as a whole, or None.
    """

    values: pd.Series
    reasons: pd.Series
    problem: str | None = None


def texts(column: pd.Series) -> Parsed:
    """Text without spaces around it; blank is empty. Whole numbers that a file stored as floats lose their `.0`."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    values = column.astype("string").str.strip()
    return Parsed(values.mask(values == ""), _no_reasons(column))


def numbers(column: pd.Series) -> Parsed:
    """Finite numbers as float64."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return Parsed(column, _no_reasons(column), f"holds {column.dtype} values, not numbers")
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    values = values.mask(~np.isfinite(values))
    bad = column.notna() & values.isna()
    reasons = _no_reasons(column).mask(bad, f"'{column.name}' is not a number")
    return Parsed(values, reasons, _whole_column(column, bad, "not numbers"))


def decimals(column: pd.Series) -> Parsed:
    """Numbers as exact `Decimal` objects; a float counts as the shortest text that reads as the same number."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_datetime64_any_dtype(column):
        return Parsed(column, _no_reasons(column), f"holds {column.dtype} values, not numbers")
    written = column.astype("string").str.strip()
    places, distinct = pd.factorize(written.mask(written == ""))
    known = [Decimal(text) if re.fullmatch(NUMBER, text) else None for text in distinct]  # prices repeat: each once
    is_bad = np.array([*(value is None for value in known), False])
    is_large = np.array([*(value is not None and abs(value) >= TOO_MUCH for value in known), False])
    found = np.empty(len(known) + 1, dtype=object)  # the last one is for empty values, whose place is -1
    found[:-1] = [None if large else value for value, large in zip(known, is_large[:-1], strict=True)]
    bad = pd.Series(is_bad[places], column.index)
    reasons = _no_reasons(column).mask(bad, f"'{column.name}' is not a number").mask(is_large[places], f"'{column.name}' is a trillion or more")
    return Parsed(pd.Series(found[places], column.index, dtype="object"), reasons, _whole_column(column, bad, "not numbers"))


def amounts(column: pd.Series, digits: pd.Series | int) -> Parsed:
    """Decimal text as whole minor units (cents), without a float in between; what is finer is rounded half up.

    Args:
        digits: after the point, of the currency: 2 for EUR, 0 for JPY; one for all rows or one per row.
    """
    written = texts(column).values
    bad = written.notna() & ~written.str.fullmatch(r"[+-]?\d{1,12}(\.\d{0,40})?").fillna(False)
    places = digits if isinstance(digits, pd.Series) else pd.Series(digits, column.index)
    values = pd.Series(pd.NA, index=column.index, dtype="Int64")
    for each in places.unique():
        mine = written.mask(bad | (places != each)).astype(object)
        known = {text: to_minor(Decimal(text), int(each)) for text in mine.dropna().unique()}
        values = values.fillna(mine.map(known).astype("Int64"))
    reasons = _no_reasons(column).mask(bad, f"'{column.name}' is not an amount")
    return Parsed(values, reasons, _whole_column(column, bad, "not amounts such as 1234.50"))


def to_minor(value: Decimal, digits: int) -> int:
    """Whole minor units of an amount, rounded half up."""
    with localcontext(prec=EXACT):
        return int(value.scaleb(digits).to_integral_value(ROUND_HALF_UP))


def times(column: pd.Series, zone: str | None, unit: str | None) -> Parsed:
    """Moments in UTC, to the microsecond.

    Args:
        zone: the declared zone of times without an offset.
        unit: the declared unit of integers since 1970.
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return _plausible(column.dt.tz_convert("UTC"), column, _no_reasons(column))
    if pd.api.types.is_datetime64_dtype(column):
        return _naive(column, column, zone)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return _epochs(column, unit)
    filled = column.dropna()
    if len(filled) and filled.map(lambda value: isinstance(value, date | datetime)).all():
        column = column.map(lambda value: value.isoformat(), na_action="ignore")
    written = texts(column).values
    if len(filled) and written.dropna().str.fullmatch(r"[+-]?\d{9,}(\.0*)?").all():
        return _epochs(pd.to_numeric(written), unit)
    return _written(written, zone)


def _written(written: pd.Series, zone: str | None) -> Parsed:
    """ISO 8601 text, with or without offset."""
    with_offset = written.str.contains(OFFSET, regex=True, na=False) & written.str.contains(":", na=False)
    aware = pd.to_datetime(written.where(with_offset), format="ISO8601", utc=True, errors="coerce")
    naive = pd.to_datetime(written.mask(with_offset), format="ISO8601", errors="coerce")
    bad = written.notna() & aware.isna() & naive.isna()
    problem = _whole_column(written, bad, "not times such as 2024-03-31T14:05:00 or 2024-03-31T14:05:00+01:00")
    local = _naive(naive, written, zone) if naive.notna().any() else Parsed(aware, _no_reasons(written))
    read = _plausible(aware.fillna(local.values), written.mask(bad), local.reasons)
    return Parsed(read.values, read.reasons.mask(bad, f"'{written.name}' is not an ISO 8601 time"), problem or local.problem or read.problem)


def _naive(column: pd.Series, written: pd.Series, zone: str | None) -> Parsed:
    if zone is None:
        seen = written[column.notna()].iloc[0] if column.notna().any() else "no time"
        problem = f'holds times without a zone, such as {seen}; declare it: time_zone = "Europe/London"'
        return Parsed(pd.Series(pd.NaT, column.index, dtype="datetime64[us, UTC]"), _no_reasons(column), problem)
    existing = column.dt.tz_localize(zone, ambiguous=np.ones(len(column), bool), nonexistent="NaT")
    unique = column.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    gap, twice = column.notna() & existing.isna(), existing.notna() & unique.isna()
    reasons = _no_reasons(column).mask(gap, f"'{written.name}' does not exist on the clocks of {zone} (summer time began)")
    reasons = reasons.mask(twice, f"'{written.name}' occurs twice on the clocks of {zone} (summer time ended)")
    return _plausible(unique.dt.tz_convert("UTC"), column.mask(gap | twice), reasons)


def _epochs(column: pd.Series, unit: str | None) -> Parsed:
    if unit is None:
        seen = column.dropna().iloc[0] if column.notna().any() else 0
        problem = f'holds numbers such as {seen:.0f}; declare what they count since 1970: time_unit = "s", "ms" or "us"'
        return Parsed(pd.Series(pd.NaT, column.index, dtype="datetime64[us, UTC]"), _no_reasons(column), problem)
    factor = {"s": 1_000_000, "ms": 1000, "us": 1}[unit]
    # In floats first: a wrong unit leads far beyond what 64 bits of microseconds can hold.
    sensible = (column.astype("float64") * factor).between(EARLIEST.timestamp() * 1e6, LATEST.timestamp() * 1e6).fillna(False)
    micros = (column.where(sensible).astype("Float64") * factor).round().astype("Int64")
    return _plausible(pd.to_datetime(micros, unit="us", utc=True), column, _no_reasons(column))


def _plausible(values: pd.Series, column: pd.Series, reasons: pd.Series) -> Parsed:
    """Only times from 1990 to 2100; anything else is a wrong unit or a broken clock."""
    bad = (column.notna() & ~values.between(EARLIEST, LATEST)) & reasons.isna()
    problem = _whole_column(column, bad, "not times from 1990 to 2100; is the time_unit right?")
    return Parsed(values.mask(bad).dt.as_unit("us"), reasons.mask(bad, f"'{column.name}' is not from 1990 to 2100"), problem)


def _whole_column(column: pd.Series, bad: pd.Series, what: str) -> str | None:
    """A problem of the column when not one of its values can be read."""
    return f"holds {str(column[bad].iloc[0])!r} and the like, {what}" if len(column) and bad.any() and bad.sum() == column.notna().sum() else None


def _no_reasons(column: pd.Series) -> pd.Series:
    return pd.Series(None, index=column.index, dtype="string")
