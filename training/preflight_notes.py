"""What the last `encore check` and the last retrain came to, kept in the workspace for the service, which has no training in it.

`metrics/preflight.json`, whole at any moment. A prediction's note stays until a later check or retrain speaks of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from features.files import exclusive, read_json, write_json
from features.logs import log

FILE = Path("metrics") / "preflight.json"
FORMAT = 1


def note_checks(root: Path, as_of: date, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Note the checks of some predictions.

    Args:
        root: the workspace. as_of: what was known before this date was looked at. found: prediction -> its checks, the fields of `preflight.Check`.
    """
    now = _now()
    _update(root, {task: {"checked_at": now, "as_of": as_of.isoformat(), "checks": list(checks)} for task, checks in found.items()})


def note_outcomes(root: Path, outcomes: Mapping[str, tuple[str, str]]) -> None:
    """Note what a retrain did: prediction -> its state and the reason."""
    now = _now()
    _update(root, {task: {"retrain": {"at": now, "state": state, "reason": reason}} for task, (state, reason) in outcomes.items()})


def read_notes(path: Path) -> dict[str, dict[str, Any]]:
    """Prediction -> its note; none where there is no file, or one that nobody can read."""
    try:
        found = read_json(path)
        return dict(found["predictions"]) if found["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _update(root: Path, notes: Mapping[str, Mapping[str, Any]]) -> None:
    """Add to the file; that it cannot be written is logged and stops nothing."""
    if not root.is_dir():  # a mistyped folder is not made
        return
    path = root / FILE
    try:
        with exclusive(path.with_name(".preflight.lock"), "Another check", wait=True):
            known = read_notes(path)
            write_json(path, {"format": FORMAT, "predictions": {**known, **{task: {**known.get(task, {}), **note} for task, note in notes.items()}}})
    except OSError as error:
        log.warning("preflight not noted", extra={"facts": {"file": str(path), "reason": str(error)}})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
