"""Log lines that hold up no answer: a thread writes them, and what cannot be written is dropped and counted."""

from __future__ import annotations

import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO

from pydantic_core import to_json

from features.logs import JsonLines, log
from serving.metrics import DROPPED

ACCESS = logging.getLogger("encore.access")
ACCESS.propagate = False
MOST_WAITING = 10_000  # lines
PAUSE = 0.02  # seconds in which lines gather: to wake a thread for each of them would cost the request more than the line
PATIENCE = 1_000  # milliseconds until a reader that reads nothing counts as gone
PIECE = select.PIPE_BUF  # bytes that a pipe takes at once, where it takes any


class AccessLines(logging.Formatter):
    """One JSON object a line, as `JsonLines` has it, in a tenth of its time: this is done while somebody waits for a score."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return to_json({"time": moment, "level": "info", "message": record.msg, **getattr(record, "facts", {})}).decode()


class Background(logging.Handler):
    """Makes a record's line and leaves it to a thread, which never waits long: a full disk, a closed pipe or one that nobody reads
    costs the lines.

    Args:
        descriptor: of an open file, pipe or terminal. name: of the log, for the metrics.
    """

    def __init__(self, descriptor: int, name: str, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._descriptor, self._dropped = descriptor, DROPPED.labels(name)
        self._waiting: deque[bytes] = deque()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._stuck = self._torn = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name=f"{name}-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        else:
            self._dropped.inc()

    def stop(self) -> None:
        """Write what waits, as far as it can be written, and end the thread."""
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._stop.wait(PAUSE):
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        while self._waiting:
            lines = [self._waiting.popleft()]
            size = len(lines[0])
            while self._waiting and (size := size + len(self._waiting[0])) <= PIECE:
                lines.append(self._waiting.popleft())
            try:
                self._write_whole(b"".join(lines))
            except OSError as error:
                self._stuck = isinstance(error, BlockingIOError)
                self._dropped.inc(len(lines))

    def _write_whole(self, text: bytes) -> None:
        rest = memoryview(b"\n" + text if self._torn else text)
        while rest:
            # After lines that were waited for in vain the next ones are not, until somebody reads again.
            if not self._poll.poll(0 if self._stuck else PATIENCE):
                raise BlockingIOError
            rest = rest[os.write(self._descriptor, rest[:PIECE]) :]
            self._stuck, self._torn = False, bool(rest)


@contextmanager
def lines_in_background() -> Iterator[None]:
    """As long as the block runs, threads write the service's log (to standard error) and the access log (to standard output)."""
    logs = {log: logging.INFO, ACCESS: logging.INFO, logging.getLogger("uvicorn"): logging.WARNING}
    before = {logger: (logger.handlers[:], logger.level) for logger in logs}
    formatter = next((handler.formatter for handler in log.handlers if handler.formatter), None) or JsonLines()
    service, stop_service = _in_background("service", sys.stderr, formatter)
    access, stop_access = _in_background("access", sys.stdout, AccessLines())
    for logger, level in logs.items():
        logger.handlers[:], logger.propagate = [access if logger is ACCESS else service], False
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, (handlers, level) in before.items():
            logger.handlers[:] = handlers
            logger.setLevel(level)
        stop_service()
        stop_access()


def _in_background(name: str, stream: TextIO | None, formatter: logging.Formatter) -> tuple[logging.Handler, Callable[[], None]]:
    try:
        descriptor = stream.fileno() if stream else None
    except (OSError, ValueError):  # no file at all, or closed meanwhile
        descriptor = None
    if descriptor is None:  # its number may be another file's by now, so nothing may be written there
        return logging.NullHandler(), lambda: None
    handler = Background(descriptor, name, formatter)
    return handler, handler.stop
