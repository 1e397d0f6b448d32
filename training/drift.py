"""Drift: how far the users of today are from those whom the champion learned from.

Each column's population stability index, of the champion's training rows and the rows of today. Below .1 a column is called
stable, up to .25 moved, above drifted (Siddiqi 2006, "Credit Risk Scorecards", Wiley).
Of n rows now, N then and B bins, PSI is about (B - 1)(1/n + 1/N) without any drift (Yurdakul and Naranjo 2020, "Statistical
properties of the population stability index", Journal of Risk Model Validation 14(4)): few rows say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from features.logs import log
from training.blend import Vector
from training.bundle import Bundle
from training.examples import Examples
from training.gates import Reason
from training.psi import psi, shares

STABLE, MOVED = 0.1, 0.25
USUAL = 0.07  # of the features drift on true data: days since a campaign move with the calendar
LEAST_ROWS = 200  # fewer have a PSI of .05 and more by chance
SHOWN = 10


@dataclass(frozen=True)
class Moved:
    """How far one column moved. factor: median now over median then; None where either is zero, or they differ in sign."""

    psi: float
    factor: float | None

    @property
    def word(self) -> str:
        return "stable" if self.psi < STABLE else "moved" if self.psi <= MOVED else "drifted"


@dataclass(frozen=True)
class Drift:
    """The table: feature -> how far it moved, largest first; the champion's score, if it can score today's rows; how many they are."""

    features: Mapping[str, Moved]
    score: Moved | None
    rows: int

    @property
    def drifted(self) -> dict[str, Moved]:
        """The features above .25."""
        return {name: moved for name, moved in self.features.items() if moved.word == "drifted"}

    @property
    def far(self) -> bool:
        """Whether the data as a whole drifted: more than 7 % of the features, or what the champion says of people."""
        return len(self.drifted) > USUAL * len(self.features) or (self.score is not None and self.score.word == "drifted")

    @property
    def metrics(self) -> dict[str, float]:
        """As MLflow names them."""
        worst = next(iter(self.features.values())).psi
        return {"drift.max_psi": worst, "drift.features_drifted": float(len(self.drifted)), **({"drift.score_psi": self.score.psi} if self.score else {})}

    @property
    def text(self) -> str:
        """One sentence: how many features drifted, and the worst of them."""
        score = f"; the champion's score is {self.score.word} ({self.score.psi:.2f})" if self.score else ""
        named = f": {', '.join(self._named(SHOWN))}" if self.drifted else ""
        return f"{len(self.drifted)} of {len(self.features)} features drifted (PSI above {MOVED}){named}{score}"

    def reason(self, on_drift: str) -> Reason:
        """What the gate says of it: a refusal where the shop's setting is "stop", a warning otherwise."""
        advice = 'the shop file says on_drift = "stop": look at the source of these values, then retrain with "continue" if they are true'
        stops = self.far and on_drift == "stop"
        return Reason("drift", not stops, f"{self.text}; {advice}" if stops else self.text, warning=self.far)

    def alert(self, task: str) -> None:
        """Tell the log which features drifted, if the data as a whole did."""
        if self.far:
            facts = {"task": task, "count": len(self.drifted), "features": self._named(SHOWN)}
            log.warning("features drifted since the champion was trained", extra={"facts": facts})

    def describe(self) -> dict[str, Any]:
        """The whole table, as JSON values; what moved most first."""
        columns = [{"name": name, **_described(moved)} for name, moved in self.features.items()]
        return {"rows": self.rows, "score": _described(self.score) if self.score else None, "features": columns}

    def table(self) -> str:
        """The features that moved most, as a Markdown table."""
        named = {f"`{name}`": moved for name, moved in list(self.features.items())[:SHOWN]} | ({"the champion's score": self.score} if self.score else {})
        lines = [f"| {name} | {moved.psi:.3f} | {moved.word} | {_times(moved.factor)} |" for name, moved in named.items()]
        return "\n".join(["| | PSI | | median |", "|---|---|---|---|", *lines])

    def _named(self, most: int) -> list[str]:
        named = [f"{name} ({_times(moved.factor)})" if moved.factor else name for name, moved in list(self.drifted.items())[:most]]
        return [*named, f"and {len(self.drifted) - most} more"] if len(self.drifted) > most else named


def measure_drift(champion: Bundle, today: Examples) -> Drift | None:
    """Hold rows of today against the distributions that the champion was trained on; features are matched by name.

    Returns:
        None where nothing can be said: too few rows, or a champion without shares or without any feature of today.
    """
    then = champion.reference.get("features", {})
    names = [name for name in champion.features if today.has(name) and "shares" in then.get(name, {})]
    if len(today) < LEAST_ROWS or not names:
        return None
    features = {name: _moved(then[name], today.column(name)) for name in names}
    worst = dict(sorted(features.items(), key=lambda item: (-item[1].psi, item[0])))
    can_score = len(names) == len(champion.features)
    score = _moved(champion.reference["score"], champion.scores(today.of(champion.features))) if can_score else None
    return Drift(worst, score, len(today))


def _moved(then: Mapping[str, Any], values: Vector) -> Moved:
    seen = values[~np.isnan(values)]
    before = then["deciles"][5] if then["deciles"] else None
    factor = float(np.median(seen)) / before if before and len(seen) else 0.0
    return Moved(psi(then["shares"], shares(values, then["deciles"])), factor if factor > 0 else None)


def _described(moved: Moved) -> dict[str, Any]:
    return {"psi": moved.psi, "word": moved.word, "median_factor": moved.factor}


def _times(factor: float | None) -> str:
    return "-" if factor is None else f"x{factor:.2g}"
