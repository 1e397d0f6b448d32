"""Audiences: a prediction's ranking between two handles, what a hold-out of it could show, those that are kept, and some to begin with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from features.errors import EncoreError, UnknownName
from serving.audiences.curve import BINS, Curve, Point, curve
from serving.audiences.cut import Audience, bounds, cut, rule_of
from serving.audiences.holdout import groups_in, shares_of
from serving.audiences.members import audience_of, save, split
from serving.audiences.power import detectable
from serving.audiences.profit import profit_between
from serving.audiences.ranking import ranking
from serving.audiences.requests import may_be_called
from serving.audiences.rules import Rule
from serving.audiences.suggested import PAGE, suggestions_page
from serving.console.charts import bars
from serving.console.choice import AMOUNTS, HELD, Choice
from serving.console.formats import Formats
from serving.console.rule_words import RuleWords
from serving.console.told import Told
from serving.console.words import Words
from serving.ledger import Ledger, LedgerUnavailable, NameTaken

POINTS = 100
SAID = ("size", "percent", "expected", "interval", "false_positives", "precision", "lift", "value", "extra", "at_random", "by_recency", "profit")


def page(told: Told, ledger: Ledger, choice: Choice, words: Words, formats: Formats) -> dict[str, Any]:
    """The page of one prediction.

    Raises:
        UnknownName: the release has no such prediction.
    """
    task, release = choice.task, told.release
    if task not in release.bundles:
        raise UnknownName("prediction", task, release.bundles)
    found = curve(release, task, economics=choice.economics, points=POINTS)
    kind, best = release.bundles[task].kind, found.recommended
    rows = [_row(point, formats, kind) for point in found.points]
    draw_lots(told)
    moved = move(told, choice, words, formats) if rows else None
    return {
        "task": task,
        "kind": kind,
        "choice": choice,
        "held": HELD,
        "amounts": AMOUNTS,
        "eligible": found.eligible,
        "cut": moved,
        "names": [name for name in SAID if moved and name in moved["said"]],
        "rows": rows,
        "columns": [name for name in SAID if any(row.get(name) for row in rows)],
        "chart": bars(words.text("audiences.scores"), found.counts, *moved["bars"]) if moved else "",
        "ends": _ends(found, kind, formats),
        "recommended": best,
        "best": f"?{urlencode({**choice.fields(), 'skip': '0', 'at': 100 * best.size / found.eligible})}" if best and best.size else None,
        "suggested": _suggested(told),
        "kept": _kept(told, ledger, RuleWords(told, words, formats)),
    }


def draw_lots(told: Told) -> None:
    """Draw everybody's lot for every hold-out: it takes a moment, which a page has and a move has not."""
    for held in HELD[:-1]:
        groups_in(told.release, "", shares_of(held / 100))


def move(told: Told, choice: Choice, words: Words, formats: Formats) -> dict[str, Any]:
    """What a move of a handle changes: numbers as they are shown, the first and last bar of the histogram, and what a hold-out could show.

    Raises:
        UnknownName, InvalidRule: as `cut`.
    """
    audience = cut(told.release, choice.rule())
    return {
        "at": choice.fields()["at"],
        "skip": choice.fields()["skip"],
        "places": [formats.percent(choice.at / 100, _digits(choice.at)), formats.percent(choice.skip / 100, _digits(choice.skip))],
        "said": {name: text for name, text in _said(told, audience, choice, formats).items() if text is not None},
        "bars": _bars(told, audience),
        "power": _power(told, audience, choice, words, formats),
    }


def _digits(percent: float) -> int:
    return 0 if float(percent).is_integer() else 1


def _said(told: Told, of: Audience, choice: Choice, f: Formats) -> dict[str, str | None]:
    """Each number as it is shown; None for those that this prediction does not have."""
    found, bundle = ranking(told.release, choice.task), told.release.bundles[choice.task]
    told_at_random = of.at_random if bundle.calibrated else None if of.total is None else float(found.sums[-1]) * of.size / max(1, len(found))
    pays = choice.economics and (bundle.calibrated or bundle.kind == "effect")
    show = f.money if bundle.kind == "value" else lambda number: f.number(number, 1 if bundle.kind == "effect" else 0)
    return {
        "size": f.number(of.size),
        "percent": f.percent(of.size / max(1, of.eligible)),
        "expected": f.number(of.expected) if bundle.calibrated else None,
        "interval": f"{f.number(of.low)} – {f.number(of.high)}" if bundle.calibrated else None,
        "false_positives": f.number(of.false_positives) if bundle.calibrated else None,
        "precision": f.percent(of.precision) if bundle.calibrated else None,
        "lift": _lift(of.lift, f) if bundle.calibrated else None,
        "value": f.money(of.total) if bundle.kind == "value" else None,
        "extra": f.number(of.total, 1) if bundle.kind == "effect" else None,
        "at_random": None if told_at_random is None else show(told_at_random),
        "by_recency": None if of.by_recency is None else f.number(of.by_recency),
        "profit": f.units(profit_between(found, choice.economics, *bounds(found, of.rule), bundle.kind)) if pays and choice.economics else None,
    }


def _lift(lift: float | None, f: Formats) -> str:
    return f.number(lift, 2) + ("" if lift is None else "×")


def _bars(told: Told, of: Audience) -> list[int]:
    """The first and the last bar that members are in; the last before the first where nobody is."""
    if not of.size:
        return [0, -1]
    found = ranking(told.release, str(of.rule.task))
    low, high = (0.0, 1.0) if told.release.bundles[str(of.rule.task)].calibrated else (float(found.score[-1]), float(found.score[0]))
    ends = (told.release.scores[str(of.rule.task)].score[row] for row in (of.rows[-1], of.rows[0]))
    return [max(0, min(BINS - 1, int(BINS * (float(score) - low) / (high - low if high > low else 1.0)))) for score in ends]


def _power(told: Told, of: Audience, choice: Choice, words: Words, f: Formats) -> str:
    """What a campaign on this audience with this hold-out could show, in words."""
    shares = choice.shares()
    if shares is None:
        return words.text("audiences.power_nobody")
    if not told.release.bundles[choice.task].calibrated:
        return words.text("audiences.power_unknown")
    groups = split(told.release, of.rows, "", shares)
    found = detectable(groups["treatment"], groups["control"], of.precision or 0.0)
    counts = {"size": f.number(of.size), "held": f.percent(choice.held / 100, 0), "control": f.number(found.control)}
    if found.effect is None:
        return words.text("audiences.power_none", **counts)
    points = 100 * found.effect
    return words.text("audiences.power", **counts, rate=f.percent(found.rate), points=f.number(points, 1 if points >= 1 else 2))


def keep(told: Told, ledger: Ledger, name: str, choice: Choice) -> str:
    """Keep what the handles show by a name; returns what became of it: `kept`, `taken` or `name`."""
    return _save(told, ledger, name, choice.rule(), choice.shares()) if may_be_called(name, told.release) else "name"


def keep_suggested(told: Told, ledger: Ledger, name: str, choice: Choice) -> str:
    """Keep a suggested audience by its own name."""
    rule = next((one["rule"] for one in _suggested(told) if one["name"] == name), None)
    return "name" if rule is None else _save(told, ledger, name, rule_of(rule), choice.shares())


def _save(told: Told, ledger: Ledger, name: str, rule: Rule, shares: Mapping[str, float] | None) -> str:
    try:
        save(ledger, told.release, name, rule, shares=shares)
    except NameTaken:
        return "taken"
    return "kept"


def _row(point: Point, f: Formats, kind: str) -> dict[str, str | None]:
    """The best so many as a row of the table behind the histogram."""
    if point.expected is None:
        return {"size": f.number(point.size), "percent": f.percent(point.percent / 100), "profit": None if point.profit is None else f.units(point.profit)}
    return {
        "size": f.number(point.size),
        "percent": f.percent(point.percent / 100),
        "expected": f.number(point.expected),
        "interval": f"{f.number(point.low)} – {f.number(point.high)}",
        "false_positives": f.number(point.false_positives),
        "precision": f.percent(point.precision),
        "lift": _lift(point.lift, f),
        "at_random": f.number(point.at_random),
        "by_recency": None if point.by_recency is None else f.number(point.by_recency),
        "profit": None if point.profit is None else f.units(point.profit),
    }


def _ends(found: Curve, kind: str, f: Formats) -> list[str]:
    if not found.edges:
        return []
    show = f.money if kind == "value" else (lambda value: f.number(value, 1)) if kind == "rank" else (lambda value: f.percent(value, 0))
    return [show(found.edges[0]), show((found.edges[0] + found.edges[-1]) / 2), show(found.edges[-1])]


def _suggested(told: Told) -> list[dict[str, Any]]:
    """With their sizes when the release was published; of a release of an older Encore, which has no such page, with those of now."""
    if "suggestions" not in told.kept:
        told.kept["suggestions"] = told.page(PAGE) or suggestions_page(told.release)
    found: list[dict[str, Any]] = told.kept["suggestions"]["suggestions"]
    return found


def _kept(told: Told, ledger: Ledger, say: RuleWords) -> list[dict[str, Any]] | None:
    """The kept audiences in this release; None while the ledger is away. Each is cut once for each release: a snapshot is read from the ledger."""
    found = []
    try:
        for saved in ledger.audiences():
            key = "size", saved.id, str(saved.refreshed_at)
            try:
                if key not in told.kept:
                    audience = audience_of(told.release, saved, ledger)
                    told.kept[key] = audience.size, audience.expected
            except LedgerUnavailable:
                raise
            except EncoreError:  # its rule asks for what this release has not
                continue
            size, expected = told.kept[key]
            held = 1 - (saved.shares or {}).get("treatment", 1.0)
            found.append({"name": saved.name, "size": size, "expected": expected, "rule": say.rule(saved.rule), "held": held})
    except LedgerUnavailable:
        return None
    return found
