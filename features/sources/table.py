"""Any CSV or Parquet file or SQL query, by a mapping in the shop file.

`rows` says what a row is: one product of an order (`order_items`), an `orders`, or one of any `events`. `columns` maps
canonical names to the file's; `sql_table` says how a database is named. The parts of a row that matter:

* Money. `amount` is what was paid, with shipping and tax if the column has them, after `discount` and `coupon`. Without
  it, it is `price` x `quantity` - `discount` - `coupon`. All are in units such as 12.50 of the row's `currency`; a row
  that names none is in the shop's.
* Orders. An order's value is the sum of its lines and its time the first of theirs. All lines of an order have to be in
  one file. An order that was not paid (total of zero or less) is left out with its lines.
* Refunds. Rows on which a column of `refund_when` has the given value become refunds of the positive amount, one per
  order id and moment.
* Identity. The same event has the same id in every file and at every reading: an order's id is its `order_id`, a line's
  its order and product, any other row's its `event_id`, or else a hash over its mapped values, `known_at` left out, since
  a delivery repeated later is the same event. So equal rows are one event, within a file and across files, with one
  exception: order lines do repeat in earnest (the same product scanned twice), so equal products of one order are one
  line with the sum of them. Lines with the same `event_id` count once.
* Who. An event belongs to its `user_id`, or to a visitor without one by `anonymous_id`; both say that they are the same.
* Origin. `source`, `medium` and `campaign` are columns, or follow from the address of the visit's first page, `landing_url`.
* Lines. A row left out is named by its line in a CSV, also where quoted fields hold several lines. In a Parquet file or
  SQL query it is named by its place, from 1; a query without `order by` may have another row there the next time.
* Time. `complete_until` is declared, or else the shop's day of the last event: that day may not be over.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import InvalidTable, NoUsableData, unknown_name
from features.shopfile import MAPPED, Shop
from features.sources.attribution import attribution
from features.sources.batch import Batch, canonical_events, canonical_products, file_date, refused_rows
from features.sources.parsing import UNITS, Parsed, decimals, texts, times
from features.sources.sql_table import connection_problems, name_of, open_query
from features.sources.table_rows import READERS, REQUIRED
from features.vocabulary import EVENTS

TIMES, NUMBERS = ("occurred_at", "known_at"), ("quantity", "amount", "price", "discount", "coupon", "level")
DAY = pd.Timedelta(days=1)


def read(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """Events, products and the rows left out, with the reason.

    Raises:
        InvalidTable: the settings, the file or the database cannot be accepted; all problems are listed.
        NoUsableData: there are no rows, or none that can be used.
    """
    path, is_sql = shop.path.parent / str(settings.get("path", "")), "url" in settings
    name = name_of(settings) if is_sql else path.name or "The table"
    problems = _setting_problems(settings)
    wanted = list(dict.fromkeys([*settings.get("columns", {}).values(), *settings.get("refund_when", {})]))
    raw, found = open_query(settings, wanted, shop.path.parent) if is_sql else open_table(path, wanted)
    problems += found
    columns, found = _parse(raw, settings)
    problems += found
    if not problems:
        problems += _name_problems(columns, settings)
    if problems:
        raise InvalidTable(name, problems)
    if raw.empty:
        raise NoUsableData(f"{name} has {'no rows' if is_sql else 'a header and no rows'}. Nothing was written.")
    written = pd.Timestamp.now(tz="UTC") if is_sql else file_date(path)
    rows = _rows(columns, raw, settings, written)
    frames, reasons = READERS[settings["rows"]](rows, shop)
    counted = is_sql or reasons.isna().all()
    refused = refused_rows(name, pd.Series(range(1, len(raw) + 1)) if counted else row_lines(path, len(raw)), reasons)
    if not sum(map(len, frames)):
        counts = {str(reason): int(count) for reason, count in reasons.value_counts().sort_index().items()}
        raise NoUsableData(f"{name} has no usable row: {counts}. Nothing was written.")
    usable = rows[reasons.isna()]
    return Batch(
        name=name if is_sql else path.stem,
        events=canonical_events(*frames),
        complete_until=_complete_until(usable, settings, shop.zone),
        products=products_of(usable),
        refused=refused,
        written=written,
    )


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
    return problems + date_problems(settings) + connection_problems(settings)


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


def row_lines(path: Path, rows: int) -> pd.Series:
    """The line at which each row of a file begins; of a Parquet file its number. If in doubt, a CSV's row number + 1."""
    plain = pd.Series(range(2, rows + 2))
    if path.suffix == ".parquet":
        return plain - 1
    starts, before = [], 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if any(map(str.strip, row)) or len(row) > 1:  # pandas passes over blank lines
                    starts.append(before + 1)
                before = reader.line_num
    except csv.Error:
        return plain
    return pd.Series(starts[1:]) if len(starts) == rows + 1 else plain


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
            parsed[name] = decimals(raw[source]) if name in NUMBERS else texts(raw[source])
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
    rows = rows.reindex(columns=list(MAPPED)).astype({name: "object" if name in NUMBERS else "string" for name in MAPPED if name not in TIMES})
    nobody = rows["user_id"].isna() & (rows["anonymous_id"].isna() | (settings["rows"] != "events"))
    unnamed = "no user id" if "anonymous_id" not in columns or settings["rows"] != "events" else "neither a user id nor an anonymous id"
    reason = pd.Series(None, index=raw.index, dtype="string").mask(nobody, unnamed)
    for column in columns.values():
        reason = reason.fillna(column.reasons)
    reason = reason.mask(reason.isna() & rows["occurred_at"].isna(), "no time")
    # Nothing can be in a file before it happened: a later time comes from a device whose clock is wrong.
    reason = reason.mask(reason.isna() & (rows["occurred_at"] > written + DAY), "happened after the file was written (a wrong device clock?)")
    rows["known_at"] = pd.to_datetime(rows["known_at"], utc=True).fillna(rows["occurred_at"])
    marks = [raw[name].astype("string").str.casefold().eq(str(value).casefold()).fillna(False) for name, value in settings.get("refund_when", {}).items()]
    rows["is_refund"] = pd.concat(marks, axis=1).any(axis=1) if marks else False
    rows = _with_origin(rows, settings)
    if settings["rows"] == "events":
        names = rows["event"].map(lambda name: settings.get("events", {}).get(name, name), na_action="ignore").astype("string")
        unmapped = ("event '" + rows["event"] + "' is not mapped to a canonical event").fillna("no event name")
        reason = reason.mask(reason.isna() & ~names.isin(list(EVENTS)), unmapped)
        rows["event"] = names
    return rows.assign(reason=reason)


def _with_origin(rows: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Where a visit came from by its landing address, on rows on which the file itself says nothing about it."""
    if "landing_url" not in settings["columns"]:
        return rows
    found = attribution(rows["landing_url"], own_domains=settings.get("own_domains", ()))
    said_nothing = rows[["source", "medium"]].isna().all(axis=1)
    origin = {name: rows[name].mask(said_nothing, found[name]).astype("string") for name in ("source", "medium")}
    return rows.assign(**origin, campaign=rows["campaign"].fillna(found["campaign"]))


def _complete_until(usable: pd.DataFrame, settings: Mapping[str, Any], zone: str) -> date:
    # The log leaves out what happened more than a day after it became known: it says nothing about completeness.
    sane = usable[usable["occurred_at"] <= usable["known_at"] + DAY]
    return complete_until(settings, (usable if sane.empty else sane)["occurred_at"].max(), zone)


def complete_until(settings: Mapping[str, Any], last: pd.Timestamp, zone: str) -> date:
    """The declared date, or else the shop's day of the last moment that the file speaks of."""
    return date.fromisoformat(str(settings.get("complete_until", last.tz_convert(zone).date())))


def products_of(usable: pd.DataFrame) -> pa.Table | None:
    """What the latest row of each product that says something about it says."""
    facts = ["category", "brand", "department"]
    if usable["product_id"].isna().all() or usable[facts].isna().all(axis=None):
        return None
    rows = usable.dropna(subset=["product_id"]).sort_values(["occurred_at", *facts], kind="stable")
    return canonical_products(rows.groupby("product_id", sort=True)[facts].last().reset_index())
