"""The tables as they were before there were revisions. A ledger of that time has them already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "r0001", None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "audiences",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(200), unique=True, nullable=False),
        sa.Column("rule", sa.JSON, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(50), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("result", sa.JSON),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("finished_at", moment),
        if_not_exists=True,
    )
    op.create_index("ix_jobs_state", "jobs", ["state"], if_not_exists=True)
    op.create_table(
        "lookalikes",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("job", sa.String(36), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        if_not_exists=True,
    )
