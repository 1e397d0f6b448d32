"""What can be seen of the service from outside: an id for every request, its line in the access log, its part in the metrics."""

from __future__ import annotations

import os
import re
import time
from enum import StrEnum

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from features.logs import log
from serving.border.headers import secured
from serving.border.problems import problem
from serving.lines import ACCESS
from serving.metrics import REQUESTS, SECONDS

WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,64}")
FAULT = "A fault of the service; it was logged with the id in X-Request-Id."


class AccessLog(StrEnum):
    """Which requests have a line in the access log."""

    OFF = "off"
    ERRORS = "errors"  # those answered 400 and above
    ALL = "all"


class Observed:
    """The outermost middleware: what it does not see, nobody does.

    It takes the caller's request id or makes one, counts and times the request, adds the headers that every answer has, answers for a
    fault of the service, and writes the access log: the route's pattern and never the path, which holds user ids; no address of a client.

    Args:
        access_log: which requests have a line.
    """

    def __init__(self, app: ASGIApp, access_log: AccessLog) -> None:
        self.app = app
        self.logged_from = {AccessLog.ALL: 0, AccessLog.ERRORS: 400, AccessLog.OFF: 1_000}[access_log]  # status
        # Looking a label up costs as much as counting; routes, methods and statuses are few.
        self._counters: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status, size, request_id = time.perf_counter(), 0, 0, _request_id(scope)

        async def observed(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*secured(message.get("headers", []), scope["path"]), (b"x-request-id", request_id)]
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except Exception as error:
            log.error("fault", exc_info=error, extra={"facts": {"request_id": request_id.decode()}})
            if status:  # half an answer is out: the connection must break
                raise
            await problem(500, "fault", FAULT)(scope, receive, observed)
        finally:
            self._note(scope, status or 499, size, request_id, time.perf_counter() - began)  # 499: nobody waited for the answer

    def _note(self, scope: Scope, status: int, size: int, request_id: bytes, seconds: float) -> None:
        route, method = getattr(scope.get("route"), "path_format", "none"), scope["method"]
        if (route, method, status) not in self._counters:
            self._counters[route, method, status] = REQUESTS.labels(route, method, str(status)), SECONDS.labels(route)
        requests, timed = self._counters[route, method, status]
        requests.inc()
        timed.observe(seconds)
        if status >= self.logged_from:
            facts = {"route": route, "method": method, "status": status, "ms": round(seconds * 1e3, 2), "bytes": size}
            key = scope.get("key")
            ACCESS.info("request", extra={"facts": {**facts, "key": key.id if key else None, "request_id": request_id.decode()}})


def _request_id(scope: Scope) -> bytes:
    """The caller's id of the request if it is one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return bytes(value) if WELL_FORMED.fullmatch(value) else os.urandom(16).hex().encode()
    return os.urandom(16).hex().encode()
