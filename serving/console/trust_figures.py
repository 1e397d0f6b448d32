"""Figures of a prediction's evidence, each with the numbers behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from serving.console.charts import Dots, Line, Plot, curves, intervals, nice
from serving.console.formats import Formats
from serving.console.words import Words

BASELINES = ("rule", "rfm", "bgnbd", "share")
LOOKS = {"model": "main", "rule": "other", "rfm": "third", "bgnbd": "fourth", "share": "fourth"}
STEPS = (0, 5, 10, 20, 30, 50, 75, 100)  # percent of the customers, in the table of a curve


class Drawn:
    """The figures of one prediction's evidence; each is None where there is nothing to draw.

    Args:
        names: model and baselines -> what they are called. served: the baseline that answers, where no model has passed: what is known of the
            refused model alone is not drawn.
    """

    def __init__(self, evidence: Mapping[str, Any], names: Mapping[str, str], words: Words, formats: Formats, served: str | None) -> None:
        self.evidence, self.curves, self.measured = evidence, evidence.get("curves", {}), evidence.get("evidence", {})
        self.names, self.t, self.f, self.served = names, words.text, formats, served
        self.looks = LOOKS if served is None else {**LOOKS, "model": LOOKS.get(served, "other"), served: LOOKS["model"]}

    def figure(self, key: str, chart: Markup, looks: Sequence[tuple[str, str]], head: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, Any] | None:
        if not chart:
            return None
        return {"title": self.t(f"trust.{key}"), "note": self.t(f"trust.{key}_note"), "chart": chart, "looks": looks, "head": head, "rows": rows}

    def captured(self) -> dict[str, Any] | None:
        """Of the best share of the customers, the share of the buyers (or of their spend) who are in it."""
        found, shares = self.curves.get("captured", {}), self.curves.get("shares", ())
        if not found:
            return None
        who = [name for name in ("model", *BASELINES) if name in found]
        random = self.t("trust.at_random")
        lines = [Line(self.names[name], list(zip(shares, found[name], strict=True)), self.looks[name]) for name in who]
        lines.append(Line(random, [(0.0, 0.0), (1.0, 1.0)], "reference"))
        key = "spend" if "groups" in self.curves else "captured"
        chart = curves(self.t(f"trust.{key}"), lines[::-1], lambda x: self.f.percent(x, 0), lambda y: self.f.percent(y, 0), top=1.0)
        places = [place for place, share in enumerate(shares) if round(share * 100) in STEPS]
        rows = [[self.f.percent(shares[place], 0), *(self.f.percent(found[name][place]) for name in who)] for place in places]
        looks = [(line.name, line.look) for line in lines]
        return self.figure(key, chart, looks, [self.t("trust.best_share"), *(self.names[name] for name in who)], rows)

    def reliability(self) -> dict[str, Any] | None:
        """Predicted against observed, with the diagonal that is right."""
        bins = self.curves.get("reliability") or ()
        if not bins or self.served:
            return None
        ticks = nice(0.0, max(max(one["high"], one["predicted"]) for one in bins))
        plot = Plot(self.t("trust.reliability"), (0.0, ticks[-1]), (0.0, ticks[-1]))
        plot.grid(ticks, lambda y: self.f.percent(y, 0))
        plot.bottom([(tick, self.f.percent(tick, 0)) for tick in ticks])
        plot.curve(Line("", [(0.0, 0.0), (ticks[-1], ticks[-1])], "reference"))
        for one in bins:
            plot.dot(
                one["predicted"], one["observed"], one["low"], one["high"], "main", f"{self.f.percent(one['predicted'])}: {self.f.percent(one['observed'])}"
            )
        rows = [[self.f.percent(one["predicted"]), self.f.percent(one["observed"]), self.f.interval(one), self.f.number(one["count"])] for one in bins]
        head = [self.t("trust.predicted"), self.t("trust.observed"), self.t("common.interval"), self.t("common.customers")]
        return self.figure("reliability", plot.drawn(), [(self.t("trust.observed"), "main dot"), (self.t("trust.perfect"), "reference")], head, rows)

    def groups(self) -> dict[str, Any] | None:
        """Mean predicted and observed spend of ten equal groups."""
        found = self.curves.get("groups") or ()
        if not found or self.served:
            return None
        predicted, observed = (
            Dots(self.t(f"trust.{key}"), [(one[key], None, None) for one in found], look) for key, look in (("predicted", "main"), ("observed", "other"))
        )
        chart = intervals(self.t("trust.groups"), [predicted, observed], [str(place + 1) for place in range(len(found))], self.f.money, bottom=0.0)
        rows = [[str(place + 1), self.f.money(one["predicted"]), self.f.money(one["observed"]), self.f.number(one["count"])] for place, one in enumerate(found)]
        head = [self.t("trust.tenth"), predicted.name, observed.name, self.t("common.customers")]
        return self.figure("groups", chart, [(predicted.name, "main dot"), (observed.name, "other dot")], head, rows)

    def waiting(self) -> dict[str, Any] | None:
        """Share still waiting, predicted and observed, in three groups."""
        found = self.curves.get("waiting")
        if not found or self.served:
            return None
        lines, rows = [], []
        head, both = [self.t("common.days")], ("predicted", "observed")
        for group, look in zip(found["groups"], ("main", "third", "other"), strict=False):
            name = self.t(f"trust.third_{group['name']}")
            lines += [Line(name, list(zip(found["days"], group[key], strict=True)), look, dots=key == "observed") for key in both]
            head += [f"{name}: {self.t(f'trust.{key}')}" for key in both]
        for place, day in enumerate(found["days"]):
            rows.append([self.f.number(day), *(self.f.percent(group[key][place], 0) for group in found["groups"] for key in both)])
        chart = curves(self.t("trust.waiting"), lines, lambda x: self.f.number(x), lambda y: self.f.percent(y, 0), top=1.0)
        return self.figure("waiting", chart, [(line.name, line.look) for line in lines[::2]], head, rows)

    def effect(self) -> dict[str, Any] | None:
        """Extra outcomes by the share that is treated, best first: the Qini curve with its interval."""
        curve = (self.measured.get("uplift") or {}).get("curve")
        if not curve or self.served:
            return None
        shares = curve["share"]
        ribbon = [(x, low, high) for x, low, high in zip(shares, curve["low"], curve["high"], strict=True) if low is not None and high is not None]
        lines = [Line(self.names["model"], list(zip(shares, curve["model"], strict=True)), "main", ribbon)]
        lines.append(Line(self.t("trust.at_random"), list(zip(shares, curve["random"], strict=True)), "reference"))
        values = [y for line in lines for _, y in line.points] + [low for _, low, _ in ribbon] + [high for _, _, high in ribbon]
        chart = curves(
            self.t("trust.effect"), lines[::-1], lambda x: self.f.percent(x, 0), lambda y: self.f.percent(y, 1), top=max(values), bottom=min(0.0, *values)
        )
        places = [place for place, share in enumerate(shares) if round(share * 100) in STEPS]
        rows = [[self.f.percent(shares[place], 0), self.f.percent(curve["model"][place], 2), self.f.percent(curve["random"][place], 2)] for place in places]
        return self.figure("effect", chart, [(line.name, line.look) for line in lines], [self.t("trust.best_share"), *(line.name for line in lines)], rows)

    def stability(self) -> dict[str, Any] | None:
        """The main metric at each test cutoff, of model and baselines."""
        found, main = self.measured.get("by_cutoff") or {}, self.evidence.get("main")
        if len(found) < 2 or main is None:
            return None
        who = [name for name in ("model", *BASELINES) if all(main in one.get(name, {}) for one in found.values())]
        groups = [Dots(self.names[name], [_interval(found[cutoff][name][main]) for cutoff in found], self.looks[name]) for name in who]
        days = [self.f.day(cutoff) for cutoff in found]
        chart = intervals(self.t("trust.stability"), groups, [self.f.short_day(cutoff) for cutoff in found], lambda y: self.f.metric(main, y))
        rows = [[day, *(self.f.metric(main, found[cutoff][name][main]["value"]) for name in who)] for day, cutoff in zip(days, found, strict=True)]
        return self.figure(
            "stability", chart, [(group.name, f"{group.look} dot") for group in groups], [self.t("trust.cutoff"), *(self.names[name] for name in who)], rows
        )


def _interval(measured: Mapping[str, Any]) -> tuple[float, float | None, float | None] | None:
    return None if measured["value"] is None else (measured["value"], measured["low"], measured["high"])
