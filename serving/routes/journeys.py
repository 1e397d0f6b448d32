from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool

from features.errors import NoRelease, UnknownName
from features.logs import log
from serving.audience import Rule, cut
from serving.routes.parts import get_current, get_ledger
from serving.schemas import JourneyBody
from serving.scorer import Scorer, Status

router = APIRouter(prefix="/v1/journeys", tags=["journeys"])


@router.get("/{audience}/{user_id:any}", summary="Which branch of a journey a user takes")
async def get_branch(
    audience: Annotated[str, Path(description="An audience's name or id, or a prediction's name.")], user_id: str, request: Request
) -> JourneyBody:
    """For a journey tool: 200 in every state, because some tools throw a contact out of the journey on anything else.

    An audience gives the branch `in` or `out`; a prediction gives the user's band. When nothing can be said (no
    release, an unknown user, a broken ledger) the branch is `fallback` and `status` says why.
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
        task, inside = await run_in_threadpool(_members, audience, scorer, request)
    score = scorer.score(task, [user_id])[0]
    known = score.status in (Status.OK, Status.STALE)
    in_or_out = "in" if inside is not None and known and scorer.row(user_id) in inside else "out"
    branch = (score.band if inside is None else in_or_out) if known else None
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


def _members(audience: str, scorer: Scorer, request: Request) -> tuple[str, frozenset[int]]:
    """The task and member rows of a saved audience; worked out once for each release."""
    known: dict[tuple[str, str], tuple[str, frozenset[int]]] = request.app.state.__dict__.setdefault("journey_members", {})
    key = (audience, scorer.release.id)
    if key not in known:
        rule = Rule(**get_ledger(request).audience(audience).rule)
        rows = cut(scorer.release, rule).rows
        if len(known) > 1_000:
            known.clear()
        known[key] = (rule.task, frozenset(np.asarray(rows).tolist()))
    return known[key]


def _fallback(audience: str, user_id: str, status: str) -> JourneyBody:
    return JourneyBody(audience=audience, user_id=user_id, branch="fallback", fallback=True, status=status)
