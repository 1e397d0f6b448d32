"""Health: how old everything is, what retrains did, what drifted, which releases were served, and what a shop without a model still lacks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from serving.console.told import Told
from serving.console.trust import gate
from serving.pointer import history
from training.heartbeat import CODE, FILE, SUCCESS, parse
from training.preflight_notes import read_notes

MOST_MOVES, MOST_DRIFTED = 15, 8
WORST = ("fail", "warn", "pass")
FRESH, OLD = 2, 8  # days: until data count as fresh, from when on as old
MODEL_FRESH, MODEL_OLD = 120, 240  # days since the last window that a model learned from


def page(told: Told | None, root: Path, preflight: Path | None, failure: str | None, now: datetime | None = None) -> dict[str, Any]:
    """The page; `told` is None while nothing is in service."""
    now = now or datetime.now(UTC)
    workspace = preflight.parents[1] if preflight else None
    return {
        "failure": failure,
        "ages": ages(told, now) if told else [],
        "retrains": retrains(preflight),
        "beat": beat(workspace, now),
        "checks": checks(preflight),
        "drift": drift(told) if told else [],
        "moves": list(reversed(history(root)))[:MOST_MOVES],
    }


def ages(told: Told, now: datetime) -> list[dict[str, Any]]:
    """Age of data, features, scores and models, each with how good that is."""
    scorer, manifest = told.scorer, told.manifest
    hours = (now - scorer.scored_at).total_seconds() / 3600
    good_for = (scorer.expires_at - scorer.scored_at).total_seconds() / 3600
    found = [
        {"what": "data", "at": manifest["complete_until"], "is_day": True, **_days(manifest["complete_until"], now)},
        {"what": "features", "at": manifest["as_of"], "is_day": True, **_days(manifest["as_of"], now)},
        {"what": "scores", "at": scorer.scored_at, "is_day": False, "age": hours, "unit": "hours", "state": "fail" if hours >= good_for else "pass"},
    ]
    for task, bundle in told.release.bundles.items():
        through = bundle.about.get("last_cutoff", manifest["as_of"])
        age = (now.date() - date.fromisoformat(through)).days
        state = "pass" if age < MODEL_FRESH else "warn" if age < MODEL_OLD else "fail"
        found.append({"what": "model", "task": task, "at": through, "is_day": True, "age": age, "unit": "days", "state": state})
    return found


def _days(told: str, now: datetime) -> dict[str, Any]:
    age = (now.date() - date.fromisoformat(told)).days
    return {"age": age, "unit": "days", "state": "pass" if age <= FRESH else "warn" if age < OLD else "fail"}


def retrains(preflight: Path | None) -> list[dict[str, Any]]:
    """What the last retrain of each prediction came to."""
    notes = read_notes(preflight) if preflight else {}
    told = [(task, note["retrain"]) for task, note in notes.items() if isinstance(note.get("retrain"), Mapping)]
    found = [{"task": task, **retrain, "gate": gate(str(retrain.get("reason", "")))} for task, retrain in told]
    return sorted(found, key=lambda one: (str(one.get("at", "")), one["task"]), reverse=True)


def checks(preflight: Path | None) -> list[dict[str, Any]]:
    """What `encore check` found of each prediction, the worst first."""
    notes = read_notes(preflight) if preflight else {}
    found = []
    for task, note in sorted(notes.items()):
        if note.get("checks"):
            verdict = next((worst for worst in WORST if any(check["verdict"] == worst for check in note["checks"])), "pass")
            found.append({"task": task, "verdict": verdict, "checked_at": note.get("checked_at"), "checks": note["checks"]})
    return sorted(found, key=lambda one: (WORST.index(one["verdict"]), one["task"]))


def beat(workspace: Path | None, now: datetime) -> dict[str, Any] | None:
    """When a retrain last did its work to the end, and how the last one ended; None where none has run here."""
    path = workspace / FILE if workspace else None
    try:
        samples = parse(path.read_bytes().decode(errors="replace")) if path else {}
    except OSError:
        return None
    if not samples:
        return None
    success, code = (next((value for (metric, _), value in samples.items() if metric == name), None) for name in (SUCCESS, CODE))
    return {"success": datetime.fromtimestamp(success, UTC) if success else None, "code": None if code is None else int(code)}


def drift(told: Told) -> list[dict[str, Any]]:
    """Per prediction the features that moved most since its champion was trained; only those that were compared."""
    found = []
    for task in told.tasks:
        seen = (told.evidence(task) or {}).get("drift")
        if seen:
            columns = [{**column, "meaning": told.feature(column["name"])["meaning"]} for column in seen["features"][:MOST_DRIFTED]]
            found.append(
                {
                    "task": task,
                    "rows": seen["rows"],
                    "score": seen.get("score"),
                    "columns": columns,
                    "drifted": sum(column["word"] == "drifted" for column in seen["features"]),
                }
            )
    return found
