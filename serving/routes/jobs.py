from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from serving.border.problems import RESPONSES
from serving.jobs import Jobs
from serving.routes.parts import LedgerPart
from serving.schemas import JobBody

router = APIRouter(tags=["jobs"], responses=RESPONSES)


@router.get("/v1/jobs/{job_id}", summary="How a job went")
def get_job(
    job_id: Annotated[str, Path(pattern=r"^[^\x00]*$", description="As the answer to the request said that queued it.")], ledger: LedgerPart
) -> JobBody:
    """The state of a queued piece of work, and its result."""
    return JobBody.model_validate(Jobs(ledger).job(job_id))
