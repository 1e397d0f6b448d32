"""Events for other systems, and deliveries."""

from __future__ import annotations

revision, down_revision = "r0007", "r0006"


def upgrade() -> None:
    """Nothing yet."""
