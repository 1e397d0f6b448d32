from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response

from features.goals import goal_problems
from features.vocabulary import EVENTS, PROPERTIES
from serving.audiences.holdout import shares_of
from serving.border.once import OncePart, OnceRoute, once
from serving.border.problems import RESPONSES, documented
from serving.campaigns import store
from serving.campaigns.bodies import CampaignBody, CampaignRequest, EnrolmentRequest, ReportBody, ReportRequest
from serving.campaigns.plan import SPEND, InvalidCampaign, NoReport, Plan, checked
from serving.jobs import Jobs
from serving.routes.parts import LedgerPart
from serving.schemas import JobBody

router = APIRouter(tags=["campaigns"], responses=RESPONSES, route_class=OnceRoute)

Key = Annotated[str, Path(description="The campaign's id or name.")]


@router.post(
    "/v1/campaigns",
    status_code=201,
    summary="Log a campaign",
    responses={200: {"model": CampaignBody}, **documented(409)},
    dependencies=[Depends(once)],
)
def post_campaign(request: CampaignRequest, ledger: LedgerPart, response: Response) -> CampaignBody:
    """A campaign over a saved audience, with the lot that keeps some of it out. The same name and plan again is the same campaign (200).

    Nobody is in it yet: `POST /v1/campaigns/{key}/enrolments`.
    """
    audience = ledger.audience(request.audience)
    if request.hold_out + request.business_as_usual >= 1:
        raise InvalidCampaign("hold_out and business_as_usual leave nobody to treat; together they must be under 1.")
    _require_goal(request)
    given = request.model_dump(exclude={"prediction", "hold_out", "business_as_usual", "audience"})
    plan = Plan(
        **given,
        audience=audience.name,
        rule=dict(audience.rule),
        task=request.prediction or audience.rule.get("task"),
        shares=shares_of(request.hold_out, request.business_as_usual),
    )
    found, new = store.save_campaign(ledger, checked(plan))
    response.status_code = 201 if new else 200
    return CampaignBody.of(found, store.group_sizes(ledger, found))


@router.get("/v1/campaigns", summary="The campaigns that were logged")
def get_campaigns(ledger: LedgerPart) -> list[CampaignBody]:
    """Every campaign, oldest first."""
    return [CampaignBody.of(one, store.group_sizes(ledger, one)) for one in store.campaigns(ledger)]


@router.get("/v1/campaigns/{key}", summary="One campaign")
def get_campaign(key: Key, ledger: LedgerPart) -> CampaignBody:
    """Its plan, its state and the sizes of its groups."""
    found = store.campaign(ledger, key)
    return CampaignBody.of(found, store.group_sizes(ledger, found))


@router.post("/v1/campaigns/{key}/enrolments", status_code=202, summary="Enter its audience", responses=documented(409))
def post_enrolment(key: Key, request: EnrolmentRequest, ledger: LedgerPart, claimed: OncePart) -> JobBody:
    """Queue the entry of the audience as the release in service gives it; `encore work` does it. Twice, late or in pieces harms nothing."""
    found = store.campaign(ledger, key)
    asked = {"campaign": found.id, "on": request.on.isoformat()}
    return JobBody.model_validate(Jobs(ledger).queue("enrol_campaign", asked, claimed.effect if claimed else None))


@router.post("/v1/campaigns/{key}/reports", status_code=202, summary="Have a report made", responses=documented(409))
def post_report(key: Key, request: ReportRequest, ledger: LedgerPart, claimed: OncePart) -> JobBody:
    """Queue a report; `encore work` makes it, as it needs the log of events. A final one is refused while some outcome window is not over."""
    found = store.campaign(ledger, key)
    asked = {"campaign": found.id, **request.model_dump(exclude_none=True)}
    return JobBody.model_validate(Jobs(ledger).queue("report_campaign", asked, claimed.effect if claimed else None))


@router.get("/v1/campaigns/{key}/report", summary="What is known of its effect")
def get_report(key: Key, ledger: LedgerPart, kind: Annotated[Literal["final", "monitor"], Query()] = "final") -> ReportBody:
    """The newest report of the kind; 404 before the first."""
    found = store.campaign(ledger, key)
    report = store.last_report(ledger, found, kind)
    if report is None:
        raise NoReport("No report of this kind was made yet. Ask for one: POST /v1/campaigns/{key}/reports.")
    return ReportBody(campaign=found.plan.name, kind=kind, report=report)


@router.post("/v1/campaigns/{key}/stop", summary="Let nobody enter any more", responses=documented(409), dependencies=[Depends(once)])
def post_stop(key: Key, ledger: LedgerPart) -> CampaignBody:
    """Who is in stays in, and the effect is measured when their outcome windows are over."""
    found = store.stop_campaign(ledger, key)
    return CampaignBody.of(found, store.group_sizes(ledger, found))


def _require_goal(request: CampaignRequest) -> None:
    """Refuse a goal that is none, in words that do not repeat it."""
    if request.goal not in (SPEND, *EVENTS):
        raise InvalidCampaign(f"The goal is not known. Goals are {SPEND} and the events of the vocabulary: {', '.join(EVENTS)}.")
    goal = {"name": "campaign", "event": "order" if request.goal == SPEND else request.goal, "where": request.where, "horizon": request.horizon}
    if goal_problems(goal):
        raise InvalidCampaign(
            f"`where` names a property that there is not, or a value of another kind. Properties are {', '.join(PROPERTIES)}: "
            "a text or a list of texts, and of quantity, value_cents and level at_least and at_most."
        )
