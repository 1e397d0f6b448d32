"""Audiences: all cuts of a prediction behind one handle, those that are kept, and some to begin with."""

from __future__ import annotations

from typing import Any

from features.errors import EncoreError, UnknownName
from serving.audiences.curve import Curve, Point, curve
from serving.audiences.members import audience_of, save
from serving.audiences.profit import Economics
from serving.audiences.requests import may_be_called
from serving.audiences.rules import Rule
from serving.audiences.suggested import suggested
from serving.console.charts import bars
from serving.console.formats import Formats
from serving.console.told import Told
from serving.console.words import Words
from serving.ledger import Ledger, LedgerUnavailable, NameTaken

POINTS = 100
BEGIN = 10  # percent
SAID = ("size", "percent", "expected", "interval", "false_positives", "precision", "lift", "at_random", "by_recency", "profit")


def page(told: Told, ledger: Ledger, task: str, at: int, economics: Economics | None, words: Words, formats: Formats) -> dict[str, Any]:
    """The page of one prediction; `at`: the place of the handle, 1 to 100.

    Raises:
        UnknownName: the release has no such prediction.
    """
    if task not in told.release.bundles:
        raise UnknownName("prediction", task, told.release.bundles)
    key = "curve", task, economics
    if key not in told.kept:
        told.kept[key] = curve(told.release, task, economics=economics, points=POINTS)
    found: Curve = told.kept[key]
    rows = [_row(point, found, formats) for point in found.points]
    place = max(0, min(len(rows), at) - 1)
    return {
        "task": task,
        "eligible": found.eligible,
        "rows": rows,
        "place": place,
        "names": [name for name in SAID if any(row[name] for row in rows)],
        "chart": bars(words.text("audiences.scores"), found.counts, rows[place]["bar"] if rows else 0),
        "ends": _ends(found, told.release.bundles[task].kind, formats),
        "recommended": found.recommended,
        "best": next((number for number, point in enumerate(found.points) if found.recommended and point.size == found.recommended.size), None),
        "economics": economics,
        "suggested": _suggested(told),
        "kept": _kept(told, ledger),
    }


def keep(told: Told, ledger: Ledger, name: str, task: str, size: int) -> str:
    """Keep the best so many by a name; returns what became of it: `kept`, `taken` or `name`."""
    if not may_be_called(name, told.release):
        return "name"
    try:
        save(ledger, told.release, name, Rule(task, top_n=size))
    except NameTaken:
        return "taken"
    return "kept"


def _row(point: Point, found: Curve, f: Formats) -> dict[str, Any]:
    interval = "" if point.low is None or point.high is None else f"{f.number(point.low)} – {f.number(point.high)}"
    bar = next((place for place in reversed(range(len(found.counts))) if point.threshold >= found.edges[place]), 0)
    return {
        "count": point.size,
        "bar": bar,
        "size": f.number(point.size),
        "percent": f.percent(point.percent / 100),
        "expected": "" if point.expected is None else f.number(point.expected),
        "interval": interval,
        "false_positives": "" if point.false_positives is None else f.number(point.false_positives),
        "precision": "" if point.precision is None else f.percent(point.precision),
        "lift": "" if point.lift is None else f"{f.number(point.lift, 2)}×",
        "at_random": "" if point.at_random is None else f.number(point.at_random),
        "by_recency": "" if point.by_recency is None else f.number(point.by_recency),
        "profit": "" if point.profit is None else f.money(point.profit * 100),
    }


def _ends(found: Curve, kind: str, f: Formats) -> list[str]:
    if not found.edges:
        return []
    show = f.money if kind == "value" else (lambda value: f.number(value, 1)) if kind == "rank" else (lambda value: f.percent(value, 0))
    return [show(found.edges[0]), show((found.edges[0] + found.edges[-1]) / 2), show(found.edges[-1])]


def _suggested(told: Told) -> list[dict[str, Any]]:
    """Made once for each release: each is a pass over everybody."""
    if "suggested" not in told.kept:
        told.kept["suggested"] = [
            {"name": one.name, "sentence": one.sentence, "skipped": one.skipped, "size": one.audience.size if one.audience else None, "rule": one.rule}
            for one in suggested(told.release)
        ]
    found: list[dict[str, Any]] = told.kept["suggested"]
    return found


def keep_suggested(told: Told, ledger: Ledger, name: str) -> str:
    """Keep a suggested audience by its own name."""
    rule = next((one["rule"] for one in _suggested(told) if one["name"] == name), None)
    if rule is None:
        return "name"
    try:
        save(ledger, told.release, name, rule)
    except NameTaken:
        return "taken"
    return "kept"


def _kept(told: Told, ledger: Ledger) -> list[dict[str, Any]] | None:
    """The kept audiences in this release; None while the ledger is away."""
    found = []
    try:
        for saved in ledger.audiences():
            try:
                audience = audience_of(told.release, saved, ledger)
            except LedgerUnavailable:
                raise
            except EncoreError:  # its rule asks for what this release has not
                continue
            found.append({"name": saved.name, "kind": saved.kind, "size": audience.size, "expected": audience.expected, "task": saved.rule.get("task")})
    except LedgerUnavailable:
        return None
    return found
