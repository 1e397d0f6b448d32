"""Where seeds come from: a list in a file, a segment rule, or what the receivers of a sample bought afterwards."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from features.errors import InvalidTable, LabelWindowOpen, NoUsableData, UnknownName, unknown_name
from features.events import day_number, day_of
from features.snapshot import Snapshot
from features.tiles import Tiles
from training.lookalike.match import NOBODY, Matched, matched
from training.lookalike.rules import conditions_of, holds
from training.lookalike.seed import Origin

ID_NAMES = (
    *("user_id", "userid", "customer_id", "customerid", "client_id", "member_id", "household_id", "distinct_id", "external_id", "extern_id", "id", "user"),
    *("customer", "email_sha256", "sha256_email", "hashed_email", "email_hash", "em", "hash", "email", "e_mail", "email_address"),
)
DAY_NAMES = ("received", "received_at", "received_on", "sent_at", "sent_on", "sampled_at", "date", "day")
RECEIPTS = ("sample_received", "campaign_received")


@dataclass(frozen=True)
class Given:
    """A list as it was given. ids: texts, "" for an empty cell; days: of receipt (days since 1970) where the file has them;
    words: where it came from."""

    ids: tuple[str, ...]
    days: tuple[int, ...] | None = None
    words: str = "a list of ids"


@dataclass(frozen=True)
class Receipts:
    """Who received a sample or a campaign. first: user_id -> day of the first receipt, the user as known now; ids: as they were given."""

    first: pd.Series[int]
    words: str
    campaign: str | None = None
    missing: Matched | None = None


def read_list(path: Path, column: str | None = None, dated: bool = True) -> Given:
    """Read ids, e-mail addresses or their SHA-256 hashes from a CSV (any of , ; tab) or Parquet file.

    Args:
        column: of the ids; where None it is the only one, or the one whose name says so. dated: whether the days of receipt are
            asked for; where they are not, a column of dates may look as it likes.

    Raises:
        InvalidTable, UnknownName: it cannot be read, is empty, or has no such column.
    """
    table = _read(path)
    chosen = _id_column(list(table.columns), column, path)
    ids = _texts(table[chosen]) if list(table.columns).count(chosen) == 1 else []
    if len(table.columns) == 1 and not _is_id_name(chosen) and column is None:
        ids = [chosen, *ids]  # a file without a header: if its first line is no id after all, it is counted as unknown
    if not any(ids) and list(table.columns).count(chosen) == 1:
        raise InvalidTable(path.name, [f"column '{chosen}' has no value. Give a file with one id a line"])
    when = next((name for name in table.columns if _plain(name) in DAY_NAMES), None) if dated else None
    for name in (chosen, *([] if when is None else [when])):
        if (twice := list(table.columns).count(name)) > 1:
            raise InvalidTable(path.name, [f"{twice} columns are called '{name}', and which of them is meant is not known. Rename or delete the others"])
    return Given(tuple(ids), _days(table[when], path) if when is not None else None, f"column '{chosen}' of {path.name}")


def from_list(given: Given, snapshot: Snapshot, tiles: Tiles) -> Origin:
    """A seed of the ids that were given."""
    nobody = matched((), snapshot, tiles)
    return Origin(matched(given.ids, snapshot, tiles), nobody, nobody, {"kind": "list", "words": given.words, "columns": []})


def from_rule(rule: str, snapshot: Snapshot) -> Origin:
    """A seed of those who fulfil a segment rule at the snapshot's date; see `rules`."""
    conditions, problems = conditions_of(rule, snapshot)
    users = sorted(snapshot.user_ids[holds(conditions, snapshot)]) if not problems else []
    how = {"kind": "rule", "words": f"users with: {rule}", "rule": rule, "columns": [condition.column for condition in conditions]}
    return Origin(_of_users(users), _of_users([]), _of_users([]), how, tuple(f"rule: {problem}" for problem in problems))


def receipts_of(campaign: str, tiles: Tiles) -> Receipts:
    """Who received a campaign or its sample, by the log.

    Raises:
        UnknownName: nobody received such a campaign.
    """
    window = tiles.ever()
    rows = pd.concat([window.events(event, {"campaign": campaign}) for event in RECEIPTS])
    if rows.empty:
        raise UnknownName("campaign", campaign, campaigns_in(tiles))
    return Receipts(rows.groupby("user_id")["day"].min(), f"receivers of campaign '{campaign}'", campaign)


def campaigns_in(tiles: Tiles, events: Sequence[str] = RECEIPTS) -> list[str]:
    """The names of the campaigns that somebody received."""
    wanted = pc.field("event").isin(list(events)) & pc.is_valid(pc.field("campaign"))
    names = ds.dataset([str(path) for path in tiles.log.parts]).to_table(columns=["campaign"], filter=wanted)["campaign"]
    return sorted(pc.unique(names).to_pylist())


def receipts_given(given: Given, received: date | None, tiles: Tiles, snapshot: Snapshot) -> Receipts:
    """Who received a sample, by a list: each on the day in the file, or all on one.

    Raises:
        NoUsableData: neither the file nor the argument says when.
    """
    if given.days is None and received is None:
        raise NoUsableData(
            f"{given.words} says who received the sample but not when: add a column `received` with dates (2026-06-01), or give one date for all (--received)."
        )
    found = matched(given.ids, snapshot, tiles)
    days: dict[str, int] = {}
    for text, day in zip(given.ids, [day_number(received)] * len(given.ids) if received is not None else given.days or (), strict=True):
        days[text.strip()] = min(day, days.get(text.strip(), day))  # who received it twice received it on the first day
    rows = pd.DataFrame([(tiles.current_ids.get(user, user), days[text]) for text, user in found.of.items()], columns=["user_id", "day"])
    return Receipts(rows.groupby("user_id")["day"].min(), f"receivers in {given.words}", None, found)


def first_day_of(given: Given, received: date | None) -> date | None:
    """The day before which the receivers of a list are looked at: that of the first receipt."""
    return received if received is not None or given.days is None else day_of(min(given.days))


def products_asked(products: Sequence[str], categories: Sequence[str], tiles: Tiles) -> tuple[set[str], list[str]]:
    """The product ids that were asked for by id or category, and what is wrong with the names."""
    table = tiles.products.to_pandas()
    known, groups = {*table["product_id"]} | {*tiles.ever().keys("purchases")["key"]}, {*table["category"].dropna()}
    problems = [unknown_name("product", name, sorted(known)) for name in products if name not in known]
    problems += [unknown_name("category", name, sorted(groups)) for name in categories if name not in groups]
    return {*products} & known | {*table.loc[table["category"].isin(list(categories)), "product_id"]}, problems


def from_receipts(receipts: Receipts, snapshot: Snapshot, tiles: Tiles, within: int, products: Sequence[str] = (), categories: Sequence[str] = ()) -> Origin:
    """Receivers who bought after the day of receipt, within `within` days of it, are the seed; who did not are explicit negatives.

    A valid order of any of the products, or products of the categories, counts; of anything where neither is given. Who bought on
    the day of receipt alone may have done so before it: neither in the seed nor a negative. Who was not known before the first
    receipt is left out and counted.

    Raises:
        LabelWindowOpen: the days of the last receiver are not over.
    """
    last = day_of(int(receipts.first.max()) + within)
    if last > tiles.log.complete_until:
        raise LabelWindowOpen(snapshot.as_of, last, tiles.log.complete_until)
    asked, problems = products_asked(products, categories, tiles)
    bought = tiles.between(day_of(int(receipts.first.min())), last).keys("purchases")
    if products or categories:
        bought = bought[bought["key"].isin(asked)]
    rows = bought.merge(receipts.first.rename("received"), left_on="user_id", right_index=True)
    buyers = {*rows.loc[(rows["day"] > rows["received"]) & (rows["day"] < rows["received"] + within), "user_id"]}
    undecided = {*rows.loc[rows["day"] == rows["received"], "user_id"]} - buyers
    then = _as_known_then(receipts.first.index.tolist(), snapshot, tiles)
    sides = [sorted(then[user] for user in then if user in group) for group in (buyers, {*then} - buyers - undecided, undecided)]
    given = receipts.missing.counts if receipts.missing else {"given": len(receipts.first), "later": len(receipts.first) - len(then)}
    what = " or ".join([*products, *(f"category {name}" for name in categories)]) or "anything"
    how = {
        "kind": "campaign" if receipts.campaign else "receivers",
        "words": f"{receipts.words} who bought {what} within {within} days",
        "columns": [],
        "campaign": receipts.campaign,
        "bought": list(products),
        "bought_categories": list(categories),
        "within_days": within,
        "receivers": len(receipts.first),
        "on_receipt_day": len(sides[2]),
        "first_receipt": day_of(int(receipts.first.min())).isoformat(),
        "last_receipt": day_of(int(receipts.first.max())).isoformat(),
    }
    users = replace(receipts.missing or NOBODY, users=tuple(sides[0]), of={user: user for user in sides[0]}, counts={**given, "matched": len(sides[0])})
    return Origin(users, _of_users(sides[1]), _of_users(sides[2]), how, tuple(problems))


def _as_known_then(users: Sequence[str], snapshot: Snapshot, tiles: Tiles) -> dict[str, str]:
    """User as known now -> as the snapshot names them; who is not in it is left out."""
    known = {*snapshot.user_ids}
    visitors = {tiles.current_ids[name]: name for name in sorted(tiles.current_ids, reverse=True) if name in known} if tiles.current_ids else {}
    named = {user: user if user in known else visitors.get(user) for user in users}
    return {user: name for user, name in named.items() if name is not None}


def _of_users(users: Sequence[str]) -> Matched:
    return Matched(tuple(users), {user: user for user in users}, {"given": len(users), "matched": len(users)})


def _read(path: Path) -> pd.DataFrame:
    """The file as texts.

    Raises:
        InvalidTable: it is not there, empty, or not of its kind.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table: pd.DataFrame = pq.read_table(path).to_pandas()
            return table
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        separator = max(",;\t", key=first.count)
        frame: pd.DataFrame = pd.DataFrame([row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row])
        head, body = [str(name).strip() for name in frame.iloc[0]], frame.iloc[1:].reset_index(drop=True)
        return body.set_axis([name or f"column {place + 1}" for place, name in enumerate(head)], axis=1)
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid, csv.Error) as error:
        raise InvalidTable(path.name, [f"{error}. A list is a CSV in UTF-8 or a Parquet file, with one user a row"]) from None
    except IndexError:
        raise InvalidTable(path.name, ["the file is empty. Give one id a line, with a header such as user_id"]) from None


def _id_column(names: Sequence[str], asked: str | None, path: Path) -> str:
    if asked is not None:
        if asked not in names:
            raise UnknownName(f"column of {path.name}", asked, names)
        return asked
    if len(names) == 1:
        return names[0]
    by_plain = {_plain(name): name for name in reversed(names)}
    exact = [by_plain[name] for name in ID_NAMES if name in by_plain]
    near = [by_plain[found] for name in ID_NAMES for found in get_close_matches(name, list(by_plain), n=1, cutoff=0.8)]
    if not [*exact, *near]:
        raise InvalidTable(path.name, [f"none of its columns looks like an id: {', '.join(names)}. Say which one it is: --column NAME"])
    return [*exact, *near][0]


def _is_id_name(name: str) -> bool:
    return _plain(name) in ID_NAMES or bool(get_close_matches(_plain(name), ID_NAMES, n=1, cutoff=0.8))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _texts(column: pd.Series[Any]) -> list[str]:
    """Ids as text: a whole number that Parquet holds as a float is written without its point."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return ["" if pd.isna(value) else str(value).strip() for value in column]


def _days(column: pd.Series[Any], path: Path) -> tuple[int, ...]:
    parsed = pd.to_datetime(column, errors="coerce", format="ISO8601" if not pd.api.types.is_datetime64_any_dtype(column) else None, utc=True)
    if parsed.isna().any():
        row = int(parsed.isna().to_numpy().argmax())
        raise InvalidTable(path.name, [f"row {row + 1} of '{column.name}' is {column.iloc[row]!r}; dates are written 2026-06-01"])
    return tuple(day_number(moment.date()) for moment in parsed)


def described(mapping: Mapping[str, int]) -> str:
    """Counts as words, those that are zero left out."""
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in mapping.items() if count)
