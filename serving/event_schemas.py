"""Events that somebody posts to be scored, and what is answered."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from features.histories import KEPT_ORDERS
from features.vocabulary import EVENTS, STAGES
from serving.schemas import Echo, OfVector, Request

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
    """What a user did: everything, or of a user of the release what came since."""

    events: Annotated[list[PostedEvent], Field(min_length=1, max_length=MOST_EVENTS, description="Up to 1,000 events, in any order.")]
    user_id: Annotated[
        StrictStr | None,
        Field(
            max_length=2_000,
            description="Comes back in the answer. Where the release knows the user, the events are added to the history that it keeps: post what "
            "happened or became known since its date. Who is unknown, or nobody, has done these things alone.",
        ),
    ] = None
    complete_history: Annotated[StrictBool, Field(description="These events are all that the user ever did: nothing that is stored is added to them.")] = False
    as_of: Annotated[
        Annotated[date, BeforeValidator(_written), Field(ge=FIRST.date(), lt=LAST.date())] | None,
        Field(description="Only what is before midnight of this day in the shop's zone counts. Default: tomorrow. Not before the kept history ends."),
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


class EventsBody(OfVector):
    """What the model says of a user who did these things."""

    user_id: Echo | None
    history: Annotated[
        Literal["posted", "stored", "none"],
        Field(description="What was counted: the posted events alone; what the release keeps of the user and the posted events; nothing."),
    ]
    stored_until: Annotated[
        date | None,
        Field(
            description="Where a stored history was counted, the date of the release: it has what had happened and was known before midnight of it. "
            "Null otherwise."
        ),
    ]
    as_of: Annotated[date, Field(description="Everything before midnight of this day in the shop's zone was counted.")]
    used: Annotated[int, Field(description="Events that were counted.")]
    stored: Annotated[
        int,
        Field(
            description="Events left out because the stored history has them: they had happened and were known before `stored_until`. An event that "
            "happened before and became known later counts if its `known_at` says so; an order or line with the `event_id` of a stored one "
            "replaces it."
        ),
    ]
    ignored: Annotated[int, Field(description="Events left out: at or after `as_of`, said twice, or cancelled before it was known.")]
    unresolved: Annotated[
        int,
        Field(
            description=f"Cancelled orders that are neither among the events nor among the stored orders of the last {KEPT_ORDERS} days before "
            "`stored_until`. If one is older, it still counts as placed until the next release. Refunds need no order: each counts by its own amount."
        ),
    ]
    stage: Annotated[Literal["first", "second", "repeat"] | None, Field(description="Which order is the user's next.", examples=list(STAGES))]
    vector: Annotated[dict[str, float | None] | None, Field(description="Feature -> value, where it was asked for.")]
