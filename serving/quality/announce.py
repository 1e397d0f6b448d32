"""What other systems are told of quality."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from sqlalchemy.engine import Connection

BELOW, DRIFTED = "quality.below_expectation", "quality.drifted"


def emit(connection: Connection, type: str, subject: str, data: Mapping[str, Any], day: date) -> None:
    """Put an event into the outbox, in the transaction that keeps what it is about: both are there or none."""
    from serving.destinations.outbox import emit as keep

    keep(connection, type, subject, data, day)
