"""What goes over the wire about campaigns."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from serving.campaigns.store import Campaign
from serving.schemas import Request

Words = Annotated[StrictStr, Field(max_length=500)]
Money = Annotated[float, Field(ge=0, le=1e12, strict=True)]


class CampaignRequest(Request):
    """A plan, logged before the campaign begins: when, who, incentive, channel; goal and hold-out. It cannot be changed afterwards."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "spring-coupon", "audience": "soon-again", "starts": "2026-03-01", "horizon": 14, "incentive": "10 % off", "channel": "e-mail"}
            ]
        }
    )

    name: Annotated[StrictStr, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$")]
    audience: Annotated[StrictStr, Field(max_length=200, description="A saved audience, by name or id.")]
    starts: Annotated[date, Field(description="First day of entry, on the shop's clock.")]
    horizon: Annotated[StrictInt, Field(ge=1, le=365, description="Days that count, from each member's day of entry on.")]
    prediction: Annotated[StrictStr | None, Field(max_length=200, description="Whose score is noted at entry. Default: the one that ranks the audience.")] = (
        None
    )
    when: Annotated[Words, Field(description="The trigger, in words.")] = ""
    incentive: Words = ""
    channel: Words = ""
    goal: Annotated[StrictStr, Field(max_length=50, description="order, spend, or an event of the vocabulary.")] = "order"
    where: Annotated[
        dict[StrictStr, Any], Field(default_factory=dict, max_length=10, description="Properties of the event.", examples=[{"level": {"at_least": 4}}])
    ]
    hold_out: Annotated[float, Field(ge=0, lt=1, strict=True, description="Share that is kept out by lot, as control.")] = 0.1
    business_as_usual: Annotated[float, Field(ge=0, lt=1, strict=True, description="Share that gets what is usual instead, by the same lot.")] = 0.0
    salt: Annotated[StrictStr, Field(max_length=200, description="Of the lot. Default: the campaign's own.")] = ""
    log_name: Annotated[StrictStr, Field(max_length=200, description="What its events call the campaign. Default: its name.")] = ""
    contact_cost: Annotated[Money, Field(description="Of a message sent, in the shop's currency.")] = 0.0
    coupon_cost: Annotated[Money, Field(description="Of a coupon redeemed.")] = 0.0
    margin: Annotated[Money | None, Field(description="What a conversion earns before these costs.")] = None
    margin_share: Annotated[float | None, Field(gt=0, le=1, strict=True, description="Instead: the share of spend that is earned.")] = None
    target: Annotated[float | None, Field(gt=0, le=1e12, strict=True, description="Hoped-for conversion rate of the treated, or spend per member.")] = None
    winsorise: Annotated[float | None, Field(ge=0.9, lt=1, strict=True, description="Quantile above which spend counts as much as at it.")] = None


class EnrolmentRequest(Request):
    on: Annotated[date, Field(description="Day of entry, on the shop's clock: outcome windows begin with it.")]


class ReportRequest(Request):
    kind: Annotated[Literal["final", "monitor"], Field(description="`final`: once all outcome windows are over. `monitor`: what is off today.")]
    factors: Annotated[
        list[Annotated[StrictStr, Field(max_length=200)]] | None, Field(max_length=20, description='Features or labels to cut by, two joined by " x ".')
    ] = None


class CampaignBody(BaseModel):
    """A campaign as it was logged, and who has entered it."""

    id: str
    name: str
    state: Annotated[Literal["running", "stopped", "reported"], Field(description="Only into a running one can users enter.")]
    plan: dict[str, Any]
    groups: Annotated[dict[str, int], Field(description="Group -> members so far.")]
    created_at: datetime
    stopped_at: datetime | None

    @classmethod
    def of(cls, one: Campaign, groups: dict[str, int]) -> CampaignBody:
        return cls.model_validate({**vars(one), "name": one.plan.name, "plan": one.plan.described(), "groups": groups})


class ReportBody(BaseModel):
    """A report of a campaign; `report.claim` says whether anything is claimed about its effect."""

    campaign: str
    kind: Literal["final", "monitor"]
    report: dict[str, Any]
