"""refresh: the ledger's members of live audiences follow a release. At each publication, and by `encore audiences refresh`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from features.errors import EncoreError
from features.logs import log
from features.workspace import Workspace
from serving.audiences.cut import cut, rule_of
from serving.audiences.members import LIVE, follow
from serving.ledger import Ledger, SavedAudience
from serving.release import Release, load_release


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did to an audience. reason: why it could not be refreshed, and has the members that it had."""

    name: str
    size: int
    entries: int
    exits: int
    reason: str | None = None


def refresh(ledger: Ledger, release: Release, keys: Iterable[str] = ()) -> list[Refreshed]:
    """Bring the ledger's members of live audiences up to date with a release: all, or those named. Done again, it changes nothing.

    One that cannot be cut, for the release lacks what its rule asks for, keeps the members that it had, and the others go on.

    Raises:
        UnknownName: a name that is no audience. LedgerUnavailable.
    """
    found = [ledger.audience(key) for key in keys] or ledger.audiences()
    return [_refresh_or_say(ledger, release, saved) for saved in found if saved.kind == LIVE]


def _refresh_or_say(ledger: Ledger, release: Release, saved: SavedAudience) -> Refreshed:
    try:
        rows = cut(release, rule_of(saved.rule)).rows
    except EncoreError as error:
        log.warning("audience not refreshed", extra={"facts": {"audience": saved.name, "reason": str(error)}})
        return Refreshed(saved.name, 0, 0, 0, str(error))
    with ledger.connection() as connection:
        entries, exits = follow(connection, release, saved, rows, datetime.now(UTC))
    return Refreshed(saved.name, len(rows), entries, exits)


def refresh_published(workspace: Workspace, release_id: str) -> None:
    """Let the audiences of a workspace follow a release that was just published, which does not fail for it."""
    ledger = Ledger(workspace.ledger_url)
    try:
        if not ledger.is_absent and (done := refresh(ledger, load_release(workspace.releases / release_id))):
            changed = {name: sum(getattr(one, name) for one in done) for name in ("entries", "exits")}
            log.info("audiences refreshed", extra={"facts": {"audiences": len(done), **changed}})
    except EncoreError as error:
        log.warning("audiences not refreshed; run: encore audiences refresh", extra={"facts": {"reason": str(error)}})
    finally:
        ledger.close()
