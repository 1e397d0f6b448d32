"""神策 (Sensors Data): one JSON object a line, as the SDKs send it and as imports and subscriptions write it.

Event and property names are the customer's own, so `mapping` names a file that gives them their meaning
(`sensors_mapping`). What the format itself fixes is read without it:

* Kinds. `track` is an event. `track_signup` and `track_id_bind` say who a visitor is. `profile_set` sets the attributes
  that the shop file declares; its other types are left out, since they do not say what an attribute is from then on.
  `item_set` says what a product is.
* Who. `login_id` (also in `identities`), or the `distinct_id` of a line with `$is_login_id`, is the user; `anonymous_id`, or
  the `distinct_id` of any other line, is the visitor.
* Time. `time` counts milliseconds. A line became known when it was received (`recv_time`) where it says so, else when it
  happened. A line with `time_free` is an import of history, which the shop's systems had all along: it was known when it
  happened, since with the date of the import there would be no past to learn from.
* Identity. A line's id is `_track_id` and `time`, or else a hash of what it says, without the times of receiving it. So
  neither the order of lines nor of keys matters, and a line sent again is the same event. An order is known by its id, a
  line of it by order and product.
* Money. `amount_unit` of the mapping declares what amounts count. An order's value is what its amount property holds; map
  the one that the customer paid, with shipping and tax.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pandas as pd

from features.errors import InvalidTable
from features.rates import digits_of
from features.shopfile import MAPPED, Shop
from features.sources.batch import Batch, canonical_events, file_date
from features.sources.json_objects import Entry, content_id, read_lines, refused_lines, require_some
from features.sources.parsing import NUMBER, TOO_MUCH, Parsed, decimals, texts, times
from features.sources.sensors_mapping import AMOUNT_UNITS, MONEY, SensorsMapping, read_mapping, unmapped
from features.sources.table import DAY, NUMBERS, complete_until, date_problems, products_of
from features.sources.table_rows import events, refuse

IDENTIFYING = ("track_signup", "track_id_bind")
USED = ("track", *IDENTIFYING, "profile_set", "item_set")
RECEIVED = ("recv_time", "_flush_time", "_track_id", "_nocache", "_hybrid_h5")  # differ when a line is sent again
LATE = "happened after the file was written (a wrong device clock?)"


def read(settings: Mapping[str, Any], shop: Shop) -> Batch:
    """Events, identifications, attributes and products.

    Raises:
        InvalidTable: the file or its mapping cannot be accepted; all problems are listed.
        NoUsableData: the file is empty, or no line of it can be used.
    """
    path = shop.path.parent / str(settings.get("path", ""))
    lines = read_lines(path)
    mapping, problems = read_mapping(settings.get("mapping"), shop.path.parent)
    names = [str(entry.get("event")) for entry in lines.entries if entry.get("type") == "track"]
    if mapping is None or not (problems or set(names) & set(mapping.events) or not names):
        problems += unmapped(names)
    problems += date_problems(settings)
    if problems or mapping is None:
        raise InvalidTable(path.name, problems)
    written = file_date(path)
    said = _said(lines.entries, lines.numbers, mapping, written)
    is_item, is_profile = said["type"] == "item_set", said["type"] == "profile_set"
    items, rows = _items(said[is_item], mapping), _tracked(said[~is_item & ~is_profile], mapping)
    rows = pd.concat([rows, _attributes(said[is_profile], mapping, shop.attributes)], ignore_index=True)
    frames, reasons = events(rows, shop)
    usable = rows[reasons.isna()]
    refused = refused_lines(path, lines, (rows["line"], reasons), (items["line"], items["reason"]))
    require_some(usable, refused, path)
    return Batch(
        name=path.stem,
        events=canonical_events(*frames),
        complete_until=complete_until(settings, usable["occurred_at"].max(), shop.zone),
        products=products_of(pd.concat([usable, items[items["reason"].isna()]])),
        refused=refused,
        written=written,
    )


def _said(entries: Sequence[Entry], numbers: pd.Series, mapping: SensorsMapping, written: pd.Timestamp) -> pd.DataFrame:
    """What the format itself says, per line: who, when, the type, the name of the event, and why the line cannot be used."""
    properties = [_dict(entry.get("properties")) for entry in entries]
    kinds = [str(entry.get("type")) for entry in entries]
    who = [_who(entry, kind, each) for entry, kind, each in zip(entries, kinds, properties, strict=True)]
    moments = _milliseconds([entry.get("time") for entry in entries], "time")
    said = pd.DataFrame(
        {
            "line": numbers,
            "type": pd.Series(kinds, dtype="string"),
            "name": _text_column([entry.get("event") for entry in entries]),
            "project": pd.Series([str(entry.get("project", "default")) for entry in entries], dtype="string"),
            "item_type": _text_column([entry.get("item_type") for entry in entries]),
            "item_id": _text_column([entry.get("item_id") for entry in entries]),
            "properties": pd.Series(properties, dtype="object"),
            "event_id": pd.Series([_event_id(entry) for entry in entries], dtype="string"),
            "user_id": pd.Series([user for user, _ in who], dtype="string"),
            "anonymous_id": pd.Series([visitor for _, visitor in who], dtype="string"),
            "occurred_at": moments.values,
            "known_at": _known(entries, moments.values),
            "is_refund": False,
            "reason": pd.Series(None, numbers.index, dtype="string"),
        }
    )
    if mapping.project is not None:
        said = refuse(said, said["project"] != mapping.project, "of project '" + said["project"] + "'")
    said = refuse(said, ~said["type"].isin(USED), "type '" + said["type"] + "' is not used")
    said = refuse(said, moments.reasons.notna(), moments.reasons)
    said = refuse(said, said["occurred_at"].isna(), "no time")
    said = refuse(said, said["occurred_at"] > written + DAY, LATE)
    nobody = said[["user_id", "anonymous_id"]].isna().all(axis=1) & (said["type"] != "item_set")
    return refuse(said, nobody, "neither a user id nor an anonymous id")


def _tracked(said: pd.DataFrame, mapping: SensorsMapping) -> pd.DataFrame:
    """Canonical rows of the lines that are events."""
    names = said["name"].map(mapping.events.get, na_action="ignore").astype("string").mask(said["type"].isin(IDENTIFYING), "identified")
    rows = refuse(said.assign(event=names), names.isna(), ("event '" + said["name"] + "' is not mapped to a canonical event").fillna("no event name"))
    return _with_properties(rows, mapping)


def _items(said: pd.DataFrame, mapping: SensorsMapping) -> pd.DataFrame:
    """What the lines of products say about them."""
    is_other = said["item_type"].fillna("") != (mapping.item_type or said["item_type"].fillna(""))
    rows = refuse(said, is_other, "an item of another type")
    rows = refuse(rows, rows["item_id"].isna(), "an item without an id")
    return _with_properties(rows, mapping).assign(product_id=rows["item_id"])


def _attributes(said: pd.DataFrame, mapping: SensorsMapping, declared: Sequence[str]) -> pd.DataFrame:
    """One row per declared attribute that a line sets; one without any if it sets none."""
    found: list[tuple[int, str | None, Decimal | None, str | None]] = []
    for place, given in enumerate(said["properties"]):
        mine = [name for name in declared if given.get(name) is not None]
        found += [(place, name, *_level(name, given[name], mapping.levels.get(name))) for name in mine]
        if not mine:
            found.append((place, None, None, "profile_set without an attribute that the shop file declares"))
    rows = said.iloc[[place for place, *_ in found]].reset_index(drop=True)
    names, why = (pd.Series([each[part] for each in found], rows.index, dtype="string") for part in (1, 3))
    levels = pd.Series([level for _, _, level, _ in found], rows.index, dtype="object")
    rows = _with_properties(rows, SensorsMapping())
    return refuse(rows.assign(event="attribute_set", event_id=rows["event_id"] + "-" + names, detail=names, level=levels), why.notna(), why)


def _with_properties(said: pd.DataFrame, mapping: SensorsMapping) -> pd.DataFrame:
    """Add the canonical columns that properties are mapped to, the others empty; amounts in major units of their currency."""
    given = {name for each in said["properties"] for name in each}
    present = {column: [name for name in names if name in given] for column, names in mapping.properties.items()}
    parsed = {column: _column(said, column, names) for column, names in present.items() if names}
    rows = said.assign(**{column: each.values for column, each in parsed.items()})
    absent = [name for name in MAPPED if name not in rows]
    rows = rows.assign(**{name: pd.Series(None, said.index, dtype="object" if name in NUMBERS else "string") for name in absent})
    for each in parsed.values():
        rows = refuse(rows, each.reasons.notna(), each.reasons)
    implied, is_minor = AMOUNT_UNITS[mapping.amount_unit]
    currency = rows["currency"].str.upper().fillna(implied or pd.NA)
    digits = digits_of(currency)
    return rows.assign(currency=currency, **({name: from_minor(rows[name], digits) for name in MONEY} if is_minor else {}))


def _level(name: str, value: Any, levels: Mapping[str, int] | None) -> tuple[Decimal | None, str | None]:
    """An attribute's value as a number, or why it is none."""
    text = text_of(value) or ""
    if levels is not None and text in levels:
        return Decimal(levels[text]), None
    if isinstance(value, bool):
        return Decimal(value), None
    if re.fullmatch(NUMBER, text) and abs(Decimal(text)) < TOO_MUCH:
        return Decimal(text), None
    if levels is None:
        return None, f"attribute '{name}' is not a number; give its values numbers in the mapping: [levels.{name}]"
    return None, f"attribute '{name}' has a value that [levels.{name}] of the mapping does not have"


def _who(entry: Entry, kind: str, properties: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The user and the visitor of a line."""
    distinct = text_of(entry.get("distinct_id"))
    user = text_of(entry.get("login_id")) or text_of(_dict(entry.get("identities")).get("$identity_login_id"))
    if user is None and (properties.get("$is_login_id") is True or kind == "track_signup"):
        user = distinct
    visitor = text_of(entry.get("anonymous_id")) or (text_of(entry.get("original_id")) if kind == "track_signup" else None)
    if user is None and visitor is None:
        visitor = distinct
    return user, None if visitor == user else visitor


def _event_id(entry: Entry) -> str:
    track = entry.get("_track_id")
    return f"{track}-{entry.get('time')}" if track is not None else content_id(entry, leave_out=RECEIVED)


def _known(entries: Sequence[Entry], occurred: pd.Series) -> pd.Series:
    received = _milliseconds([None if entry.get("time_free") else entry.get("recv_time") for entry in entries], "recv_time").values
    return received.where(received > occurred, occurred)


def _milliseconds(values: Sequence[Any], name: str) -> Parsed:
    """Moments that the format writes as milliseconds since 1970, as a number or as digits."""
    written = _text_column([None if isinstance(value, bool) else value for value in values], name)
    bad = written.notna() & ~written.str.fullmatch(r"\d{9,16}").fillna(False)
    read = times(written.mask(bad).astype("Int64"), None, "ms")
    return Parsed(read.values, read.reasons.mask(bad, f"'{name}' is not in milliseconds since 1970"))


def from_minor(values: pd.Series, digits: pd.Series) -> pd.Series:
    """Decimals that count minor units (fen) as decimals that count whole ones (yuan)."""
    return pd.Series([None if pd.isna(value) else value.scaleb(-places) for value, places in zip(values, digits, strict=True)], values.index, dtype="object")


def _column(said: pd.DataFrame, column: str, names: Sequence[str]) -> Parsed:
    """The first of these properties that a line has."""
    properties = list(said["properties"])
    found: list[Any] = [each.get(names[0]) for each in properties]
    for name in names[1:]:
        found = [each.get(name) if value is None else value for value, each in zip(found, properties, strict=True)]
    if column in NUMBERS:
        return decimals(pd.Series([None if isinstance(value, bool) else value for value in found], said.index, dtype="object", name=names[0]))
    return texts(_text_column(found, names[0]).set_axis(said.index))


def _text_column(values: Sequence[Any], name: str | None = None) -> pd.Series:
    return pd.Series([value if type(value) is str else text_of(value) for value in values], dtype="string", name=name)


def text_of(value: Any) -> str | None:
    """Text of a JSON value; a whole number is the same whether it is written 12 or 12.0, and nothing is not text."""
    if type(value) is str:
        return value.strip() or None
    if value is None or isinstance(value, dict | list):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
