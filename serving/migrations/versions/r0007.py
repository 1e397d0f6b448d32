"""Events for other systems, and deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "r0007", "r0006"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "export_trials",
        sa.Column("definition", sa.String(64), primary_key=True),
        sa.Column("export", sa.String(50), nullable=False),
        sa.Column("tried_at", moment, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("export", sa.String(50), nullable=False),
        sa.Column("definition", sa.String(64), nullable=False),
        sa.Column("before", sa.Integer),
        sa.Column("release", sa.String(64), nullable=False),
        sa.Column("rule", sa.JSON),
        sa.Column("state", sa.String(20), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False, server_default="0") for name in ("next_row", "sent", "refused", "dead_bytes")),
        sa.Column("reason", sa.String(500)),
        sa.Column("started_at", moment, nullable=False),
        sa.Column("finished_at", moment),
    )
    op.create_index("ix_deliveries_export", "deliveries", ["export"])
    op.create_table(
        "outbox",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("user_id", sa.String(256)),
        sa.Column("topic", sa.String(200)),
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("reason", sa.String(200)),
        sa.Column("finished_at", moment),
    )
    op.create_index("ix_outbox_user_id", "outbox", ["user_id"])
    op.create_index("ix_outbox_state", "outbox", ["state"])
