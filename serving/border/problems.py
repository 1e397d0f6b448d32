"""Problems: how errors look over HTTP (RFC 9457). The one table from domain errors to status codes."""

from __future__ import annotations

import json
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from features.errors import EncoreError, NoRelease, UnknownName
from serving.audiences.rules import InvalidRule
from serving.border.idempotency import IdempotencyKeyInUse, IdempotencyKeyReused
from serving.campaigns.plan import InvalidCampaign, NoReport
from serving.events import UnusableEvents
from serving.journeys.token import NotSigned
from serving.ledger import LedgerUnavailable, NameTaken
from serving.schemas import Problem
from serving.schemas import Request as Body
from serving.vector import UnknownFeature

STATUS: dict[type[EncoreError], int] = {
    UnknownName: 404,
    UnknownFeature: 422,
    UnusableEvents: 422,
    NameTaken: 409,
    IdempotencyKeyInUse: 409,
    IdempotencyKeyReused: 422,
    InvalidRule: 422,
    InvalidCampaign: 422,
    NoReport: 404,
    NoRelease: 503,
    LedgerUnavailable: 503,
    NotSigned: 401,
}
RETRY_AFTER = {503: "30", 429: "1"}


def documented(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What the API description says of these errors: problem+json and nothing else."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {code: {"description": HTTPStatus(code).phrase, "content": content} for code in codes}


RESPONSES = documented(400, 404, 405, 413, 422, 503)


def problem(status: int, kind: str, detail: str, errors: list[dict[str, Any]] | None = None) -> Response:
    """An error as problem+json."""
    body = {"type": f"urn:encore:problem:{kind}", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if errors:
        body["errors"] = errors
    headers = {"Retry-After": RETRY_AFTER[status]} if status in RETRY_AFTER else {}
    # Plain ASCII: whatever text got into a message, it can be sent.
    return Response(json.dumps(body), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""

    @app.exception_handler(EncoreError)
    async def domain(request: Request, error: EncoreError) -> Response:
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
        answer = problem(status, _kind(type(error)), _words(error), _mistakes(error))
        if isinstance(error, IdempotencyKeyInUse):
            answer.headers["Retry-After"] = "1"
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # Neither `input` nor `ctx`: they repeat what was sent, which may be personal data.
        errors = [{"at": _place(found), "problem": _message(found)} for found in error.errors()]
        status = 400 if any(found["type"] == "json_invalid" for found in error.errors()) else 422
        return problem(status, "invalid-request", f"{len(errors)} problem(s) in the request; see errors.", errors[:50])

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        kind = HTTPStatus(error.status_code).name.lower().replace("_", "-").replace("request-entity", "content")
        answer = problem(error.status_code, kind, str(error.detail))
        answer.headers.update(error.headers or {})
        return answer


def _words(error: EncoreError) -> str:
    # Not the name that is unknown: it came from a path, which may hold personal data. A rule's mistakes are told one by one.
    if isinstance(error, InvalidRule) and error.mistakes:
        return str(error).partition("\n")[0]
    return str(error).replace(f" '{error.seen}'", "", 1) if isinstance(error, UnknownName) else str(error)


def _mistakes(error: EncoreError) -> list[dict[str, Any]] | None:
    return [{"at": one.at, "problem": one.public} for one in error.mistakes][:50] if isinstance(error, InvalidRule) else None


def _place(found: dict[str, Any]) -> str:
    """Where in the request, without names that are not ours: they were sent, too."""
    place = found["loc"][:-1] if found["type"] == "extra_forbidden" else found["loc"]
    if not place or place[0] != "body":
        return ".".join(str(part) for part in place)
    known = _fields(Body)
    return ".".join(str(part) if isinstance(part, int) or part in known else "*" for part in place)


@cache
def _fields(model: type[Body]) -> frozenset[str]:
    """Names of all fields that some request has."""
    return frozenset({"body", *model.model_fields}.union(*(_fields(kind) for kind in model.__subclasses__())))


def _message(found: dict[str, Any]) -> str:
    if found["type"] == "extra_forbidden":
        return "A field that is not known here; the API description lists the fields."
    # A custom validator's own words are safe; others could quote the input only in `input` and `ctx`.
    return str(found["msg"]).removeprefix("Value error, ")


def _kind(error: type[EncoreError]) -> str:
    name = error.__name__
    return "".join(f"-{letter.lower()}" if letter.isupper() and place else letter.lower() for place, letter in enumerate(name))
