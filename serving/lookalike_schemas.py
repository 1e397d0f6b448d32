"""What goes over the wire about look-alikes."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

from serving.schemas import Request

MOST_SEED = 100_000
NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class SeedRequest(Request):
    """Exactly one of user_ids, rule and campaign. With `bought`, `bought_category` or `within`, the first and the last name
    receivers of a sample: who bought afterwards is the seed, who did not are explicit negatives."""

    user_ids: Annotated[list[StrictStr] | None, Field(min_length=1, max_length=MOST_SEED, description="Ids, e-mail addresses or their SHA-256 hashes.")] = None
    rule: Annotated[StrictStr | None, Field(max_length=2_000, examples=["super users"], description="Of the users as of `as_of`.")] = None
    campaign: Annotated[StrictStr | None, Field(max_length=200, description="A past campaign in the log.")] = None
    bought: Annotated[list[StrictStr], Field(default_factory=list, max_length=1_000, description="Products that receivers bought later.")]
    bought_category: Annotated[list[StrictStr], Field(default_factory=list, max_length=1_000, description="Categories from which receivers bought later.")]
    within: Annotated[StrictInt | None, Field(ge=1, le=365, description="Days to buy, counted from the day of receipt. Default: 60.")] = None
    received: Annotated[
        date | Annotated[list[date], Field(min_length=1, max_length=MOST_SEED)] | None,
        Field(description="The day on which user_ids received the sample: one for all, or one for each, in their order."),
    ] = None
    as_of: Annotated[date | None, Field(description="The seed's date: users are described as they were before it.")] = None
    negatives: Annotated[list[StrictStr] | None, Field(max_length=MOST_SEED, description="Users who are known not to be such.")] = None
    exclude: Annotated[list[StrictStr] | None, Field(max_length=MOST_SEED, description="Users to leave out altogether.")] = None
    defined_by: Annotated[
        list[StrictStr], Field(default_factory=list, max_length=100, description="Features that it was chosen by; the model may not see them.")
    ]
    candidates: Annotated[StrictStr | None, Field(max_length=2_000, examples=["orders_count >= 1"], description="Rule of who may become a look-alike.")] = None
    keep_days: Annotated[StrictInt, Field(ge=1, le=3650, description="Days until the seed's ids, its audiences and its exports are deleted.")] = 365

    @model_validator(mode="after")
    def one_source(self) -> SeedRequest:
        given = [name for name in ("user_ids", "rule", "campaign") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of user_ids, rule, campaign; {len(given)} were given")
        if isinstance(self.received, list) and len(self.received) != len(self.user_ids or ()):
            raise ValueError(f"received has {len(self.received)} days for {len(self.user_ids or ())} user_ids; give one for each, or a single day for all")
        return self


class LookalikeRequest(Request):
    """A seed and one dial: how many users, which share of the candidates, or how alike (50 is the typical seed user)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "sample-2026-06", "seed": {"user_ids": ["1029", "1030"]}, "top_percent": 5}]})

    name: Annotated[StrictStr, Field(pattern=NAME, examples=["sample-2026-06"])]
    seed: SeedRequest
    size: Annotated[StrictInt | None, Field(ge=1, le=100_000_000, description="So many users, the same number at every refresh.")] = None
    top_percent: Annotated[float | None, Field(gt=0, le=100, strict=True)] = None
    similarity: Annotated[float | None, Field(ge=0, le=100, strict=True)] = None
    base_rate: Annotated[
        float | None, Field(gt=0, lt=1, strict=True, description="Share of the candidates who are what you look for; with it likeness becomes a probability.")
    ] = None
    by: Annotated[
        list[StrictStr],
        Field(default_factory=list, max_length=2, description="Two factors, features or labels, by which the contrast is cut.", examples=[["stage", "age"]]),
    ]

    @model_validator(mode="after")
    def one_dial(self) -> LookalikeRequest:
        given = [name for name in ("size", "top_percent", "similarity") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of size, top_percent, similarity; {len(given)} were given")
        if len(self.by) == 1:
            raise ValueError("by takes two factors; 1 was given")
        return self


class LookalikeAudience(BaseModel):
    """The audience of a look-alike as its last refresh made it."""

    size: int
    entries: Annotated[int, Field(description="Members who were not in it at the refresh before.")]
    exits: Annotated[int, Field(description="Members of the refresh before who left.")]
    as_of: str
    before: Annotated[str | None, Field(description="Date of the audience that entries and exits are counted from; null for the first.")]
    expected: Annotated[float | None, Field(description="How many members are what is looked for, where a base rate was given.")] = None


class LookalikeBody(BaseModel):
    """A look-alike: `queued` until `encore work` takes it up; `done` with its contrast and proof; `failed` with the reason."""

    name: str
    state: Literal["queued", "running", "done", "failed"]
    job: str
    result: Annotated[dict[str, Any] | None, Field(description="size, contrast in words, proof, decision; or the reason of the failure.")]
    audience: Annotated[LookalikeAudience | None, Field(description="In the current release; null while there is none.")] = None
