"""What came true in service: each judged score run of a prediction, what was promised of it and what came. It is read from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.console.charts import Dots, intervals
from serving.console.effect_figures import beneath
from serving.console.formats import NOTHING, Formats
from serving.console.words import Words
from serving.ledger import Ledger, LedgerUnavailable
from serving.quality.standing import Standing, headline, judged_stratum, standings
from serving.quality.store import Judgement, NotedRun

MOST_RUNS, MOST_WAITING = 12, 5
NOTHING_KNOWN: dict[str, Any] = {"state": "none", "alerts": (), "waiting": 0, "unanswered": ()}
Run = tuple[NotedRun, Judgement]
Measured = Mapping[str, Any]


def section(ledger: Ledger, release: str, task: str, words: Words, formats: Formats) -> dict[str, Any]:
    """Where a prediction stands. `state` is away (the ledger does not answer), none (no run is known), waiting or judged.

    Args:
        release: the one in service; what is said of drift is about it.
    """
    try:
        standing = standings(ledger, release, task).get(task)
    except LedgerUnavailable:
        return {**NOTHING_KNOWN, "state": "away"}
    if standing is None:
        return NOTHING_KNOWN
    told = Realised(standing, words, formats)
    return {
        "state": "judged" if standing.judged else "waiting" if standing.pending or standing.unanswered else "none",
        "alerts": standing.alerts,
        "last": told.last(),
        "figures": [figure for figure in (told.quality(), told.counts()) if figure],
        "pending": [(run.as_of, run.closes) for run in standing.pending[:MOST_WAITING]],
        "waiting": len(standing.pending),
        "next": standing.next_closes,
        "unanswered": [(run.as_of, reason) for run, reason in standing.unanswered[-MOST_WAITING:]],
    }


class Realised:
    """The judged runs of one prediction, as sentences, charts and tables."""

    def __init__(self, standing: Standing, words: Words, formats: Formats) -> None:
        self.runs: Sequence[Run] = standing.judged[-MOST_RUNS:]
        self.t, self.f, self.words = words.text, formats, words
        self.kind = self.runs[-1][0].kind if self.runs else ""
        self.metric = headline(self.kind, {})[0]

    def last(self) -> dict[str, Any] | None:
        """The newest judged run in a sentence or two."""
        if not self.runs:
            return None
        run, judgement = self.runs[-1]
        name, facts = self.told(judgement)
        seen, promised = self.pair(judgement)
        expected, actual = facts.get("expected"), facts.get("actual")
        values = {"metric": self.words.known("metric", self.metric) or self.metric, "who": self.t(f"realised.{name}"), "rows": self.f.number(facts["rows"])}
        sentence = "says_unmeasured" if seen is None else "says_realised" if promised is None else "says_both"
        return {
            "as_of": run.as_of,
            "closes": run.closes,
            "sentence": self.t(f"realised.{sentence}", seen=self.measured(seen), promised=self.measured(promised), **values),
            "counts": self.t(f"realised.{self.counted}", expected=self.count(expected), actual=self.amount(actual)) if expected and actual is not None else "",
            "release": run.release,
            "number": judgement.number,
        }

    def quality(self) -> dict[str, Any] | None:
        """The main metric as it came true beside what was promised, run by run."""
        pairs = [self.pair(judgement) for _, judgement in self.runs]
        if not any(seen for seen, _ in pairs):
            return None
        called = self.words.known("metric", self.metric) or self.metric
        groups = [Dots(self.t("realised.came"), [_point(seen) for seen, _ in pairs], "main"), self.promises([_point(promised) for _, promised in pairs])]
        chart = intervals(self.t("realised.quality", metric=called), groups, self.days(), lambda y: self.f.metric(self.metric, y), height=220)
        rows = [[*self.head(run, judgement), self.cell(seen), self.cell(promised)] for (run, judgement), (seen, promised) in zip(self.runs, pairs, strict=True)]
        return self.figure("quality", chart, groups, [called, self.t("realised.promised")], rows, metric=called)

    def counts(self) -> dict[str, Any] | None:
        """Buyers, or spend, that were expected of the judged users beside those that came, run by run."""
        found = [self.told(judgement)[1] for _, judgement in self.runs]
        if self.kind == "effect" or not any(facts.get("expected") and facts.get("actual") is not None for facts in found):
            return None
        actual = [None if facts.get("actual") is None else (float(facts["actual"]), None, None) for facts in found]
        groups = [Dots(self.t("realised.came"), actual, "main"), self.promises([_point(facts.get("expected")) for facts in found])]
        chart = intervals(self.t(f"realised.{self.counted}_title"), groups, self.days(), self.amount, bottom=0.0, height=220)
        rows = [
            [*self.head(run, judgement), self.amount(facts.get("actual")), self.count(facts.get("expected"))]
            for (run, judgement), facts in zip(self.runs, found, strict=True)
        ]
        return self.figure(f"{self.counted}_title", chart, groups, [self.t("realised.came"), self.t("realised.promised")], rows)

    # --- parts ----------------------------------------------------------------------------------------------------------

    def told(self, judgement: Judgement) -> tuple[str, Measured]:
        """Who was judged, and what was measured of them: the untreated, or everybody where those are too few."""
        name = judged_stratum(judgement.facts) or "all"
        return name, judgement.facts[name]

    def pair(self, judgement: Judgement) -> tuple[Measured | None, Measured | None]:
        """The metric as it came true, and what was promised of it: by the scores themselves, else by the evidence before the model served."""
        _, seen, promised = headline(self.kind, self.told(judgement)[1])
        return seen, promised or (judgement.facts.get("evidence") or {}).get(self.metric)

    @property
    def counted(self) -> str:
        return "spend" if self.kind == "value" else "counts"

    def promises(self, values: Sequence[tuple[float, float | None, float | None] | None]) -> Dots:
        return Dots(self.t("realised.promised"), values, "other")

    def days(self) -> list[str]:
        return [self.f.short_day(run.as_of.isoformat()) for run, _ in self.runs]

    def head(self, run: NotedRun, judgement: Judgement) -> list[str]:
        name, facts = self.told(judgement)
        return [self.f.day(run.as_of), self.f.day(run.closes), beneath(self.f.number(facts["rows"]), self.t(f"realised.short_{name}"))]

    def figure(self, key: str, chart: Any, groups: Sequence[Dots], head: Sequence[str], rows: Sequence[Sequence[str]], **values: str) -> dict[str, Any]:
        first = [self.t(f"realised.{name}") for name in ("as_of", "closes", "among")]
        looks = [(group.name, f"{group.look} dot") for group in groups]
        return {"title": self.t(f"realised.{key}", **values), "note": "", "chart": chart, "looks": looks, "head": [*first, *head], "rows": rows}

    def measured(self, found: Measured | None) -> str:
        if not found or found.get("value") is None:
            return NOTHING
        between = self.f.interval(found, self.metric)
        return self.f.metric(self.metric, found["value"]) + (f" ({between})" if between else "")

    def cell(self, found: Measured | None) -> str:
        """The same for a table."""
        if not found or found.get("value") is None:
            return NOTHING
        return beneath(self.f.metric(self.metric, found["value"]), self.f.interval(found, self.metric))

    def amount(self, value: float | None) -> str:
        return NOTHING if value is None else self.f.money(value) if self.kind == "value" else self.f.number(value)

    def count(self, found: Measured | None) -> str:
        if not found or found.get("value") is None:
            return NOTHING
        if found.get("low") is None or found.get("high") is None:
            return self.amount(found["value"])
        return f"{self.amount(found['value'])} ({self.amount(max(0.0, found['low']))} – {self.amount(found['high'])})"


def _point(found: Measured | None) -> tuple[float, float | None, float | None] | None:
    return None if not found or found.get("value") is None else (found["value"], found.get("low"), found.get("high"))
