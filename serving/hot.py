"""The short way to the commonest question: a known prediction's score of one user, with nothing else asked."""

from __future__ import annotations

from types import SimpleNamespace

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.score_json import Answers

PREFIX = "/v1/scores/"
ROUTE = SimpleNamespace(path="/v1/scores/{task}/{user_id:any}")  # what metrics call it, on either way


class HotScores:
    """Answers `GET /v1/scores/{task}/{user_id}` with the bytes that the documented route would give, without its detours.

    It is the innermost of the middlewares: limits and metrics count here, too. Whatever is not the plain case (no release, an unknown
    prediction, reasons) goes on to the documented route.
    """

    def __init__(self, app: ASGIApp, answers: Answers) -> None:
        self.app, self.answers = app, answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"] or not scope["path"].startswith(PREFIX):
            return await self.app(scope, receive, send)
        task, slash, user_id = scope["path"][len(PREFIX) :].partition("/")
        answers = self.answers.ready(task) if slash else None
        if answers is None:
            return await self.app(scope, receive, send)
        body = answers.one(user_id)
        scope["route"] = ROUTE
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        return await send({"type": "http.response.body", "body": body})
