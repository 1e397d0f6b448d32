"""What the API's description says before and around its operations."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from serving.border.limits import is_journey

DESCRIPTION = """
Scores of a shop's users, and audiences cut from them.

**Scores.** Every state of a user is an answer with status 200: look at `status`, which is `OK`, `STALE` (scored too long ago),
`NOT_ELIGIBLE` (known, but not one of those the question is about), `NOT_FOUND`, `SUPPRESSED` or `INVALID` (no id that anybody can have).
`/v1/journeys/...` answers 200 in every state, with `branch: "fallback"` when nothing can be said.

**Errors** are `application/problem+json` (RFC 9457) and never repeat what was sent. `type` is for programs, `detail` for people, `errors` says
what is wrong in which field. `429` and `503` come with `Retry-After`; no other 5xx is part of this API.

**Keys.** As soon as an API key exists, every request needs one: `401` without, `403` with one of another scope.

**Sending again.** Requests that create something take an `Idempotency-Key`: the same request with the same key takes effect once, and gets
the same answer for 24 hours, with `Idempotency-Replayed: true`. While the first is still at work the answer is `409`; with another request,
`422`. Everything else may be sent again as it is.

**Requests.** Bodies are JSON of at most 1,000,000 bytes (`413`). NaN and Infinity are not numbers, unknown fields are refused, and of a
field that is given twice the last one counts. A request that takes longer than half a minute to arrive is answered `408`, one with more than
64 KB of headers `431`. `X-Request-Id`, up to 64 letters, digits, dots, dashes and underscores, comes back in the answer; without one
the answer has a new one. The service's logs have it, too.
"""

TAGS = [
    {"name": "scores", "description": "What the models say of users: one, many, or somebody described by a vector or by events."},
    {"name": "audiences", "description": "The best users of a prediction, how many of them will do it, and who they are."},
    {"name": "campaigns", "description": "What was done to whom, who was kept out by lot, and what that changed."},
    {"name": "look-alikes", "description": "Users who are like those of a list."},
    {"name": "jobs", "description": "Work that takes longer than an answer: exports, look-alikes, deletions."},
    {"name": "journeys", "description": "For templates of journey tools: one flat answer, never an error."},
    {"name": "models", "description": "What is in service, how good it is, and what could be trained on the data."},
    {"name": "privacy", "description": "Deletion, export and suppression of users."},
    {"name": "open inference protocol", "description": "The models for tools that speak KServe's V2 protocol."},
    {"name": "health", "description": "For probes and Prometheus."},
]


def operation_id(route: APIRoute) -> str:
    """The function's name: generated clients call their functions so."""
    return route.name


def describe_journeys(app: FastAPI) -> None:
    """Journeys have no error for a request that is not valid, though FastAPI describes one for every route."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        document = describe()
        for path, operations in document["paths"].items():
            if is_journey({"path": path}):
                for operation in operations.values():
                    operation["responses"].pop("422", None)
        return document

    app.openapi = described  # type: ignore[method-assign]
