"""The audit log: who did what and when, in the ledger, each entry with a hash that covers the one before it.

Whoever changes, removes or adds an entry in the middle breaks the chain from there on, and `encore privacy verify` names the first link that
does not hold. Entries cut off at the end are missed by whoever kept the last number and hash: every receipt of a deletion has them.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from features.errors import EncoreError
from features.files import digest_of
from features.logs import log
from features.workspace import Workspace
from serving.ledger import METADATA, Ledger, LedgerUnavailable

AUDIT_LOG = sa.Table(
    "audit_log",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),  # 1, 2, 3, ... without a gap
    sa.Column("at", sa.String(32), nullable=False),  # as it is hashed
    sa.Column("who", sa.String(200), nullable=False),
    sa.Column("what", sa.String(100), nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("before", sa.String(64), nullable=False),  # digest of the entry before
    sa.Column("digest", sa.String(64), nullable=False),
)
BEGINNING = "0" * 64
LOCK = 7_300_310_242  # any number; all processes of Encore name the same


class AuditLogBroken(EncoreError):
    """The audit log is not what was written."""


@dataclass(frozen=True)
class Link:
    """Where the log ends: number and digest of its last entry."""

    number: int
    digest: str


@dataclass(frozen=True)
class Broken:
    """The first entry that does not hold, and why."""

    number: int
    why: str


def record(connection: Connection, what: str, facts: Mapping[str, Any], who: str | None = None) -> Link:
    """Add an entry, as the last thing of a transaction: until that ends, other writers wait.

    Args:
        what: noun and verb, such as "key created". facts: numbers and names, never a user's id. who: by default the process's user and host.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    else:  # a write, though of nothing, takes SQLite's one lock for writing before anything is read
        connection.execute(AUDIT_LOG.update().where(AUDIT_LOG.c.number < 0).values(who=""))
    last = end(connection)
    entry = {"number": last.number + 1, "at": datetime.now(UTC).isoformat(timespec="microseconds"), "who": who or whoami(), "what": what, "facts": dict(facts)}
    made = Link(last.number + 1, _digest(entry, last.digest))
    connection.execute(AUDIT_LOG.insert().values(**entry, before=last.digest, digest=made.digest))
    return made


def end(connection: Connection) -> Link:
    """The last entry; of an empty log number 0."""
    row = connection.execute(sa.select(AUDIT_LOG.c.number, AUDIT_LOG.c.digest).order_by(AUDIT_LOG.c.number.desc()).limit(1)).first()
    return Link(row.number, row.digest) if row else Link(0, BEGINNING)


def note(workspace: Workspace, what: str, facts: Mapping[str, Any]) -> None:
    """Add an entry about something that is done already, outside the ledger; a ledger that is down does not undo it, and the log says so."""
    try:
        with closing(Ledger(workspace.ledger_url)) as ledger, ledger.connection() as connection:
            record(connection, what, facts)
    except LedgerUnavailable as error:
        log.error("not in the audit log", extra={"facts": {"what": what, **facts, "reason": str(error)}})


def broken(connection: Connection, anchors: Mapping[int, str] | None = None) -> Broken | None:
    """The first entry of the log that does not hold; None when all do.

    Args:
        anchors: number -> digest of entries as somebody kept them elsewhere, such as in receipts.
    """
    before, number = BEGINNING, 0
    with closing(connection.execution_options(yield_per=1000).execute(AUDIT_LOG.select().order_by(AUDIT_LOG.c.number))) as entries:
        for row in entries.mappings():
            number += 1
            if why := _wrong(row, number, before, anchors or {}):
                return Broken(number, why)
            before = str(row["digest"])
    late = sorted(kept for kept in anchors or () if kept > number)
    return Broken(number + 1, f"the log ends before it, and a receipt names entry {late[0]}") if late else None


def _wrong(row: RowMapping, number: int, before: str, anchors: Mapping[int, str]) -> str | None:
    if row["number"] != number:
        return f"it is missing; the next is {row['number']}"
    if row["before"] != before:
        return "it does not follow on the entry before it"
    if row["digest"] != _digest({name: row[name] for name in ("number", "at", "who", "what", "facts")}, before):
        return "it was changed after it was written"
    if anchors.get(number, row["digest"]) != row["digest"]:
        return "a receipt has another hash for it: the log was written anew from there on or before"
    return None


def whoami() -> str:
    """The process's user and host."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def _digest(entry: Mapping[str, Any], before: str) -> str:
    return digest_of({**entry, "before": before})
