"""Which kept audiences a user is in, and in which group of their hold-out."""

from __future__ import annotations

from typing import Any

from features.errors import EncoreError
from serving.console.told import Told
from serving.journeys.known import MOST_AUDIENCES, members_of
from serving.ledger import Ledger, LedgerUnavailable


def of(told: Told, ledger: Ledger, user_id: str) -> list[dict[str, Any]] | None:
    """Every kept audience with the branch that this user takes; None while the ledger is away. Each audience is cut once for each release."""
    row = told.scorer.row(user_id)
    try:
        saved = ledger.audiences()[:MOST_AUDIENCES]
    except LedgerUnavailable:
        return None
    found = []
    for audience in saved if row is not None else ():
        key = "members", audience.id, str(audience.refreshed_at), str(audience.rule)
        try:
            if key not in told.kept:
                told.kept[key] = members_of(audience, told.release, ledger)
            branch, group = told.kept[key].branch(int(row or 0))
        except LedgerUnavailable:
            return None
        except EncoreError:  # its rule asks for what this release has not: it has no members
            continue
        if branch != "out" or group:
            found.append({"name": audience.name, "branch": branch, "group": group, "task": audience.rule.get("task")})
    return found
