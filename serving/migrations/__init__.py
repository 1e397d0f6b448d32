"""The ledger's schema and how it changes.

A new ledger is made as the code has it; an older one goes through the revisions in `versions/` that it lacks, by Alembic, which is loaded
only then. All of it is one transaction under a lock, so that of several processes that start at once one does it, and none sees half.

To change a table: change it in the code, write the next revision beside the others, add it to REVISIONS.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from features.logs import log
from serving.ledger import METADATA, LedgerUnavailable

REVISIONS = ("r0001", "r0002", "r0003", "r0004", "r0005", "r0006", "r0007", "r0008", "r0009", "r0010")  # oldest first
LOCK = 7_300_310_241  # any number; all processes of Encore name the same
# Not Alembic's own name: the database may be MLflow's too, which has a table of that name.
VERSION = sa.Table("encore_ledger_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


class LedgerTooNew(LedgerUnavailable):
    """The ledger was brought up to date by a newer Encore."""


def bring_up_to_date(engine: Engine) -> None:
    """Make a new ledger, or bring an older one up to date; a current one is only looked at.

    Raises:
        LedgerTooNew: the ledger's revision is none of ours. SQLAlchemyError.
    """
    with engine.connect() as connection:
        if _version(connection) == REVISIONS[-1]:
            return
    with _alone(engine) as connection:
        version = _version(connection)
        if version == REVISIONS[-1]:  # somebody else did it while this process waited
            return
        if version and version not in REVISIONS:
            raise LedgerTooNew(
                f"The ledger is of a newer Encore (revision {version}; this one knows {REVISIONS[-1]} and older). "
                "Update Encore here, or name another ledger by ENCORE_LEDGER_URL."
            )
        if version is None and not sa.inspect(connection).has_table("audiences"):
            all_tables().create_all(connection)
            VERSION.create(connection)
            connection.execute(VERSION.insert().values(version_num=REVISIONS[-1]))
        else:
            from serving.migrations.upgrade import upgrade

            upgrade(connection)
            log.info("ledger brought up to date", extra={"facts": {"from": version or "before revisions", "to": REVISIONS[-1]}})


def all_tables() -> sa.MetaData:
    """The tables of whoever keeps something in the ledger. A new table's file is one name here."""
    # To be looked at costs them nothing while the ledger is current.
    from serving import jobs, orders  # noqa: F401
    from serving.border import idempotency, keys  # noqa: F401
    from serving.campaigns import store  # noqa: F401
    from serving.destinations import store as export_store  # noqa: F401
    from serving.journeys import activities  # noqa: F401
    from serving.privacy import audit, register  # noqa: F401
    from serving.quality import store as quality_store  # noqa: F401

    return METADATA


def _version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION.name):
        return None
    return connection.execute(sa.select(VERSION.c.version_num)).scalar()


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction in which no other process of Encore changes the schema."""
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        elif connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's driver would begin at the first row written, after the tables
        yield connection
