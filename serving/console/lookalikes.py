"""Look-alikes: what a seed is, what tells it apart, how far it reaches, and the proof that its likeness finds the hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from features.errors import UnknownName
from serving.console.charts import Dots, Line, curves, intervals
from serving.console.formats import Formats
from serving.console.told import LOOKALIKE, Told
from serving.console.trust import gate, mlflow
from serving.console.words import Words

SHARES = ("1", "5", "10", "20")
MOST_ROWS = 15
DIFFERS, OF_NOTE = 0.05, 0.05  # corrected p-value; effect below which nobody reads on


def overview(told: Told) -> list[dict[str, Any]]:
    """Every seed in service."""
    found = []
    for task in told.seeds:
        evidence, facts = told.evidence(task) or {}, told.manifest["tasks"][task]
        model = evidence.get("evidence", {}).get("metrics", {}).get("model", {})
        found.append(
            {
                "task": task,
                "name": task.removeprefix(LOOKALIKE),
                "seed": told.release.bundles[task].about["seed"],
                "words": (evidence.get("contrast") or {}).get("from") or told.release.bundles[task].about["question"],
                "candidates": facts["eligible"],
                "audience": facts.get("audience"),
                "grade": evidence.get("grade"),
                "lift": model.get("lift_10"),
            }
        )
    return found


def page(told: Told, task: str, words: Words, formats: Formats) -> dict[str, Any]:
    """The page of one seed.

    Raises:
        UnknownName: the release has no such seed.
    """
    if task not in told.seeds:
        raise UnknownName("look-alike", task, told.seeds)
    evidence, facts = told.evidence(task), told.manifest["tasks"][task]
    measured, contrast = (evidence or {}).get("evidence", {}), (evidence or {}).get("contrast")
    proof = measured.get("proof")
    return {
        "one": next(one for one in overview(told) if one["task"] == task),
        "has_evidence": evidence is not None,
        "report": (contrast or {}).get("seed_report"),
        "contrast": _contrast(contrast, formats) if contrast else None,
        "proof": _proof(proof, measured["metrics"], words, formats) if proof else None,
        "better": (proof or {}).get("better_than_rules"),
        "choice": (proof or {}).get("choice", {}),
        "sizes": {name: (proof or {}).get(name) for name in ("seed", "hidden", "splits", "drawn", "candidates", "among")},
        "reach": _reach(measured.get("reach") or (), words, formats),
        "left_out": (evidence or {}).get("left_out", {}),
        "gate": gate(facts["decision"]),
        "versions": (evidence or {}).get("versions", ()),
        "mlflow": mlflow(evidence or {}),
    }


def _contrast(contrast: Mapping[str, Any], f: Formats) -> dict[str, Any]:
    """The features that tell the seed from the others, those of one kind by their strongest window."""
    rows: dict[str, Mapping[str, Any]] = {}
    for row in sorted(contrast["features"], key=lambda row: -abs(row["effect"]["value"] or 0.0) if row.get("effect") else 0.0):
        if row.get("q") is not None and row["q"] < DIFFERS and not row["defines"] and abs(row["effect"]["value"]) >= OF_NOTE:
            rows.setdefault(row.get("kind", row["feature"]), row)
    shown = [
        {
            "meaning": row["meaning"],
            "values": [f.value(value, row["unit"]) for value in (row["medians"] if row["words"].endswith("(median)") else row["means"])],
            "median": row["words"].endswith("(median)"),
            "effect": row["effect"]["value"],
            "interval": f"{f.number(row['effect']['low'], 2)} – {f.number(row['effect']['high'], 2)}",
        }
        for row in list(rows.values())[:MOST_ROWS]
    ]
    return {"rows": shown, "sizes": contrast["sizes"], "as_of": contrast["as_of"], "tests": contrast.get("tests")}


def _proof(proof: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]], words: Words, f: Formats) -> dict[str, Any]:
    """Share of the hidden seed users among the best tenth, by method."""
    order = sorted(metrics, key=lambda who: (who != "model", -(metrics[who]["recall_10"]["value"] or 0.0)))
    names = {who: words.text("lookalikes.ours") if who == "model" else words.known("method", who) or who for who in order}
    values = [_clipped(metrics[who]["recall_10"]) for who in order]
    groups = [
        Dots(names["model"], [value if who == "model" else None for who, value in zip(order, values, strict=True)], "main"),
        Dots(words.text("lookalikes.others"), [None if who == "model" else value for who, value in zip(order, values, strict=True)], "other"),
    ]
    rows = [[names[who], *(_cell(metrics[who][f"recall_{share}"], f) for share in SHARES)] for who in order]
    rows.append([words.text("trust.at_random"), *(f.percent(int(share) / 100, 0) for share in SHARES)])
    head = [words.text("lookalikes.method"), *(words.text("lookalikes.recall_at", share=share) for share in SHARES)]
    chart = intervals(words.text("lookalikes.proof"), groups, [str(place + 1) for place in range(len(order))], lambda y: f.percent(y, 0), top=1.0, bottom=0.0)
    return {"chart": chart, "names": [f"{place + 1} {names[who]}" for place, who in enumerate(order)], "head": head, "rows": rows}


def _reach(points: Sequence[Mapping[str, Any]], words: Words, f: Formats) -> dict[str, Any] | None:
    """The three dials beside each other: users, best per cent, likeness of the last one."""
    if not points:
        return None
    line = Line(words.text("lookalikes.similarity"), [(point["top_percent"], point["similarity"]) for point in points])
    chart = curves(words.text("lookalikes.reach"), [line], lambda x: f.percent(x / 100, 0), lambda y: f.number(y), top=100.0)
    rows = [[f.number(point["size"]), f.percent(point["top_percent"] / 100), f.number(point["similarity"])] for point in points]
    head = [words.text("lookalikes.dial_size"), words.text("lookalikes.dial_percent"), words.text("lookalikes.similarity")]
    return {"chart": chart, "looks": [(line.name, line.look)], "head": head, "rows": rows}


def _clipped(measured: Mapping[str, Any]) -> tuple[float, float | None, float | None]:
    low, high = measured["low"], measured["high"]
    return measured["value"], None if low is None else max(low, 0.0), None if high is None else min(high, 1.0)


def _cell(measured: Mapping[str, Any], f: Formats) -> str:
    value, low, high = _clipped(measured)
    return f.percent(value, 0) + ("" if low is None or high is None else f" ({f.percent(low, 0)} – {f.percent(high, 0)})")
