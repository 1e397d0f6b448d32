"""What an export has to tell: who stands how now, and how they stood for the receiver before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from features.errors import EncoreError, UnknownName
from features.exports import FILES
from features.logs import log
from features.workspace import Workspace
from serving.audiences.members import audience_of, groups_of
from serving.destinations.export import Export
from serving.destinations.standings import ABSENT, Standings, of_audience, of_release
from serving.destinations.store import DELIVERIES
from serving.ledger import Ledger, SavedAudience
from serving.privacy.audit import record
from serving.release import Release, load_release

DEAD = "dead.ndjson"  # how the files of dead letters end


@dataclass(frozen=True)
class Delivery:
    """One run of an export, as the ledger keeps it."""

    number: int
    before: int | None
    release: str
    rule: Mapping[str, Any] | None
    state: str
    next_row: int
    sent: int
    refused: int
    dead_bytes: int

    def dead_letters(self, workspace: Workspace, export: Export) -> Path:
        return workspace.exports / f"{export.stem}.{self.number}.{DEAD}"


def deliveries(ledger: Ledger, export: Export, definition: str) -> list[Delivery]:
    """The deliveries of an export as it is defined now, newest first."""
    columns = [DELIVERIES.c[name] for name in Delivery.__dataclass_fields__]
    query = sa.select(*columns).where((DELIVERIES.c.export == export.name) & (DELIVERIES.c.definition == definition)).order_by(DELIVERIES.c.number.desc())
    with ledger.connection() as connection:
        return [Delivery(*row) for row in connection.execute(query.limit(20))]


def last_deliveries(ledger: Ledger) -> dict[str, tuple[str, str, int, int]]:
    """Export -> when its last delivery began, its state or why it stopped, and how many were sent and refused."""
    query = sa.select(*(DELIVERIES.c[name] for name in ("export", "started_at", "state", "reason", "sent", "refused"))).order_by(DELIVERIES.c.number)
    with ledger.connection() as connection:
        return {row.export: (f"{row.started_at:%Y-%m-%d %H:%M}", row.reason or row.state, row.sent, row.refused) for row in connection.execute(query)}


def begin(ledger: Ledger, export: Export, definition: str, known: Delivery | None, planned: Delivery) -> Delivery:
    """Note that a planned delivery begins; known: the one after which the receiver knew what it knows."""
    begun = replace(planned, before=known.number if known else None)
    values = {name: value for name, value in vars(begun).items() if name != "number"}
    with ledger.connection() as connection:
        noted = DELIVERIES.insert().values(export=export.name, definition=definition, **values, started_at=datetime.now(UTC))
        return replace(begun, number=int(connection.execute(noted.returning(DELIVERIES.c.number)).scalar_one()))


def note(ledger: Ledger, delivery: Delivery, **values: Any) -> Delivery:
    """Write how far a delivery got."""
    done = {"finished_at": datetime.now(UTC)} if values.get("state") == "done" else {}
    with ledger.connection() as connection:
        connection.execute(DELIVERIES.update().where(DELIVERIES.c.number == delivery.number).values(**values, **done))
        if done:
            record(connection, "export delivered", {"delivery": delivery.number, "release": delivery.release, "rows": values.get("sent", delivery.sent)})
    return replace(delivery, **{name: value for name, value in values.items() if name in Delivery.__dataclass_fields__})


@dataclass(frozen=True)
class Told:
    """What a delivery tells. release: of now; again: users of whom it is not sure what the receiver knows; value_of: the prediction that an
    audience is cut by."""

    release: Release
    now: Standings
    before: Standings | None
    again: frozenset[str]
    value_of: str | None = None


def rule_of(ledger: Ledger, export: Export) -> Mapping[str, Any] | None:
    """What makes an export's audience what it is, as the ledger keeps it with a delivery."""
    if not export.audience:
        return None
    return audience_rule(ledger.audience(export.audience))


def audience_rule(saved: SavedAudience, rule: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An audience as JSON; rule: another one than the ledger has, as when it was asked for."""
    salt = saved.salt or saved.name
    return {"id": saved.id, "kind": saved.kind, "rule": dict(rule or saved.rule), "shares": saved.shares and dict(saved.shares), "salt": salt}


def members(release: Release, ledger: Ledger, rule: Mapping[str, Any]) -> npt.NDArray[np.int64]:
    """The rows of an audience's members who may be reached: of those that a hold-out keeps apart, nobody leaves."""
    saved = SavedAudience(rule["id"], rule["id"], rule["rule"], datetime.now(UTC), rule["kind"], rule["shares"], rule["salt"])
    rows = audience_of(release, saved, ledger).rows
    if drawn := groups_of(release, saved):
        rows = rows[drawn[1][rows] == drawn[0].index("treatment")]
    return rows


def told(workspace: Workspace, ledger: Ledger, export: Export, delivery: Delivery, known: Delivery | None) -> Told:
    """Load what a delivery compares.

    Args:
        known: the delivery after which the receiver knew what it knows now, if any; its release may be gone by now: then everything is told.
    """
    release = load_release(workspace.releases / delivery.release)
    past = _past(workspace, known)
    of_rule = (str(delivery.rule["rule"]["task"]),) if delivery.rule and delivery.rule["rule"].get("task") else ()
    tasks = export.tasks or of_rule or tuple(dict.fromkeys([*release.bundles, *(past.bundles if past else ())]))
    for task in export.tasks:
        if task not in release.bundles:
            raise UnknownName("prediction", task, release.bundles)
    now = standings(release, ledger, export, delivery.rule, tasks)
    before = standings(past, ledger, export, known.rule, tasks) if past and known else None
    again = still_spoken_of(dead_users(known.dead_letters(workspace, export)) if known else (), release)
    return Told(release, now, before, again, of_rule[0] if of_rule else None)


def standings(release: Release, ledger: Ledger, export: Export, rule: Mapping[str, Any] | None, tasks: tuple[str, ...]) -> Standings:
    """What a release says for an export: scores and bands, of an audience's members alone where it is one; to tools and lists, who is in it."""
    reached = members(release, ledger, rule) if rule is not None else None
    if reached is not None and export.destination not in FILES:
        return of_audience(release, str(export.audience), reached)
    absent = np.full(len(release.users), ABSENT, dtype=np.int16)
    codes = dict(of_release(release, [task for task in tasks if task in release.bundles]).codes)
    if reached is not None:
        is_out = np.ones(len(release.users), dtype=bool)
        is_out[reached] = False
        codes = {task: np.where(is_out, absent, found) for task, found in codes.items()}
    return Standings(release.users, {task: codes.get(task, absent) for task in tasks})


def _past(workspace: Workspace, known: Delivery | None) -> Release | None:
    if known is None:
        return None
    try:
        return load_release(workspace.releases / known.release)
    except EncoreError as error:
        log.warning("release that the receiver knows is gone: everything is told", extra={"facts": {"release": known.release, "reason": str(error)}})
        return None


def dead_users(path: Path) -> Iterator[str]:
    """The users in a file of dead letters; a line that a crash tore is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield str(json.loads(line)["user_id"])
            except (ValueError, KeyError, TypeError):
                continue


def still_spoken_of(users: Iterable[str], release: Release) -> frozenset[str]:
    """Those of some users whom marketing may speak to."""
    return frozenset(user for user in users if release.withheld.may_be_marketed_to(user))
