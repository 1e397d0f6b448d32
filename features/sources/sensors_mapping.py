"""The file that says what a shop's own 神策 (Sensors Data) events and properties mean; examples/sensors_mapping.toml is one.

`[events]` maps event names to canonical ones, `[properties]` canonical columns to property names: one, or several of which
the first that a line has counts. `[levels.<attribute>]` gives the values of a text attribute numbers. `amount_unit` says
what amounts count: "yuan" and "fen" are Chinese money, "major" and "minor" units of the line's currency or else the shop's.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from features.errors import unknown_name
from features.vocabulary import EVENTS

MONEY = ("amount", "price", "discount", "coupon")
COLUMNS = ("order_id", "product_id", "quantity", *MONEY, "currency", "category", "brand", "department",
           "campaign", "channel", "source", "medium", "detail", "level")  # fmt: skip
SETTINGS = ("amount_unit", "project", "item_type", "events", "properties", "levels")
# unit -> the currency that its name implies, and whether it counts minor units (cents)
AMOUNT_UNITS: Mapping[str, tuple[str | None, bool]] = {"yuan": ("CNY", False), "fen": ("CNY", True), "major": (None, False), "minor": (None, True)}
MOST = 30  # unmapped events in one message


@dataclass(frozen=True)
class SensorsMapping:
    """A checked mapping file; `project` and `item_type` leave out lines of others where they are given."""

    events: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    levels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    amount_unit: str = "major"
    project: str | None = None
    item_type: str | None = None


def read_mapping(name: object, folder: Path) -> tuple[SensorsMapping | None, list[str]]:
    """The mapping file beside the shop file, None if there is none, and all that is wrong with it."""
    path = folder / str(name or "")
    if not name or not path.is_file():
        near = sorted(file.name for file in folder.glob("*.toml")) if folder.is_dir() else []
        missing = unknown_name("mapping file", str(name), near).replace("Known:", "Beside it:") if name else 'mapping = "sensors_mapping.toml" is not set'
        return None, [f"{missing}; start from a copy of examples/sensors_mapping.toml and give your events their meaning"]
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return SensorsMapping(), [f"{path.name}: {error}"]
    problems = _problems(content)
    if problems:
        return SensorsMapping(), [f"{path.name}: {problem}" for problem in problems]
    return (
        SensorsMapping(
            events=content.get("events", {}),
            properties={column: (names,) if isinstance(names, str) else tuple(names) for column, names in content.get("properties", {}).items()},
            levels=content.get("levels", {}),
            amount_unit=content.get("amount_unit", "major"),
            project=content.get("project"),
            item_type=content.get("item_type"),
        ),
        [],
    )


def _problems(content: Mapping[str, Any]) -> list[str]:
    problems = [unknown_name("setting", name, SETTINGS) for name in content if name not in SETTINGS]
    problems += [
        f"[{name}] must be a section with lines such as {example}" for name, example in _SECTIONS.items() if not isinstance(content.get(name, {}), dict)
    ]
    problems += [f'{name} must be text, such as {name} = "production"' for name in ("project", "item_type") if not isinstance(content.get(name, ""), str)]
    if problems:
        return problems
    problems += [
        f"[events] {name}: {unknown_name('event', str(event), list(EVENTS))}" for name, event in content.get("events", {}).items() if event not in EVENTS
    ]
    for column, names in content.get("properties", {}).items():
        if column not in COLUMNS:
            problems.append("[properties] " + unknown_name("canonical column", column, COLUMNS))
        if not isinstance(names, str) and not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            problems.append(f"[properties] {column} is {names!r}; it must be a property's name or a list of names")
    unit = content.get("amount_unit")
    if unit not in AMOUNT_UNITS and (unit is not None or set(content.get("properties", {})) & set(MONEY)):
        allowed = ", ".join(f'"{name}"' for name in AMOUNT_UNITS)
        problems.append(f"amount_unit is {unit!r}; declare what amounts count, one of {allowed}")
    for attribute, levels in content.get("levels", {}).items():
        if not isinstance(levels, dict) or not all(isinstance(level, int) and not isinstance(level, bool) for level in levels.values()):
            problems.append(f'[levels.{attribute}] must give each value a whole number, such as "男" = 1')
    return problems


_SECTIONS = {"events": 'ViewProduct = "product_view"', "properties": 'product_id = "product_id"', "levels": '"男" = 1, below [levels.gender]'}


def unmapped(names: Iterable[str]) -> list[str]:
    """The events of a file, the most frequent first, each with the canonical name that is most like it."""
    counts = Counter(names).most_common()
    lines = [f'event "{name}" ({count} lines) has no meaning yet; add to [events]: "{name}" = "{nearest(name) or "?"}"' for name, count in counts[:MOST]]
    more = [f"and {len(counts) - MOST} more events"] if len(counts) > MOST else []
    return [*lines, *more, f"the canonical events are {', '.join(EVENTS)}"] if counts else []


def nearest(name: str) -> str | None:
    """The canonical event whose words are most like those of a name such as ViewProduct; a proposal, nothing more."""
    words = {" ".join(sorted(event.split("_"))): event for event in EVENTS}
    mine = " ".join(sorted(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)))
    near = get_close_matches(mine, words, n=1, cutoff=0.4)
    return words[near[0]] if near else None
