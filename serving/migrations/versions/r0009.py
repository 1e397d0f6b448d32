"""Activities of journey tools."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "r0009", "r0008"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "journey_activities",
        sa.Column("activity", sa.String(64), primary_key=True),
        sa.Column("journey", sa.String(64), primary_key=True),
        sa.Column("audience", sa.String(200), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("saved_at", moment, nullable=False),
        sa.Column("changed_at", moment, nullable=False),
    )
