"""Campaigns, who was in which group, and what was found."""

from __future__ import annotations

revision, down_revision = "r0005", "r0004"


def upgrade() -> None:
    """Nothing yet."""
