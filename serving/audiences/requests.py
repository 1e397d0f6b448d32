"""What is asked of audiences over the wire: strict requests with their examples."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictInt, StrictStr, model_validator

from serving.audiences.holdout import shares_of
from serving.audiences.profit import Economics
from serving.audiences.rules import SETTINGS, Rule
from serving.release import Release
from serving.schemas import Request

Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Percentile = Annotated[float | None, Field(ge=0, le=100, strict=True)]
Money = Annotated[float | None, Field(ge=0, le=1e12, strict=True)]
WHERE = (
    'A condition: `{"feature": "orders_count", "at_least": 2}`. It names one of feature (any column of the behaviour vector, a label such as layer, an '
    "attribute, stage), probability, score, percentile, stage_percentile, band, value or effect (of the prediction it names), and says at_least, at_most, "
    "is or known. Join conditions by all, any and not. What has no value fulfils none but known: false."
)
RESERVED = ("curve", "suggested", "preview")  # paths beside /v1/audiences/{name}
NAME = r"^[A-Za-z0-9][A-Za-z0-9 _.-]*$"


def may_be_called(name: str, release: Release) -> bool:
    """Whether an audience may have a name: journeys would take that of a prediction for the prediction, and others are paths."""
    return len(name) <= 200 and bool(re.fullmatch(NAME[1:-1], name)) and name not in RESERVED and name not in release.scores


class EconomicsBody(Request):
    """What a campaign earns and costs, in units of the shop's currency."""

    margin: Annotated[float, Field(ge=0, le=1e9, strict=True, description="Of a conversion, before the coupon.", examples=[18.0])]
    coupon_cost: Annotated[float, Field(ge=0, le=1e9, strict=True, description="For each who converts.")] = 0.0
    contact_cost: Annotated[float, Field(ge=0, le=1e9, strict=True, description="For each member.")] = 0.0
    budget: Money = None

    def economics(self) -> Economics:
        return Economics(self.margin, self.coupon_cost, self.contact_cost, self.budget)


class HoldoutBody(Request):
    """Part of the audience that its campaign leaves alone, by a salted hash of the id: the same users on every refresh, for life."""

    control: Annotated[float, Field(ge=0, lt=1, strict=True, description="Share that gets nothing.")] = 0.1
    business_as_usual: Annotated[float, Field(ge=0, lt=1, strict=True, description="Share that gets what it would get without this campaign.")] = 0.0

    @model_validator(mode="after")
    def leaves_some(self) -> HoldoutBody:
        if self.control + self.business_as_usual >= 1:
            raise ValueError("the shares held out must leave somebody to treat")
        return self

    def shares(self) -> dict[str, float] | None:
        """All groups and their shares; None where nobody is held out."""
        return shares_of(self.control, self.business_as_usual) if self.control or self.business_as_usual else None


class RuleRequest(Request):
    """Whom: a `task` to rank by, a condition as `where`, and at most one cut of the ranking; a `task` without a condition needs one."""

    task: Annotated[StrictStr | None, Field(description="A prediction to rank by, as `/v1/models` lists them.")] = None
    where: Annotated[dict[str, Any] | None, Field(description=WHERE)] = None
    top_n: Annotated[StrictInt | None, Field(ge=1, le=100_000_000, description="So many users, the best first.")] = None
    top_percent: Annotated[float | None, Field(gt=0, le=100, strict=True, description="The best percent of the pool.")] = None
    skip_percent: Annotated[
        float | None, Field(ge=0, lt=100, strict=True, description="With top_n or top_percent: without this best percent of the pool, who do it anyhow.")
    ] = None
    min_percentile: Annotated[Percentile, Field(description="Percentiles as scores show them, both ends included; with max_percentile or alone.")] = None
    max_percentile: Percentile = None
    min_probability: Annotated[Share | None, Field(description="Everybody whose probability is at least this.")] = None
    max_probability: Annotated[Share | None, Field(description="Everybody whose probability is at most this.")] = None
    band: Literal["low", "medium", "high"] | None = None
    budget: Annotated[Money, Field(description="As many of the best as so much money reaches, by contact_cost and coupon_cost.")] = None
    contact_cost: Annotated[Money, Field(description="Of the budget, for each member.")] = None
    coupon_cost: Annotated[Money, Field(description="Of the budget, for each who is expected to convert.")] = None

    @model_validator(mode="after")
    def at_most_one_cut(self) -> RuleRequest:
        cuts = self.rule().cuts
        if len(cuts) > 1 or (not cuts and self.where is None):
            raise ValueError(f"give one cut of {', '.join(SETTINGS)}; {len(cuts)} were given")
        return self

    def rule(self) -> Rule:
        return Rule(**{name: getattr(self, name) for name in RuleRequest.model_fields})


class AudienceRequest(RuleRequest):
    """Whom, and with a name how it is kept: journeys, exports and campaigns then ask for it by that name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"task": "repeat_order", "top_percent": 10, "name": "soon-again"},
                {
                    "task": "churn",
                    "top_n": 5000,
                    "where": {"all": [{"feature": "orders_count", "at_least": 2}, {"not": {"feature": "discounts_coupon_orders_90d", "at_least": 1}}]},
                    "name": "win-back-november",
                    "kind": "snapshot",
                    "holdout": {"control": 0.1},
                },
            ]
        }
    )

    name: Annotated[
        StrictStr | None,
        Field(min_length=1, max_length=200, pattern=NAME, description="Keeps the audience under this name."),
    ] = None
    kind: Annotated[
        Literal["live", "snapshot"] | None,
        Field(
            description="`live` (default) follows each release; `snapshot` keeps today's members. Where given, a tenth is held out unless `holdout` says else."
        ),
    ] = None
    holdout: Annotated[
        HoldoutBody | None, Field(description='Who is held out of its campaign. Without it and without `kind` nobody is; `{"control": 0}` holds out nobody.')
    ] = None

    def shares(self) -> dict[str, float] | None:
        """Of the hold-out that was asked for."""
        return (self.holdout or HoldoutBody()).shares() if self.holdout or self.kind else None


class PreviewRequest(RuleRequest):
    """Whom, and what would come of it; nothing is kept."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"task": "repeat_order", "top_percent": 10, "economics": {"margin": 18, "coupon_cost": 5, "contact_cost": 0.1}}]}
    )

    economics: EconomicsBody | None = None
    holdout: Annotated[HoldoutBody | None, Field(description="Default: a tenth as control.")] = None
    salt: Annotated[StrictStr, Field(max_length=200, description="Of the hold-out's lot: of a kept audience it is its name.")] = ""
    worth: Annotated[float, Field(gt=0, le=100, strict=True, description="How many times the sample an adjustment by score and pre-period is worth.")] = 1.0
