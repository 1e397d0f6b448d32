"""Realised quality of score runs."""

from __future__ import annotations

revision, down_revision = "r0006", "r0005"


def upgrade() -> None:
    """Nothing yet."""
