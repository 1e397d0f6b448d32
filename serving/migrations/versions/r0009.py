"""Activities of journey tools."""

from __future__ import annotations

revision, down_revision = "r0009", "r0008"


def upgrade() -> None:
    """Nothing yet."""
