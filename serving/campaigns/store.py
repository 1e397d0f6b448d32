"""The log of campaigns in the ledger: plans, members as they were at entry, reports."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, RowMapping

from features.errors import UnknownName
from serving.campaigns.plan import TREATMENT, InvalidCampaign, Plan, plan_of
from serving.ledger import METADATA, Duplicate, Ledger, NameTaken
from serving.privacy.audit import record

ROWS = 5_000  # members in one transaction; an enrolment that is interrupted keeps the ones before
RUNNING, STOPPED, REPORTED = "running", "stopped", "reported"
FINAL, MONITOR = "final", "monitor"

CAMPAIGNS = sa.Table(
    "campaigns",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(200), unique=True, nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("stopped_at", sa.DateTime(timezone=True)),
)
MEMBERS = sa.Table(
    "campaign_members",
    METADATA,
    sa.Column("campaign", sa.String(36), primary_key=True),
    sa.Column("user_id", sa.String(256), primary_key=True, index=True),
    sa.Column("group", sa.String(20), nullable=False),
    sa.Column("chance", sa.Float),
    sa.Column("expected", sa.Float),
    sa.Column("percentile", sa.Float),
    sa.Column("release", sa.String(100)),
    sa.Column("as_of", sa.Date),
    sa.Column("entered_on", sa.Date, nullable=False),
    sa.Column("ends_on", sa.Date, nullable=False),
    sa.Column("entered_at", sa.DateTime(timezone=True), nullable=False),
    sa.Index("ix_campaign_members_group", "campaign", "group", "ends_on"),  # until when the last of a group are in
)
SIZES = sa.Table(  # counted as they enter: to count a million rows takes half a second
    "campaign_sizes",
    METADATA,
    sa.Column("campaign", sa.String(36), primary_key=True),
    sa.Column("group", sa.String(20), primary_key=True),
    sa.Column("members", sa.Integer, nullable=False),
)
REPORTS = sa.Table(
    "campaign_reports",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("campaign", sa.String(36), nullable=False, index=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("report", sa.JSON, nullable=False),
)


@dataclass(frozen=True)
class Campaign:
    """A plan that was logged. state: running, stopped (nobody enters any more) or reported (likewise, and its effect is known)."""

    id: str
    plan: Plan
    state: str
    created_at: datetime
    stopped_at: datetime | None


@dataclass(frozen=True)
class Member:
    """Who entered a campaign, as of that day.

    chance: what the plan's prediction gave, None where it gives none; expected: the chance of the goal within the horizon, if the prediction speaks
    of it; percentile: among all whom it is about. release: that said so; as_of: the date of its features. entered_on: first day of the outcome
    window; ends_on: the day after its last.
    """

    user_id: str
    group: str
    chance: float | None
    expected: float | None
    percentile: float | None
    release: str | None
    as_of: date | None
    entered_on: date
    ends_on: date


def save_campaign(ledger: Ledger, plan: Plan) -> tuple[Campaign, bool]:
    """Log a campaign; the same name with the same plan is the same campaign. Returns it and whether it is new.

    Raises:
        NameTaken: the name stands for another plan.
    """
    made = Campaign(str(uuid.uuid4()), plan, RUNNING, datetime.now(UTC), None)
    try:
        with ledger.connection() as connection:
            connection.execute(CAMPAIGNS.insert().values(**{**vars(made), "plan": plan.described()}, name=plan.name))
            record(connection, "campaign logged", {"campaign": made.id, "name": plan.name})
        return made, True
    except Duplicate:
        found = campaign(ledger, plan.name)
        if found.plan.described() != plan.described():
            raise NameTaken("A campaign of this name was logged with another plan, and plans do not change. Choose another name.") from None
        return found, False


def campaign(ledger: Ledger, key: str) -> Campaign:
    """A campaign by id or name.

    Raises:
        UnknownName: there is none.
    """
    if "\0" in key:  # PostgreSQL cannot even be asked for it
        raise UnknownName("campaign", key, ())
    with ledger.connection() as connection:
        row = connection.execute(CAMPAIGNS.select().where((CAMPAIGNS.c.id == key) | (CAMPAIGNS.c.name == key))).mappings().first()
        if row is None:
            raise UnknownName("campaign", key, connection.execute(sa.select(CAMPAIGNS.c.name).limit(100)).scalars().all())
    return _campaign(row)


def campaigns(ledger: Ledger) -> list[Campaign]:
    """All campaigns, oldest first."""
    with ledger.connection() as connection:
        return [_campaign(row) for row in connection.execute(CAMPAIGNS.select().order_by(CAMPAIGNS.c.created_at)).mappings()]


def stop_campaign(ledger: Ledger, key: str) -> Campaign:
    """End the entry of a campaign; who is in stays in, and the effect is measured. Stopping twice is stopping once."""
    found = campaign(ledger, key)
    _move(ledger, found.id, (RUNNING,), STOPPED)
    return campaign(ledger, found.id)


def add_members(ledger: Ledger, of: Campaign, members: Sequence[Member]) -> int:
    """Enter members; who is in already stays as they entered. Returns how many are new.

    Raises:
        InvalidCampaign: the campaign was stopped or reported.
    """
    now, new = datetime.now(UTC), 0
    for start in range(0, len(members), ROWS):
        rows = [{**vars(member), "campaign": of.id, "entered_at": now} for member in members[start : start + ROWS]]
        with ledger.connection() as connection:
            _require_running(connection, of)
            new += sum(_enter(connection, of, group, [row for row in rows if row["group"] == group]) for group in sorted({row["group"] for row in rows}))
    return new


def members(ledger: Ledger, of: Campaign) -> list[Member]:
    """Everybody who entered, in the order of their ids."""
    columns = [MEMBERS.c[name] for name in Member.__dataclass_fields__]
    with ledger.connection() as connection:
        rows = connection.execute(sa.select(*columns).where(MEMBERS.c.campaign == of.id)).all()
    return sorted((Member(*row) for row in rows), key=lambda member: member.user_id)


def group_sizes(ledger: Ledger, of: Campaign) -> dict[str, int]:
    """Group -> members, in the plan's order."""
    sizes = sa.select(SIZES.c.group, SIZES.c.members).where(SIZES.c.campaign == of.id).order_by(SIZES.c.group)
    with ledger.connection() as connection:
        found = {str(group): int(size) for group, size in connection.execute(sizes)}
    return {group: found.get(group, 0) for group in {**of.plan.shares, **found}}


def count_again(connection: Connection) -> None:
    """Count the members of all groups, inside the transaction that deleted some of them."""
    connection.execute(SIZES.update().values(members=0))  # it also makes an enrolment wait that would count on
    counted = sa.select(MEMBERS.c.campaign, MEMBERS.c.group, sa.func.count()).where(sa.true()).group_by(MEMBERS.c.campaign, MEMBERS.c.group)
    insert = _insert(connection, SIZES).from_select(["campaign", "group", "members"], counted)
    connection.execute(insert.on_conflict_do_update(index_elements=["campaign", "group"], set_={"members": insert.excluded.members}))


def entered(ledger: Ledger, of: Campaign) -> tuple[dict[str, int], date | None]:
    """Group -> members in the plan's order, and the day on which the last outcome window is over; None before anybody is in."""
    sizes = group_sizes(ledger, of)
    with ledger.connection() as connection:  # for each group alone the index knows the last day at once; for all together it is read to the end
        asked = [sa.select(sa.func.max(MEMBERS.c.ends_on)).where(MEMBERS.c.campaign == of.id, MEMBERS.c.group == group) for group in sizes]
        ends = [connection.execute(one).scalar() for one in asked]
    return sizes, max((day for day in ends if day is not None), default=None)


def treated(ledger: Ledger, start: date, end: date) -> set[str]:
    """Ids of the users who were treated by a campaign on some day of `start <= day < end`: enrolled into its treatment group, and within their
    outcome window. What they did then is not what they would have done left alone."""
    ran = (MEMBERS.c.group == TREATMENT) & (MEMBERS.c.entered_on < end) & (MEMBERS.c.ends_on > start)
    with ledger.connection() as connection:
        return set(connection.execute(sa.select(MEMBERS.c.user_id).where(ran).distinct()).scalars())


def also_treated(ledger: Ledger, of: Campaign) -> int:
    """Members who were treated by another campaign at the same time."""
    other = MEMBERS.alias()
    both = (MEMBERS.c.campaign == of.id) & (other.c.campaign != of.id) & (MEMBERS.c.user_id == other.c.user_id) & (other.c.group == TREATMENT)
    overlap = (other.c.entered_on < MEMBERS.c.ends_on) & (other.c.ends_on > MEMBERS.c.entered_on)
    with ledger.connection() as connection:
        return int(connection.execute(sa.select(sa.func.count(sa.distinct(MEMBERS.c.user_id))).where(both & overlap)).scalar_one())


def save_report(ledger: Ledger, of: Campaign, kind: str, report: Mapping[str, Any]) -> None:
    """Keep a report; the final one ends the campaign's entry."""
    with ledger.connection() as connection:
        values = {"id": str(uuid.uuid4()), "campaign": of.id, "kind": kind, "made_at": datetime.now(UTC), "report": dict(report)}
        connection.execute(REPORTS.insert().values(**values))
    if kind == FINAL:
        _move(ledger, of.id, (RUNNING, STOPPED), REPORTED)


def last_report(ledger: Ledger, of: Campaign, kind: str) -> dict[str, Any] | None:
    """The newest report of a kind, None before the first."""
    mine = (REPORTS.c.campaign == of.id) & (REPORTS.c.kind == kind)
    with ledger.connection() as connection:
        found = connection.execute(sa.select(REPORTS.c.report).where(mine).order_by(REPORTS.c.made_at.desc()).limit(1)).scalar()
    return None if found is None else dict(found)


def _campaign(row: RowMapping) -> Campaign:
    return Campaign(row["id"], plan_of(row["plan"]), row["state"], row["created_at"], row["stopped_at"])


def _move(ledger: Ledger, key: str, from_states: tuple[str, ...], state: str) -> None:
    with ledger.connection() as connection:
        mine = (CAMPAIGNS.c.id == key) & CAMPAIGNS.c.state.in_(from_states)
        stopped = sa.func.coalesce(CAMPAIGNS.c.stopped_at, datetime.now(UTC))
        if connection.execute(CAMPAIGNS.update().where(mine).values(state=state, stopped_at=stopped)).rowcount:
            record(connection, f"campaign {state}", {"campaign": key})


def _require_running(connection: Connection, of: Campaign) -> None:
    state = connection.execute(sa.select(CAMPAIGNS.c.state).where(CAMPAIGNS.c.id == of.id)).scalar()
    if state != RUNNING:
        raise InvalidCampaign(f"The campaign is {state}, so nobody enters it any more. For other users log another campaign.")


def _enter(connection: Connection, of: Campaign, group: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write those rows of a group that are new, and count them. Returns how many they are."""
    written = connection.execute(_insert(connection, MEMBERS).on_conflict_do_nothing(), rows, execution_options={"preserve_rowcount": True})
    if new := written.rowcount:
        size = _insert(connection, SIZES).values(campaign=of.id, group=group, members=new)
        added = {"members": SIZES.c.members + new}
        connection.execute(size.on_conflict_do_update(index_elements=["campaign", "group"], set_=added))
    return new


def _insert(connection: Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
