from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from features.errors import UnknownName
from features.logs import log
from serving.border.problems import documented, problem
from serving.journeys.activities import activities, remember
from serving.journeys.activity import FILES, PAGE, ROOT, Asked, asked, config, decided, problems
from serving.journeys.ask import Journeys
from serving.journeys.known import HANGS
from serving.journeys.token import JourneyBuilder, claims
from serving.ledger import Ledger, LedgerUnavailable
from serving.routes.parts import JourneysPart, LedgerPart, get_ledger
from serving.schemas import ActivityBody, BranchBody

NOT_SET_UP = "Journey Builder is not set up here: start the service with ENCORE_SFMC_JWT_KEY, the JWT Signing Secret of the installed package."
HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")
SIGNED = {"requestBody": {"required": True, "content": {"application/jwt": {"schema": {"type": "string"}}}}}
CALLS = documented(401, 404, 413, 422, 429, 503)


def _builder(request: Request) -> JourneyBuilder:
    builder: JourneyBuilder | None = request.app.state.journey_builder
    if builder is None:
        raise HTTPException(404, NOT_SET_UP)
    return builder


async def _said(request: Request) -> dict[str, Any]:
    return claims(await request.body(), _builder(request).key)


SaidPart = Annotated[dict[str, Any], Depends(_said)]

router = APIRouter(prefix="/v1/journeys/sfmc", tags=["journeys"])


@router.get("/config.json", summary="What Journey Builder needs to know of the custom activity", responses=documented(400, 404))
async def get_config(request: Request) -> dict[str, Any]:
    """Register the address of this folder in Salesforce as the endpoint of a Journey Builder activity. It needs no key, and tells nothing of the shop."""
    host = request.headers.get("host", "")
    if not HOST.fullmatch(host):
        raise HTTPException(400, "The Host header is not a host's name.")
    # Journey Builder calls nothing but https; what stands in front of the service need not tell it so.
    return config(f"https://{host}{request.scope.get('root_path', '')}{ROOT}", _builder(request).customer_key)


def _file_route(name: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def get_file(request: Request) -> Response:
        _builder(request)
        return Response(_content(name), media_type="text/html" if name == PAGE else FILES[name])

    return get_file


for path, name in {"/": PAGE, **{f"/{name}": name for name in (PAGE, *FILES)}}.items():
    router.add_api_route(path, _file_route(name), include_in_schema=False)


@router.post("/execute", summary="A contact reaches the activity", response_model=BranchBody, responses=documented(401, 404, 413), openapi_extra=SIGNED)
async def execute(said: SaidPart, request: Request, journeys: JourneysPart) -> Response:
    """Which way out of the activity a contact takes. 200 with a branch in every state once the token is right: Journey Builder ejects the contact on
    anything else. When nothing can be said, the branch is `fallback`."""
    of = asked(said, request.query_params)
    answer = await journeys.ask(of.audience, of.user_id, get_ledger(request))
    return Response(to_json(decided(answer, of.branches)), media_type="application/json")


@router.post("/save", summary="An activity was saved", responses=CALLS, openapi_extra=SIGNED)
async def save(said: SaidPart, request: Request, journeys: JourneysPart, ledger: LedgerPart) -> dict[str, str]:
    """Remembers the activity; what is not yet right with it is for `validate` to say."""
    return await _noted(said, asked(said, request.query_params), "saved", journeys, ledger)


@router.post("/validate", summary="May the journey be published?", responses=CALLS, openapi_extra=SIGNED)
async def validate(said: SaidPart, request: Request, journeys: JourneysPart, ledger: LedgerPart) -> Response:
    """200 if the activity could decide now; 422 with all that is wrong with it; 503 without a release or a ledger. All but 200 blocks publishing."""
    return await _wrong(asked(said, request.query_params), journeys, ledger) or Response(to_json({"status": "valid"}), media_type="application/json")


@router.post("/publish", summary="The journey was published", responses=CALLS, openapi_extra=SIGNED)
async def publish(said: SaidPart, request: Request, journeys: JourneysPart, ledger: LedgerPart) -> Any:
    """As `validate`, and remembers that the activity is in use."""
    of = asked(said, request.query_params)
    return await _wrong(of, journeys, ledger) or await _noted(said, of, "published", journeys, ledger)


@router.post("/stop", summary="The journey was stopped", responses=documented(401, 404, 413), openapi_extra=SIGNED)
async def stop(said: SaidPart, request: Request, journeys: JourneysPart, ledger: LedgerPart) -> dict[str, str]:
    """Remembers that the activity is in use no more. 200 even if that fails: nothing may keep a journey from stopping."""
    try:
        return await _noted(said, asked(said, request.query_params), "stopped", journeys, ledger)
    except LedgerUnavailable:
        log.warning("stop of an activity not remembered")
        return {"status": "stopped"}


@router.get("/activities", summary="The activities that Salesforce has told of", responses=documented(401, 403, 503))
async def get_activities(journeys: JourneysPart, ledger: LedgerPart) -> list[ActivityBody]:
    """Which audience is asked for in which version of a journey, by Salesforce's ids, and whether the journey is published."""
    found = await journeys.known.in_time(lambda: activities(ledger))
    return [ActivityBody.model_validate(one) for one in found]


async def _wrong(of: Asked, journeys: Journeys, ledger: Ledger) -> Response | None:
    """A problem that says all that is wrong with an activity, if anything is."""
    scorer = journeys.current.scorer
    found = problems(of, scorer.tasks)
    if not found and of.branches == "audience":
        try:
            await journeys.known.members(of.audience, scorer.release, ledger)
        except UnknownName as error:
            found = [f"There is no {error.kind} of that name; there are: {', '.join(error.allowed) or 'none'}."]
        except TimeoutError:
            raise LedgerUnavailable(HANGS) from None
    return problem(422, "activity-not-ready", " ".join(found)) if found else None


async def _noted(said: Mapping[str, Any], of: Asked, state: str, journeys: Journeys, ledger: Ledger) -> dict[str, str]:
    activity = str(said.get("activityObjectID") or said.get("activityId") or "")
    journey = str(said.get("interactionId") or said.get("journeyId") or "")
    await journeys.known.in_time(lambda: remember(ledger, activity, journey, of.audience, state))
    return {"status": state}


@cache
def _content(name: str) -> bytes:
    return files("serving.journeys").joinpath("page", name).read_bytes()
