"""Answers kept for idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "r0003", "r0002"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("effect", sa.String(36), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("claimed_at", moment, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("body", sa.LargeBinary),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
