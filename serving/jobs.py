"""Jobs: work that the service leaves in the ledger for `encore work`.

A worker owns the job that it runs and renews its claim while it does. A claim that was not renewed for `LEASE` seconds is of a
worker that was killed or lost its machine: the job is queued again, at most `MOST_TRIES` times. The clocks of workers on
several hosts must agree to within a minute.
"""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from features.errors import UnknownName
from features.logs import log
from serving.ledger import METADATA, Duplicate, Ledger, LedgerUnavailable

LEASE = 120.0  # seconds after its last renewal a claim is void
RENEWAL = 20.0  # seconds between two renewals
MOST_TRIES = 3

JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("kind", sa.String(50), nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("state", sa.String(20), nullable=False, index=True),  # queued, running, done, failed
    sa.Column("result", sa.JSON),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("worker", sa.String(200)),
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("renewed_at", sa.Float),  # seconds since 1970, by the clock of the worker
)


@dataclass(frozen=True)
class Job:
    """A piece of work. worker: who runs it or ran it last; tries: how often it was begun."""

    id: str
    kind: str
    request: Mapping[str, Any]
    state: str
    result: Mapping[str, Any] | None
    worker: str | None = None
    tries: int = 0


def new_job(kind: str, request: Mapping[str, Any], key: str | None = None) -> Job:
    return Job(key or str(uuid.uuid4()), kind, dict(request), "queued", None)


def insert_job(connection: Connection, job: Job) -> None:
    connection.execute(JOBS.insert().values(**vars(job), created_at=datetime.now(UTC)))


def job_of(row: RowMapping) -> Job:
    return Job(*(row[name] for name in ("id", "kind", "request", "state", "result", "worker", "tries")))


class Jobs:
    """The jobs of a ledger.

    Raises:
        LedgerUnavailable: from every method, when the database cannot be used.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def queue(self, kind: str, request: Mapping[str, Any], key: str | None = None) -> Job:
        """Leave work for `encore work`. A job of the id `key` that is there already is the same work."""
        job = new_job(kind, request, key)
        try:
            with self._ledger.connection() as connection:
                insert_job(connection, job)
        except Duplicate:
            return self.job(job.id)
        return job

    def job(self, key: str) -> Job:
        """A job by id.

        Raises:
            UnknownName: there is none.
        """
        with self._ledger.connection() as connection:
            row = connection.execute(JOBS.select().where(JOBS.c.id == key)).mappings().first()
        if row is None:
            raise UnknownName("job", key, ())
        return job_of(row)

    def claim(self, worker: str | None = None) -> Job | None:
        """Take the oldest queued job; no two workers get the same one. Jobs whose worker is gone are queued again first."""
        owner = worker or f"{platform.node()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        with self._ledger.connection() as connection:
            _take_back(connection, time.time())
            for key in connection.execute(sa.select(JOBS.c.id).where(JOBS.c.state == "queued").order_by(JOBS.c.created_at)).scalars().all():
                mine = {"state": "running", "worker": owner, "tries": JOBS.c.tries + 1, "renewed_at": time.time()}
                if connection.execute(JOBS.update().where((JOBS.c.id == key) & (JOBS.c.state == "queued")).values(**mine)).rowcount:
                    return job_of(connection.execute(JOBS.select().where(JOBS.c.id == key)).mappings().one())
        return None

    def renew(self, job: Job) -> bool:
        """Say that a job is still being worked on; False when it is not this worker's any more."""
        with self._ledger.connection() as connection:
            return bool(connection.execute(JOBS.update().where(_held_by(job)).values(renewed_at=time.time())).rowcount)

    def finish(self, job: Job, state: str, result: Mapping[str, Any]) -> bool:
        """Write how a job ended; False, and nothing is written, when it is not this worker's any more."""
        done = {"state": state, "result": dict(result), "finished_at": datetime.now(UTC), "request": without_ids(job.request)}
        with self._ledger.connection() as connection:
            return bool(connection.execute(JOBS.update().where(_held_by(job)).values(**done)).rowcount)

    @contextmanager
    def held(self, job: Job) -> Iterator[None]:
        """Renew the claim of a job in a thread for as long as the block runs."""
        over = threading.Event()

        def renew() -> None:
            while not over.wait(RENEWAL):
                try:
                    if not self.renew(job):
                        log.warning("job is not this worker's any more", extra={"facts": {"job": job.id}})
                        return
                except LedgerUnavailable:
                    continue  # it was logged; the next renewal may be in time

        thread = threading.Thread(target=renew, name="job-renewal", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def without_ids(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request as the ledger may keep it: ids live in the seed once it was made, or were refused."""
    return {name: value for name, value in request.items() if name not in ("seed", "converted", "user_ids")}


def _held_by(job: Job) -> sa.ColumnElement[bool]:
    return (JOBS.c.id == job.id) & (JOBS.c.state == "running") & (JOBS.c.worker == job.worker)


def _take_back(connection: Connection, now: float) -> None:
    """Queue the jobs again whose worker is gone; one that has ended its worker several times fails with the reason."""
    gone = (JOBS.c.state == "running") & (sa.func.coalesce(JOBS.c.renewed_at, 0.0) < now - LEASE)
    for row in connection.execute(JOBS.select().where(gone)).mappings().all():
        job = job_of(row)
        facts = {"job": job.id, "kind": job.kind, "tries": job.tries, "worker": job.worker}
        if job.tries < MOST_TRIES:
            values: dict[str, Any] = {"state": "queued", "worker": None, "renewed_at": None}
        else:
            reason = (
                f"Its worker ended {job.tries} times while it ran, without a word; memory that ran out is the usual cause. "
                "See the worker's log and the system's, and ask again."
            )
            values = {"state": "failed", "result": {"reason": reason}, "finished_at": datetime.now(UTC), "request": without_ids(job.request)}
        if connection.execute(JOBS.update().where((JOBS.c.id == job.id) & gone).values(**values)).rowcount:
            log.warning("worker of a job is gone", extra={"facts": {**facts, "state": values["state"]}})
