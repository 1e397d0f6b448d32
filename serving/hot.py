"""The short way to the commonest questions: what a known prediction says of one user, of many, of one vector or of events."""

from __future__ import annotations

import time
from types import SimpleNamespace

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from features.errors import EncoreError
from serving.border.headers import Headers, conditional, plain
from serving.border.limits import is_journey
from serving.event_schemas import EventsRequest
from serving.events import PostedEvents
from serving.journeys.answer import PREFIX as JOURNEYS
from serving.schemas import ScoreRequest, VectorRequest
from serving.score_json import Answers, ScoreJson
from serving.vector import score_vector

JOURNEY_ROUTE = SimpleNamespace(path_format="/v1/journeys/{audience}/{user_id}")
PREFIX, VECTOR, EVENTS, REASONS = "/v1/scores/", ":vector", ":events", b"reasons=true"
# What the metrics call them.
USER_ROUTE, VECTOR_ROUTE = SimpleNamespace(path_format="/v1/scores/{task}/{user_id}"), SimpleNamespace(path_format="/v1/scores/{task}:vector")
MANY_ROUTE, EVENTS_ROUTE = SimpleNamespace(path_format="/v1/scores/{task}"), SimpleNamespace(path_format="/v1/scores/{task}:events")
SHORT_BODY = 1_000_000  # bytes; a thousand ids or features take a tenth, and nothing larger is let in


class HotScores:
    """Answers `GET /v1/journeys/{audience}/{user_id}`, `GET /v1/scores/{task}/{user_id}`, `POST /v1/scores/{task}`, `...{task}:vector` and
    `...{task}:events` as the documented routes would, without their detours.

    It is the innermost of the middlewares: limits and metrics count here, too. Whatever is not the plain case (no release, an unknown
    prediction, reasons of many, a request that is not valid, many scores to be compressed) goes on to the documented route.
    """

    def __init__(self, app: ASGIApp, answers: Answers, events: PostedEvents) -> None:
        self.app, self.answers, self.events = app, answers, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and is_journey(scope):
            audience, slash, user_id = scope["path"][len(JOURNEYS) :].partition("/")
            if audience and slash and user_id:
                scope["route"], state = JOURNEY_ROUTE, scope["app"].state
                body, headers = await state.journeys.answer(audience, user_id, scope["query_string"], state.ledger)
                return await _send((200, [*plain(body), *headers], body), send)
        if scope["type"] != "http" or scope["query_string"] not in (b"", REASONS) or not scope["path"].startswith(PREFIX):
            return await self.app(scope, receive, send)
        task, slash, user_id = scope["path"][len(PREFIX) :].partition("/")
        if scope["method"] == "GET" and slash and (answers := self.answers.ready(task)):
            scope["route"] = USER_ROUTE
            fresh = answers.scorer.expires_at.timestamp() - time.time()
            if (reasons := scope["query_string"] == REASONS) and not answers.is_light:
                found = await run_in_threadpool(answers.one, user_id, reasons=True)
            else:
                found = answers.one(user_id, reasons=reasons)
            return await _send(conditional(found, fresh, scope["headers"]), send)
        if scope["method"] == "POST" and not slash and _is_short_json(scope):
            name, colon, what = task.partition(":")
            if (answers := self.answers.ready(name)) and (colon or not _wants_gzip(scope)):
                return await self._posted(answers, colon + what, scope, receive, send)
        return await self.app(scope, receive, send)

    async def _posted(self, answers: ScoreJson, what: str, scope: Scope, receive: Receive, send: Send) -> None:
        read: list[Message] = [await receive()]
        while read[-1].get("more_body"):
            read.append(await receive())
        body = b"".join([message.get("body", b"") for message in read])
        try:
            route, found = await self._found(answers, what, body)
        except (ValidationError, EncoreError):
            found = None  # the documented route says what is wrong
        if found is not None:
            scope["route"] = route
            return await _send((200, plain(found), found), send)

        async def again() -> Message:
            return read.pop(0) if read else await receive()

        return await self.app(scope, again, send)

    async def _found(self, answers: ScoreJson, what: str, body: bytes) -> tuple[SimpleNamespace, bytes | None]:
        if what == VECTOR:
            return VECTOR_ROUTE, _of_vector(answers, body)
        if what == EVENTS:
            return EVENTS_ROUTE, await run_in_threadpool(self.events.score, answers.task, EventsRequest.model_validate_json(body))
        return MANY_ROUTE, None if what else _of_many(answers, body)


def _of_vector(answers: ScoreJson, body: bytes) -> bytes | None:
    request = VectorRequest.model_validate_json(body)
    return None if request.reasons else to_json(vars(score_vector(answers.scorer, answers.task, request.features)))


def _of_many(answers: ScoreJson, body: bytes) -> bytes | None:
    request = ScoreRequest.model_validate_json(body)
    return None if request.reasons else answers.many(request.user_ids)


def _is_short_json(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    return headers.get(b"content-type") == b"application/json" and length.isdigit() and len(length) < 8 and int(length) <= SHORT_BODY


def _wants_gzip(scope: Scope) -> bool:
    return any(name == b"accept-encoding" and b"gzip" in value for name, value in scope["headers"])


async def _send(answer: tuple[int, Headers, bytes], send: Send) -> None:
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
