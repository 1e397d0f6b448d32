"""Realised quality of score runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "r0006", "r0005"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "quality_runs",
        sa.Column("run", sa.String(100), primary_key=True),
        sa.Column("task", sa.String(100), primary_key=True),
        sa.Column("release", sa.String(100), nullable=False),
        sa.Column("version", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("as_of", sa.Date, nullable=False),
        sa.Column("closes", sa.Date, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("noted_at", moment, nullable=False),
    )
    op.create_table(
        "quality_judgements",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("run", sa.String(100), nullable=False),
        sa.Column("task", sa.String(100), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("window", sa.String(64), nullable=False),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("judged_at", moment, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("alerts", sa.JSON, nullable=False),
        sa.Column("tracked_at", moment),
    )
    op.create_index("ix_quality_judgements_run", "quality_judgements", ["run"])
    op.create_table(
        "quality_drifts",
        sa.Column("release", sa.String(100), primary_key=True),
        sa.Column("task", sa.String(100), primary_key=True),
        sa.Column("measured_at", moment, nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("alerts", sa.JSON, nullable=False),
    )
