"""Idempotency keys: a request that creates something may be sent again with the same `Idempotency-Key`, and takes effect once.

After the IETF draft "The Idempotency-Key HTTP Header Field": the answer is kept for a day and given again; while the first request is
still at work the second is answered 409, and a key that comes with another request 422. Answers that are errors had no effect and are
not kept: the same request may be tried again.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from features.errors import EncoreError
from serving.ledger import METADATA, Duplicate, Ledger

KEPT = timedelta(hours=24)
LEASE = timedelta(minutes=1)  # longer than any such request takes; after it the process that began is taken for dead

# No text of a request: both digests are of things that nobody can guess who has not got the idempotency key.
IDEMPOTENCY = sa.Table(
    "idempotency_keys",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),  # of the API key's id and the idempotency key
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("effect", sa.String(36), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("status", sa.Integer),  # none while the request is at work
    sa.Column("body", sa.LargeBinary),
)


class IdempotencyKeyInUse(EncoreError):
    """The first request with this key has not been answered yet."""


class IdempotencyKeyReused(EncoreError):
    """The key came with another request before."""


@dataclass(frozen=True)
class Claim:
    """The right to do what a request asks for. effect: an id for what it creates, the same however often a process dies over it."""

    id: str
    effect: str


@dataclass
class Kept(Exception):
    """The answer that a request had the first time."""

    status: int
    body: bytes


def claim(ledger: Ledger, key: str, request: str, now: datetime) -> Claim:
    """Take the right to answer a request; on the way, what was kept long enough is deleted.

    Args:
        key, request: digests of who asks with which key, and of what is asked.

    Raises:
        Kept: it was answered. IdempotencyKeyInUse: it is being answered. IdempotencyKeyReused: another one was. LedgerUnavailable.
    """
    table, this = IDEMPOTENCY, IDEMPOTENCY.c.id == key
    try:
        with ledger.connection() as connection:
            connection.execute(table.delete().where(table.c.created_at <= now - KEPT))
            row = connection.execute(table.select().where(this)).mappings().first()
            if row is None:
                made = Claim(key, str(uuid.uuid4()))
                connection.execute(table.insert().values(**vars(made), request=request, created_at=now, claimed_at=now))
                return made
            if row["request"] != request:
                raise IdempotencyKeyReused("This Idempotency-Key came with another request within the last 24 hours. Send a new key with each new request.")
            if row["status"] is not None:
                raise Kept(row["status"], row["body"])
            abandoned = this & table.c.status.is_(None) & (table.c.claimed_at <= now - LEASE)
            if connection.execute(table.update().where(abandoned).values(claimed_at=now)).rowcount:
                return Claim(key, row["effect"])
    except Duplicate:
        pass  # another process was first by a moment
    raise IdempotencyKeyInUse("The first request with this Idempotency-Key is still at work. Send it again in a moment to get its answer.")


def keep(ledger: Ledger, claimed: Claim, status: int, body: bytes) -> None:
    """Keep the answer for whoever sends the request again."""
    with ledger.connection() as connection:
        connection.execute(_held(claimed).values(status=status, body=body))


def let_go(ledger: Ledger, claimed: Claim) -> None:
    """Nothing came of it: the next request with this key is a new one."""
    with ledger.connection() as connection:
        connection.execute(IDEMPOTENCY.delete().where((IDEMPOTENCY.c.id == claimed.id) & IDEMPOTENCY.c.status.is_(None)))


def _held(claimed: Claim) -> sa.Update:
    return IDEMPOTENCY.update().where((IDEMPOTENCY.c.id == claimed.id) & (IDEMPOTENCY.c.effect == claimed.effect))
