"""Why: what a prediction looks at, and what low, medium and high scores have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.errors import UnknownName
from serving.console.charts import columns
from serving.console.formats import Formats
from serving.console.told import Told
from serving.console.words import Words

BANDS = ("low", "medium", "high")
LOOKS = {"low": "other", "medium": "third", "high": "main"}
BINS = 40


def page(told: Told, task: str, words: Words, formats: Formats) -> dict[str, Any]:
    """The page of one prediction.

    Raises:
        UnknownName: the release has no such prediction.
    """
    if task not in told.release.bundles:
        raise UnknownName("prediction", task, told.release.bundles)
    found = told.page(f"bands.{task}.json")
    features = [_feature(told, one, words, formats) for one in (found or {}).get("features", ())]
    heaviest = max((one["share"] for one in features), default=1.0)
    about = told.release.bundles[task].about
    return {
        "task": task,
        "question": about["question"],
        "has_bands": found is not None,
        "users": (found or {}).get("users", {}),
        "features": features,
        "heaviest": heaviest,
        "scores": scores(told, task, words, formats),
    }


def scores(told: Told, task: str, words: Words, formats: Formats) -> dict[str, Any]:
    """How all scores lie: made once for each release."""
    if ("scores", task) not in told.kept:
        told.kept["scores", task] = _histogram(told, task)
    edges, counts = told.kept["scores", task]
    kind = told.release.bundles[task].kind

    def show(value: float) -> str:
        if kind == "value":
            return formats.money(value)
        return formats.number(value, 1) if kind == "rank" else formats.percent(value, 0)

    total = max(1, int(counts.sum()))
    return {
        "chart": columns(words.text("why.scores"), [count / total for count in counts], float(counts.max(initial=0)) / total, "main", 140),
        "ends": [show(float(edges[0])), show(float((edges[0] + edges[-1]) / 2)), show(float(edges[-1]))] if len(counts) else [],
        "rows": [
            [f"{show(float(low))} – {show(float(high))}", formats.number(int(count))]
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
            if count
        ],
        "total": int(counts.sum()),
    }


def _histogram(told: Told, task: str) -> tuple[Any, Any]:
    """Bins of the sorted scores, by looking only where they begin: no pass over a million of them."""
    ordered, number = told.release.scores[task].ordered, told.manifest["tasks"][task]["eligible"]
    if not number:
        return np.zeros(1), np.zeros(0, dtype=np.int64)
    low, high = float(ordered[0]), float(ordered[min(number - 1, int(number * 0.995))])  # a few who spend ten times as much would flatten the rest
    is_chance = told.release.bundles[task].kind in ("probability", "date")
    low, high = (0.0, min(1.0, max(high, 0.05))) if is_chance else (low, high if high > low else low + 1)
    edges = np.linspace(low, high, BINS + 1)
    places = np.searchsorted(ordered[:number], edges[1:-1], "left")
    return edges, np.diff(np.concatenate([[0], places, [number]]))


def _feature(told: Told, one: dict[str, Any], words: Words, formats: Formats) -> dict[str, Any]:
    about = told.feature(one["name"])
    unit, bands = about["unit"], one["bands"]
    head = one.get("values") or []
    ends = [formats.value(value, unit) for value in ((head[0], head[-1]) if head else (one["edges"][0], one["edges"][-1]) if one.get("edges") else ())]
    return {
        "name": one["name"],
        "meaning": about["meaning"],
        "family": about["family"],
        "actionable": about["actionable"],
        "share": one["share"],
        "direction": one["direction"],
        "ends": ends,
        "bands": [
            {
                "name": name,
                "chart": columns(
                    f"{words.text(f'band.{name}')}: {words.meaning(about['meaning']) or about['meaning']}", shares, max(shares, default=0.0), LOOKS[name]
                ),
                "median": formats.value(bands[name]["quantiles"][2], unit) if bands[name]["quantiles"] else formats.value(None, unit),
                "middle_half": " – ".join(formats.value(bands[name]["quantiles"][place], unit) for place in (1, 3)) if bands[name]["quantiles"] else "",
                "mean": formats.value(bands[name]["mean"], unit),
                "missing": formats.percent(bands[name]["missing"], 0),
                "is_missing": bands[name]["missing"] > 0.005,
            }
            for name in BANDS
            for shares in [bands[name]["shares"]]
        ],
    }
