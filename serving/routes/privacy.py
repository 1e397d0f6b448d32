from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import Field, StrictStr, model_validator

from features.errors import UnknownName
from features.tombstones import NO_MARKETING, NO_PROFILING
from serving import schemas
from serving.border.once import OnceRoute, once
from serving.border.problems import RESPONSES, documented
from serving.jobs import Jobs
from serving.routes.parts import LedgerPart
from serving.schemas import JobBody

router = APIRouter(tags=["privacy"], responses=RESPONSES, route_class=OnceRoute)

KIND = "privacy"


class PrivacyRequest(schemas.Request):
    """What is asked about some users. `suppress` and `lift` need a `kind`; `export` is of one user."""

    request: Literal["delete", "export", "suppress", "lift"]
    user_ids: Annotated[
        list[Annotated[StrictStr, Field(min_length=1, max_length=256)]], Field(min_length=1, max_length=1_000, description="Ids, or SHA-256 hashes of ids.")
    ]
    kind: Annotated[
        Literal["no_profiling", "no_marketing"] | None,
        Field(description=f"`{NO_PROFILING}`: not trained on, not scored. `{NO_MARKETING}`: scored, and in no audience, export, journey or campaign."),
    ] = None
    reason: Annotated[StrictStr, Field(max_length=200, pattern=r"^[^\x00]*$", description="In a few words that name nobody.", examples=["asked by mail"])] = (
        "asked"
    )

    @model_validator(mode="after")
    def is_whole(self) -> PrivacyRequest:
        if (self.kind is not None) != (self.request in ("suppress", "lift")):
            raise ValueError("`kind` goes with `suppress` and `lift`, and with nothing else")
        if self.request == "export" and len(self.user_ids) > 1:
            raise ValueError("an export is of one user: send a request for each")
        return self


@router.post("/v1/privacy/requests", status_code=202, summary="Delete, export or suppress users", responses=documented(409), dependencies=[Depends(once)])
def post_privacy_request(request: PrivacyRequest, ledger: LedgerPart, caller: Request) -> JobBody:
    """Queue a request; `encore work` carries it out where the workspace lies, and the ids leave the queue with it.

    A deletion waits for a retrain that is running; an export is written to the workspace's folder `privacy/exports/`, never sent over HTTP.
    What was done stands in the audit log under the name of the API key.
    """
    key = caller.scope.get("key")
    asked = {**request.model_dump(mode="json"), "who": f"key {key.name} ({key.id})" if key else "HTTP without a key"}
    return JobBody.model_validate(Jobs(ledger).queue(KIND, asked))


@router.get("/v1/privacy/requests/{request_id}", summary="How a privacy request went")
def get_privacy_request(request_id: Annotated[str, Path(pattern=r"^[^\x00]*$")], ledger: LedgerPart) -> JobBody:
    """Its state, and once it is done the receipt's counts or the export's folder. It repeats no id."""
    job = Jobs(ledger).job(request_id)
    if job.kind != KIND:
        raise UnknownName("privacy request", request_id, ())
    return JobBody.model_validate(job)
