"""What goes over the wire: strict requests, documented answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr

from serving.scorer import Score, Status

MOST_IDS = 1_000


def sendable(text: str) -> str:
    """Text as UTF-8 can carry it: half of a surrogate pair, which JSON lets in, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


Echo = Annotated[str, BeforeValidator(sendable)]


class Request(BaseModel):
    """Unknown fields are refused: a misspelt option must not be ignored in silence."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ScoreRequest(Request):
    user_ids: Annotated[
        list[StrictStr],
        Field(min_length=1, max_length=MOST_IDS, description="Up to 1,000 user ids; answers keep their order.", examples=[["1029", "1030"]]),
    ]
    reasons: Annotated[StrictBool, Field(description="Add the strongest reasons of each score.")] = False


class ReasonBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    feature: str
    text: Annotated[str, Field(examples=["days since the last order: 3"])]
    value: float | None
    contribution: Annotated[float, Field(description="Signed share of the log-odds (of a value, its logarithm); all features add up exactly.")]
    effect: Literal["raises", "lowers"]
    actionable: Annotated[bool, Field(description="Whether marketing can change it.")]


class ScoreBody(BaseModel):
    """A user's score. Every state of a user is an answer, never an error: look at `status`."""

    model_config = ConfigDict(from_attributes=True)

    user_id: Echo
    task: str
    status: Status
    probability: Annotated[float | None, Field(description="Calibrated probability; null where the prediction is not one.")]
    value: Annotated[float | None, Field(description="Expected spend in units of the currency, for a prediction of value.")] = None
    effect: Annotated[float | None, Field(description="What the treatment adds to the probability, for a prediction of its effect.")] = None
    score: Annotated[float | None, Field(description="0 to 100: the probability in percent; for other predictions the percentile.")]
    percentile: Annotated[float | None, Field(description="0 to 100 among all eligible users.")]
    stage_percentile: Annotated[float | None, Field(description="0 to 100 among eligible users of the same stage.")]
    stage: Annotated[str | None, Field(description="Which order is the user's next: first, second or repeat.")]
    band: Annotated[Literal["low", "medium", "high"] | None, Field(description="Cut at percentiles 20 and 80.")]
    details: Annotated[
        dict[str, float | None] | None,
        Field(description="What else the model says, such as earliest_days, median_days and latest_days of the next order, counted from as_of."),
    ] = None
    reasons: list[ReasonBody] | None = None
    as_of: Annotated[str, Field(description="The features know everything before this date and nothing after.")]
    scored_at: datetime
    expires_at: Annotated[datetime, Field(description="From then on the status is STALE.")]
    model_version: str
    release: str
    baseline: Annotated[bool, Field(description="True when no model has passed the gate and the best simple rule answers.")]


class VectorRequest(Request):
    """Features by name, as `/v1/models` lists them for the prediction. What is not given, or null, counts as no value. The features that say
    whom the prediction is about may be among them."""

    features: Annotated[
        dict[StrictStr, Annotated[float, Field(strict=True)] | None],
        Field(max_length=2_000, description="Name -> number or null.", examples=[{"orders_count": 3, "orders_recency": 12}]),
    ]
    reasons: Annotated[StrictBool, Field(description="Add the strongest reasons.")] = False


class OfVector(BaseModel):
    """What the model says of a vector that no release has."""

    model_config = ConfigDict(from_attributes=True)

    task: str
    status: Annotated[
        Literal["OK", "NOT_ELIGIBLE", "SUPPRESSED"],
        Field(description="`NOT_ELIGIBLE`: the prediction is not about such a user, and nothing is said of them; see `eligible` in `/v1/models`."),
    ]
    eligible: Annotated[
        bool | None,
        Field(
            description="Whether the prediction is about such a user. Null where that cannot be told, and the score is given all the same: features "
            "that decide it were not given, or whom it is about is a list of users, as for a look-alike."
        ),
    ]
    probability: Annotated[float | None, Field(description="Calibrated probability; null where the prediction is not one.")]
    value: float | None
    effect: float | None
    score: Annotated[float | None, Field(description="0 to 100: the probability in percent; for other predictions the percentile.")]
    percentile: Annotated[float | None, Field(description="0 to 100: where it would stand among the eligible users of the release.")]
    band: Literal["low", "medium", "high"] | None
    details: dict[str, float | None] | None
    reasons: list[ReasonBody] | None
    model_version: str
    release: str
    baseline: bool


class VectorBody(OfVector):
    """What the model says of a vector."""

    missing: Annotated[list[str], Field(description="Features of the model that were not given.")]


class ScoresBody(BaseModel):
    scores: list[ScoreBody]


class MembersBody(BaseModel):
    """A page of members. Pages of another `release` belong to another list: start again."""

    release: str
    user_ids: list[str]
    next_offset: int | None


class JobBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed"]
    result: dict[str, Any] | None


class JourneyBody(BaseModel):
    """Flat, so that a template can say `{{ r.branch }}`. Always answered with 200. What was asked by `also` ends in that audience's name, in small
    letters with underscores: `branch_at_risk`, `fallback_at_risk`, `status_at_risk`, `group_at_risk`, `score_at_risk`."""

    model_config = ConfigDict(extra="allow")

    audience: Echo
    user_id: Echo
    branch: Annotated[str, Field(description="`in`, `out` or `holdout` of an audience; a band for a prediction's name; `fallback` when nothing can be said.")]
    fallback: bool
    status: Annotated[str, Field(description="As of a score; or why it fell back: NO_RELEASE, UNKNOWN_AUDIENCE, UNAVAILABLE, LIMITED, OVERLOADED, INVALID.")]
    group: Annotated[
        str | None,
        Field(description="Of a member of an audience with a hold-out: treatment (branch `in`), control (`holdout`) or business_as_usual (`out`)."),
    ] = None
    task: str | None = None
    score: float | None = None
    probability: float | None = None
    percentile: float | None = None
    band: str | None = None
    as_of: str | None = None
    model_version: str | None = None
    release: str | None = None


class BranchBody(BaseModel):
    """What Journey Builder reads: the way out of the activity, and its out-arguments that have a value."""

    model_config = ConfigDict(extra="allow")

    branchResult: Annotated[str, Field(examples=["high"])]  # noqa: N815 - Salesforce's name
    status: str


class ActivityBody(BaseModel):
    """A custom activity in one version of a journey, by Salesforce's ids."""

    model_config = ConfigDict(from_attributes=True)

    activity: str
    journey: str
    audience: str
    state: Literal["saved", "published", "stopped"]
    saved_at: datetime
    changed_at: datetime


class ModelBody(BaseModel):
    """A model in service, beside its baselines."""

    task: str
    question: str
    eligible: str
    horizon_days: int
    calibrated: bool
    kind: Literal["model", "baseline"]
    version: str
    run_id: str
    trained_through: Annotated[str, Field(description="Last cutoff whose outcomes the model has learned from.")]
    rows: int
    positives: int
    eligible_users: int
    features: Annotated[dict[str, str], Field(description="What it looks at: name -> meaning. Post these names to `/v1/scores/{task}:vector`.")]
    decision: Annotated[str, Field(description="What the gate said, with its reasons.")]
    metrics: Annotated[dict[str, Any], Field(description="Model and baselines -> metric -> value with its 95 % interval, on held-out cutoffs.")]


class ModelsBody(BaseModel):
    release: str
    as_of: str
    models: list[ModelBody]


class HealthBody(BaseModel):
    status: Annotated[Literal["live", "ready", "stale", "not ready"], Field(description="`stale`: it answers, and its scores have expired.")]
    reason: Annotated[Literal["no_model", "stale", "too_old", "keys_unknown"] | None, Field(description="Why it is not `ready`.")] = None
    release: str | None = None
    as_of: str | None = None
    stale: bool | None = None
    failure: Annotated[str | None, Field(description="Why a newer release was not taken up, if one was refused.")] = None
    keys: Annotated[
        Literal["open", "known", "old", "unknown"] | None,
        Field(
            description="`open`: no API key was ever made, anybody may ask. `known`: every request needs a key. `old`: the ledger cannot be read, "
            "and keys that were revoked or made since count when it is back. `unknown`: it could not be read since the start, and nobody is let in."
        ),
    ] = None


class Problem(BaseModel):
    """RFC 9457. It never repeats what was sent."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


def score_body(score: Score) -> ScoreBody:
    return ScoreBody.model_validate(score)
