"""The audit log, and lists of users who are kept out."""

from __future__ import annotations

revision, down_revision = "r0008", "r0007"


def upgrade() -> None:
    """Nothing yet."""
