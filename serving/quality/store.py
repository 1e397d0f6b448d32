"""What the ledger keeps of realised quality: which runs there are, every judgement ever made of them, what drifted in each release.

Judgements are append-only: late data make a further one, and the earlier ones stay. No row is about a user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from features.files import digest_of
from serving.ledger import METADATA, Ledger

RUNS = sa.Table(
    "quality_runs",
    METADATA,
    sa.Column("run", sa.String(100), primary_key=True),
    sa.Column("task", sa.String(100), primary_key=True),
    sa.Column("release", sa.String(100), nullable=False),
    sa.Column("version", sa.String(40), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("as_of", sa.Date, nullable=False),
    sa.Column("closes", sa.Date, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
)
JUDGEMENTS = sa.Table(
    "quality_judgements",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("run", sa.String(100), nullable=False, index=True),
    sa.Column("task", sa.String(100), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("window", sa.String(64), nullable=False),
    sa.Column("content", sa.String(64), nullable=False),
    sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("alerts", sa.JSON, nullable=False),
    sa.Column("tracked_at", sa.DateTime(timezone=True)),
)
DRIFTS = sa.Table(
    "quality_drifts",
    METADATA,
    sa.Column("release", sa.String(100), primary_key=True),
    sa.Column("task", sa.String(100), primary_key=True),
    sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("alerts", sa.JSON, nullable=False),
)


@dataclass(frozen=True)
class NotedRun:
    """One prediction of one run. closes: the first day on which all that it was about is over."""

    run: str
    task: str
    release: str
    version: str
    kind: str
    as_of: date
    closes: date
    digest: str
    noted_at: datetime


@dataclass(frozen=True)
class Judgement:
    """What a run's prediction turned out to be worth, by what the log said at one moment.

    number: of the judgement, from 1; late data make a further one. window, content: digests of what the log said of the time, and of the answers.
    facts: stratum -> what was measured, and `drift`. alerts: rule, text and advice of what is surely worse than it was expected to be.
    """

    id: str
    run: str
    task: str
    number: int
    window: str
    content: str
    judged_at: datetime
    facts: Mapping[str, Any]
    alerts: Sequence[Mapping[str, str]]
    tracked_at: datetime | None = None


@dataclass(frozen=True)
class NotedDrift:
    """How far what a release serves lies from what its model was trained on."""

    release: str
    task: str
    measured_at: datetime
    facts: Mapping[str, Any]
    alerts: Sequence[Mapping[str, str]]


def noted_runs(ledger: Ledger) -> dict[tuple[str, str], NotedRun]:
    """Run and task -> what was noted of it, by the date of its features."""
    with ledger.connection() as connection:
        rows = connection.execute(RUNS.select().order_by(RUNS.c.as_of, RUNS.c.run, RUNS.c.task)).mappings()
        return {(row["run"], row["task"]): NotedRun(**row) for row in rows}


def note_runs(ledger: Ledger, found: Sequence[NotedRun]) -> None:
    """Note runs that are not known yet."""
    with ledger.connection() as connection:
        if found:
            connection.execute(RUNS.insert(), [vars(run) for run in found])


def latest_judgements(ledger: Ledger, task: str | None = None) -> dict[tuple[str, str], Judgement]:
    """Run and task -> its last judgement, of one prediction or of all."""
    return {(one.run, one.task): one for one in judgements(ledger, task)}


def judgements(ledger: Ledger, task: str | None = None) -> list[Judgement]:
    """Every judgement, of one prediction or of all: by date of the features, and of one run in the order in which they were made."""
    chosen = sa.select(JUDGEMENTS).join(RUNS, (RUNS.c.run == JUDGEMENTS.c.run) & (RUNS.c.task == JUDGEMENTS.c.task))
    chosen = chosen.order_by(RUNS.c.as_of, RUNS.c.run, RUNS.c.task, JUDGEMENTS.c.number)
    with ledger.connection() as connection:
        rows = connection.execute(chosen.where(JUDGEMENTS.c.task == task) if task is not None else chosen).mappings()
        return [Judgement(**row) for row in rows]


def append(connection: Connection, before: Judgement | None, judgement: Judgement) -> Judgement:
    """Keep a judgement after the one before it."""
    number = before.number + 1 if before else 1
    named = digest_of([judgement.run, judgement.task, number])[:32]
    kept = Judgement(**{**vars(judgement), "id": named, "number": number})
    connection.execute(JUDGEMENTS.insert().values(**vars(kept)))
    return kept


def note_tracked(ledger: Ledger, judgement: Judgement) -> None:
    """Remember that MLflow has it; the judgement itself stays as it is."""
    with ledger.connection() as connection:
        connection.execute(JUDGEMENTS.update().where(JUDGEMENTS.c.id == judgement.id).values(tracked_at=datetime.now(UTC)))


def drifts(ledger: Ledger) -> dict[tuple[str, str], NotedDrift]:
    """Release and task -> its drift."""
    with ledger.connection() as connection:
        return {(row["release"], row["task"]): NotedDrift(**row) for row in connection.execute(DRIFTS.select()).mappings()}


def note_drift(connection: Connection, drift: NotedDrift) -> None:
    connection.execute(DRIFTS.insert().values(**vars(drift)))
