from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from serving.border.problems import RESPONSES
from serving.routes.parts import NOT_MODIFIED, AnswersPart, ScorerPart, score_answer
from serving.schemas import ScoreBody, ScoreRequest, ScoresBody, VectorBody, VectorRequest, score_body
from serving.score_json import counted
from serving.vector import score_vector

router = APIRouter(prefix="/v1/scores", tags=["scores"], responses=RESPONSES)

TaskName = Annotated[str, Path(description="A prediction, as `/v1/models` lists them.", examples=["repeat_order"])]


@router.get("/{task}/{user_id:any}", summary="One user's score", response_model=ScoreBody, responses=NOT_MODIFIED)
async def get_score(
    task: TaskName,
    user_id: Annotated[str, Path(examples=["1029"])],
    request: Request,
    scorer: ScorerPart,
    reasons: Annotated[bool, Query(description="Add the strongest reasons, in words.")] = False,
) -> Response:
    """The score of one user. Cheap and idempotent: call it as often as you like.

    You may keep the answer as long as `Cache-Control` says, which is never longer than the score is fresh, and send its `ETag` as
    `If-None-Match` afterwards: 304 if nothing has changed.
    """
    # A look-up takes microseconds; reasons run the model and must not hold up the other requests.
    scores = await run_in_threadpool(scorer.score, task, [user_id], reasons=True) if reasons else scorer.score(task, [user_id])
    return score_answer(request, score_body(counted(scores)[0]).model_dump_json(), scorer)


@router.post("/{task}:vector", summary="The score of a vector")
async def post_vector(task: TaskName, request: VectorRequest, scorer: ScorerPart) -> VectorBody:
    """For data scientists: what the model says of features that you post by name, beside the eligible users of the release."""
    if request.reasons:
        return VectorBody.model_validate(await run_in_threadpool(score_vector, scorer, task, request.features, reasons=True))
    return VectorBody.model_validate(score_vector(scorer, task, request.features))


@router.post("/{task}", summary="Many users' scores", response_model=ScoresBody)
async def post_scores(task: TaskName, request: ScoreRequest, scorer: ScorerPart, answers: AnswersPart) -> Response:
    """The scores of up to 1,000 users, in the order of their ids. Each has its own status; none fails the others."""
    prepared = answers.ready(task)
    if prepared and not request.reasons:
        return Response(prepared.many(request.user_ids), media_type="application/json")

    def written() -> str:  # in the thread, too: to write a thousand answers takes as long as to find them, and everybody else would wait
        scores = counted(scorer.score(task, request.user_ids, reasons=request.reasons))
        return ScoresBody(scores=[score_body(score) for score in scores]).model_dump_json()

    return Response(await run_in_threadpool(written), media_type="application/json")
