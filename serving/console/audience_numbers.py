"""What a preview promises, as a growth manager reads it. Every number is the API's, written in a language."""

from __future__ import annotations

from typing import Any

from serving.audiences.schemas import PreviewBody
from serving.console.formats import Formats
from serving.console.words import Words


class Numbers:
    """Writes one preview.

    Args:
        kind, task: of the prediction; empty without one.
    """

    def __init__(self, body: PreviewBody, kind: str, task: str | None, words: Words, formats: Formats) -> None:
        self.body, self.kind, self.task = body, kind, task or ""
        self.text, self.words, self.formats = words.text, words, formats

    def page(self) -> dict[str, Any]:
        return {
            "sentence": self.sentence(),
            "stats": self.stats(),
            "against": self.against(),
            "reason": self.reason(),
            "profit": self.profit(),
            "holdout": self.holdout(),
            "hints": bool(self.body.hints),
        }

    @property
    def doing(self) -> str:
        """Who is expected to do what."""
        return self.words.known("doing", self.task) or self.text("audiences.expected")

    def sentence(self) -> str:
        body, number = self.body, self.formats.number
        if body.expected_conversions is None:
            return self.text("audiences.says_size", size=number(body.size), pool=number(body.eligible))
        return self.text("audiences.says", size=number(body.size), doing=self.doing, expected=number(body.expected_conversions), low=number(body.expected_low), high=number(body.expected_high))  # fmt: skip

    def stats(self) -> list[tuple[str, str, str, str]]:
        """Key, name, value and note of each number."""
        body, number, text = self.body, self.formats.number, self.text
        share = self.formats.percent(body.size / body.eligible) if body.eligible else "–"
        found = [("size", text("audiences.size"), number(body.size), text("audiences.of_pool", share=share, pool=number(body.eligible)))]
        if body.expected_conversions is not None:
            interval = text("common.interval_is", low_high=f"{number(body.expected_low)} – {number(body.expected_high)}")
            found.append(("expected", self.doing, number(body.expected_conversions), interval))
            found.append(("false", text("audiences.false_positives"), number(body.false_positives), text("audiences.false_note")))
            lift = "" if body.lift is None else text("audiences.lift", n=number(body.lift, 2))
            found.append(("precision", text("audiences.precision"), self.formats.percent(body.precision), lift))
            found.append(("recall", text("audiences.recall"), self.formats.percent(body.recall), text("audiences.recall_note")))
        if body.expected_value is not None:
            each = self.formats.units(body.expected_value / body.size) if body.size else "–"
            found.append(("value", text("audiences.value"), self.formats.units(body.expected_value), text("audiences.value_note", each=each)))
        if body.expected_extra is not None:
            found.append(("extra", text("audiences.extra"), number(body.expected_extra, 1), text("audiences.extra_note")))
        return found

    def against(self) -> list[tuple[str, str, float, str]]:
        """Name, number, length of the bar and look: this cut, as many by recency, as many at random."""
        body = self.body
        if body.expected_conversions is None:
            return []
        rows = [("this", body.expected_conversions, "main"), ("by_recency", body.by_recency, "third"), ("at_random", body.at_random, "other")]
        known = [(name, value, look) for name, value, look in rows if value is not None]
        most = max((value for _, value, _ in known), default=0.0) or 1.0
        return [(self.text(f"audiences.{name}"), self.formats.number(value), value / most, look) for name, value, look in known]

    def reason(self) -> str:
        """Why nothing can be promised."""
        if self.body.reason is None:
            return ""
        return self.text("audiences.no_task" if not self.task else "audiences.is_value" if self.kind == "value" else "audiences.is_effect" if self.kind == "effect" else "audiences.only_ranks")  # fmt: skip

    def profit(self) -> dict[str, str] | None:
        best = self.body.recommended
        if best is None:
            return None
        units = self.formats.units
        if best.size:
            said = self.text("audiences.recommended", n=self.formats.number(best.size), profit=units(best.at), cost=units(best.cost))
        else:
            said = self.text("audiences.never_pays")
        even = "" if best.break_even is None else self.text("audiences.break_even", n=self.formats.percent(best.break_even, 2))
        why = self.text("audiences.counts_added" if self.kind == "effect" else "audiences.counts_every")
        return {"here": "" if self.body.profit is None else units(self.body.profit), "recommended": said, "break_even": even, "note": why}

    def holdout(self) -> dict[str, Any]:
        body, number = self.body, self.formats.number
        groups = [(self.text(f"group.{name}"), number(size)) for name, size in body.groups.items()]
        power = body.power
        if not body.groups.get("control"):
            return {"groups": groups, "power": self.text("audiences.no_control")}
        if power is None:
            return {"groups": groups, "power": self.text("audiences.no_power")}
        if power.effect is None:
            return {"groups": groups, "power": self.text("audiences.powerless")}
        values = {"rate": self.formats.percent(power.rate), "to": self.formats.percent(power.rate + power.effect), "more": number(power.conversions)}
        return {"groups": groups, "power": self.text("audiences.power", **values)}
