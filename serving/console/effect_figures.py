"""The parts of a campaign's report as tables and charts: groups, funnel, effect, tenths, money, target, days, factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from serving.console.charts import Dots, Line, curves, intervals
from serving.console.formats import NOTHING, Formats
from serving.console.words import Words

LOOKS = {"treatment": "main", "control": "other", "business_as_usual": "third"}
TARGETS = {"met": "pass", "missed": "fail"}
Report = Mapping[str, Any]
Found = Mapping[str, Any]
Figure = dict[str, Any]  # as the template's macro takes it


class Drawn:
    """Draws one report, final or of the monitor.

    Args:
        report: as the ledger keeps it. formats: in the report's currency.
    """

    def __init__(self, report: Report, words: Words, formats: Formats) -> None:
        self.report, self.words, self.formats = report, words, formats
        self.text = words.text
        self.is_money = report["campaign"]["goal"] == "spend"

    def page(self) -> dict[str, Any]:
        """All parts of a final report."""
        claims = self.report["claim"]
        return {
            "verdict": self.verdict(),
            "until": self.report["complete_until"],
            "ratio": self.report["ratio"],
            "groups": self.groups(),
            "funnel": self.funnel(),
            "effect": self.effect() if claims else None,
            "beside": self.beside() if claims else None,
            "tenths": self.tenths() if claims else None,
            "money": self.money() if claims else None,
            "target": self.target(),
            "days": self.days(),
            "factors": self.factors(),
        }

    # --- the answer ---------------------------------------------------------------------------------------------------

    def verdict(self) -> dict[str, Any]:
        """What may be said: `kind` is added, harm, none or no_claim, and a sentence."""
        if not self.report["claim"]:
            return {"kind": "no_claim", "text": self.no_claim(), "short": self.text("effect.short_no_claim")}
        effect, added = self.report["effect"]["adjusted"], self.report["economics"]["added"]
        kind = "added" if effect["low"] > 0 else "harm" if effect["high"] < 0 else "none"
        values = {
            "many": self.many(added["value"]),
            "interval": self.between(added, self.total),
            "each": self.text("effect.each_spend" if self.is_money else "effect.each_rate", n=self.signed(effect["value"])),
        }
        values |= {"against": self.group(self.report["against"])}
        short = self.text(f"effect.short_{kind}", many=values["many"])
        return {"kind": kind, "text": self.text(f"effect.says_{kind}", **values), "short": short}

    def no_claim(self) -> str:
        """Why nothing is claimed."""
        groups, against = self.report["groups"], self.report["against"]
        treated, control = groups["treatment"]["members"], groups.get(against, {"members": 0})["members"]
        if not control:
            return self.text("effect.no_control")
        if min(treated, control) < 30:  # as `serving.campaigns.effect.LEAST_CONTROL`, which loads what computes
            return self.text("effect.too_small", treated=self.formats.number(treated), control=self.formats.number(control))
        converted = [self.formats.number(groups[group]["converted"]) for group in ("treatment", against)]
        return self.text("effect.too_few", treated=converted[0], control=converted[1])

    def effect(self) -> dict[str, Any]:
        effect = self.report["effect"]
        rows = [(self.text("effect.adjusted"), effect["adjusted"]), (self.text("effect.plain"), effect["plain"])]
        rows += [(self.text("effect.against", group=self.group(other)), found) for other, found in self.report["others"].items()]
        chart = self.differences(self.text("effect.effect"), [found for _, found in rows], [name for name, _ in rows])
        return {
            "value": self.signed(effect["adjusted"]["value"]),
            "interval": self.between(effect["adjusted"], self.signed),
            "worth": self.formats.number(effect["worth"], 2),
            "pre_days": self.formats.number(effect["pre_days"]),
            "against": self.group(self.report["against"]),
            "chart": chart,
            "rows": [[name, self.signed(found["value"]), self.between(found, self.signed), self.p(found["p"])] for name, found in rows],
        }

    def beside(self) -> str:
        """The outcome that the campaign was not for."""
        found = self.report["beside"]
        show = self.signed_rate if found["outcome"] == "conversions" else self.signed_money
        what = self.text("effect.beside_" + found["outcome"])
        return self.text("effect.beside", what=what, value=show(found["value"]), interval=self.between(found, show))

    def tenths(self) -> Figure | None:
        parts = self.report["deciles"]
        if not parts:
            return None
        chart = self.differences(self.text("effect.tenths"), [part["difference"] for part in parts], [str(part["part"]) for part in parts])
        rows = [
            [str(part["part"]), f"{part['score'][0]:.3f} – {part['score'][1]:.3f}", self.formats.number(part["treated"]),
             self.formats.number(part["control"]), self.mean(part["treated_mean"]), self.mean(part["control_mean"]), self.signed(part["difference"]["value"]),
             self.between(part["difference"], self.signed)]
            for part in parts
        ]  # fmt: skip
        head = [self.text("effect.tenth"), self.text("why.score"), *self.head()]
        return figure(self.text("effect.tenths"), self.text("effect.tenths_note", n=len(parts)), chart, [], head, rows)

    # --- counts -------------------------------------------------------------------------------------------------------

    def groups(self) -> dict[str, Any]:
        rows = []
        for group, found in self.report["groups"].items():
            expected = found["expected"]
            many = {name: self.formats.number(expected[name], 1) for name in ("value", "low", "high")} if expected else {}
            said = beneath(many["value"], f"{many['low']} – {many['high']}") if many else NOTHING
            rows.append([self.group(group), self.formats.number(found["members"]), self.formats.number(found["converted"]), self.share(found["rate"]), said,
                         self.formats.units(found["spend_per_member"])])  # fmt: skip
        return {"head": [self.text(f"effect.{name}") for name in ("group", "members", "converted", "rate", "expected", "spend_each")], "rows": rows}

    def funnel(self) -> list[dict[str, Any]]:
        return [
            {
                "step": self.text(f"funnel.{step['step']}"),
                "users": NOTHING if step["users"] is None else self.formats.number(step["users"]),
                "share": None if step["of_entered"] is None else step["of_entered"]["value"],
                "of_before": self.text("funnel.not_measured") if step["share"] is None else self.share(step["share"]),
                "of_entered": NOTHING if step["of_entered"] is None else self.share(step["of_entered"]),
                "of_all": self.formats.number(step["goal_of_all"]) if "goal_of_all" in step else None,
            }
            for step in self.report["funnel"]
        ]

    def target(self) -> dict[str, Any] | None:
        found = self.report["target"]
        if not found:
            return None
        verdict = found["verdict"] if found["verdict"] in TARGETS else "undecided"
        values = {"target": self.mean(found["target"]), "actual": self.mean(found["actual"]["value"]), "interval": self.between(found["actual"], self.mean)}
        return {"verdict": verdict, "look": TARGETS.get(verdict, "warn"), "shares": [found["target"], found["actual"]["value"]], **values}

    def days(self) -> Figure:
        days = self.report["days"]
        before, show = days["ordinary_days"], lambda value: self.formats.number(value, 0 if value >= 10 or value == int(value) else 1)
        lines = [
            Line(self.group(group), [(place - before, value) for place, value in enumerate(found["series"])], LOOKS.get(group, "fourth"))
            for group, found in days["groups"].items()
        ]
        chart = curves(self.text("effect.days"), lines[::-1], lambda day: self.formats.number(day), show, marks=[(0, self.text("effect.entry"))])
        rows = [
            [self.group(group), self.formats.number(found["ordinary"], 2), self.formats.number(found["campaign"], 2), self.formats.number(found["ratio"], 2)]
            for group, found in days["groups"].items()
        ]
        note = self.text("effect.days_note", days=self.formats.number(days["campaign_days"]), before=self.formats.number(before))
        looks = [(line.name, line.look) for line in lines]
        head = [self.text(f"effect.{name}") for name in ("group", "ordinary", "campaign_days", "ratio")]
        return figure(self.text("effect.days"), note, chart, looks, head, rows)

    # --- money --------------------------------------------------------------------------------------------------------

    def money(self) -> dict[str, Any]:
        """What was added and what it cost; the cost is a fact, the rest are estimates."""
        found, costs, units = self.report["economics"], self.report["costs"], self.formats.units
        each, stats = found["cost_per_added"], []

        def estimate(name: str, value: Found, show: Any) -> None:
            stats.append((self.text(f"effect.{name}"), show(value["value"]), self.text("common.interval_is", low_high=self.between(value, show))))

        estimate("added_spend" if self.is_money else "added", found["added"], self.total)
        detail = self.text("effect.cost_is", messages=self.formats.number(costs["messages"]), contact=units(costs["contact"]),
                           redemptions=self.formats.number(costs["redemptions"]), coupons=units(costs["coupons"]))  # fmt: skip
        stats.append((self.text("effect.cost"), units(costs["total"]), detail))
        if costs["total"] and not self.is_money:
            low, high = (self.text("effect.no_limit") if each[end] is None else units(each[end]) for end in ("low", "high"))
            stats.append((self.text("effect.cost_each"), units(each["value"]), self.text("common.interval_is", low_high=f"{low} – {high}")))
        if found["profit"]:
            estimate("profit", found["profit"], self.signed_money)
        if found["roi"]:
            estimate("roi", found["roi"], self.ratio)
        return {"stats": stats, "has_profit": found["profit"] is not None}

    # --- factors ------------------------------------------------------------------------------------------------------

    def factors(self) -> list[dict[str, Any]]:
        head = [self.text("effect.level"), *self.head()]
        return [
            {
                "name": self.factor(factor["factor"]),
                "head": head,
                "tests": [(self.text(f"effect.{name}"), self.test(factor[name]), self.is_told(factor[name])) for name in ("differs", "effect_differs")],
                "rows": [
                    [self.level(row["level"]), self.formats.number(row["treated"]), self.formats.number(row["control"]), self.mean(row["treated_mean"]),
                     self.mean(row["control_mean"]), self.signed(row["difference"]["value"]) if row["difference"] else self.text("effect.few"),
                     self.between(row["difference"], self.signed) if row["difference"] else ""]
                    for row in factor["levels"]
                ],
            }
            for factor in self.report["factors"]
        ]  # fmt: skip

    def head(self) -> list[str]:
        """Of a table that holds the treated against those left alone: how many, what they did, the difference."""
        groups = [self.group("treatment"), self.group(self.report["against"])]
        many = [self.text("effect.members_of", group=group) for group in groups]
        return [*many, *groups, self.text("effect.difference"), self.text("common.interval")]

    def factor(self, name: str) -> str:
        return " × ".join(self.words.known("column", part) or self.words.known("slice", part) or part for part in name.split(" x "))

    def level(self, name: str) -> str:
        return self.words.known("label", name) or self.words.known("level", name) or name

    def test(self, found: Found) -> str:
        if found["p"] is None:
            return self.text("effect.untested")
        return f"{self.p(found['p_corrected'])} ({self.words.known('tested', found['test']) or found['test']})"

    def is_told(self, found: Found) -> bool:
        return found["p"] is not None and found["p_corrected"] < 0.05

    # --- how numbers are written --------------------------------------------------------------------------------------

    def group(self, name: str) -> str:
        return self.words.known("group", name) or name

    def mean(self, value: float | None) -> str:
        """What a member of a group did: a share, or spend."""
        return self.formats.units(value) if self.is_money else self.formats.percent(value)

    def share(self, found: Found) -> str:
        return beneath(self.formats.percent(found["value"]), self.formats.interval(found))

    def signed(self, value: float) -> str:
        """A difference of means."""
        return self.signed_money(value) if self.is_money else self.signed_rate(value)

    def signed_rate(self, value: float) -> str:
        return self.text("effect.points", n=sign(value) + self.formats.number(abs(100 * value), 2))

    def signed_money(self, value: float) -> str:
        return sign(value) + self.formats.units(abs(value))

    def total(self, found: Found | float) -> str:
        """A difference of all members together."""
        value = found["value"] if isinstance(found, Mapping) else found
        return self.signed_money(value) if self.is_money else sign(value) + self.formats.number(abs(value), 1)

    def many(self, value: float) -> str:
        """The same with its unit."""
        return self.total(value) if self.is_money else self.text("effect.conversions", n=self.total(value))

    def ratio(self, value: float) -> str:
        return sign(value) + self.formats.percent(abs(value), 0)

    def p(self, value: float | None) -> str:
        return NOTHING if value is None else "p < 0.001" if value < 0.001 else f"p = {self.formats.number(value, 3)}"

    def between(self, found: Found, show: Any) -> str:
        if found.get("low") is None or found.get("high") is None:
            return ""
        return self.text("effect.to", low=show(found["low"]), high=show(found["high"]))

    def differences(self, title: str, found: list[Any], places: list[str]) -> Any:
        """Differences with their intervals, and the line at which there is none."""
        show = (
            self.signed_money
            if self.is_money
            else lambda value: sign(value) + self.formats.number(abs(100 * value), 0 if float(100 * value).is_integer() else 1)
        )
        values = [(one["value"], one["low"], one["high"]) for one in found]
        low, high = min(0.0, *(one[1] for one in values)), max(0.0, *(one[2] for one in values))
        return intervals(title, [Dots(title, values)], places, show, bottom=low, top=high, height=220)


def figure(title: str, note: str, chart: Markup, looks: list[tuple[str, str]], head: list[str], rows: list[list[str]]) -> Figure:
    return {"title": title, "note": note, "chart": chart, "looks": looks, "head": head, "rows": rows}


def beneath(value: str, interval: str) -> str:
    """A value of a table with its interval below it."""
    return Markup("{}<small>{}</small>").format(value, interval) if interval else value


def sign(value: float) -> str:
    return "+\u2060" if value > 0 else "−\u2060" if value < 0 else ""  # the word joiner keeps the sign with its amount
