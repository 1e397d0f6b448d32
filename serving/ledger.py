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
from sqlalchemy.engine import Connection

from features.errors import EncoreError, UnknownName
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


class Ledger:
    """Reads and writes of the ledger.

    Raises:
        LedgerUnavailable: from every method, when the database cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
        self._engine = _engine(url, self._file is not None)
        self._ready = self._failing = False

    def close(self) -> None:
        """Close what is open; whoever asks again opens it again."""
        self._engine.dispose()

    @property
    def is_absent(self) -> bool:
        """Whether it is a file that nobody has begun yet."""
        try:
            return self._file is not None and not self._file.stat()
        except FileNotFoundError:
            return True
        except OSError:  # a folder that may not be read is not an empty one
            return False

    def save_audience(self, name: str, rule: Mapping[str, Any]) -> tuple[SavedAudience, bool]:
        """Keep an audience; the same name with the same rule is the same audience. Returns it and whether it is new.

        Raises:
            NameTaken: the name stands for another rule.
        """
        made = SavedAudience(str(uuid.uuid4()), name, dict(rule), datetime.now(UTC))
        try:
            with self.connection() as connection:
                connection.execute(AUDIENCES.insert().values(**vars(made)))
            return made, True
        except Duplicate:
            found = self.audience(name)
            if _given(found.rule) != _given(rule):
                raise NameTaken(f"An audience of this name exists with another rule: {dict(found.rule)}. Choose another name.") from None
            return found, False

    def audience(self, key: str) -> SavedAudience:
        """An audience by id or name.

        Raises:
            UnknownName: there is none.
        """
        if "\0" in key:  # PostgreSQL cannot even be asked for it
            raise UnknownName("audience", key, ())
        with self.connection() as connection:
            row = connection.execute(AUDIENCES.select().where((AUDIENCES.c.id == key) | (AUDIENCES.c.name == key))).mappings().first()
            if row is None:
                names = connection.execute(sa.select(AUDIENCES.c.name).limit(100)).scalars().all()
                raise UnknownName("audience", key, names)
        return SavedAudience(**row)

    def audiences(self) -> list[SavedAudience]:
        """All audiences, oldest first."""
        with self.connection() as connection:
            return [SavedAudience(**row) for row in connection.execute(AUDIENCES.select().order_by(AUDIENCES.c.created_at)).mappings()]

    def keep_audience(self, name: str, rule: Mapping[str, Any]) -> None:
        """Keep the audience of a model by its name, whatever rule over the same model it had before.

        Raises:
            NameTaken: the name stands for an audience of another model.
        """
        try:
            self.save_audience(name, rule)
        except NameTaken:
            if self.audience(name).rule["task"] != rule["task"]:
                raise
            with self.connection() as connection:
                connection.execute(AUDIENCES.update().where(AUDIENCES.c.name == name).values(rule=dict(rule)))

    def drop_audience(self, name: str, task: str) -> None:
        """Delete the audience of a model; one of another model that has its name by now stays."""
        with self.connection() as connection:
            rule = connection.execute(sa.select(AUDIENCES.c.rule).where(AUDIENCES.c.name == name)).scalar()
            if rule is not None and rule.get("task") == task:
                connection.execute(AUDIENCES.delete().where(AUDIENCES.c.name == name))

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        try:
            if not self._ready:
                if self._file:
                    self._file.parent.mkdir(parents=True, exist_ok=True)
                from serving.migrations import bring_up_to_date  # it knows all tables, and they know the ledger

                bring_up_to_date(self._engine)
                self._ready = True
            with self._engine.begin() as connection:
                yield connection
            self._failing = False
        except sa.exc.IntegrityError as error:
            raise Duplicate from error
        except (sa.exc.SQLAlchemyError, OSError) as error:
            if not self._failing:  # once for each outage: somebody asks every few seconds
                log.error("ledger", exc_info=error)
            self._failing = True
            raise LedgerUnavailable("The ledger's database cannot be used now; the service's log says why. Try again later.") from error


class Duplicate(Exception):
    pass


def _engine(url: str, is_file: bool) -> sa.Engine:
    """A database's engine. What is written to it may hold user ids, so its errors do not repeat it: they are logged."""
    if is_file:  # opened anew each time, which takes a tenth of a millisecond: a file that was restored from a backup is seen at once
        return sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)
    address = sa.make_url(url)
    if address.drivername == "postgresql":  # the driver that the extra `postgres` installs
        address = address.set(drivername="postgresql+psycopg")
    waits = {"connect_timeout": 5} if address.get_backend_name() == "postgresql" else {}
    return sa.create_engine(address, pool_pre_ping=True, connect_args=waits, hide_parameters=True)


def _given(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if value is not None}
