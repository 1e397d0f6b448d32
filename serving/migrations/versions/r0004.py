"""Audiences, who is in them, and how they were cut."""

from __future__ import annotations

revision, down_revision = "r0004", "r0003"


def upgrade() -> None:
    """Nothing yet."""
