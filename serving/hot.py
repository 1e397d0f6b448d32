"""The short way to the commonest questions: what a known prediction says of one user, or of one vector, with nothing else asked."""

from __future__ import annotations

from types import SimpleNamespace

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.schemas import VectorRequest
from serving.score_json import Answers
from serving.vector import UnknownFeature, score_vector

PREFIX, VECTOR = "/v1/scores/", ":vector"
USER_ROUTE, VECTOR_ROUTE = SimpleNamespace(path="/v1/scores/{task}/{user_id:any}"), SimpleNamespace(path="/v1/scores/{task}:vector")  # for the metrics
SHORT_BODY = 100_000  # bytes of a vector: a thousand features


class HotScores:
    """Answers `GET /v1/scores/{task}/{user_id}` and `POST /v1/scores/{task}:vector` as the documented routes would, without their detours.

    It is the innermost of the middlewares: limits and metrics count here, too. Whatever is not the plain case (no release, an unknown
    prediction, reasons, a request that is not valid) goes on to the documented route.
    """

    def __init__(self, app: ASGIApp, answers: Answers) -> None:
        self.app, self.answers = app, answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["query_string"] or not scope["path"].startswith(PREFIX):
            return await self.app(scope, receive, send)
        task, slash, user_id = scope["path"][len(PREFIX) :].partition("/")
        if scope["method"] == "GET" and slash and (answers := self.answers.ready(task)):
            scope["route"] = USER_ROUTE
            return await _send(answers.one(user_id), send)
        if scope["method"] == "POST" and not slash and task.endswith(VECTOR) and _is_short_json(scope):
            return await self._vector(task.removesuffix(VECTOR), scope, receive, send)
        return await self.app(scope, receive, send)

    async def _vector(self, task: str, scope: Scope, receive: Receive, send: Send) -> None:
        read: list[Message] = [await receive()]
        while read[-1].get("more_body"):
            read.append(await receive())
        body, answers = b"".join([message.get("body", b"") for message in read]), self.answers.ready(task)
        try:
            request = VectorRequest.model_validate_json(body)
            if answers and not request.reasons:
                found = to_json(vars(score_vector(answers.scorer, task, request.features)))
                scope["route"] = VECTOR_ROUTE
                return await _send(found, send)
        except (ValidationError, UnknownFeature):
            pass  # the documented route says what is wrong

        async def again() -> Message:
            return read.pop(0) if read else await receive()

        return await self.app(scope, again, send)


def _is_short_json(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    return headers.get(b"content-type") == b"application/json" and length.isdigit() and len(length) < 7 and int(length) <= SHORT_BODY


async def _send(body: bytes, send: Send) -> None:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
