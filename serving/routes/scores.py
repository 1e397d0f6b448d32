from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool

from serving.observe import SCORES
from serving.problems import RESPONSES
from serving.routes.parts import ScorerPart
from serving.schemas import ScoreBody, ScoreRequest, ScoresBody, score_body
from serving.scorer import Score

router = APIRouter(prefix="/v1/scores", tags=["scores"], responses=RESPONSES)

TaskName = Annotated[str, Path(description="A prediction, as `/v1/models` lists them.", examples=["repeat_order"])]


@router.get("/{task}/{user_id:any}", summary="One user's score")
async def get_score(
    task: TaskName,
    user_id: Annotated[str, Path(examples=["1029"])],
    scorer: ScorerPart,
    reasons: Annotated[bool, Query(description="Add the strongest reasons, in words.")] = False,
) -> ScoreBody:
    """The score of one user. Cheap and idempotent: call it as often as you like."""
    # A look-up takes microseconds; reasons run the model and must not hold up the other requests.
    scores = await run_in_threadpool(scorer.score, task, [user_id], reasons=True) if reasons else scorer.score(task, [user_id])
    return _counted(scores)[0]


@router.post("/{task}", summary="Many users' scores")
def post_scores(task: TaskName, request: ScoreRequest, scorer: ScorerPart) -> ScoresBody:
    """The scores of up to 1,000 users, in the order of their ids. Each has its own status; none fails the others."""
    return ScoresBody(scores=_counted(scorer.score(task, request.user_ids, reasons=request.reasons)))


def _counted(scores: list[Score]) -> list[ScoreBody]:
    for score in scores:
        SCORES.labels(score.task, score.status.value, score.model_version).inc()
    return [score_body(score) for score in scores]
