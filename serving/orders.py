"""Orders: the look-alikes that were asked for over HTTP, each a name, a request and the job that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from features.errors import UnknownName
from features.files import digest_of
from serving.jobs import JOBS, Job, Jobs, insert_job, job_of, new_job
from serving.ledger import AUDIENCES, METADATA, Duplicate, Ledger, NameTaken

LOOKALIKES = sa.Table(
    "lookalikes",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("request", sa.String(64), nullable=False),  # digest: ids are kept with the job until it ran, and nowhere after
    sa.Column("job", sa.String(36), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)


class Lookalikes:
    """The look-alikes of a ledger.

    Raises:
        LedgerUnavailable: from every method, when the database cannot be used.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def order(self, name: str, request: Mapping[str, Any]) -> tuple[Job, bool]:
        """Queue a look-alike; the same request again is the same one, or another try where it failed. Returns its job and whether it is new.
        A mended request takes the place of one that failed.

        Raises:
            NameTaken: the name stands for another request, for an audience of another making, or for a look-alike of the command line.
        """
        digest, job = digest_of(dict(request)), new_job("lookalike", {"name": name, **request})
        try:
            with self._ledger.connection() as connection:
                connection.execute(LOOKALIKES.insert().values(name=name, request=digest, job=job.id, created_at=datetime.now(UTC)))
                if rule := _audience_rule(connection, name):  # raised inside, so that nothing is kept
                    raise NameTaken(
                        "A look-alike of this name was made on the command line. Choose another name."
                        if _is_of(rule, name)
                        else "An audience of this name exists, and the look-alike's would have it too. Choose another name."
                    )
                insert_job(connection, job)
            return job, True
        except Duplicate:
            with self._ledger.connection() as connection:
                row = connection.execute(LOOKALIKES.select().where(LOOKALIKES.c.name == name)).mappings().first()
            before = Jobs(self._ledger).job(row["job"]) if row else None
            if before and before.state == "failed" and self._try_again(before, job, digest):
                return job, True
            if row is None or row["request"] != digest:
                raise NameTaken("A look-alike of this name exists with another seed or dial. Choose another name, or delete that one.") from None
            return self.job(name), False

    def _try_again(self, before: Job, job: Job, digest: str) -> bool:
        """Put a new job in the place of one that failed, for the same request or a mended one; of two requests at once one does."""
        with self._ledger.connection() as connection:
            mine = (LOOKALIKES.c.name == job.request["name"]) & (LOOKALIKES.c.job == before.id)
            if not connection.execute(LOOKALIKES.update().where(mine).values(job=job.id, request=digest)).rowcount:
                return False
            insert_job(connection, job)
            return True

    def job(self, name: str) -> Job:
        """The job of a look-alike.

        Raises:
            UnknownName: there is none.
        """
        with self._ledger.connection() as connection:
            return job_of(connection.execute(JOBS.select().where(JOBS.c.id == _named(connection, name)["job"])).mappings().one())

    def all(self) -> dict[str, Job]:
        """Name -> job, oldest first."""
        asked = sa.select(LOOKALIKES.c.name, *JOBS.c).join(JOBS, JOBS.c.id == LOOKALIKES.c.job).order_by(LOOKALIKES.c.created_at)
        with self._ledger.connection() as connection:
            return {row["name"]: job_of(row) for row in connection.execute(asked).mappings()}

    def refresh(self, name: str) -> Job:
        """Queue a look-alike's audience to be made again of the users as they are now.

        Raises:
            UnknownName: there is none. NameTaken: it is not made yet.
        """
        with self._ledger.connection() as connection:
            made = connection.execute(JOBS.select().where(JOBS.c.id == _named(connection, name)["job"])).mappings().one()
            if made["state"] != "done":
                raise NameTaken(f"The look-alike is {made['state']}; only one that is done can be refreshed. Ask GET how it goes.")
            job = new_job("refresh_lookalike", {"name": name, "made_by": made["id"]})
            insert_job(connection, job)
        return job

    def forget(self, name: str) -> Job:
        """Take a look-alike and its audience out of the ledger, and leave the deletion of its seed for `encore work`, all at once.

        The ids of its job are deleted. A job that has not begun never will; one that runs notices at its end.
        """
        job = new_job("forget_lookalike", {"name": name})
        with self._ledger.connection() as connection:
            row = _named(connection, name)
            connection.execute(LOOKALIKES.delete().where(LOOKALIKES.c.name == name))
            if _is_of(_audience_rule(connection, name), name):
                connection.execute(AUDIENCES.delete().where(AUDIENCES.c.name == name))
            never = {"state": "failed", "result": {"reason": "It was deleted before it was made."}, "request": {"name": name}, "finished_at": datetime.now(UTC)}
            connection.execute(JOBS.update().where((JOBS.c.id == row["job"]) & JOBS.c.state.in_(["queued", "running"])).values(**never))
            insert_job(connection, job)
        return job

    def is_known(self, name: str) -> bool:
        with self._ledger.connection() as connection:
            return connection.execute(sa.select(LOOKALIKES.c.job).where(LOOKALIKES.c.name == name)).first() is not None

    def is_wanted(self, name: str, job_id: str) -> bool:
        """Whether a look-alike was not deleted, and not asked for anew, since this job was queued."""
        with self._ledger.connection() as connection:
            return connection.execute(sa.select(LOOKALIKES.c.job).where(LOOKALIKES.c.name == name)).scalar() == job_id


def _named(connection: Connection, name: str) -> RowMapping:
    row = connection.execute(LOOKALIKES.select().where(LOOKALIKES.c.name == name)).mappings().first()
    if row is None:
        raise UnknownName("look-alike", name, connection.execute(sa.select(LOOKALIKES.c.name).limit(100)).scalars().all())
    return row


def _audience_rule(connection: Connection, name: str) -> Mapping[str, Any] | None:
    rule: Mapping[str, Any] | None = connection.execute(sa.select(AUDIENCES.c.rule).where(AUDIENCES.c.name == name)).scalar()
    return rule


def _is_of(rule: Mapping[str, Any] | None, name: str) -> bool:
    """Whether an audience's rule is that of the look-alike of this name."""
    return rule is not None and rule.get("task") == f"lookalike-{name}"
