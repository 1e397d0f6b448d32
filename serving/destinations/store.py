"""What the ledger remembers of exports: which were tried, how far each delivery got, and the events for other systems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from features.files import exclusive, sha256_of_bytes
from serving.ledger import METADATA, Ledger

TRIALS = sa.Table(
    "export_trials",
    METADATA,
    sa.Column("definition", sa.String(64), primary_key=True),
    sa.Column("export", sa.String(50), nullable=False),
    sa.Column("tried_at", sa.DateTime(timezone=True), nullable=False),
)
DELIVERIES = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("export", sa.String(50), nullable=False, index=True),
    sa.Column("definition", sa.String(64), nullable=False),
    sa.Column("before", sa.Integer),  # number of the delivery after which the receiver knew what it knows; none: it knows nothing
    sa.Column("release", sa.String(64), nullable=False),
    sa.Column("rule", sa.JSON),  # of the audience, then
    sa.Column("state", sa.String(20), nullable=False),  # running, done
    sa.Column("next_row", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("sent", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("refused", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("dead_bytes", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("reason", sa.String(500)),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
)
# An event's id is made of its type, whom it is about and the day, so that the same thing said twice is once. A ledger is one shop's, and
# so is the source: (source, id) is unique because the id is.
OUTBOX = sa.Table(
    "outbox",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("type", sa.String(100), nullable=False),
    sa.Column("user_id", sa.String(256), index=True),  # whom it is about; or
    sa.Column("topic", sa.String(200)),  # what it is about
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("state", sa.String(20), nullable=False, index=True),  # waiting, sent, refused
    sa.Column("reason", sa.String(200)),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
)


@contextmanager
def alone(ledger: Ledger, folder: Path, what: str) -> Iterator[None]:
    """Be the only one who does this, on this host by a lock file and, where the ledger is PostgreSQL, on all hosts.

    Raises:
        Locked: somebody else does it now. LedgerUnavailable.
    """
    with exclusive(folder / f".{what}.lock", f"The export '{what}'"), ledger.connection() as connection:
        if connection.dialect.name == "postgresql":
            from features.errors import Locked

            key = int(sha256_of_bytes(f"encore export {what}".encode())[:15], 16)
            if not connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(key))).scalar():
                raise Locked(f"The export '{what}' is already running on another host. Try again later.")
        yield
