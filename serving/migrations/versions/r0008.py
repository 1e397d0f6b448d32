"""The audit log, and lists of users who are kept out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "r0008", "r0007"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "audit_log",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("what", sa.String(100), nullable=False),
        sa.Column("facts", sa.JSON, nullable=False),
        sa.Column("before", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    op.create_table(
        "suppressions",
        sa.Column("mark", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("since", moment, nullable=False),
        sa.Column("lifted_at", moment),
    )
