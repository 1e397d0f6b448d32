"""How much is let in: requests per second of each key, and requests at once. What is too much is answered at once, never queued."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.border.keys import Key
from serving.border.problems import problem
from serving.journeys.activity import ACTIVITIES, EXECUTE, OPEN
from serving.journeys.answer import PREFIX, refused
from serving.metrics import REGISTRY

REFUSED = Counter("encore_refused", "Requests not let in, by reason; journeys among them got a fallback.", ["reason"], registry=REGISTRY)
# Threads hold up the event loop, which wants the same interpreter lock. Under three times the load that a process can do, on a machine busy with
# other work, 8 of them made a probe wait for seconds, 4 for 110 ms, 2 for 70; turns of 5 ms, Python's own, nearly doubled that. The price: two
# threads answered a third fewer slow requests than four. More workers are the way to more of those.
THREADS = 2  # that work at once, on what is not quick
TURN = 0.001  # seconds that one may keep the others waiting
SLOW_SHARE = 4  # one in so many of the requests at once may be a slow one, so that quick ones always find room
PROBES = ("/health/", "/v2/health/")
QUICK = ("/v1/scores/", "/v1/users/")
LIMITED = "This API key sends more than its {rate:g} requests a second. Slow down, or have a key made that may: encore keys create NAME --per-second N"
OVERLOADED = "The service is answering as many requests at once as it may. Come back shortly."


def is_journey(scope: Mapping[str, Any]) -> bool:
    """Whether a contact waits for the answer. The other calls of Journey Builder are an administrator's, who is better told."""
    path = str(scope["path"])
    return path == EXECUTE or (path.startswith(PREFIX) and path not in OPEN and path != ACTIVITIES)


def answer_journey(scope: Mapping[str, Any], status: str) -> Response:
    """The branch `fallback`, with 200: anything else would throw the contact out of the journey."""
    path = str(scope["path"])
    body = {"branchResult": "fallback", "status": status} if path == EXECUTE else refused(path, scope["query_string"], status)
    return Response(to_json(body), media_type="application/json")


class Limited:
    """Lets in what the service can answer, and refuses the rest with 429 and `Retry-After` (journeys: 200 with a fallback).

    Probes are never refused. All counts are of this process: with several workers each has its share of a key's rate.

    Args:
        per_second: requests of a key that says nothing else; workers: processes that share them; most_at_once: requests in this process.
    """

    def __init__(self, app: ASGIApp, per_second: float, workers: int, most_at_once: int) -> None:
        self.app, self.per_second, self.workers = app, per_second, workers
        self.most, self.most_slow = most_at_once, max(1, most_at_once // SLOW_SHARE)
        self.at_once = self.slow = 0
        self._buckets: dict[str, Bucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(PROBES):
            return await self.app(scope, receive, send)
        key: Key | None = scope.get("key")
        if key:
            bucket = self._buckets.get(key.id) or self._bucket(key)
            if wait := bucket.take(time.monotonic()):
                return await _refuse("LIMITED", LIMITED.format(rate=bucket.rate * self.workers), wait, scope, receive, send)
        slow = not is_quick(scope)
        if self.at_once >= self.most or (slow and self.slow >= self.most_slow):
            return await _refuse("OVERLOADED", OVERLOADED, 1.0, scope, receive, send)
        self.at_once += 1
        self.slow += slow
        try:
            await self.app(scope, receive, send)
        finally:  # answered, failed or gone
            self.at_once -= 1
            self.slow -= slow

    def _bucket(self, key: Key) -> Bucket:
        self._buckets[key.id] = Bucket((key.per_second or self.per_second) / self.workers)
        return self._buckets[key.id]


class Bucket:
    """A token bucket: a second's worth of requests (at least one) may come together, and it fills at the rate.

    Args:
        rate: tokens a second.
    """

    __slots__ = ("_at", "_most", "_tokens", "rate")

    def __init__(self, rate: float) -> None:
        self.rate, self._most = rate, max(rate, 1.0)
        self._tokens, self._at = self._most, -math.inf

    def take(self, now: float) -> float:
        """Take a token; returns 0, or the seconds until there is one."""
        self._tokens = min(self._most, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self.rate


def is_quick(scope: Scope) -> bool:
    """Whether a request is a look-up, which takes no thread and well under a millisecond."""
    if is_journey(scope):
        return True
    if scope["method"] == "GET":
        return scope["path"].startswith(QUICK) and not scope["query_string"]
    return bool(scope["path"].endswith(":vector"))


async def _refuse(status: str, words: str, wait: float, scope: Scope, receive: Receive, send: Send) -> None:
    REFUSED.labels(status.lower()).inc()
    if is_journey(scope):
        return await answer_journey(scope, status)(scope, receive, send)
    answer = problem(429, status.lower(), words)
    answer.headers["Retry-After"] = str(math.ceil(wait))
    return await answer(scope, receive, send)
