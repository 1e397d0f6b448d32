"""The shop's own settings: one `encore.toml`, checked as a whole before anything runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, available_timezones

from features.errors import InvalidShopFile
from features.exports import export_problems
from features.files import digest_of
from features.goals import goal_problems
from features.tile_columns import DAY_CODES
from features.vocabulary import EVENTS

if TYPE_CHECKING:
    from features.view import FeatureView

DEFAULT_INTEREST: Mapping[str, tuple[str, ...]] = {
    "awareness": ("page_view", "product_view"),
    "weak": ("favourite", "review_read", "support", "search"),
    "strong": ("cart_add", "checkout"),
}
MAPPED = ("user_id", "order_id", "occurred_at", "known_at", "product_id", "quantity", "amount", "price", "discount", "event",
          "event_id", "category", "brand", "department", "campaign", "channel", "detail", "level",
          "anonymous_id", "currency", "coupon", "source", "medium", "landing_url")  # fmt: skip
SOURCE_KEYS = ("kind", "path", "rows", "time_zone", "time_unit", "columns", "refund_when", "events", "complete_until", "users", "days", "seed",
               "url", "query", "table", "mapping", "statuses", "amount_unit", "currency", "own_domains",
               "revenue_includes")  # fmt: skip


@dataclass(frozen=True)
class Shop:
    """What Encore has to be told about a shop.

    Args:
        name: for headings.
        zone: IANA name of the zone whose midnights are the cutoffs.
        currency: ISO code; amounts in another currency are converted by `rates`, and left out without them.
        sources: one mapping per source, in the order in which they are read.
        horizons: task -> days, where the default does not suit.
        windows: task -> days of its definition window, within which a customer counts as active, likewise.
        goals: predictions of the shop's own, see `features.goals`.
        signed_off: features that somebody answers for although they rank suspiciously well alone.
        interest: interest level -> canonical events that show it.
        attributes: declared attributes of users that become features, as the sources name them.
        tasks: the predictions to train; empty means all that the data permit.
        rates: a CSV of dated currency rates, see `features.rates`.
        tiers: growth value from which each membership rank is reached, rank 0 first.
        daily_use: product or category -> pieces used up in a day, where goods are used up.
        exports: what is sent where, see `features.exports`.
        on_drift: what a retrain does when features drifted since the champion was trained: "continue" or "stop".
        rfm: where recency, frequency and money split buyers: "median", "mean" or a quantile between 0 and 1.
        views: feature views on trial, after Encore's own; code declares them, not the file. No digest covers the functions in them, so
            their snapshots belong in a store of their own.
        path: the file this was read from; relative paths of sources start at its folder.
    """

    name: str
    zone: str
    currency: str
    sources: tuple[Mapping[str, Any], ...] = ()
    horizons: Mapping[str, int] = field(default_factory=dict)
    windows: Mapping[str, int] = field(default_factory=dict)
    goals: tuple[Mapping[str, Any], ...] = ()
    signed_off: tuple[str, ...] = ()
    interest: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEFAULT_INTEREST))
    attributes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    rates: str | None = None
    tiers: tuple[int, ...] = ()
    daily_use: Mapping[str, float] = field(default_factory=dict)
    rfm: str | float = "median"
    on_drift: str = "continue"
    exports: tuple[Mapping[str, Any], ...] = ()
    views: tuple[FeatureView, ...] = ()
    path: Path = Path("encore.toml")

    @property
    def digest(self) -> str:
        """SHA-256 of the settings that shape features and models (not of where the data come from)."""
        interest = {level: list(events) for level, events in self.interest.items()}
        return digest_of([self.zone, self.currency, dict(self.horizons), interest, self.attributes, self.tiers, dict(self.daily_use), self.rfm])


SHOP_KEYS = ("name", "zone", "currency", "sources", "horizons", "windows", "goals", "signed_off", "interest", "attributes", "tasks", "rates",
             "tiers", "daily_use", "rfm", "on_drift", "exports")  # fmt: skip
ON_DRIFT = ("continue", "stop")


def read_shop(path: Path) -> Shop:
    """Read and check an `encore.toml`.

    Raises:
        InvalidShopFile: with every problem, its line and the nearest valid name.
    """
    if not path.exists():
        raise InvalidShopFile(str(path), ["the file does not exist; `encore demo` writes one to start from"])
    text = path.read_text(encoding="utf-8")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidShopFile(str(path), [str(error)]) from None
    problems = _problems(content, text) + _rates_problems(content, path.parent, text)
    if problems:
        raise InvalidShopFile(str(path), problems)
    return Shop(
        name=content["name"],
        zone=content["zone"],
        currency=content["currency"],
        sources=tuple(content.get("sources", ())),
        horizons=content.get("horizons", {}),
        windows=content.get("windows", {}),
        goals=tuple(content.get("goals", ())),
        signed_off=tuple(content.get("signed_off", ())),
        interest={level: tuple(events) for level, events in content.get("interest", DEFAULT_INTEREST).items()},
        attributes=tuple(content.get("attributes", ())),
        tasks=tuple(content.get("tasks", ())),
        rates=content.get("rates"),
        tiers=tuple(content.get("tiers", ())),
        daily_use=content.get("daily_use", {}),
        rfm=content.get("rfm", "median"),
        on_drift=content.get("on_drift", "continue"),
        exports=tuple(content.get("exports", ())),
        path=path,
    )


def _problems(content: Mapping[str, Any], text: str) -> list[str]:
    problems = [_unknown(key, SHOP_KEYS, text) for key in content if key not in SHOP_KEYS]
    for key in ("name", "zone", "currency"):
        if not isinstance(content.get(key), str):
            problems.append(f'"{key}" must be given as text, such as {key} = "{_EXAMPLE[key]}"')
    zone = content.get("zone")
    if isinstance(zone, str):
        problems += _zone_problems(zone, "zone", text)
    wrong = [f'{_line(key, text)}"{key}" must be {_SHAPES[key][1]}' for key in _SHAPES if key in content and not _SHAPES[key][0](content[key])]
    if wrong:
        return problems + wrong
    for key in ("horizons", "windows"):
        for task, days in content.get(key, {}).items():
            if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 365:
                problems.append(f"{_line(task, text)}{key[:-1]} of '{task}' is {days!r}; it must be 1 to 365 days")
    for number, goal in enumerate(content.get("goals", ()), 1):
        problems += [f"goal {number}{_named(goal)}: {problem}" for problem in goal_problems(goal)]
    for number, export in enumerate(content.get("exports", ()), 1):
        problems += [f"export {number}{_named(export)}: {problem}" for problem in export_problems(export)]
    names = [export.get("name") for export in content.get("exports", ())]
    problems += [f"{_line(name, text)}two exports are called '{name}'" for name in dict.fromkeys(names) if name and names.count(name) > 1]
    for level, events in content.get("interest", {}).items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", level) or level in TAKEN:
            problems.append(f"{_line(level, text)}interest level '{level}' needs another name: small letters and digits, not one of Encore's own columns")
        problems += [_unknown(event, tuple(EVENTS), text, f"event in interest level '{level}'") for event in events if event not in EVENTS]
    if (choice := content.get("on_drift", "continue")) not in ON_DRIFT:
        problems.append(_unknown(str(choice), ON_DRIFT, text, "choice for 'on_drift'"))
    for source in content.get("sources", ()):
        problems += _source_problems(source, text)
    return problems


def _named(goal: Mapping[str, Any]) -> str:
    return f" ({goal['name']})" if isinstance(goal.get("name"), str) else ""


def _rates_problems(content: Mapping[str, Any], folder: Path, text: str) -> list[str]:
    rates = content.get("rates")
    if rates is None or (isinstance(rates, str) and (folder / rates).is_file()):
        return []
    near = get_close_matches(str(rates), [file.name for file in folder.glob("*.csv")], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ' It is a CSV with the columns date, currency and rate, such as rates = "rates.csv".'
    return [f'{_line("rates", text)}the file {rates!r} of "rates" does not exist beside the shop file.{hint}']


def _source_problems(source: Mapping[str, Any], text: str) -> list[str]:
    problems = [_unknown(key, SOURCE_KEYS, text, "setting of a source") for key in source if key not in SOURCE_KEYS]
    if "kind" not in source:
        problems.append('a source has no "kind"')
    problems += [_unknown(key, MAPPED, text, "canonical column") for key in source.get("columns", {}) if key not in MAPPED]
    problems += [_unknown(event, tuple(EVENTS), text, "canonical event") for event in source.get("events", {}).values() if event not in EVENTS]
    if "time_zone" in source:
        problems += _zone_problems(source["time_zone"], "time_zone", text)
    return problems


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, kind) for entry in value)


# setting -> (does the value have its shape, the shape in words)
_SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sources": (lambda value: _is_list_of(dict, value), "written as [[sources]], with two brackets, once for each source"),
    "horizons": (lambda value: isinstance(value, dict), "a table of days, such as [horizons] and below it: churn = 60"),
    "windows": (lambda value: isinstance(value, dict), "a table of days, such as [windows] and below it: churn = 60"),
    "goals": (lambda value: _is_list_of(dict, value), "written as [[goals]], with two brackets, once for each goal"),
    "exports": (lambda value: _is_list_of(dict, value), "written as [[exports]], with two brackets, once for each export"),
    "signed_off": (lambda value: _is_list_of(str, value), 'a list of features, such as ["orders_count_7d"]'),
    "interest": (
        lambda value: isinstance(value, dict) and all(_is_list_of(str, events) for events in value.values()),
        'a table of lists, such as [interest] and below it: strong = ["cart_add"]',
    ),
    "attributes": (lambda value: _is_list_of(str, value), 'a list of names, such as ["age"]'),
    "tasks": (lambda value: _is_list_of(str, value), 'a list of predictions, such as ["churn"]'),
    "tiers": (lambda value: _is_list_of(int, value) and value == sorted(value), "a rising list of growth values, such as [0, 1000, 5000]"),
    "daily_use": (
        lambda value: isinstance(value, dict) and all(isinstance(use, int | float) and use > 0 for use in value.values()),
        'a table of pieces used per day, such as [daily_use] and below it: "face cream" = 0.02',
    ),
    "rfm": (lambda value: value in ("median", "mean") or (isinstance(value, float) and 0 < value < 1), '"median", "mean" or a quantile such as 0.8'),
}
# Columns of the day tiles: an interest level of such a name would hide one.
TAKEN = ("user_id", "day", "known_day", "age", "actions", *DAY_CODES)
_EXAMPLE = {"name": "My shop", "zone": "Europe/London", "currency": "GBP"}


def _zone_problems(zone: str, key: str, text: str) -> list[str]:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return [_unknown(zone, tuple(available_timezones()), text, f"time zone in '{key}'")]
    return []


def _unknown(seen: str, allowed: tuple[str, ...], text: str, what: str = "setting") -> str:
    near = get_close_matches(seen, allowed, n=1)
    known = f" Known: {', '.join(allowed)}." if len(allowed) <= 40 else ""
    return f"{_line(seen, text)}unknown {what} '{seen}'.{f' Did you mean {near[0]!r}?' if near else ''}{known}"


def _line(word: str, text: str) -> str:
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(rf"(?<![\w/]){re.escape(word)}(?![\w/])", line):
            return f"line {number}: "
    return ""
