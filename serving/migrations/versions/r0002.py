"""API keys; jobs that a worker holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "r0002", "r0001"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("place", sa.Integer),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(100), nullable=False),
        sa.Column("per_second", sa.Float),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("revoked_at", moment),
        sa.Column("last_used_at", moment),
        sa.UniqueConstraint("name", "place", name="two_keys_at_a_time"),
    )
    op.add_column("jobs", sa.Column("worker", sa.String(200)))
    op.add_column("jobs", sa.Column("tries", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("renewed_at", sa.Float))
