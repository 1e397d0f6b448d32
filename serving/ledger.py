"""The ledger: what the service must remember. SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from features.errors import EncoreError, UnknownName
from features.files import digest_of
from features.logs import log

METADATA = sa.MetaData()

AUDIENCES = sa.Table(
    "audiences",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(200), unique=True, nullable=False),
    sa.Column("rule", sa.JSON, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)

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
)

LOOKALIKES = sa.Table(
    "lookalikes",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("request", sa.String(64), nullable=False),  # digest: ids are kept with the job until it ran, and nowhere after
    sa.Column("job", sa.String(36), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)


class LedgerUnavailable(EncoreError):
    """The ledger's database cannot be used now."""


class NameTaken(EncoreError):
    """An audience of that name exists with another rule."""


@dataclass(frozen=True)
class SavedAudience:
    id: str
    name: str
    rule: Mapping[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class Job:
    id: str
    kind: str
    request: Mapping[str, Any]
    state: str
    result: Mapping[str, Any] | None


class Ledger:
    """Reads and writes of the ledger.

    Raises:
        LedgerUnavailable: from every method, when the database cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
        self._engine = sa.create_engine(url, pool_pre_ping=True)
        self._ready = False

    def save_audience(self, name: str, rule: Mapping[str, Any]) -> tuple[SavedAudience, bool]:
        """Keep an audience; the same name with the same rule is the same audience. Returns it and whether it is new.

        Raises:
            NameTaken: the name stands for another rule.
        """
        made = SavedAudience(str(uuid.uuid4()), name, dict(rule), datetime.now(UTC))
        try:
            with self._connection() as connection:
                connection.execute(AUDIENCES.insert().values(**vars(made)))
            return made, True
        except _Duplicate:
            found = self.audience(name)
            if found.rule != dict(rule):
                raise NameTaken(f"An audience of this name exists with another rule: {dict(found.rule)}. Choose another name.") from None
            return found, False

    def audience(self, key: str) -> SavedAudience:
        """An audience by id or name.

        Raises:
            UnknownName: there is none.
        """
        with self._connection() as connection:
            row = connection.execute(AUDIENCES.select().where((AUDIENCES.c.id == key) | (AUDIENCES.c.name == key))).mappings().first()
            if row is None:
                names = connection.execute(sa.select(AUDIENCES.c.name).limit(100)).scalars().all()
                raise UnknownName("audience", key, names)
        return SavedAudience(**row)

    def audiences(self) -> list[SavedAudience]:
        """All audiences, oldest first."""
        with self._connection() as connection:
            return [SavedAudience(**row) for row in connection.execute(AUDIENCES.select().order_by(AUDIENCES.c.created_at)).mappings()]

    def queue(self, kind: str, request: Mapping[str, Any]) -> Job:
        """Leave work for `encore work`."""
        job = Job(str(uuid.uuid4()), kind, dict(request), "queued", None)
        with self._connection() as connection:
            connection.execute(JOBS.insert().values(**vars(job), created_at=datetime.now(UTC)))
        return job

    def job(self, key: str) -> Job:
        with self._connection() as connection:
            row = connection.execute(JOBS.select().where(JOBS.c.id == key)).mappings().first()
        if row is None:
            raise UnknownName("job", key, ())
        return _job(row)

    def order_lookalike(self, name: str, request: Mapping[str, Any]) -> tuple[Job, bool]:
        """Queue a look-alike; the same request again is the same one, or another try where it failed. Returns its job and whether it is new.

        Raises:
            NameTaken: the name stands for another request, or for an audience that is none of a look-alike.
        """
        digest, job = digest_of(dict(request)), Job(str(uuid.uuid4()), "lookalike", {"name": name, **request}, "queued", None)
        now = datetime.now(UTC)
        try:
            with self._connection() as connection:
                if connection.execute(AUDIENCES.select().where(AUDIENCES.c.name == name)).first() and not self._of_lookalike(connection, name):
                    raise NameTaken("An audience of this name exists, and the look-alike's would have it too. Choose another name.")
                connection.execute(LOOKALIKES.insert().values(name=name, request=digest, job=job.id, created_at=now))
                connection.execute(JOBS.insert().values(**vars(job), created_at=now))
            return job, True
        except _Duplicate:
            with self._connection() as connection:
                row = connection.execute(LOOKALIKES.select().where(LOOKALIKES.c.name == name)).mappings().first()
            if row is None or row["request"] != digest:
                raise NameTaken("A look-alike of this name exists with another seed or dial. Choose another name, or delete that one.") from None
            before = self.job(row["job"])
            return (job, True) if before.state == "failed" and self._try_again(before, job) else (self.lookalike(name), False)

    def _try_again(self, before: Job, job: Job) -> bool:
        """Put a new job in the place of one that failed; of two requests at once one does."""
        with self._connection() as connection:
            mine = (LOOKALIKES.c.name == job.request["name"]) & (LOOKALIKES.c.job == before.id)
            if not connection.execute(LOOKALIKES.update().where(mine).values(job=job.id)).rowcount:
                return False
            connection.execute(JOBS.insert().values(**vars(job), created_at=datetime.now(UTC)))
            return True

    def lookalike(self, name: str) -> Job:
        """The job of a look-alike.

        Raises:
            UnknownName: there is none.
        """
        with self._connection() as connection:
            row = self._named(connection, name)
        return self.job(row["job"])

    def lookalikes(self) -> list[str]:
        """Names, oldest first."""
        with self._connection() as connection:
            return list(connection.execute(sa.select(LOOKALIKES.c.name).order_by(LOOKALIKES.c.created_at)).scalars())

    def forget_lookalike(self, name: str) -> Job:
        """Take a look-alike and its audience out of the ledger, and leave the deletion of its seed for `encore work`, all at once.

        A job that has not begun never will; one that runs notices at its end.
        """
        job, now = Job(str(uuid.uuid4()), "forget_lookalike", {"name": name}, "queued", None), datetime.now(UTC)
        with self._connection() as connection:
            row = self._named(connection, name)
            connection.execute(LOOKALIKES.delete().where(LOOKALIKES.c.name == name))
            if self._of_lookalike(connection, name):
                connection.execute(AUDIENCES.delete().where(AUDIENCES.c.name == name))
            never = {"state": "failed", "result": {"reason": "It was deleted before it began."}, "request": {"name": name}, "finished_at": now}
            connection.execute(JOBS.update().where((JOBS.c.id == row["job"]) & (JOBS.c.state == "queued")).values(**never))
            connection.execute(JOBS.insert().values(**vars(job), created_at=now))
        return job

    def _named(self, connection: Connection, name: str) -> RowMapping:
        row = connection.execute(LOOKALIKES.select().where(LOOKALIKES.c.name == name)).mappings().first()
        if row is None:
            raise UnknownName("look-alike", name, connection.execute(sa.select(LOOKALIKES.c.name).limit(100)).scalars().all())
        return row

    def _of_lookalike(self, connection: Connection, name: str) -> bool:
        """Whether the audience of this name is a look-alike's, and nobody's of another making."""
        rule = connection.execute(sa.select(AUDIENCES.c.rule).where(AUDIENCES.c.name == name)).scalar()
        return rule is not None and rule.get("task") == f"lookalike-{name}"

    def claim(self) -> Job | None:
        """Take the oldest queued job; no two workers get the same one."""
        with self._connection() as connection:
            for row in connection.execute(JOBS.select().where(JOBS.c.state == "queued").order_by(JOBS.c.created_at)).mappings().all():
                taken = connection.execute(JOBS.update().where((JOBS.c.id == row["id"]) & (JOBS.c.state == "queued")).values(state="running"))
                if taken.rowcount:
                    return _job({**row, "state": "running"})
        return None

    def finish(self, job: Job, state: str, result: Mapping[str, Any]) -> None:
        with self._connection() as connection:
            done = {"state": state, "result": dict(result), "finished_at": datetime.now(UTC)}
            if "seed" in job.request:  # its ids live in the seed now, or were refused
                done["request"] = {name: value for name, value in job.request.items() if name != "seed"}
            connection.execute(JOBS.update().where(JOBS.c.id == job.id).values(**done))

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            if not self._ready:
                if self._file:
                    self._file.parent.mkdir(parents=True, exist_ok=True)
                METADATA.create_all(self._engine)
                self._ready = True
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.IntegrityError as error:
            raise _Duplicate from error
        except (sa.exc.SQLAlchemyError, OSError) as error:
            log.error("ledger", exc_info=error)
            raise LedgerUnavailable("The ledger's database cannot be used now; the service's log says why. Try again later.") from error


class _Duplicate(Exception):
    pass


def _job(row: RowMapping | Mapping[str, Any]) -> Job:
    return Job(row["id"], row["kind"], row["request"], row["state"], row["result"])
