"""Custom activities of journeys, as the ledger remembers them: which audience is asked for where, and whether it still is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from serving.ledger import METADATA, Duplicate, Ledger

STATES = ("saved", "published", "stopped")  # a state never goes back: a call that arrives twice, or late, changes nothing
LONGEST = 64  # characters of an id; Salesforce's are UUIDs

ACTIVITIES = sa.Table(
    "journey_activities",
    METADATA,
    sa.Column("activity", sa.String(LONGEST), primary_key=True),
    sa.Column("journey", sa.String(LONGEST), primary_key=True),
    sa.Column("audience", sa.String(200), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
)


@dataclass(frozen=True)
class Activity:
    """A custom activity in one version of a journey, by Salesforce's ids."""

    activity: str
    journey: str
    audience: str
    state: str
    saved_at: datetime
    changed_at: datetime


def remember(ledger: Ledger, activity: str, journey: str, audience: str, state: str) -> None:
    """Note an activity's state; the same again, or one that it has left behind, changes nothing but the audience of one just saved.

    Raises:
        LedgerUnavailable.
    """
    now, key = datetime.now(UTC), (activity[:LONGEST], journey[:LONGEST])
    followed = [*STATES[: STATES.index(state)], *(["saved"] if state == "saved" else [])]
    changed = {"state": state, "changed_at": now, **({"audience": audience[:200]} if audience else {})}
    try:
        with ledger.connection() as connection:
            # One statement decides: two calls may come at once, and a database need not let one wait for the other.
            moved = connection.execute(ACTIVITIES.update().where(_is(key), ACTIVITIES.c.state.in_(followed)).values(**changed)).rowcount
            if not moved and connection.execute(sa.select(ACTIVITIES.c.state).where(_is(key))).first() is None:
                connection.execute(ACTIVITIES.insert().values(**vars(Activity(*key, audience[:200], state, now, now))))
    except Duplicate:  # made by another call meanwhile
        remember(ledger, activity, journey, audience, state)


def activities(ledger: Ledger) -> list[Activity]:
    """All activities, oldest first.

    Raises:
        LedgerUnavailable.
    """
    with ledger.connection() as connection:
        rows = connection.execute(ACTIVITIES.select().order_by(ACTIVITIES.c.saved_at, ACTIVITIES.c.activity, ACTIVITIES.c.journey)).mappings()
        return [Activity(**row) for row in rows]


def _is(key: tuple[str, str]) -> sa.ColumnElement[bool]:
    return sa.and_(ACTIVITIES.c.activity == key[0], ACTIVITIES.c.journey == key[1])
