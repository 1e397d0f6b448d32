"""What routes need of the app."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, cast

from fastapi import Depends, Request, Response
from starlette.convertors import Convertor, register_url_convertor

from serving.border.auth import Keyring
from serving.border.headers import conditional
from serving.current import Current
from serving.journeys.ask import Journeys
from serving.ledger import Ledger
from serving.score_json import Answers
from serving.scorer import Scorer


class AnyText(Convertor[str]):
    """The rest of a path, whatever is in it: Starlette's `path` stops at a line break, and takes `u%0A` for `u`."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", AnyText())

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "What you have is still right: its ETag was sent as `If-None-Match`."}}


def score_answer(request: Request, body: str | bytes, scorer: Scorer) -> Response:
    """Scores as JSON, which the caller may keep for a while, or 304 if the caller has them."""
    fresh = (scorer.expires_at - datetime.now(UTC)).total_seconds()
    status, headers, content = conditional(body.encode() if isinstance(body, str) else body, fresh, request.scope["headers"])
    answer = Response(content, status)
    answer.raw_headers = headers
    return answer


def get_current(request: Request) -> Current:
    return cast(Current, request.app.state.current)


def get_ledger(request: Request) -> Ledger:
    return cast(Ledger, request.app.state.ledger)


# As dependencies they are coroutines: FastAPI takes a thread for every plain function, which costs more than a score.
async def _current(request: Request) -> Current:
    return get_current(request)


async def _scorer(request: Request) -> Scorer:
    return get_current(request).scorer


async def _ledger(request: Request) -> Ledger:
    return get_ledger(request)


async def _answers(request: Request) -> Answers:
    return cast(Answers, request.app.state.answers)


async def _keyring(request: Request) -> Keyring:
    return cast(Keyring, request.app.state.keyring)


async def _journeys(request: Request) -> Journeys:
    return cast(Journeys, request.app.state.journeys)


CurrentPart = Annotated[Current, Depends(_current)]
ScorerPart = Annotated[Scorer, Depends(_scorer)]
LedgerPart = Annotated[Ledger, Depends(_ledger)]
KeyringPart = Annotated[Keyring, Depends(_keyring)]
JourneysPart = Annotated[Journeys, Depends(_journeys)]
AnswersPart = Annotated[Answers, Depends(_answers)]
