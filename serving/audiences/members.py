"""Who is in an audience: the members that are kept in the ledger, who came and went, and in which group of the hold-out they are.

A live audience is its rule applied to the release in service. Its rows in the ledger follow at each publication and refresh, and say since
when each user has been in; a refresh writes only what changed. A snapshot's rows are its members, and nothing changes them but an erasure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from serving.audiences.cut import Audience, cut, measured, rule_of
from serving.audiences.holdout import groups_in
from serving.audiences.ranking import Rows
from serving.audiences.rules import Rule
from serving.ledger import AUDIENCES, MEMBERS, Ledger, SavedAudience
from serving.release import Release

LIVE, SNAPSHOT = "live", "snapshot"
KINDS = (LIVE, SNAPSHOT)
AT_ONCE = 10_000  # ids in one statement
INSERT = 'INSERT INTO audience_members (audience, user_id, entered_at, "group") VALUES (?, ?, ?, ?)'
COPY = 'COPY audience_members (audience, user_id, entered_at, "group") FROM STDIN'
Ids = npt.NDArray[np.bytes_]


@dataclass(frozen=True)
class Changes:
    """Who entered and who left an audience at its last refresh; none of either before the first. since: when that was."""

    audience: str
    release: str | None
    since: datetime | None
    entries: list[str]
    exits: list[str]


def save(ledger: Ledger, release: Release, name: str, rule: Rule, kind: str = LIVE, shares: Mapping[str, float] | None = None) -> tuple[SavedAudience, bool]:
    """Keep an audience, a snapshot with its members; the same name with the same rule is the same audience. Returns whether it is new.

    Raises:
        NameTaken: the name stands for another audience. UnknownName, InvalidRule: the rule cannot be applied.
    """
    picked = cut(release, rule).rows

    def write_members(connection: Connection, saved: SavedAudience) -> None:
        _enter(connection, release, saved, picked, saved.created_at)
        connection.execute(AUDIENCES.update().where(AUDIENCES.c.id == saved.id).values(release=release.id, refreshed_at=saved.created_at))

    return ledger.save_audience(name, rule.described(), kind, shares, write_members if kind == SNAPSHOT else None)


def audience_of(release: Release, saved: SavedAudience, ledger: Ledger) -> Audience:
    """A kept audience in a release. Of a snapshot, its members whom the release still knows and who may be spoken to, best first.

    Raises:
        UnknownName, InvalidRule: the release has not what the rule of a live one asks for. LedgerUnavailable: of a snapshot.
    """
    rule = rule_of(saved.rule)
    if saved.kind != SNAPSHOT:
        return cut(release, rule)
    with ledger.connection() as connection:
        rows = release.withheld.marketable(rows_of(release, _present(connection, saved.id)))
    if rule.task is None:
        return measured(release, rule, rows)
    if rule.task not in release.scores:
        return Audience(rule, release.id, rows, len(rows), reason="the release has no model of its prediction any more")
    score = release.scores[rule.task].score[rows]
    return measured(release, rule, rows[np.argsort(-score, kind="stable")])


def inside(release: Release, saved: SavedAudience, ledger: Ledger) -> npt.NDArray[np.bool_]:
    """For each user of a release whether they are in a kept audience, whatever their group; a live one needs no ledger.

    Raises:
        UnknownName, InvalidRule, LedgerUnavailable: as `audience_of`.
    """
    mask = np.zeros(len(release.users), dtype=np.bool_)
    mask[audience_of(release, saved, ledger).rows] = True
    return mask


def groups_of(release: Release, saved: SavedAudience) -> tuple[tuple[str, ...], npt.NDArray[np.int8]] | None:
    """The groups of a kept audience's hold-out, and for each user of a release the place of theirs; None where it has none."""
    if not saved.shares:
        return None
    return tuple(saved.shares), groups_in(release, saved.salt or saved.name, saved.shares)


def split(release: Release, rows: Rows, salt: str, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of some users are in each group."""
    drawn = groups_in(release, salt, shares)[rows]
    return {name: int(np.count_nonzero(drawn == place)) for place, name in enumerate(shares)}  # a bincount would make eight bytes of each first


def follow(connection: Connection, release: Release, saved: SavedAudience, rows: Rows, now: datetime) -> tuple[int, int]:
    """Write who entered and who left. The audience's own row is changed first, which nobody else can while this transaction is open."""
    mine = AUDIENCES.c.id == saved.id
    connection.execute(AUDIENCES.update().where(mine).values(name=AUDIENCES.c.name))
    last = connection.execute(sa.select(AUDIENCES.c.release).where(mine)).first()
    if last is None:  # dropped meanwhile
        return 0, 0
    before, picked = _present(connection, saved.id), np.sort(rows)
    places = places_of(release, before)
    entering = picked[~np.isin(picked, places)]
    leaving = before[~np.isin(places, picked)]
    if last.release == release.id and not len(entering) and not len(leaving):
        return 0, 0
    for start in range(0, len(leaving), AT_ONCE):
        gone = MEMBERS.c.user_id.in_([user.decode() for user in leaving[start : start + AT_ONCE].tolist()])
        connection.execute(MEMBERS.update().where(MEMBERS.c.audience == saved.id, MEMBERS.c.left_at.is_(None), gone).values(left_at=now))
    _enter(connection, release, saved, entering, now)
    connection.execute(AUDIENCES.update().where(mine).values(release=release.id, refreshed_at=now))
    return len(entering), len(leaving)


def _enter(connection: Connection, release: Release, saved: SavedAudience, rows: Rows, now: datetime) -> None:
    """Write rows of members: by COPY where the database knows it, which takes a tenth of the time."""
    drawn = groups_of(release, saved)
    names: Sequence[str | None] = [drawn[0][place] for place in drawn[1][rows]] if drawn else [None] * len(rows)
    users = [user.decode() for user in release.users[rows].tolist()]
    if connection.dialect.name == "postgresql":
        try:
            with connection.connection.cursor().copy(COPY) as copy:
                for user, name in zip(users, names, strict=True):
                    copy.write_row((saved.id, user, now, name))
        except connection.dialect.loaded_dbapi.Error as error:  # past SQLAlchemy, which would have made it one of its own
            raise sa.exc.DBAPIError(COPY, None, error) from error
    elif users:  # past SQLAlchemy's own handling of each value, which takes most of the time; moments as it writes them
        moment = now.strftime("%Y-%m-%d %H:%M:%S.%f")
        connection.exec_driver_sql(INSERT, [(saved.id, user, moment, name) for user, name in zip(users, names, strict=True)])


def _present(connection: Connection, audience_id: str) -> Ids:
    """Ids of the members that the ledger has, in no order."""
    asked = sa.select(MEMBERS.c.user_id).where(MEMBERS.c.audience == audience_id, MEMBERS.c.left_at.is_(None))
    return np.array([user.encode() for user in connection.execute(asked).scalars()], dtype=np.bytes_)


def places_of(release: Release, ids: Ids) -> Rows:
    """The row of each of some users in a release, -1 of whom it does not know."""
    users = release.users
    if not len(users) or not len(ids):
        return np.full(len(ids), -1, dtype=np.int64)
    wanted = ids.astype(users.dtype)  # cut to the width of the known ones, which a longer one cannot be
    order = np.argsort(wanted)  # what is looked up in order finds its pages in the processor's cache
    places = np.empty(len(ids), dtype=np.int64)
    places[order] = np.searchsorted(users, wanted[order])
    places = np.minimum(places, len(users) - 1)
    return np.where((users[places] == wanted) & (np.char.str_len(ids) <= users.itemsize), places, -1)


def rows_of(release: Release, ids: Ids) -> Rows:
    """The rows of those of some users whom a release has, ascending."""
    places = places_of(release, ids)
    return np.sort(places[places >= 0])


def changes(ledger: Ledger, key: str) -> Changes:
    """Who entered and who left an audience at its last refresh, in the order of ids.

    Raises:
        UnknownName: there is no such audience. LedgerUnavailable.
    """
    saved = ledger.audience(key)
    if saved.refreshed_at is None:
        return Changes(saved.name, None, None, [], [])
    with ledger.connection() as connection:
        entries, exits = (
            connection.execute(
                sa.select(MEMBERS.c.user_id).where(MEMBERS.c.audience == saved.id, moment == saved.refreshed_at).order_by(MEMBERS.c.user_id)
            ).scalars()
            for moment in (MEMBERS.c.entered_at, MEMBERS.c.left_at)
        )
        return Changes(saved.name, saved.release, saved.refreshed_at, list(entries), list(exits))
