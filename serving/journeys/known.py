"""What journeys remember of audiences, so that they need the ledger seldom, and not at all while it is away."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from features.errors import UnknownName
from features.logs import log
from serving.audiences.cut import cut, rule_of
from serving.audiences.holdout import GROUPS
from serving.audiences.members import SNAPSHOT, Ids, groups_of, inside, rows_of
from serving.audiences.ranking import Rows
from serving.ledger import Ledger, LedgerUnavailable, SavedAudience
from serving.release import Release

MOST_AUDIENCES = 200  # whose members are kept in memory: a byte for each user and audience
PATIENCE = 1.0  # seconds to wait for the ledger: a journey tool gives up after two, and then has no branch at all
FRESH = 60.0  # seconds until the ledger is asked again, behind what is answered meanwhile
PAUSE = 5.0  # seconds after a failure until what is known is asked for again
HANGS = "The ledger has not answered for a second. Try again later."

# What becomes of a user of an audience with a hold-out. Business as usual is not this campaign: they go the way of everybody else.
BRANCHES = {"treatment": "in", "control": "holdout", "business_as_usual": "out"}
OUT, IN, IN_GROUP = 0, 1, 2  # from the third on: in the audience, and in a group of its hold-out

Done = TypeVar("Done")
Ways = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Members:
    """An audience in one release.

    task: the prediction that ranks it, if any. ways: OUT, IN, or IN_GROUP and the place of the group, for each user of the release. ids: of
    the members of a snapshot, which nothing but the ledger could tell again. asked_at: when the ledger was, on this process's clock.
    """

    release: weakref.ref[Release]  # what nobody answers from any more may go
    saved: SavedAudience
    task: str | None
    ways: Ways
    ids: Ids
    asked_at: float

    def branch(self, row: int) -> tuple[str, str | None]:
        """A user's branch, and their group in the audience's hold-out where it has one."""
        way = int(self.ways[row])
        if way < IN_GROUP:
            return ("in" if way == IN else "out"), None
        group = GROUPS[way - IN_GROUP]
        return BRANCHES[group], group


class KnownAudiences:
    """Audiences that were asked for, by name or id.

    Only the event loop's thread may use it. Work is done in threads of its own, so that a ledger that hangs holds up nothing else; however
    many ask the same, it is done once; and nobody waits longer than a journey tool does. While the ledger is away, what was known stays
    known, in the next release, too.
    """

    def __init__(self) -> None:
        self._threads = CapacityLimiter(2)
        self._known: dict[str, Members] = {}
        self._asked: dict[tuple[str, str], tuple[float, asyncio.Future[Members]]] = {}
        self._not_before = 0.0

    def ready(self, audience: str, release: Release, ledger: Ledger) -> Members | None:
        """An audience's members in a release, if they are known."""
        known = self._known.get(audience)
        if known is None or known.release() is not release:
            return None
        now = time.monotonic()
        if now - known.asked_at > FRESH and now >= self._not_before and ("ask", audience) not in self._asked:
            self._ask(audience, release, ledger)
        return known

    async def members(self, audience: str, release: Release, ledger: Ledger) -> Members:
        """An audience's members in a release.

        Raises:
            UnknownName: there is no such audience, or the release has no model of its prediction. LedgerUnavailable, TimeoutError.
        """
        if known := self.ready(audience, release, ledger):
            return known
        if (known := self._known.get(audience)) is None:
            if any(time.monotonic() - began > PATIENCE for what, (began, _) in self._asked.items() if what[0] == "ask"):
                raise LedgerUnavailable(HANGS)
            return await _patiently(self._ask(audience, release, ledger))
        before = known
        return await _patiently(self._work(("cut", f"{release.id}/{audience}"), audience, lambda: again(before, release)))

    async def in_time(self, work: Callable[[], Done]) -> Done:
        """Do a piece of work with the ledger in one of these threads.

        Raises:
            LedgerUnavailable: it takes longer than anybody waits; it is not given up for that.
        """
        try:
            return await _patiently(asyncio.ensure_future(run_sync(work, limiter=self._threads, abandon_on_cancel=True)))
        except TimeoutError:
            raise LedgerUnavailable(HANGS) from None

    def _ask(self, audience: str, release: Release, ledger: Ledger) -> asyncio.Future[Members]:
        return self._work(("ask", audience), audience, lambda: members_of(ledger.audience(audience), release, ledger))

    def _work(self, what: tuple[str, str], audience: str, work: Callable[[], Members]) -> asyncio.Future[Members]:
        """Do a piece of work once, for however many wait for it, and remember what comes out."""
        if what in self._asked:
            return self._asked[what][1]
        if len(self._asked) >= MOST_AUDIENCES:
            raise TimeoutError("journeys ask for too many audiences at once")

        def worked(done: asyncio.Future[Members]) -> None:
            del self._asked[what]
            if done.cancelled():
                return
            if (error := done.exception()) is None:
                self._keep(audience, done.result())
            elif isinstance(error, UnknownName):
                self._known.pop(audience, None)
            else:  # what was known stays
                self._not_before = time.monotonic() + PAUSE
                log.warning("audience not asked for again", extra={"facts": {"reason": str(error)}})

        future = asyncio.ensure_future(run_sync(work, limiter=self._threads, abandon_on_cancel=True))
        self._asked[what] = time.monotonic(), future
        future.add_done_callback(worked)
        return future

    def _keep(self, audience: str, members: Members) -> None:
        if audience not in self._known and len(self._known) >= MOST_AUDIENCES:
            del self._known[next(iter(self._known))]
        self._known[audience] = members


async def _patiently(future: asyncio.Future[Done]) -> Done:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.shield(future)


def members_of(saved: SavedAudience, release: Release, ledger: Ledger) -> Members:
    """Who is in a saved audience, and in which group of its hold-out."""
    return _made(saved, release, np.flatnonzero(inside(release, saved, ledger)), time.monotonic())


def again(before: Members, release: Release) -> Members:
    """The members of an audience in another release, without the ledger: it is asked behind this answer."""
    kept = before.saved.kind == SNAPSHOT
    rows = release.withheld.marketable(rows_of(release, before.ids)) if kept else cut(release, rule_of(before.saved.rule)).rows
    return _made(before.saved, release, rows, before.asked_at)


def _made(saved: SavedAudience, release: Release, rows: Rows, asked_at: float) -> Members:
    ways = np.zeros(len(release.users), dtype=np.int8)
    ways[rows] = IN
    if drawn := groups_of(release, saved):
        names, places = drawn
        ways[rows] = np.array([IN_GROUP + GROUPS.index(name) for name in names], dtype=np.int8)[places[rows]]
    task = saved.rule.get("task")
    ids = release.users[rows] if saved.kind == SNAPSHOT else release.users[:0]
    return Members(weakref.ref(release), saved, task if task in release.scores else None, ways, ids, asked_at)
