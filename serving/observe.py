"""What can be seen of the service from outside: request ids, Prometheus metrics."""

from __future__ import annotations

import os
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REGISTRY = CollectorRegistry()
REQUESTS = Counter("encore_requests", "Requests by route and status.", ["route", "status"], registry=REGISTRY)
SECONDS = Histogram(
    "encore_request_seconds", "Time to answer by route.", ["route"], registry=REGISTRY, buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 2)
)
SCORES = Counter("encore_scores", "Scores given by task, status and model version.", ["task", "status", "version"], registry=REGISTRY)
RELEASE_AGE = Gauge("encore_release_age_seconds", "Time since the scores in service were made.", registry=REGISTRY)
SWAPS = Gauge("encore_release_swaps", "Releases taken up since the start.", registry=REGISTRY)
READY = Gauge("encore_ready", "1 when a release is in service and fresh.", registry=REGISTRY)


class Observed:
    """Counts and times every request and gives it an id, which the answer carries."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        # Looking a label up costs as much as counting; the route's own patterns are few.
        self._counters: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status, request_id = time.perf_counter(), 500, os.urandom(16).hex().encode()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            # The route's pattern, never the path: a path holds user ids.
            route = getattr(scope.get("route"), "path", "none")
            if (route, status) not in self._counters:
                self._counters[route, status] = REQUESTS.labels(route, str(status)), SECONDS.labels(route)
            requests, seconds = self._counters[route, status]
            requests.inc()
            seconds.observe(time.perf_counter() - began)
