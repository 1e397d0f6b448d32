from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic_core import from_json

from serving.journeys.answer import ALSO, MOST_ALSO
from serving.journeys.ask import Journeys
from serving.routes.parts import JourneysPart, get_ledger
from serving.schemas import JourneyBody

router = APIRouter(prefix="/v1/journeys", tags=["journeys"])

Name = Annotated[str, Path(description="An audience's name or id, or a prediction's name.", examples=["at-risk"])]
NAMES = {
    "name": ALSO,
    "in": "query",
    "description": f"Up to {MOST_ALSO} further audiences or predictions, given once for each.",
    "schema": {"type": "array", "items": {"type": "string"}},
}
USER = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"user_id": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}},
            "example": {"user_id": "1029"},
        }
    },
}


@router.get("/{audience}/{user_id:any}", summary="Which branch of a journey a user takes", response_model=JourneyBody, openapi_extra={"parameters": [NAMES]})
async def get_branch(audience: Name, user_id: Annotated[str, Path(examples=["1029"])], request: Request, journeys: JourneysPart) -> Response:
    """For a journey tool: 200 in every state, because some tools throw a contact out of the journey on anything else.

    An audience gives the branch `in` or `out`, or `holdout` for those of its control group; a prediction gives the user's band. When nothing
    can be said (no release, an unknown user, a broken ledger, too many requests) the branch is `fallback` and `status` says why.

    Ask as often as you like; you may keep the answer as long as `Cache-Control` says.
    """
    return await _answer(audience, user_id, request, journeys)


@router.get("/{rest:any}", include_in_schema=False)
async def get_no_branch(rest: str, request: Request, journeys: JourneysPart) -> Response:
    """A template that left the audience or the user out: still 200."""
    return await _answer(rest.partition("/")[0], "", request, journeys)


@router.post("/{audience}", summary="The same for tools that post", response_model=JourneyBody, openapi_extra={"requestBody": USER, "parameters": [NAMES]})
async def post_branch(audience: Name, request: Request, journeys: JourneysPart) -> Response:
    """As the GET, with the user as `user_id` in the body, a text or a number; what else is in the body does not matter. 200 in every state."""
    user_id = _user_of(await request.body())
    return await _answer(audience, user_id, request, journeys)


async def _answer(audience: str, user_id: str, request: Request, journeys: Journeys) -> Response:
    body, headers = await journeys.answer(audience, user_id, request.scope["query_string"], get_ledger(request))
    answer = Response(body, media_type="application/json")
    answer.raw_headers += headers
    return answer


def _user_of(body: bytes) -> str:
    """The user that a posted body names, or nobody."""
    try:
        said: Any = from_json(body)
    except ValueError:
        return ""
    user_id = said.get("user_id") if isinstance(said, dict) else None
    return user_id if isinstance(user_id, str) else str(user_id) if isinstance(user_id, int) and not isinstance(user_id, bool) else ""
