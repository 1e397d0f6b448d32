"""Lease: one retrain of a shop among several hosts, kept where its champions live.

A lock file protects one host. Hosts with workspaces of their own meet in MLflow, so that is where one of them says that
it is at work: it takes the lease, renews it while it works and asks again before it changes an alias. A lease that its
holder has not renewed for `SECONDS` is taken over, so that a host which died holds nobody up.

A holder that is stopped for longer than that (a suspended machine) between its last question and its write can still
write after another has taken over: MLflow's aliases know no fencing token. Hence the two other precautions in
`Tracking.promote`: the question is the last thing before the write, and what was written is read back.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from features.errors import Locked, TrackingUnavailable
from features.logs import log

SECONDS = 120.0  # after its last renewal a lease is free
RENEWALS = 6  # in that time
POLL = 1.0  # s between two looks of one who waits
SETTLE = 2.0  # s in which a write of another that was under way arrives
FREE = "free"
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Holder:
    """Who asks for a lease.

    Args:
        token: of this one retrain. lock: the lock file that it holds, as one running kernel knows it. name: for people.
    """

    token: str
    lock: str
    name: str

    @classmethod
    def of(cls, lock_file: Path) -> Holder:
        """This process, which holds the lock file: a lease of the same lock is of a process that was killed."""
        seen, host = lock_file.stat(), platform.node()
        kernel = BOOT.read_text().strip() if BOOT.exists() else host
        return cls(uuid.uuid4().hex, f"{kernel}:{seen.st_dev}:{seen.st_ino}", f"host {host}, process {os.getpid()}, {lock_file.parent}")


class Place(Protocol):
    """Where a lease is kept. `claim` returns None where it is ours now, else who holds it; `renew` whether it is still ours."""

    def claim(self, holder: Holder) -> str | None: ...
    def renew(self, holder: Holder) -> bool: ...
    def release(self, holder: Holder) -> None: ...


@dataclass(frozen=True)
class Lease:
    """A lease that was taken. reachable: turns what the place raises into one of our errors."""

    place: Place
    holder: Holder
    reachable: Callable[[], AbstractContextManager[None]]

    def confirm(self) -> None:
        """Renew it; called right before anything that only its holder may do.

        Raises:
            Locked: it ran out and another took it.
        """
        with self.reachable():
            held = self.place.renew(self.holder)
        if not held:
            raise Locked(
                f"This retrain could not renew its lease for {SECONDS:.0f} s, and another one has taken over meanwhile. "
                "It leaves without changing a champion. Run again when the other has ended: what was done is not done twice."
            )


@contextmanager
def leased(place: Place, holder: Holder, what: str, reachable: Callable[[], AbstractContextManager[None]], *, wait: bool = False) -> Iterator[Lease]:
    """Hold a lease for the block, renewed by a thread; given back however the block ends, short of a kill.

    Raises:
        Locked: another holds it and `wait` is false.
    """
    lease = Lease(place, holder, reachable)
    while (other := _claimed(lease)) is not None:
        if not wait:
            raise Locked(f"{what} is already running elsewhere ({other}). Try again later, or give --wait.")
        time.sleep(POLL)
    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, over), daemon=True, name="lease")
    renewing.start()
    try:
        yield lease
    finally:
        over.set()
        renewing.join()
        try:
            with reachable():
                place.release(holder)
        except TrackingUnavailable as error:
            log.warning("lease not given back; it runs out by itself", extra={"facts": {"seconds": SECONDS, "reason": str(error)}})


def _claimed(lease: Lease) -> str | None:
    with lease.reachable():
        return lease.place.claim(lease.holder)


def _renew(lease: Lease, over: threading.Event) -> None:
    while not over.wait(SECONDS / RENEWALS):
        try:
            lease.confirm()
        except Locked as error:  # whoever asks before a write is told
            log.warning("lease lost", extra={"facts": {"reason": str(error)}})
            return
        except TrackingUnavailable as error:
            log.warning("lease not renewed", extra={"facts": {"reason": str(error)}})


# --- a row in MLflow's own database -----------------------------------------------------------------------------------

LEASES = sa.Table(
    "encore_leases",
    sa.MetaData(),
    sa.Column("name", sa.String(300), primary_key=True),
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("lock", sa.String(300), nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False, comment="seconds since 1970 by the database's clock"),
)
CLOCKS = {"postgresql": "extract(epoch from clock_timestamp())", "sqlite": "(julianday('now') - 2440587.5) * 86400"}


class Row:
    """A lease as a row: taken by one UPDATE or INSERT, of which exactly one succeeds, in the database's own time.

    SQLite has no clock but that of the host that opens the file; such a file is for processes of one host anyway.
    """

    def __init__(self, url: str, name: str) -> None:
        self.name, kind = name, sa.make_url(url).get_backend_name()
        patience = {"timeout": 30} if kind == "sqlite" else {"connect_timeout": 10}
        self.engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT", connect_args=patience)
        self.now: sa.ColumnElement[float] = sa.literal_column(CLOCKS[kind], sa.Double)
        self.ours = LEASES.c.name == name

    @staticmethod
    def possible(url: str) -> bool:
        return "://" in url and sa.make_url(url).get_backend_name() in CLOCKS

    def claim(self, holder: Holder) -> str | None:
        self._make_table()
        values = {"token": holder.token, "lock": holder.lock, "holder": holder.name, "expires_at": self.now + SECONDS}
        free = sa.or_(LEASES.c.expires_at <= self.now, LEASES.c.lock == holder.lock)
        with self.engine.connect() as connection:
            if connection.execute(LEASES.update().where(self.ours, free).values(values)).rowcount:
                return None
            try:
                connection.execute(LEASES.insert().values(name=self.name, **values))
            except IntegrityError:
                row = connection.execute(sa.select(LEASES.c.holder, LEASES.c.expires_at - self.now).where(self.ours)).first()
                return f"{row[0]}; free in {max(row[1], 0):.0f} s unless renewed" if row else "it has just ended"
        return None

    def renew(self, holder: Holder) -> bool:
        with self.engine.connect() as connection:
            change = LEASES.update().where(self.ours, LEASES.c.token == holder.token).values(expires_at=self.now + SECONDS)
            return connection.execute(change).rowcount == 1

    def release(self, holder: Holder) -> None:
        with self.engine.connect() as connection:
            connection.execute(LEASES.delete().where(self.ours, LEASES.c.token == holder.token))

    def _make_table(self) -> None:
        try:
            with self.engine.connect() as connection:
                connection.execute(sa.schema.CreateTable(LEASES, if_not_exists=True))
        except DBAPIError:  # PostgreSQL lets two create it at once and fails the slower one
            if not sa.inspect(self.engine).has_table(LEASES.name):
                raise


# --- a tag, where MLflow is a server ----------------------------------------------------------------------------------


class Tag:
    """A lease as a tag that is read and written through MLflow's API, for servers whose database is out of reach.

    Tags are last-writer-wins and carry no time. So whoever writes waits for `SETTLE` and reads whose token stayed; and a
    lease counts as left behind when its tag did not change for `SECONDS` on the watcher's own clock, as in Kubernetes'
    leader election (client-go, tools/leaderelection), whatever the clocks of the hosts say.

    Not guaranteed: when a write takes longer than `SETTLE` to arrive, two may believe to hold it until one of them next
    renews or confirms, which is before it changes an alias; if both also ask within the same moments, both may go on.
    What remains then is the re-reading in `Tracking.promote`. A database URL has no such gap.
    """

    def __init__(self, read: Callable[[], str], write: Callable[[str], None]) -> None:
        self.read, self.write, self.beats = read, write, 0

    def claim(self, holder: Holder) -> str | None:
        seen, left = self.read(), time.monotonic() + SECONDS
        while _is_of_another(seen, holder) and time.monotonic() < left:
            time.sleep(POLL)
            now = self.read()
            if now != seen and _is_of_another(now, holder):
                return _parsed(now)["name"]
            seen = now
        self._write(holder)
        time.sleep(SETTLE)
        stayed = self.read()
        return _parsed(stayed)["name"] if _is_of_another(stayed, holder) else None

    def renew(self, holder: Holder) -> bool:
        if _parsed(self.read()).get("token") != holder.token:
            return False
        self._write(holder)
        return True

    def release(self, holder: Holder) -> None:
        if _parsed(self.read()).get("token") == holder.token:
            self.write(FREE)

    def _write(self, holder: Holder) -> None:
        self.beats += 1
        self.write(json.dumps({**asdict(holder), "beat": self.beats}))


def _parsed(seen: str) -> dict[str, str]:
    """The holder in a tag; none where it is free, or where somebody wrote something else into it."""
    try:
        found = json.loads(seen)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"token", "lock", "name"} <= found.keys() else {}


def _is_of_another(seen: str, holder: Holder) -> bool:
    return _parsed(seen).get("lock", holder.lock) != holder.lock
