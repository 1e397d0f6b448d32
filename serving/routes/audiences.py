from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response

from serving.audience import Rule, cut
from serving.border.once import OncePart, OnceRoute, once
from serving.border.problems import RESPONSES, documented
from serving.jobs import Jobs
from serving.ledger import NameTaken
from serving.routes.parts import LedgerPart, ScorerPart
from serving.schemas import AudienceBody, AudienceRequest, JobBody, MembersBody

router = APIRouter(tags=["audiences"], responses=RESPONSES, route_class=OnceRoute)

Key = Annotated[str, Path(description="The audience's id or name.")]


@router.post(
    "/v1/audiences",
    status_code=201,
    summary="Cut an audience",
    responses={200: {"model": AudienceBody}, **documented(409)},
    dependencies=[Depends(once)],
)
def post_audience(request: AudienceRequest, scorer: ScorerPart, ledger: LedgerPart, response: Response) -> AudienceBody:
    """The best N, the best percent or everybody above a probability: how many, and how many of them will do it.

    With a `name` the audience is kept and can be asked for by journeys and exports; the same name and rule again is
    the same audience (200). Without a name nothing is kept (200).
    """
    if request.name in scorer.tasks:
        raise NameTaken("That is a prediction's name, and journeys would mean the prediction. Choose another name.")
    audience = cut(scorer.release, request.rule())
    saved, new = ledger.save_audience(request.name, vars(request.rule())) if request.name else (None, False)
    response.status_code = 201 if new else 200
    return AudienceBody.of(audience, saved)


@router.get("/v1/audiences", summary="The audiences that are kept")
def get_audiences(scorer: ScorerPart, ledger: LedgerPart) -> list[AudienceBody]:
    """Every named audience as the current release gives it."""
    of_members = scorer.release.members
    saved = [one for one in ledger.audiences() if one.rule["task"] in (of_members if one.rule.get("members") else scorer.tasks)]
    return [AudienceBody.of(cut(scorer.release, Rule(**audience.rule)), audience) for audience in saved]


@router.get("/v1/audiences/{key}", summary="One audience")
def get_audience(key: Key, scorer: ScorerPart, ledger: LedgerPart) -> AudienceBody:
    """A named audience as the current release gives it."""
    saved = ledger.audience(key)
    return AudienceBody.of(cut(scorer.release, Rule(**saved.rule)), saved)


@router.get("/v1/audiences/{key}/members", summary="Who is in it")
def get_members(
    key: Key,
    scorer: ScorerPart,
    ledger: LedgerPart,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> MembersBody:
    """User ids, best first, a page at a time."""
    rows = cut(scorer.release, Rule(**ledger.audience(key).rule)).rows
    ids = [user.decode() for user in scorer.release.users[rows[offset : offset + limit]]]
    return MembersBody(release=scorer.release.id, user_ids=ids, next_offset=offset + limit if offset + limit < len(rows) else None)


@router.post("/v1/audiences/{key}/exports", status_code=202, summary="Export it to a file", responses=documented(409))
def post_export(key: Key, ledger: LedgerPart, claimed: OncePart, format: Annotated[Literal["csv", "parquet"], Query()] = "csv") -> JobBody:
    """Queue an export; `encore work` writes the file. Ask `/v1/jobs/{id}` how it went."""
    saved = ledger.audience(key)
    request = {"audience": saved.name, "rule": dict(saved.rule), "format": format}
    return JobBody.model_validate(Jobs(ledger).queue("export", request, claimed.effect if claimed else None))
