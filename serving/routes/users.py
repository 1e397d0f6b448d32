from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from serving.border.problems import RESPONSES
from serving.routes.parts import NOT_MODIFIED, AnswersPart, ScorerPart, score_answer
from serving.schemas import ScoresBody

router = APIRouter(prefix="/v1/users", tags=["scores"], responses=RESPONSES)


@router.get("/{user_id:any}/scores", summary="All scores of one user", response_model=ScoresBody, responses=NOT_MODIFIED)
async def get_scores(user_id: Annotated[str, Path(examples=["1029"])], request: Request, scorer: ScorerPart, answers: AnswersPart) -> Response:
    """What every prediction in service says of one user, all from one release."""
    return score_answer(request, answers.everything(user_id), scorer)
