"""Audiences live or frozen, their hold-out, and who is in them since when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "r0004", "r0003"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.add_column("audiences", sa.Column("kind", sa.String(10), nullable=False, server_default="live"))
    op.add_column("audiences", sa.Column("shares", sa.JSON))
    op.add_column("audiences", sa.Column("salt", sa.String(200)))
    op.add_column("audiences", sa.Column("release", sa.String(64)))
    op.add_column("audiences", sa.Column("refreshed_at", moment))
    op.create_table(
        "audience_members",
        sa.Column("audience", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(256), primary_key=True),
        sa.Column("entered_at", moment, primary_key=True),
        sa.Column("left_at", moment),
        sa.Column("group", sa.String(20)),
    )
