"""An audience's rule in words: whom it takes, and on which condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.audiences.columns import column_of
from serving.console.formats import RATIOS, Formats
from serving.console.told import Told
from serving.console.words import Words

MOST_WORDS = 6  # of a list of words that a label may say


class RuleWords:
    """Says rules in a language.

    Args:
        told: the release, whose features have meanings; None where there is none.
    """

    def __init__(self, told: Told | None, words: Words, formats: Formats) -> None:
        self.told, self.words, self.formats = told, words, formats

    def rule(self, rule: Mapping[str, Any]) -> str:
        """A rule as the ledger keeps it."""
        task, where = rule.get("task"), rule.get("where")
        parts = [self.cut(rule, self.task(task))] if task else []
        if where:
            parts.append(self.condition(where) if not task else self.words.text("rule.where", where=self.condition(where)))
        return "".join(parts)

    def task(self, name: str | None) -> str:
        name = name or ""
        if name.startswith("lookalike-"):
            return self.words.text("lookalikes.task", name=name[10:])
        return self.words.known("task", name) or name

    def cut(self, rule: Mapping[str, Any], task: str) -> str:
        """Which part of a ranking it takes."""
        text, number = self.words.text, self.formats.number
        without = text("rule.skip_percent", n=self.tidy(rule["skip_percent"])) if rule.get("skip_percent") else ""
        if (size := rule.get("top_n")) is not None:
            return text("rule.top_n", task=task, n=number(size)) + without
        if (share := rule.get("top_percent")) is not None:
            return text("rule.top_percent", task=task, n=self.tidy(share)) + without
        if rule.get("band"):
            return text("rule.band", task=task, band=text(f"band.{rule['band']}"))
        if rule.get("budget") is not None:
            return text("rule.budget", task=task, n=self.formats.units(rule["budget"]))
        for kind, top, show in (("percentile", 100, self.tidy), ("probability", 1, lambda value: self.tidy(100 * value) + "%")):
            low, high = rule.get(f"min_{kind}"), rule.get(f"max_{kind}")
            if high is not None:
                return text(f"rule.{kind}_range", task=task, low=show(low or 0), high=show(high))
            if low is not None:
                return text(f"rule.{kind}", task=task, low=show(low), high=show(top))
        return text("rule.members" if rule.get("members") else "rule.all_of", task=task)

    def condition(self, where: Any) -> str:
        """A condition, in one line."""
        if not isinstance(where, Mapping) or not where:
            return ""
        for join in ("all", "any"):
            if join in where:
                parts = [f"({self.condition(part)})" if nested(part) else self.condition(part) for part in where[join]]
                return self.words.text(f"rule.{join}").join(parts)
        if "not" in where:
            return self.words.text("rule.not", of=self.condition(where["not"]))
        return self.leaf(where)

    def leaf(self, where: Mapping[str, Any]) -> str:
        subject = next((name for name in where if name not in ("at_least", "at_most", "is", "known")), "feature")
        name = str(where.get(subject, ""))
        if subject == "feature":
            what, unit = self.feature(name)
        else:
            what, unit = self.words.text(f"rule.of_{subject}", task=self.task(name)), "share" if subject == "probability" else ""
        if "known" in where:
            return self.words.text("rule.known" if where["known"] else "rule.unknown", what=what)
        if "is" in where:
            values = where["is"] if isinstance(where["is"], list | tuple) else [where["is"]]
            said = [str(self.words.known("label", str(value)) or self.words.known("band", str(value)) or value) for value in values[:MOST_WORDS]]
            more = ["…"] if len(values) > MOST_WORDS else []
            return self.words.text("rule.is", what=what, values=self.words.text("rule.or").join([*said, *more]))
        low, high = (None if where.get(end) is None else self.value(where[end], unit) for end in ("at_least", "at_most"))
        if low is not None and high is not None:
            return self.words.text("rule.between", what=what, low=low, high=high)
        return self.words.text("rule.at_least" if low is not None else "rule.at_most", what=what, n=low if low is not None else high)

    def feature(self, name: str) -> tuple[str, str]:
        """What a column is called, and its unit."""
        if known := self.words.known("slice", name) or self.words.known("column", name):
            return known, ""
        if self.told is None:
            return name, ""
        column = column_of(name, self.told.release) or name
        if known := self.words.known("column", column):
            return known, ""
        found = self.told.feature(column)
        meaning = str(found["meaning"])
        return self.words.meaning(meaning) or meaning, str(found["unit"])

    def value(self, value: Any, unit: str) -> str:
        if not isinstance(value, int | float):
            return str(value)
        if unit == "cents":
            return self.formats.money(value)
        return self.formats.percent(value, 0) if unit in RATIOS else self.tidy(value)

    def tidy(self, value: float) -> str:
        """A number with as many digits as it has, at most two."""
        return self.formats.number(value, 0 if float(value).is_integer() else 1 if float(10 * value).is_integer() else 2)


def nested(part: Any) -> bool:
    return isinstance(part, Mapping) and ("all" in part or "any" in part)
