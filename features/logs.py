"""Progress and log lines: rich on a terminal, one JSON object a line everywhere else."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

log = logging.getLogger("encore")
console = Console(stderr=True)
announced: ContextVar[Callable[[str], object]] = ContextVar("announced", default=lambda message: None)  # told of each step as it begins


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, message and the facts that came with it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class Plain(logging.Formatter):
    """A line for a person: the message and its facts."""

    def format(self, record: logging.LogRecord) -> str:
        facts = "  ".join(f"{name}={_readable(value)}" for name, value in getattr(record, "facts", {}).items())
        text = f"{record.getMessage()}  {facts}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def set_up_logs() -> None:
    """Send Encore's log to standard error, once per process, in the form that suits what standard error is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain() if console.is_terminal else JsonLines())
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


@contextmanager
def step(message: str, **facts: Any) -> Iterator[dict[str, Any]]:
    """Announce a piece of work, show that it runs, and log its facts and seconds when it ends.

    The block may add to the dictionary it is given; what it adds is logged at the end.
    """
    found: dict[str, Any] = dict(facts)
    began = time.monotonic()
    announced.get()(message)
    if console.is_terminal:
        with console.status(message):
            yield found
    else:
        yield found
    found["seconds"] = round(time.monotonic() - began, 2)
    log.info(message, extra={"facts": found})


def _readable(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
