"""A journey tool's answer about one user: flat, the same for the same question, and never an error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from serving.schemas import JourneyBody, sendable
from serving.score_json import ScoreJson
from serving.scorer import Scorer, Status

if TYPE_CHECKING:
    from serving.journeys.known import Members

PREFIX = "/v1/journeys/"
FALLBACK = "fallback"
ALSO, MOST_ALSO = "also", 10  # the query's name for further audiences, and how many a request may ask for
NOTHING: Mapping[str, Any] = {name: field.default for name, field in JourneyBody.model_fields.items() if not field.is_required()}
OF_A_SCORE = tuple(name for name in NOTHING if name not in ("group", "task"))
FURTHER = ("branch", "fallback", "status", "group", "score")  # what is told of further audiences
NO_WORD = re.compile(r"[^0-9a-z]+")

Flat = dict[str, Any]


def of_prediction(answers: ScoreJson, user_id: str) -> Flat:
    """A user's band as their branch."""
    return _scored(answers.task, answers, user_id, None)


def of_audience(audience: str, user_id: str, members: Members, answers: ScoreJson | None, scorer: Scorer) -> Flat:
    """A user's membership as their branch.

    Args:
        answers: of the prediction that ranks the audience's users, from the release that `members` are of; None for an audience of a condition alone.
    """
    row = scorer.row(user_id)
    way = members.branch(row) if row is not None else (FALLBACK, None)
    if answers is not None:
        return _scored(audience, answers, user_id, way)
    status = scorer.absence(user_id) if row is None else Status.STALE if scorer.is_stale(datetime.now(UTC)) else Status.OK
    found = fallback(audience, user_id, status)
    return {**found, **_branch(*way), "as_of": scorer.release.manifest["as_of"], "release": scorer.release.id}


def fallback(audience: str, user_id: str, status: str) -> Flat:
    """The answer where nothing can be said."""
    return {"audience": sendable(audience), "user_id": sendable(user_id), "branch": FALLBACK, "fallback": True, "status": status, **NOTHING}


def refused(path: str, query: bytes, status: str) -> Flat:
    """The answer to a request that was not let in, about all that it asked."""
    audience, _, user_id = path.removeprefix(PREFIX).partition("/")
    return together(fallback(one, user_id, status) for one in (audience, *also(query)))


def also(query: bytes) -> list[str]:
    """Further audiences that a query asks for."""
    if not query:
        return []
    asked = [value for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True) if name == ALSO]
    return list(dict.fromkeys(asked))[:MOST_ALSO]


def together(answers: Iterable[Flat]) -> Flat:
    """Answers about several audiences as one that is still flat: what is told of the further ones has their name at its end."""
    first, *further = answers
    for answer in further:
        first |= {f"{name}_{named(answer['audience'])}": answer[name] for name in FURTHER}
    return first


def named(audience: str) -> str:
    """An audience's name as templates can say it: small letters, digits, and one underscore for whatever is between."""
    return NO_WORD.sub("_", audience.lower()).strip("_")


def _scored(audience: str, answers: ScoreJson, user_id: str, way: tuple[str, str | None] | None) -> Flat:
    score = answers.said(user_id)
    way = way or (score["band"] or FALLBACK, None)
    start = {"audience": sendable(audience), "user_id": score["user_id"], "branch": "", "fallback": False, "status": score["status"]}
    return {**start, "group": None, "task": answers.task, **{name: _or_none(score[name]) for name in OF_A_SCORE}, **_branch(*way)}


def _branch(branch: str, group: str | None) -> Flat:
    return {"branch": branch, "fallback": branch == FALLBACK, "group": group}


def _or_none(value: Any) -> Any:
    return None if value != value else value  # NaN
