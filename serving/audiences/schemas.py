"""Audiences over the wire: answers, with what each number means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from features.money import minor_units
from serving.audiences.cut import Audience
from serving.audiences.members import split
from serving.audiences.power import detectable
from serving.ledger import SavedAudience
from serving.release import Release


class MeasuresBody(BaseModel):
    """What is expected of the members if nothing is done; every number is null, with the `reason`, where the prediction gives no probability."""

    size: int
    eligible: Annotated[int, Field(description="The pool: whom the prediction is about, who may be spoken to, and who fulfils `where`.")]
    expected_conversions: float | None
    expected_low: Annotated[float | None, Field(description="Lower end of the 95 % interval; `basis` says what it covers.")]
    expected_high: float | None
    at_random: Annotated[float | None, Field(description="Expected among as many users of the pool drawn at random.")]
    by_recency: Annotated[float | None, Field(description="Expected, by the same model, among as many picked by the days since their last order.")]
    precision: Annotated[float | None, Field(description="Share of the members who are expected to do it.")]
    recall: Annotated[float | None, Field(description="Share of all in the pool who are expected to do it that are members.")]
    false_positives: Annotated[float | None, Field(description="Members who are expected not to do it.")]
    lift: Annotated[float | None, Field(description="How many times as many as at random.")]
    expected_value: Annotated[float | None, Field(description="Expected spend of all members, in units of the currency, for a prediction of value.")]
    expected_extra: Annotated[float | None, Field(description="Conversions that treating all members adds, by a prediction of the effect.")]
    threshold: Annotated[float | None, Field(description="The score of the last member, as the model gives it.")]
    basis: Annotated[str | None, Field(description="What the interval covers.")]
    reason: Annotated[str | None, Field(description="Why nothing can be promised.")]
    release: str


def measures(audience: Audience, release: Release) -> dict[str, Any]:
    """The numbers of an audience of the release."""
    kind = kind_of(release, audience.rule.task)
    same = ("size", "eligible", "at_random", "by_recency", "precision", "recall", "false_positives", "lift", "threshold", "basis", "reason", "release")
    return {
        **{name: getattr(audience, name) for name in same},
        "expected_conversions": audience.expected,
        "expected_low": audience.low,
        "expected_high": audience.high,
        "expected_value": audience.total / minor_units(release.currency) if audience.total is not None and kind == "value" else None,
        "expected_extra": audience.total if kind == "effect" else None,
    }


def kind_of(release: Release, task: str | None) -> str | None:
    """What a prediction of the release is a prediction of."""
    return release.bundles[task].kind if task is not None and task in release.bundles else None


class AudienceBody(MeasuresBody):
    """An audience as the current release gives it."""

    id: str | None
    name: str | None
    rule: dict[str, Any]
    kind: Annotated[Literal["live", "snapshot"] | None, Field(description="Null where nothing is kept.")]
    groups: Annotated[dict[str, int] | None, Field(description="Members in each group of its hold-out; null where it has none.")]
    refreshed_at: Annotated[datetime | None, Field(description="When `changes` were last written down: at a publication or `encore audiences refresh`.")]

    @classmethod
    def of(cls, audience: Audience, saved: SavedAudience | None, release: Release) -> AudienceBody:
        return cls(
            id=saved.id if saved else None,
            name=saved.name if saved else None,
            rule=audience.rule.described(),
            kind=saved.kind if saved else None,  # type: ignore[arg-type]
            groups=split(release, audience.rows, saved.salt or saved.name, saved.shares) if saved and saved.shares else None,
            refreshed_at=saved.refreshed_at if saved else None,
            **measures(audience, release),
        )


class PowerBody(BaseModel):
    """What a campaign on this audience could tell from chance: two-sided 5 %, found four times out of five."""

    model_config = ConfigDict(from_attributes=True)

    treated: int
    control: int
    rate: Annotated[float, Field(description="Conversions expected of a control user: the precision of the cut.")]
    effect: Annotated[float | None, Field(description="The smallest rise of that rate which is found.")]
    relative: Annotated[float | None, Field(description="The same over the rate.")]
    conversions: Annotated[float | None, Field(description="So many more among the treated.")]
    reason: str | None


class ProfitBody(BaseModel):
    """The cut to recommend."""

    model_config = ConfigDict(from_attributes=True)

    size: int
    at: Annotated[float, Field(description="Profit there.")]
    cost: float
    break_even: Annotated[float | None, Field(description="The probability (of an effect: the effect) from which on a contact pays.")]
    reason: Annotated[str, Field(description="Why there.")]
    note: Annotated[str, Field(description="What the profit counts.")]


class PreviewBody(MeasuresBody):
    rule: dict[str, Any]
    groups: Annotated[dict[str, int], Field(description="How the members would be split.")]
    power: Annotated[PowerBody | None, Field(description="Null without a control group, or where the prediction gives no probability.")]
    profit: Annotated[float | None, Field(description="Of this cut, with the economics given.")]
    recommended: ProfitBody | None
    hints: Annotated[list[str], Field(description="What is probably not meant, such as a word that no user has.")]


class PointBody(BaseModel):
    """The best `size` of the pool."""

    model_config = ConfigDict(from_attributes=True)

    size: int
    percent: float
    threshold: float
    expected: float | None
    low: float | None
    high: float | None
    precision: float | None
    recall: float | None
    false_positives: float | None
    lift: float | None
    by_recency: float | None
    at_random: float | None
    profit: float | None


class CurveBody(BaseModel):
    """All cuts of a ranking, and how its scores are spread."""

    model_config = ConfigDict(from_attributes=True)

    task: str
    release: str
    eligible: int
    points: list[PointBody]
    edges: Annotated[list[float], Field(description="Of the histogram: one more than `counts`.")]
    counts: list[int]
    basis: str | None
    recommended: ProfitBody | None


class SuggestedBody(BaseModel):
    """An audience to begin with: post its `rule` to keep it. Skipped, with the reason, where the release lacks what it needs."""

    name: str
    sentence: str
    rule: dict[str, Any] | None
    skipped: str | None
    audience: AudienceBody | None


class ChangesBody(BaseModel):
    """A page of who came and went at the last refresh."""

    audience: str
    release: str | None
    since: Annotated[datetime | None, Field(description="When that was; null before the first.")]
    entries: Annotated[int, Field(description="How many entered.")]
    exits: int
    user_ids: Annotated[list[str], Field(description="The page of those asked for, in the order of ids.")]
    next_offset: int | None


def power_of(audience: Audience, groups: Mapping[str, int], worth: float) -> PowerBody | None:
    """What the split could tell from chance."""
    if audience.precision is None or not groups.get("control"):
        return None
    return PowerBody.model_validate(detectable(groups["treatment"], groups["control"], audience.precision, worth=worth))
