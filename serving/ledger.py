"""The ledger: what the service must remember. SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import finalize

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
    sa.Column("kind", sa.String(10), nullable=False, server_default="live"),  # live or snapshot
    sa.Column("shares", sa.JSON(none_as_null=True)),  # group of the hold-out -> share
    sa.Column("salt", sa.String(200)),  # of the hold-out's lot
    sa.Column("release", sa.String(64)),  # whose members were written last
    sa.Column("refreshed_at", sa.DateTime(timezone=True)),
)
MEMBERS = sa.Table(  # one row for each stay of a user in an audience
    "audience_members",
    METADATA,
    sa.Column("audience", sa.String(36), primary_key=True),
    sa.Column("user_id", sa.String(256), primary_key=True),
    sa.Column("entered_at", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("left_at", sa.DateTime(timezone=True)),
    sa.Column("group", sa.String(20)),  # in the hold-out
)


class LedgerUnavailable(EncoreError):
    """The ledger's database cannot be used now."""


class NameTaken(EncoreError):
    """An audience of that name exists with another rule."""


@dataclass(frozen=True)
class SavedAudience:
    """An audience as it is kept. kind: `live` follows the release, `snapshot` has the members that it had when it was made. shares, salt: of
    its hold-out, where it has one. release, refreshed_at: when the ledger's rows of members were last brought up to date."""

    id: str
    name: str
    rule: Mapping[str, Any]
    created_at: datetime
    kind: str = "live"
    shares: Mapping[str, float] | None = None
    salt: str | None = None
    release: str | None = None
    refreshed_at: datetime | None = None


class Ledger:
    """Reads and writes of the ledger.

    Raises:
        LedgerUnavailable: from every method, when the database cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
        self._engine = _engine(url, self._file is not None)
        finalize(self, self._engine.dispose)  # whoever forgets to close it leaves no connection open
        self._ready = self._failing = False

    def close(self) -> None:
        """Close what is open; whoever asks again opens it again."""
        self._engine.dispose()

    def vacuum(self, tables: Sequence[str]) -> None:
        """Write tables anew, so that nothing of the rows that were deleted from them is left in the database's files.

        Raises:
            LedgerUnavailable: it could not be done, such as while somebody else writes.
        """
        try:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                if self._file:
                    connection.exec_driver_sql("VACUUM")
                else:
                    quoted = ", ".join(connection.dialect.identifier_preparer.quote(table) for table in tables)
                    connection.exec_driver_sql(f"VACUUM FULL {quoted}")
        except sa.exc.SQLAlchemyError as error:
            log.error("ledger", exc_info=error)
            raise LedgerUnavailable("What was deleted could not be cleared from the ledger's files. Run the same command again.") from error

    @property
    def is_absent(self) -> bool:
        """Whether it is a file that nobody has begun yet."""
        try:
            return self._file is not None and not self._file.stat()
        except FileNotFoundError:
            return True
        except OSError:  # a folder that may not be read is not an empty one
            return False

    def save_audience(
        self,
        name: str,
        rule: Mapping[str, Any],
        kind: str = "live",
        shares: Mapping[str, float] | None = None,
        write_members: Callable[[Connection, SavedAudience], None] | None = None,
    ) -> tuple[SavedAudience, bool]:
        """Keep an audience; the same name with the same rule is the same audience. Returns it and whether it is new.

        Args:
            shares: of its hold-out; its lot is drawn by its name. write_members: what else belongs to the same transaction.

        Raises:
            NameTaken: the name stands for another rule.
        """
        made = SavedAudience(str(uuid.uuid4()), name, dict(rule), datetime.now(UTC), kind, dict(shares) if shares else None, name if shares else None)
        try:
            with self.connection() as connection:
                connection.execute(AUDIENCES.insert().values(**vars(made)))
                if write_members:
                    write_members(connection, made)
                from serving.privacy.audit import record  # it keeps its entries in the ledger

                record(connection, "audience saved", {"audience": made.id, "name": name, "kind": kind})
            return made, True
        except Duplicate:
            found = self.audience(name)
            if (_given(found.rule), found.kind, found.shares) != (_given(rule), kind, made.shares):
                kept = f"{dict(found.rule)}, {found.kind}, {'hold-out ' + str(dict(found.shares)) if found.shares else 'no hold-out'}"
                raise NameTaken(f"An audience of this name exists with another rule: {kept}. Choose another name.") from None
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
        return _saved(row)

    def audiences(self) -> list[SavedAudience]:
        """All audiences, oldest first."""
        with self.connection() as connection:
            return [_saved(row) for row in connection.execute(AUDIENCES.select().order_by(AUDIENCES.c.created_at)).mappings()]

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
            found = connection.execute(sa.select(AUDIENCES.c.id, AUDIENCES.c.rule).where(AUDIENCES.c.name == name)).first()
            if found is not None and found.rule.get("task") == task:
                connection.execute(MEMBERS.delete().where(MEMBERS.c.audience == found.id))
                connection.execute(AUDIENCES.delete().where(AUDIENCES.c.id == found.id))

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
        engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA secure_delete = ON"))  # what goes is overwritten
        return engine
    address = sa.make_url(url)
    if address.drivername == "postgresql":  # the driver that the extra `postgres` installs
        address = address.set(drivername="postgresql+psycopg")
    waits = {"connect_timeout": 5} if address.get_backend_name() == "postgresql" else {}
    return sa.create_engine(address, pool_pre_ping=True, connect_args=waits, hide_parameters=True)


def _saved(row: Mapping[Any, Any]) -> SavedAudience:
    """A row as it was kept: SQLite forgets that its moments are UTC."""
    moments = {name: at.replace(tzinfo=UTC) for name in ("created_at", "refreshed_at") if (at := row[name]) is not None and at.tzinfo is None}
    return SavedAudience(**{**row, **moments})


def _given(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rule.items() if value is not None}
