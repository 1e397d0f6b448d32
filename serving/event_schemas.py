"""Events that somebody posts to be scored, and what is answered."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from features.vocabulary import EVENTS, STAGES
from serving.schemas import ReasonBody, Request

MOST_EVENTS = 1_000
LONGEST_TEXT = 500
LARGEST_AMOUNT, LARGEST_QUANTITY = 10**15, 10**9  # more is a mistake, and would not fit into sums
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2400, 1, 1, tzinfo=UTC)  # days are counted from the one, and fit up to the other
TOO_EARLY_KNOWN = timedelta(days=1)  # as the log has it: a wrong device clock


def _canonical(name: str) -> str:
    if name not in EVENTS:
        raise ValueError(f"not one of the canonical events: {', '.join(EVENTS)}")
    return name


def _written(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('write it as text, such as "2026-11-22T14:05:00+01:00"')
    return value


def _possible(moment: datetime) -> datetime:
    if not FIRST <= moment < LAST:
        raise ValueError(f"before {FIRST.year} or not before {LAST.year}: is it in seconds what should be in milliseconds?")
    return moment


Moment = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_possible)]
Text = Annotated[StrictStr | None, Field(max_length=LONGEST_TEXT)]
Amount = Annotated[StrictInt | None, Field(ge=-LARGEST_AMOUNT, le=LARGEST_AMOUNT, description="In minor units (cents) of the shop's currency.")]


class PostedEvent(Request):
    """One thing that the user did, in the names of Encore's event log."""

    event: Annotated[StrictStr, AfterValidator(_canonical), Field(json_schema_extra={"enum": list(EVENTS)})]
    occurred_at: Annotated[Moment, Field(description="ISO 8601 with its offset from UTC.", examples=["2026-11-22T14:05:00+01:00"])]
    known_at: Annotated[Moment | None, Field(description="When the shop's systems had it; by default when it occurred.")] = None
    event_id: Annotated[Text, Field(description="The same id twice is the same event and counts once.")] = None
    order_id: Annotated[Text, Field(description="Ties an order to its lines and its cancellation.")] = None
    product_id: Text = None
    quantity: Annotated[StrictInt | None, Field(ge=-LARGEST_QUANTITY, le=LARGEST_QUANTITY)] = None
    value_cents: Amount = None
    discount_cents: Amount = None
    coupon_cents: Amount = None
    currency: Annotated[StrictStr | None, Field(pattern="^[A-Z]{3}$", description="The shop's own, or nothing.")] = None
    campaign: Text = None
    channel: Text = None
    source: Text = None
    medium: Text = None
    detail: Text = None
    level: Annotated[StrictInt | None, Field(ge=-LARGEST_AMOUNT, le=LARGEST_AMOUNT)] = None

    @model_validator(mode="after")
    def known_in_time(self) -> Self:
        if self.known_at is not None and self.occurred_at - self.known_at > TOO_EARLY_KNOWN:
            raise ValueError("happened more than a day after it became known: a wrong device clock?")
        return self


class EventsRequest(Request):
    """Everything that a user ever did."""

    events: Annotated[list[PostedEvent], Field(min_length=1, max_length=MOST_EVENTS, description="Up to 1,000 events, in any order.")]
    user_id: Annotated[
        StrictStr | None,
        Field(max_length=2_000, description="Comes back in the answer. Of a known user the history must be complete."),
    ] = None
    complete_history: Annotated[StrictBool, Field(description="These events are all that the user ever did.")] = False
    as_of: Annotated[
        Annotated[date, BeforeValidator(_written), Field(ge=FIRST.date(), lt=LAST.date())] | None,
        Field(description="Only what is before midnight of this day in the shop's zone counts. Default: tomorrow."),
    ] = None
    reasons: Annotated[StrictBool, Field(description="Add the strongest reasons.")] = False
    vector: Annotated[StrictBool, Field(description="Add the features that the events gave.")] = False

    @model_validator(mode="after")
    def said_once(self) -> Self:
        first: dict[str, PostedEvent] = {}
        for place, event in enumerate(self.events):
            if event.event_id is not None and first.setdefault(event.event_id, event) != event:
                raise ValueError(f"events.{place} has the event_id of an earlier one and says something else; post its last version alone")
        return self


class EventsBody(BaseModel):
    """What the model says of a user who did these things. Whether its question is about such a user is not asked: see `eligible` in `/v1/models`."""

    model_config = ConfigDict(from_attributes=True)

    task: str
    user_id: str | None
    history: Annotated[Literal["posted"], Field(description="What was counted: the posted events, and nothing that is stored.")]
    as_of: Annotated[date, Field(description="Everything before midnight of this day in the shop's zone was counted.")]
    used: Annotated[int, Field(description="Events that were counted.")]
    ignored: Annotated[int, Field(description="Events left out: at or after `as_of`, said twice, or cancelled before it was known.")]
    stage: Annotated[Literal["first", "second", "repeat"], Field(description="Which order is the user's next.", examples=list(STAGES))]
    probability: Annotated[float | None, Field(description="Calibrated probability; null where the prediction is not one.")]
    value: float | None
    effect: float | None
    score: Annotated[float | None, Field(description="0 to 100: the probability in percent; for other predictions the percentile.")]
    percentile: Annotated[float, Field(description="0 to 100: where it would stand among the eligible users of the release.")]
    band: Literal["low", "medium", "high"]
    details: dict[str, float | None] | None
    vector: Annotated[dict[str, float | None] | None, Field(description="Feature -> value, where it was asked for.")]
    reasons: list[ReasonBody] | None
    model_version: str
    release: str
    baseline: bool
