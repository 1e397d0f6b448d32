from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from serving.ledger import Job
from serving.problems import RESPONSES, documented
from serving.routes.parts import LedgerPart
from serving.schemas import JobBody, LookalikeBody, LookalikeRequest

router = APIRouter(tags=["look-alikes"], responses=RESPONSES)

Name = Annotated[str, Path(description="The look-alike's name.")]


@router.post("/v1/lookalikes", status_code=202, summary="Find users like a seed", responses={200: {"model": LookalikeBody}, **documented(409)})
def post_lookalike(request: LookalikeRequest, ledger: LedgerPart, response: Response) -> LookalikeBody:
    """Queue a seed to be contrasted, proven and expanded; `encore work` does it where training is installed.

    Ask `GET /v1/lookalikes/{name}` how it went. When it is done, an audience of the same name exists and its model is served as
    `lookalike-{name}`. The same request again is the same look-alike (200), or another try (202) where it failed.
    """
    job, new = ledger.order_lookalike(request.name, request.model_dump(mode="json", exclude={"name"}))
    response.status_code = 202 if new else 200
    return _body(request.name, job)


@router.get("/v1/lookalikes", summary="The look-alikes that were asked for")
def get_lookalikes(ledger: LedgerPart) -> list[LookalikeBody]:
    """Every look-alike with its state."""
    return [_body(name, ledger.lookalike(name)) for name in ledger.lookalikes()]


@router.get("/v1/lookalikes/{name}", summary="How a look-alike went")
def get_lookalike(name: Name, ledger: LedgerPart) -> LookalikeBody:
    """Its state, and when it is done its audience, the contrast in words and the proof. Members: `/v1/audiences/{name}/members`."""
    return _body(name, ledger.lookalike(name))


@router.delete("/v1/lookalikes/{name}", status_code=202, summary="Delete a look-alike with its seed")
def delete_lookalike(name: Name, ledger: LedgerPart) -> JobBody:
    """Its audience is gone at once; `encore work` deletes the seed's ids, and the next release is without its model."""
    return JobBody.model_validate(ledger.forget_lookalike(name))


def _body(name: str, job: Job) -> LookalikeBody:
    return LookalikeBody.model_validate({"name": name, "state": job.state, "job": job.id, "result": job.result})
