from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, ValidationError

from serving.border.problems import RESPONSES
from training.preflight_notes import read_notes

router = APIRouter(prefix="/v1/preflight", tags=["models"], responses=RESPONSES)

NOT_YET = "Nothing was checked yet. Where the shop's data are, run: encore check"
WORST = ("fail", "warn", "pass")

Verdict = Annotated[Literal["pass", "warn", "fail"], Field(description="`warn`: it can be trained, with less trust; `fail`: it would be refused.")]


class CheckBody(BaseModel):
    """One condition of a prediction: what was seen, what is required, and what to do where it is not met."""

    name: str
    seen: str
    required: str
    verdict: Verdict
    advice: str


class RetrainBody(BaseModel):
    """What the last retrain of a prediction did."""

    at: datetime
    state: Annotated[str, Field(examples=["promoted", "refused", "no usable data"])]
    reason: str


class PredictionBody(BaseModel):
    task: str
    verdict: Annotated[Verdict | None, Field(description="The worst of its checks; null when it was retrained and never checked.")]
    checked_at: datetime | None
    as_of: Annotated[date | None, Field(description="What was known before this date was looked at.")]
    checks: list[CheckBody]
    retrain: RetrainBody | None


class PreflightBody(BaseModel):
    """What the last `encore check` and the last retrain said."""

    state: Literal["known", "unknown"]
    next: Annotated[str | None, Field(description="What to run where nothing is known.")]
    predictions: list[PredictionBody]


@router.get("", summary="Can each prediction be trained on these data?")
def get_preflight(request: Request) -> PreflightBody:
    """What each prediction needs of the data and what the data have, as `encore check` found it; also for a shop that has no model yet.

    It is read from the workspace: `state` is `unknown` until a check or a retrain has run there.
    """
    path: Path | None = request.app.state.preflight
    found = [body for task, note in sorted(read_notes(path).items()) if (body := _body(task, note))] if path else []
    return PreflightBody(state="known" if found else "unknown", next=None if found else NOT_YET, predictions=found)


def _body(task: str, note: dict[str, Any]) -> PredictionBody | None:
    """A note as it is sent; None for one that another version of Encore wrote otherwise."""
    try:
        checks = [CheckBody.model_validate(check) for check in note.get("checks", ())]
        verdict = next((worst for worst in WORST if any(check.verdict == worst for check in checks)), None)
        dates = {name: note.get(name) for name in ("checked_at", "as_of", "retrain")}
        return PredictionBody.model_validate({"task": task, "verdict": verdict, "checks": checks, **dates})
    except (ValidationError, TypeError, AttributeError):
        return None
