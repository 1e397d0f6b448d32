"""Trust: how good each prediction is, beside its baseline, and when not to use it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from features.errors import UnknownName
from serving.console.formats import Formats
from serving.console.realised import section
from serving.console.told import Told
from serving.console.trust_figures import BASELINES, Drawn
from serving.console.words import Words
from serving.ledger import Ledger

MAIN = {"probability": ("auc", True), "rank": ("auc", True), "value": ("gini", True), "date": ("integrated_brier", False), "effect": ("qini", True)}
HEADLINES = {
    "probability": ("lift_10", "auc", "ece"), "rank": ("lift_10", "auc"), "value": ("gini", "share_top_10", "sum_ratio"),
    "date": ("integrated_brier", "restricted_mae", "coverage"), "effect": ("qini", "average_effect", "uplift_10"),
}  # fmt: skip
NO_RIVALS = ("model", "refused challenger")
VERDICTS = {"pass": "pass", "warn": "warn", "FAIL": "fail"}

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]


def overview(told: Told) -> list[dict[str, Any]]:
    """Every prediction in service with its main metric beside the best baseline."""
    return [card(told, task) for task in told.tasks]


def card(told: Told, task: str) -> dict[str, Any]:
    """What the head of a prediction's page, and its line in the list, say."""
    facts, about = told.manifest["tasks"][task], told.release.bundles[task].about
    evidence, kind = told.evidence(task), told.release.bundles[task].kind
    main, more_is_better = MAIN[kind]
    metrics: Metrics = facts["metrics"]
    model, rivals = metrics.get("model", {}), {who: told_of for who, told_of in metrics.items() if who not in NO_RIVALS and main in told_of}
    best = max(rivals, key=lambda who: (1 if more_is_better else -1) * (rivals[who][main]["value"] or 0.0), default=None)
    return {
        "task": task,
        "kind": kind,
        "question": about["question"],
        "eligible": about["eligible"],
        "horizon": about["horizon_days"],
        "window": about.get("window_days", 0),
        "eligible_users": facts["eligible"],
        "is_baseline": facts["kind"] == "baseline",
        "grade": (evidence or {}).get("grade") or None,
        "main": main,
        "model": model.get(main),
        "rival": best,
        "rival_called": about.get("baselines", {}).get(best, best),
        "rival_value": rivals[best][main] if best else None,
        "floor": model.get("ece_floor", {}).get("value"),
        "rows": model.get("rows", {}).get("value"),
        "positives": model.get("positives", {}).get("value"),
        "headlines": [(name, model[name]) for name in HEADLINES[kind] if name in model],
        "trained_through": about["last_cutoff"],
    }


def page(told: Told, ledger: Ledger, task: str, words: Words, formats: Formats) -> dict[str, Any]:
    """The page of one prediction. Where the ledger does not answer, all but what came true in service.

    Raises:
        UnknownName: the release has no such prediction.
    """
    if task not in told.release.bundles:
        raise UnknownName("prediction", task, told.tasks)
    facts, evidence = told.manifest["tasks"][task], told.evidence(task)
    served = told.release.bundles[task].about.get("baseline")
    names = {who: baseline(who, told.release.bundles[task].about, words) for who in ("model", *BASELINES, *facts["metrics"])}
    of_figures = names | ({"model": words.text("trust.challenger"), served: words.text("trust.in_use", name=names[served])} if served in names else {})
    of_metrics = names | (
        {"model": words.text("trust.in_use", name=names[served]), "refused challenger": words.text("trust.challenger")} if served in names else {}
    )
    drawn = Drawn(evidence or {}, of_figures, words, formats, served)
    return {
        "card": card(told, task),
        "has_evidence": evidence is not None,
        "names": of_metrics,
        "metrics": facts["metrics"],
        "shown": list((evidence or {}).get("shown", ())) or sorted(facts["metrics"].get("model", ())),
        "figures": [figure for figure in (drawn.captured(), drawn.reliability(), drawn.groups(), drawn.waiting(), drawn.effect(), drawn.stability()) if figure],
        "realised": section(ledger, told.release.id, task, words, formats),
        "slices": [] if served else slices(evidence or {}),
        "limits": list((evidence or {}).get("limits", ("others", "prices", "cause"))),
        "extrapolation": told.release.bundles[task].about.get("extrapolation"),
        "gate": gate(facts["decision"]),
        "versions": [{**version, "gate": gate(version.get("reasons") or "")} for version in (evidence or {}).get("versions", ())],
        "drift": (evidence or {}).get("drift"),
        "closes": (date.fromisoformat(told.manifest["as_of"]) + timedelta(days=int(told.release.bundles[task].about["horizon_days"]))).isoformat(),
        "mlflow": mlflow(evidence or {}),
    }


def baseline(who: str, about: Mapping[str, Any], words: Words) -> str:
    """What a baseline is called; the model's own name for `model`."""
    if who == "model":
        return words.text("trust.model")
    called = str(about.get("baselines", {}).get(who, who))
    return words.known("baseline", called) or called


def gate(text: str) -> dict[str, Any]:
    """A decision of the gate, line by line: whether it passed, and each rule with its verdict."""
    first, *lines = text.splitlines() or [""]
    rules = []
    for line in lines:
        verdict, _, rest = line.partition("  ")
        rule, _, why = rest.partition(": ")
        rules.append({"verdict": VERDICTS.get(verdict, "warn"), "rule": rule, "why": why or rest})
    return {"text": first, "passed": first.startswith("passed"), "is_known": first.startswith(("passed", "refused")), "rules": rules}


def mlflow(evidence: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where the run of a model is found: an address where MLflow is a server, else how to open it."""
    place = evidence.get("place")
    if not place:
        return None
    path = f"/#/experiments/{place['experiment']}/runs/{place['run_id']}"
    is_server = str(place["uri"]).startswith(("http:", "https:"))
    return {"url": f"{place['uri'].rstrip('/')}{path}" if is_server else None, "uri": place["uri"], "run_id": place["run_id"]}


def slices(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Parts of the users, each with its main metric and the share of the best one that it reaches."""
    main = evidence.get("main")
    found = []
    for name, parts in evidence.get("evidence", {}).get("slices", {}).items():
        rows = [
            {"part": part, "rows": told["rows"]["value"], "base_rate": told.get("base_rate", {}).get("value"), "main": told[main]}
            for part, told in sorted(parts.items(), key=lambda item: _order(item[0]))
            if main in told
        ]
        if rows:
            found.append({"name": name, "main": main, "rows": rows, "most": max(abs(row["main"]["value"]) for row in rows) or 1.0})
    return found


def _order(part: str) -> tuple[int, str]:
    """`8 to 30` comes before `31 to 90`, `over 365` after them, `never` last."""
    first = part.removeprefix("over ").split()[0] if part else ""
    return (int(first) + part.startswith("over"), part) if first.isdigit() else (10**6, part)
