"""Audiences: a prediction, a condition and two handles on its scores; what would come of it, and how it is kept."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError

from features.errors import EncoreError, UnknownName
from serving.audiences.columns import HIGH, LOW, label_places
from serving.audiences.curve import curve
from serving.audiences.preview import preview
from serving.audiences.ranking import Ranking, ranking
from serving.audiences.requests import EconomicsBody, HoldoutBody, PreviewRequest
from serving.audiences.rules import InvalidRule, Rule, check
from serving.audiences.suggested import SUGGESTIONS, rule_for
from serving.console.audience_chart import chart
from serving.console.audience_numbers import Numbers
from serving.console.effect_said import as_it_is
from serving.console.formats import Formats
from serving.console.rule_words import RuleWords
from serving.console.told import Told
from serving.console.words import Words
from serving.ledger import Ledger, LedgerUnavailable

START = 80.0  # percentile from which on a page begins: the high band
TOPS = (0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)  # ends of the dial of probabilities
CONDITIONS = 2  # rows of them in the form; more are written as JSON
MONEY = ("margin", "coupon", "contact", "budget")
LONGEST, MOST_SAVED = 10_000, 50
Query = Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """What the form says. by: percentile or probability; low, high: the handles, `top` the end of their dial; money: what was given."""

    task: str | None
    by: str
    low: float
    high: float
    top: float
    step: float
    where: Mapping[str, Any] | None
    money: Mapping[str, float]
    control: float
    form: Query
    problem: str | None = None

    def request(self) -> PreviewRequest:
        """As the API is asked."""
        given: dict[str, Any] = {"task": self.task, "where": self.where, "holdout": HoldoutBody(control=self.control)}
        if self.task:
            given |= {f"min_{self.by}": self.low} | ({f"max_{self.by}": self.high} if self.high < self.top else {})
        if self.money.get("margin") is not None:
            costs = {name: self.money.get(name) or 0.0 for name in ("coupon", "contact")}
            given["economics"] = EconomicsBody(
                margin=self.money["margin"], coupon_cost=costs["coupon"], contact_cost=costs["contact"], budget=self.money.get("budget")
            )
        return PreviewRequest(**given)

    def query(self) -> dict[str, str]:
        """As the form sends it."""
        kept = {name: value for name, value in self.form.items() if value and name not in ("to", "saved", "exported", "lang")}
        return kept | {"task": self.task or "", "by": self.by, "low": f"{self.low:g}", "high": f"{self.high:g}"}


def asked(query: Query, told: Told) -> Asked:
    """What a query string asks for; what makes no sense is as if it were not there, but for a condition, which is a `problem`.

    Raises:
        UnknownName: the release has no such prediction.
    """
    tasks = [*told.tasks, *told.seeds]
    task = query.get("task", tasks[0]) or None
    if task is not None and task not in tasks:
        raise UnknownName("prediction", task, tasks)
    money = {name: value for name in MONEY if (value := _number(query.get(name), 0, 1e9)) is not None}
    control = _number(query.get("control"), 0, 90)
    problem = None
    try:
        where = condition(query, told)
    except InvalidRule as error:
        where, problem = None, error.mistakes[0].public if error.mistakes else str(error)
    found = Asked(task, "percentile", START, 100.0, 100.0, 0.5, where, money, (10.0 if control is None else control) / 100, query, problem)
    if task is None or problem:
        return found
    try:
        check(Rule(task, where=where) if where else Rule(task, top_percent=100), told.release)
    except InvalidRule as error:
        said = "; ".join(f"{mistake.at}: {mistake.public}" for mistake in error.mistakes) or str(error)
        return replace(found, where=None, problem=said)
    by = query.get("to") or query.get("by")
    if by == "probability" and told.release.bundles[task].calibrated:
        found = _by_probability(found, ranking(told.release, task, where))
    if "to" in query:
        return found
    low, high = (_number(query.get(end), 0, found.top) for end in ("low", "high"))
    ends = sorted((found.low if low is None else low, found.top if high is None else high))
    return replace(found, low=ends[0], high=ends[1])


def _by_probability(found: Asked, ranks: Ranking) -> Asked:
    """The dial of probabilities: as long as the highest, and from the best fifth on."""
    highest = float(ranks.score[0]) if len(ranks) else 1.0
    top = next((top for top in TOPS if top >= highest), 1.0)
    start = float(ranks.score[max(0, len(ranks) // 5 - 1)]) if len(ranks) else 0.0
    step = top / 100
    return replace(found, by="probability", low=round(math.floor(start / step) * step, 6), high=top, top=top, step=step)


def condition(query: Query, told: Told) -> dict[str, Any] | None:
    """The condition of the form's fields, all of which must hold.

    Raises:
        InvalidRule: the JSON is none.
    """
    parts: list[dict[str, Any]] = []
    if text := query.get("where", "").strip()[:LONGEST]:
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidRule("is no JSON") from None
        if not isinstance(given, dict):
            raise InvalidRule('is no condition such as {"feature": "orders_count", "at_least": 2}')
        parts.append(given)
    if layer := query.get("layer"):
        parts.append({"feature": "layer", "is": layer})
    for row in range(1, CONDITIONS + 1):
        name = query.get(f"feature{row}", "")
        ends = {word: _number(query.get(f"{end}{row}"), -1e12, 1e12) for word, end in (("at_least", "least"), ("at_most", "most"))}
        scale = _scale(told, name)
        said = {word: value * scale for word, value in ends.items() if value is not None}
        if name and said:
            parts.append({"feature": name, **said})
    return None if not parts else parts[0] if len(parts) == 1 else {"all": parts}


def _scale(told: Told, name: str) -> float:
    """Money is written in units of the currency, shares in percent."""
    unit = told.feature(name)["unit"] if name in told.release.features else ""
    return 10.0 ** Formats("en", told.manifest["currency"]).minor if unit == "cents" else 0.01 if unit == "share" else 1.0


def _number(text: str | None, least: float, most: float) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if least <= value <= most else None  # which a NaN is not


# --- what is shown --------------------------------------------------------------------------------------------------


def numbers(told: Told, query: Query, words: Words, formats: Formats) -> dict[str, Any]:
    """What changes with a move of a handle: the histogram, the numbers, the rule as it would be kept.

    Raises:
        UnknownName: the release has no such prediction.
    """
    ask = asked(query, told)
    if ask.problem is None and (ask.task or ask.where):
        try:
            body = preview(told.release, ask.request())
        except (InvalidRule, ValidationError) as error:
            ask = replace(ask, problem=str(error) if isinstance(error, InvalidRule) else error.errors()[0]["msg"])
    rules = RuleWords(told, words, formats)
    if ask.problem is not None or not (ask.task or ask.where):
        said = words.text("audiences.whom") if ask.problem is None else as_it_is(ask.problem, words)
        return {"ask": ask, "problem": said, "is_wrong": ask.problem is not None, "chart": "", "handles": None, "rule": "", "shown": None}
    drawn = chart(ranking(told.release, ask.task, ask.where), ask.by, ask.low, ask.high, ask.top, words.text("audiences.scores")) if ask.task else ""
    show = formats.percent if ask.by == "probability" else lambda value: formats.number(value, 0 if float(value).is_integer() else 1)
    shown = Numbers(body, told.release.bundles[ask.task].kind if ask.task else "", ask.task, words, formats)
    return {
        "ask": ask,
        "problem": None,
        "is_wrong": False,
        "chart": drawn,
        "handles": (show(ask.low), show(ask.high)) if ask.task else None,
        "rule": json.dumps(body.rule, ensure_ascii=False),
        "in_words": rules.rule(body.rule),
        "shown": shown.page(),
        "to_recommended": _to_recommended(ask, told, body.recommended.size) if body.recommended else None,
    }


def _to_recommended(ask: Asked, told: Told, size: int) -> str | None:
    """The address at which the low handle takes about so many."""
    found = ranking(told.release, ask.task or "", ask.where)
    if not size:
        return None
    low = float(found.score[size - 1]) if ask.by == "probability" else float(found.percentile[size - 1])
    return urlencode({**ask.query(), "low": f"{math.floor(low / ask.step) * ask.step:.6g}", "high": f"{ask.top:g}"})


def page(told: Told, ledger: Ledger, query: Query, words: Words, formats: Formats) -> dict[str, Any]:
    """The whole page.

    Raises:
        UnknownName: the release has no such prediction.
    """
    found = numbers(told, query, words, formats)
    ask: Asked = found["ask"]
    rules = RuleWords(told, words, formats)
    kept = saved(ledger, told, rules)
    return {
        **found,
        "tasks": [*told.tasks, *told.seeds],
        "calibrated": bool(ask.task and told.release.bundles[ask.task].calibrated),
        "layers": label_places("layers_layer", told.release)[1] if "layers_layer" in told.release.labels else [],
        "features": families(told, words),
        "ends": [formats.percent(ask.top * part, 0 if ask.top >= 0.1 else 1) if ask.by == "probability" else formats.number(100 * part) for part in (0, 0.5, 1)],
        "query": ask.query(),
        "table": table(told, ask, words, formats) if ask.task and not ask.problem else None,
        "suggested": suggestions(told, words, rules),
        "saved": kept,
        "just_saved": next((one for one in kept or () if one["name"] == query.get("saved")), None),
    }


def table(told: Told, ask: Asked, words: Words, formats: Formats) -> dict[str, Any]:
    """The numbers behind the chart: ten cuts of the ranking."""
    found, number = curve(told.release, ask.task or "", ask.where, None, 10), formats.number
    head = [words.text(f"audiences.{name}") for name in ("best", "users", "from_score", "expected", "precision", "recency", "random")]
    rows = [
        [formats.percent(point.percent / 100, 0), number(point.size), number(point.threshold, 3), number(point.expected), formats.percent(point.precision),
         number(point.by_recency), number(point.at_random)]
        for point in found.points
    ]  # fmt: skip
    return {"head": head, "rows": rows}


def families(told: Told, words: Words) -> list[tuple[str, list[tuple[str, str]]]]:
    """Features by family, as a choice."""
    key = "families", words.language
    if key not in told.kept:
        found: dict[str, list[tuple[str, str]]] = {}
        for name in told.release.features:
            about = told.feature(name)
            called = words.meaning(str(about["meaning"])) or str(about["meaning"])
            found.setdefault(words.known("family", str(about["family"])) or str(about["family"]), []).append((name, called))
        told.kept[key] = list(found.items())
    return list(told.kept[key])


def suggestions(told: Told, words: Words, rules: RuleWords) -> list[dict[str, Any]]:
    """Those that the release can make, each with the address that opens it here."""
    if "suggested" not in told.kept:
        told.kept["suggested"] = [(one.name, one.sentence, rule_for(one, told.release)) for one in SUGGESTIONS]
    return [
        {
            "name": words.known("suggested", name) or name,
            "sentence": words.known("suggested_why", name) or sentence,
            "href": None if isinstance(rule, str) else urlencode(query_of(rule.described())),
            "rule": None if isinstance(rule, str) else rules.rule(rule.described()),
        }
        for name, sentence, rule in told.kept["suggested"]
    ]


def query_of(rule: Mapping[str, Any]) -> dict[str, str]:
    """A rule as the form would send it; a cut by number becomes the whole pool, since handles have no numbers."""
    query = {"task": str(rule.get("task") or "")}
    if rule.get("where"):
        query["where"] = json.dumps(rule["where"], ensure_ascii=False)
    if not query["task"]:
        return query
    band = {"high": (HIGH, 100), "medium": (LOW, HIGH), "low": (0, LOW)}.get(str(rule.get("band")))
    low, high = band or (0.0, 100.0)
    if (share := rule.get("top_percent")) is not None:
        low = 100 - share
    by = "probability" if rule.get("min_probability") is not None or rule.get("max_probability") is not None else "percentile"
    low = rule.get(f"min_{by}") if rule.get(f"min_{by}") is not None else low
    high = rule.get(f"max_{by}") if rule.get(f"max_{by}") is not None else 1.0 if by == "probability" else high
    return query | {"by": by, "low": f"{low:g}", "high": f"{high:g}"}


def saved(ledger: Ledger, told: Told, rules: RuleWords) -> list[dict[str, Any]] | None:
    """The newest audiences that are kept; None while the ledger is away."""
    try:
        kept = ledger.audiences()[: -MOST_SAVED - 1 : -1]
    except LedgerUnavailable:
        return None
    found = []
    for one in kept:
        opens = one.rule.get("task") in (None, *told.release.bundles) and one.rule.get("top_n") is None and one.rule.get("budget") is None and not one.rule.get("members")
        try:
            said = rules.rule(one.rule)
        except (EncoreError, KeyError, TypeError, ValueError):  # of an Encore that said it otherwise
            said = ""
        held = (one.shares or {}).get("control")
        found.append({"name": one.name, "rule": said, "kind": one.kind, "control": held, "created_at": one.created_at, "href": urlencode(query_of(one.rule)) if opens else None})
    return found
