"""Sizes of campaigns' groups, counted once for those who are in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "r0010", "r0009"


def upgrade() -> None:
    op.create_table(
        "campaign_sizes",
        sa.Column("campaign", sa.String(36), primary_key=True),
        sa.Column("group", sa.String(20), primary_key=True),
        sa.Column("members", sa.Integer, nullable=False),
    )
    op.execute('insert into campaign_sizes (campaign, "group", members) select campaign, "group", count(*) from campaign_members group by campaign, "group"')
