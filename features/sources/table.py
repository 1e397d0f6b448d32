"""Any CSV or Parquet file, by a mapping in the shop file.

`rows` says what a row is: one product of an order (`order_items`), an `orders`, or one of any `events`. `columns` maps
canonical names to the file's. The parts of a row that matter:

* Money. `amount` is what was paid, after `discount`. Without it, it is `price` x `quantity` - `discount`.
* Orders. An order's value is the sum of its lines and its time the first of theirs. All lines of an order have to be in
  one file. An order that was not paid (total of zero or less) is left out with its lines.
* Refunds. Rows on which a column of `refund_when` has the given value become refunds of the positive amount, one per
  order id and moment.
* Identity. The same event has the same id in every file and at every reading: an order's id is its `order_id`, any other
  row's is its `event_id`, or else a hash over its mapped values, `known_at` left out, since a delivery repeated later is
  the same event. So equal rows are one event, within a file and across files, with one exception: order lines do repeat
  in earnest (the same product scanned twice), so equal lines of one file without an `event_id` are added up, and the
  sum counts once however often the file is read.
* Time. `complete_until` is declared, or else the shop's day of the last event: that day may not be over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import InvalidTable, NoUsableData, unknown_name
from features.shopfile import MAPPED, Shop
from features.sources.batch import Batch, canonical_events, canonical_products
from features.sources.parsing import UNITS, Parsed, numbers, texts, times
from features.sources.table_rows import READERS, REQUIRED
from features.vocabulary import EVENTS

TIMES, NUMBERS = ("occurred_at", "known_at"), ("quantity", "amount", "price", "discount", "level")
DAY = pd.Timedelta(days=1)


def read(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """Events, products and the count of rows left out, per reason.

    Raises:
        InvalidTable: the settings or the file cannot be accepted; all problems are listed.
        NoUsableData: the file has no rows, or none that can be used.
    """
    path = shop.path.parent / str(settings.get("path", ""))
    problems = _setting_problems(settings)
    wanted = dict.fromkeys([*settings.get("columns", {}).values(), *settings.get("refund_when", {})])
    raw, found = open_table(path, list(wanted))
    problems += found
    columns, found = _parse(raw, settings)
    problems += found
    if not problems:
        problems += _name_problems(columns, settings)
    if problems:
        raise InvalidTable(path.name or "The table", problems)
    if raw.empty:
        raise NoUsableData(f"{path.name} has a header and no rows. Nothing was written.")
    rows = _rows(columns, raw, settings, pd.Timestamp(path.stat().st_mtime, unit="s", tz="UTC"))
    frames, reasons = READERS[settings["rows"]](rows, shop.currency)
    quarantined = {str(reason): int(count) for reason, count in reasons.value_counts().sort_index().items()}
    if not sum(map(len, frames)):
        raise NoUsableData(f"{path.name} has no usable row: {quarantined}. Nothing was written.")
    usable = rows[reasons.isna()]
    return Batch(path.stem, canonical_events(*frames), _complete_until(usable, settings, shop.zone), products_of(usable), quarantined)


def _setting_problems(settings: Mapping[str, Any]) -> list[str]:
    problems = []
    kind, columns = settings.get("rows"), settings.get("columns", {})
    if kind not in REQUIRED:
        problems.append(unknown_name("kind of rows", str(kind), list(REQUIRED)))
    for needed in REQUIRED.get(str(kind), ()):
        if not columns.keys() & set(needed.split(" or ")):
            problems.append(f'rows = "{kind}" needs {needed}: add {needed.split(" or ")[0]} = "<column of the file>" under columns')
    problems += [unknown_name("canonical column", name, list(MAPPED)) for name in columns if name not in MAPPED]
    if settings.get("time_unit", "s") not in UNITS:
        problems.append(unknown_name("time_unit", str(settings["time_unit"]), list(UNITS)))
    return problems + date_problems(settings)


def date_problems(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with `complete_until`, if it is given."""
    try:
        date.fromisoformat(str(settings.get("complete_until", "2000-01-01")))
    except ValueError:
        return [f"complete_until is {settings['complete_until']!r}; it must be a date such as 2024-12-31"]
    return []


def open_table(path: Path, wanted: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The wanted columns of a file that exist, and what is missing.

    Raises:
        NoUsableData: a file of zero bytes.
    """
    if not path.is_file():
        near = [file.name for file in path.parent.iterdir() if file.suffix in (".csv", ".parquet")] if path.parent.is_dir() else []
        return pd.DataFrame(), [unknown_name("file", path.name, sorted(near)).replace("Known:", "Beside it:")]
    if not path.stat().st_size:
        raise NoUsableData(f"{path.name} is an empty file. Nothing was written.")
    if path.suffix not in (".csv", ".parquet"):
        return pd.DataFrame(), [f"'{path.suffix}' files cannot be read; give a .csv or a .parquet file"]
    try:
        known = pq.read_schema(path).names if path.suffix == ".parquet" else list(pd.read_csv(path, nrows=0, dtype=str, encoding="utf-8-sig").columns)
        missing = [unknown_name("column", str(name), known) for name in wanted if name not in known]
        present = [name for name in wanted if name in known]
        if path.suffix == ".parquet":
            return pd.read_parquet(path, columns=present), missing
        return pd.read_csv(path, usecols=present, dtype="string", keep_default_na=False, na_values=[""], encoding="utf-8-sig"), missing
    except (pa.ArrowException, pd.errors.ParserError, UnicodeDecodeError, OSError) as error:
        return pd.DataFrame(), [f"the file is damaged or not what its ending says: {str(error).splitlines()[0]}"]


def _parse(raw: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[dict[str, Parsed], list[str]]:
    """Canonical name -> parsed column, for the mapped columns that exist, and what is wrong with them as a whole."""
    unit = settings.get("time_unit") if settings.get("time_unit") in UNITS else None
    parsed = {}
    for name, source in settings.get("columns", {}).items():
        if source not in raw:
            continue
        if name in TIMES:
            parsed[name] = times(raw[source], settings.get("time_zone"), unit)
        else:
            parsed[name] = numbers(raw[source]) if name in NUMBERS else texts(raw[source])
    wrong = [f"column '{settings['columns'][name]}' ({name}) {column.problem}" for name, column in parsed.items() if column.problem and len(raw)]
    return parsed, wrong


def _name_problems(columns: Mapping[str, Parsed], settings: Mapping[str, Any]) -> list[str]:
    """A file of events of which not one has a known name."""
    if settings["rows"] != "events":
        return []
    seen = sorted(columns["event"].values.dropna().unique())
    known = [*settings.get("events", {}), *EVENTS]
    if not seen or set(seen) & set(known):
        return []
    return [unknown_name("event", name, known) for name in seen[:20]]


def _rows(columns: Mapping[str, Parsed], raw: pd.DataFrame, settings: Mapping[str, Any], written: pd.Timestamp) -> pd.DataFrame:
    """All canonical columns, with `reason` why a row cannot be used and `is_refund`."""
    rows = pd.DataFrame({name: column.values for name, column in columns.items()}, index=raw.index)
    rows = rows.reindex(columns=list(MAPPED)).astype({name: "Float64" if name in NUMBERS else "string" for name in MAPPED if name not in TIMES})
    reason = pd.Series(None, index=raw.index, dtype="string").mask(rows["user_id"].isna(), "no user id")
    for column in columns.values():
        reason = reason.fillna(column.reasons)
    reason = reason.mask(reason.isna() & rows["occurred_at"].isna(), "no time")
    # Nothing can be in a file before it happened: a later time comes from a device whose clock is wrong.
    reason = reason.mask(reason.isna() & (rows["occurred_at"] > written + DAY), "happened after the file was written (a wrong device clock?)")
    rows["known_at"] = pd.to_datetime(rows["known_at"], utc=True).fillna(rows["occurred_at"])
    marks = [raw[name].astype("string").str.casefold().eq(str(value).casefold()).fillna(False) for name, value in settings.get("refund_when", {}).items()]
    rows["is_refund"] = pd.concat(marks, axis=1).any(axis=1) if marks else False
    if settings["rows"] == "events":
        names = rows["event"].map(lambda name: settings.get("events", {}).get(name, name), na_action="ignore").astype("string")
        unmapped = ("event '" + rows["event"] + "' is not mapped to a canonical event").fillna("no event name")
        reason = reason.mask(reason.isna() & ~names.isin(list(EVENTS)), unmapped)
        rows["event"] = names
    return rows.assign(reason=reason)


def _complete_until(usable: pd.DataFrame, settings: Mapping[str, Any], zone: str) -> date:
    # The log leaves out what happened more than a day after it became known: it says nothing about completeness.
    sane = usable[usable["occurred_at"] <= usable["known_at"] + DAY]
    return complete_until(settings, (usable if sane.empty else sane)["occurred_at"].max(), zone)


def complete_until(settings: Mapping[str, Any], last: pd.Timestamp, zone: str) -> date:
    """The declared date, or else the shop's day of the last moment that the file speaks of."""
    return date.fromisoformat(str(settings.get("complete_until", last.tz_convert(zone).date())))


def products_of(usable: pd.DataFrame) -> pa.Table | None:
    """What the latest row of each product says about it."""
    facts = ["category", "brand", "department"]
    if usable["product_id"].isna().all() or usable[facts].isna().all(axis=None):
        return None
    rows = usable.dropna(subset=["product_id"]).sort_values(["occurred_at", *facts], kind="stable")
    return canonical_products(rows.drop_duplicates("product_id", keep="last"))
