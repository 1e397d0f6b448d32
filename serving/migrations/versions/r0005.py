"""Campaigns, who was in which group, and what was found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "r0005", "r0004"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "campaigns",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(200), unique=True, nullable=False),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("stopped_at", moment),
    )
    op.create_table(
        "campaign_members",
        sa.Column("campaign", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(256), primary_key=True),
        sa.Column("group", sa.String(20), nullable=False),
        sa.Column("chance", sa.Float),
        sa.Column("expected", sa.Float),
        sa.Column("percentile", sa.Float),
        sa.Column("release", sa.String(100)),
        sa.Column("as_of", sa.Date),
        sa.Column("entered_on", sa.Date, nullable=False),
        sa.Column("ends_on", sa.Date, nullable=False),
        sa.Column("entered_at", moment, nullable=False),
    )
    op.create_index("ix_campaign_members_user_id", "campaign_members", ["user_id"])
    op.create_index("ix_campaign_members_group", "campaign_members", ["campaign", "group", "ends_on"])
    op.create_table(
        "campaign_reports",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("campaign", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("made_at", moment, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
    )
    op.create_index("ix_campaign_reports_campaign", "campaign_reports", ["campaign"])
