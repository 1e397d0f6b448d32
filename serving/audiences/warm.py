"""What people asked of the release before, worked out for the next one before anybody waits for it."""

from __future__ import annotations

from features.logs import log
from serving.audiences.columns import fetch
from serving.audiences.holdout import groups_in
from serving.audiences.memory import known
from serving.audiences.ranking import by_recency, ranking
from serving.release import Release


def warm(release: Release, before: Release) -> None:
    """Make the rankings, hold-outs and columns that were asked of the release before. Without conditions: theirs are many, and cheap after that.

    It raises nothing: what could not be made waits for whoever asks, and holds up neither a release nor a deletion.
    """
    try:
        _make(release, before)
    except Exception as error:  # noqa: BLE001 - only time is saved here
        log.warning("not made beforehand", extra={"facts": {"release": release.id, "reason": f"{type(error).__name__}: {error}"}})


def _make(release: Release, before: Release) -> None:
    asked = known(before)
    fetch(release, [of[0] for kind, *of in asked if kind == "feature" and of[0] in release.features])
    for kind, *of in asked:
        if kind == "ranking" and len(of) == 1 and of[0] in release.scores:
            ranking(release, of[0])
            by_recency(release, of[0], None)
        elif kind == "groups":
            groups_in(release, of[0], dict(of[1]))
