"""The register of suppressions: hash of a user, kind, reason and dates, in the ledger; and how the log and the service come to agree with it.

It is kept in three places, each of which may be restored from an older backup: here, beside the releases, and in the event log. Whoever is
deleted in one of them is deleted in all; else this register counts, and where it knows nothing, the list beside the releases.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from features.errors import InvalidUse, ReleaseRefused
from features.tombstones import DELETED, KINDS, LIFTED, joined, kept_out, read_tombstones, write_tombstones
from features.workspace import Workspace
from serving.ledger import METADATA, Ledger
from serving.privacy import audit

SUPPRESSIONS = sa.Table(
    "suppressions",
    METADATA,
    sa.Column("mark", sa.String(64), primary_key=True),  # SHA-256 of the id
    sa.Column("kind", sa.String(20), primary_key=True),  # no_marketing, no_profiling, deleted
    sa.Column("reason", sa.String(200), nullable=False),
    sa.Column("since", sa.DateTime(timezone=True), nullable=False),
    sa.Column("lifted_at", sa.DateTime(timezone=True)),
)
CHUNK = 500  # marks in one statement


def suppress(
    workspace: Workspace, ledger: Ledger, marks: Collection[str], kind: str, reason: str, since: datetime | None = None, who: str | None = None
) -> int:
    """Put users, by the hashes of all of their ids, on a list; returns how many hashes are new on it. Services know within a second."""
    write_tombstones(workspace.releases, _at_least(workspace, dict.fromkeys(marks, kind)))  # first of all, whatever the ledger does
    with ledger.connection() as connection:
        known = {row.mark for row in _rows(connection, marks) if row.kind == kind and row.lifted_at is None}
        new = [mark for mark in dict.fromkeys(marks) if mark not in known]
        _delete(connection, new, kind)
        rows = [{"mark": mark, "kind": kind, "reason": reason[:200], "since": since or datetime.now(UTC)} for mark in new]
        if rows:
            connection.execute(SUPPRESSIONS.insert(), rows)
            audit.record(connection, "users suppressed", {"kind": kind, "hashes": len(rows), "reason": reason[:200]}, who)
    agree(workspace, ledger)
    return len(new)


def lift(workspace: Workspace, ledger: Ledger, marks: Collection[str], kind: str, who: str | None = None) -> int:
    """Take users off a list again; returns how many hashes were on it.

    Raises:
        InvalidUse: deletion cannot be lifted.
    """
    if kind == DELETED:
        raise InvalidUse("A deletion cannot be lifted: what was held is gone, and what arrives later stays out. Lists that can be: no_marketing, no_profiling.")
    agree(workspace, ledger)
    with ledger.connection() as connection:
        mine = [row.mark for row in _rows(connection, marks) if row.kind == kind and row.lifted_at is None]
        for some in _chunks(mine):
            this = SUPPRESSIONS.c.mark.in_(some) & (SUPPRESSIONS.c.kind == kind)
            connection.execute(SUPPRESSIONS.update().where(this).values(lifted_at=datetime.now(UTC)))
        if mine:
            audit.record(connection, "suppression lifted", {"kind": kind, "hashes": len(mine)}, who)
    agree(workspace, ledger)
    return len(mine)


def agree(workspace: Workspace, ledger: Ledger) -> dict[str, str]:
    """Make the register, the list beside the releases and the log's own say the same; returns hash -> kind. It costs nothing where they do."""
    try:
        beside = read_tombstones(workspace.releases)
    except ReleaseRefused:  # it is written anew below
        beside = {}
    log = workspace.log(workspace.shop())
    told = joined(log.manifest["tombstones"], beside)
    with ledger.connection() as connection:
        here, entries = effective(connection), {(row.mark, row.kind) for row in connection.execute(sa.select(SUPPRESSIONS.c.mark, SUPPRESSIONS.c.kind))}
        unknown = {mark: kind for mark, kind in told.items() if _is_stronger(kind, here.get(mark, LIFTED)) and (kind == DELETED or (mark, kind) not in entries)}
        rows = [{"mark": mark, "kind": kind, "reason": "was on the list before", "since": datetime.now(UTC)} for mark, kind in sorted(unknown.items())]
        if rows:
            connection.execute(SUPPRESSIONS.insert(), rows)
            audit.record(connection, "suppressions taken over", {"hashes": len(rows)})
    all_of_them = joined(here, unknown)
    if any(told.get(mark) != kind for mark, kind in all_of_them.items()) or not beside:
        write_tombstones(workspace.releases, all_of_them)
    own = workspace.log(workspace.shop()).own_tombstones
    log.erase_returned()
    if kept_out(all_of_them) != own and (own or kept_out(all_of_them)):
        log.bury_marks(all_of_them)
    return all_of_them


def effective(connection: Connection) -> dict[str, str]:
    """Hash -> the strongest list that a user is on, `lifted` where on none any more."""
    found: dict[str, str] = {}
    for row in connection.execute(sa.select(SUPPRESSIONS.c.mark, SUPPRESSIONS.c.kind, SUPPRESSIONS.c.lifted_at)):
        kind = LIFTED if row.lifted_at else row.kind
        found[row.mark] = max(kind, found.get(row.mark, LIFTED), key=KINDS.index)
    return found


def listed(ledger: Ledger) -> list[Mapping[str, Any]]:
    """Every entry of the register, oldest first: mark, kind, reason, since, lifted_at."""
    with ledger.connection() as connection:
        return [dict(row) for row in connection.execute(SUPPRESSIONS.select().order_by(SUPPRESSIONS.c.since, SUPPRESSIONS.c.mark)).mappings()]


def _is_stronger(kind: str, than: str) -> bool:
    return KINDS.index(kind) > KINDS.index(than)


def _at_least(workspace: Workspace, marks: Mapping[str, str]) -> dict[str, str]:
    """The same, nobody on a weaker list than now."""
    try:
        known = read_tombstones(workspace.releases)
    except ReleaseRefused:
        known = {}
    return {mark: max(kind, known.get(mark, LIFTED), key=KINDS.index) for mark, kind in marks.items()}


def _rows(connection: Connection, marks: Collection[str]) -> list[Any]:
    found: list[Any] = []
    for some in _chunks(list(marks)):
        found += connection.execute(SUPPRESSIONS.select().where(SUPPRESSIONS.c.mark.in_(some))).all()
    return found


def _delete(connection: Connection, marks: list[str], kind: str) -> None:
    for some in _chunks(marks):
        connection.execute(SUPPRESSIONS.delete().where(SUPPRESSIONS.c.mark.in_(some) & (SUPPRESSIONS.c.kind == kind)))


def _chunks(marks: list[str]) -> list[list[str]]:
    return [marks[first : first + CHUNK] for first in range(0, len(marks), CHUNK)]
