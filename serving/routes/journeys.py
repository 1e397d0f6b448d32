from __future__ import annotations

import asyncio
from typing import Annotated

import numpy as np
import numpy.typing as npt
from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Request

from features.errors import NoRelease, UnknownName
from features.logs import log
from serving.audience import Rule, cut
from serving.routes.parts import get_current, get_ledger
from serving.schemas import JourneyBody
from serving.scorer import Scorer, Status

Members = npt.NDArray[np.bool_]
MOST_AUDIENCES = 200  # whose members are kept in memory: a byte for each user and audience
PATIENCE = 1.0  # seconds to wait for the ledger: a journey tool gives up after two, and then has no branch at all

router = APIRouter(prefix="/v1/journeys", tags=["journeys"])


@router.get("/{audience}/{user_id:any}", summary="Which branch of a journey a user takes")
async def get_branch(
    audience: Annotated[str, Path(description="An audience's name or id, or a prediction's name.")], user_id: str, request: Request
) -> JourneyBody:
    """For a journey tool: 200 in every state, because some tools throw a contact out of the journey on anything else.

    An audience gives the branch `in` or `out`; a prediction gives the user's band. When nothing can be said (no
    release, an unknown user, a broken ledger, too many requests) the branch is `fallback` and `status` says why.
    """
    try:
        return await _branch(audience, user_id, request)
    except NoRelease:
        return _fallback(audience, user_id, "NO_RELEASE")
    except UnknownName:
        return _fallback(audience, user_id, "UNKNOWN_AUDIENCE")
    except Exception as error:  # noqa: BLE001 - whatever is broken, the contact stays in the journey
        log.error("journey fell back", exc_info=error)
        return _fallback(audience, user_id, "UNAVAILABLE")


@router.get("/{rest:any}", include_in_schema=False)
async def get_no_branch(rest: str) -> JourneyBody:
    """A template that left the audience or the user out: still 200."""
    return _fallback(rest.partition("/")[0], "", Status.INVALID)


async def _branch(audience: str, user_id: str, request: Request) -> JourneyBody:
    scorer = get_current(request).scorer
    if audience in scorer.tasks:
        task, inside = audience, None
    else:
        task, inside = _known_members(scorer, request).get(audience) or await _ask_members(audience, scorer, request)
    score = scorer.score(task, [user_id])[0]
    row = scorer.row(user_id) if score.status in (Status.OK, Status.STALE, Status.NOT_ELIGIBLE) else None
    branch = score.band if inside is None or row is None else "in" if inside[row] else "out"
    return JourneyBody(
        audience=audience,
        user_id=user_id,
        branch=branch or "fallback",
        fallback=branch is None,
        status=score.status,
        task=task,
        score=score.score,
        probability=score.probability,
        percentile=score.percentile,
        band=score.band,
        as_of=score.as_of,
        model_version=score.model_version,
        release=score.release,
    )


def _known_members(scorer: Scorer, request: Request) -> dict[str, tuple[str, Members]]:
    """The audiences of this release that were asked for before."""
    known: dict[str, tuple[str, Members]]
    release_id, known = getattr(request.app.state, "journey_members", ("", {}))
    return known if release_id == scorer.release.id else {}


async def _ask_members(audience: str, scorer: Scorer, request: Request) -> tuple[str, Members]:
    """Ask the ledger, once for however many requests, in one of the journeys' own threads, and wait no longer than a journey tool does."""
    asked: dict[tuple[str, str], asyncio.Future[tuple[str, Members]]] = request.app.state.journeys_asked
    question = scorer.release.id, audience
    if question not in asked:
        if len(asked) >= MOST_AUDIENCES:
            raise TimeoutError("the ledger is asked for too many audiences at once")

        def answered(answer: asyncio.Future[tuple[str, Members]]) -> None:
            del asked[question]
            if not answer.cancelled():
                answer.exception()  # somebody has seen it, even if all have stopped waiting

        asked[question] = asyncio.ensure_future(run_sync(_members, audience, scorer, request, limiter=request.app.state.journey_threads))
        asked[question].add_done_callback(answered)
    async with asyncio.timeout(PATIENCE):
        return await asyncio.shield(asked[question])


def _members(audience: str, scorer: Scorer, request: Request) -> tuple[str, Members]:
    """The task of a saved audience, and for each user of the snapshot whether they are in it; once for each release."""
    state = request.app.state
    known = _known_members(scorer, request)
    if len(known) >= MOST_AUDIENCES:
        known = {}
    if audience not in known:
        rule = Rule(**get_ledger(request).audience(audience).rule)
        inside = np.zeros(len(scorer.release.users), dtype=np.bool_)
        inside[cut(scorer.release, rule).rows] = True
        known[audience] = (rule.task, inside)
    state.journey_members = (scorer.release.id, known)
    return known[audience]


def _fallback(audience: str, user_id: str, status: str) -> JourneyBody:
    return JourneyBody(audience=audience, user_id=user_id, branch="fallback", fallback=True, status=status)
