from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from features.errors import UnknownName
from serving.border.problems import RESPONSES
from serving.quality.standing import Standing, standings
from serving.quality.store import Judgement, NotedRun
from serving.routes.parts import CurrentPart, LedgerPart

router = APIRouter(prefix="/v1/quality", tags=["models"], responses=RESPONSES)

NOT_YET = "No score run was looked at yet. Where the shop's data are, run: encore score after each publish, and encore quality after each ingest"


class IntervalBody(BaseModel):
    """A number with its 95 % interval over customers, where it has one."""

    value: float | None
    low: float | None = None
    high: float | None = None


class AlertBody(BaseModel):
    """A written rule that speaks."""

    rule: Annotated[str, Field(examples=["ranking", "level", "feature drift"])]
    text: Annotated[str, Field(description="What was seen, against what was expected then.")]
    advice: Annotated[str, Field(description="What to do.")]


class StratumBody(BaseModel):
    """Some of the users of a run: all, those whom no campaign reached within the horizon, those whom one did."""

    rows: int
    positives: int
    metrics: Annotated[dict[str, IntervalBody], Field(description="As realised.")]
    promised: Annotated[dict[str, IntervalBody], Field(description="As these very scores promise, if each probability is true.")]
    expected: Annotated[IntervalBody | None, Field(description="How many were expected to do it; of a value, its sum in the smallest unit.")]
    actual: float | None
    reliability: Annotated[list[dict[str, float]], Field(description="By rising probability: predicted, observed with low and high, count.")]
    unknown: Annotated[str | None, Field(description="Why it could not be measured.")] = None


class JudgementBody(BaseModel):
    """What a score run turned out to be worth, by what the log said at one moment; late data make a further one."""

    run: str
    release: str
    version: str
    as_of: Annotated[date, Field(description="Date of its features.")]
    closes: Annotated[date, Field(description="When its horizon was over.")]
    number: Annotated[int, Field(description="Of the judgements of this run, from 1.")]
    judged_at: datetime
    strata: dict[str, StratumBody]
    alerts: list[AlertBody]


class PendingBody(BaseModel):
    """A run whose horizon is not over: nothing can be said, and that is not a zero."""

    run: str
    as_of: date
    closes: date


class TaskQualityBody(BaseModel):
    task: str
    state: Annotated[Literal["judged", "pending", "unanswered"], Field(description="`unanswered`: it is over, and nobody has an answer; see `reason`.")]
    reason: str | None
    alerts: Annotated[list[AlertBody], Field(description="Of the last judged run, and of drift of what is in service.")]
    last: JudgementBody | None
    earlier: Annotated[list[JudgementBody], Field(description="Other runs, newest first, as many as `runs` asks for.")]
    pending: list[PendingBody]


class QualityBody(BaseModel):
    """What the last `encore quality` found."""

    state: Literal["known", "unknown"]
    next: Annotated[str | None, Field(description="What to run where nothing is known.")]
    predictions: list[TaskQualityBody]


@router.get("", summary="How good was what we served?")
def get_quality(
    ledger: LedgerPart,
    current: CurrentPart,
    task: Annotated[str | None, Query(description="One prediction; all of them otherwise.")] = None,
    runs: Annotated[int, Query(ge=0, le=400, description="How many earlier runs to tell of.")] = 0,
) -> QualityBody:
    """Realised quality of what was served, run by run, against what was expected of it then; drift of what is in service; the alerts that hold.

    Effects of campaigns are not in it: the untreated are judged apart from the treated. A run is judged once its horizon is over.
    """
    if ledger.is_absent:
        found: dict[str, Standing] = {}
    else:
        found = standings(ledger, current.loaded.release.id if current.loaded else None)
    if task is not None and found and task not in found:
        raise UnknownName("prediction", task, found)
    chosen = [standing for name, standing in found.items() if task in (None, name)]
    return QualityBody(state="known" if found else "unknown", next=None if found else NOT_YET, predictions=[_body(standing, runs) for standing in chosen])


def _body(standing: Standing, runs: int) -> TaskQualityBody:
    judged = [_judgement(*one) for one in standing.judged[::-1][: runs + 1]]
    state: Literal["judged", "pending", "unanswered"] = "judged" if judged else "unanswered" if standing.unanswered else "pending"
    return TaskQualityBody(
        task=standing.task,
        state=state,
        reason=standing.unanswered[-1][1] if state == "unanswered" else None,
        alerts=[AlertBody.model_validate(alert) for alert in standing.alerts],
        last=judged[0] if judged else None,
        earlier=judged[1:],
        pending=[PendingBody(run=run.run, as_of=run.as_of, closes=run.closes) for run in standing.pending],
    )


def _judgement(run: NotedRun, judgement: Judgement) -> JudgementBody:
    return JudgementBody(
        run=run.run,
        release=run.release,
        version=run.version,
        as_of=run.as_of,
        closes=run.closes,
        number=judgement.number,
        judged_at=judgement.judged_at,
        strata={name: _stratum(judgement.facts[name]) for name in ("all", "untreated", "treated") if name in judgement.facts},
        alerts=[AlertBody.model_validate(alert) for alert in judgement.alerts],
    )


def _stratum(told: dict[str, Any]) -> StratumBody:
    nothing: dict[str, Any] = {"metrics": {}, "promised": {}, "expected": None, "actual": None, "reliability": [], "unknown": None}
    known = {name: told.get(name) or nothing[name] for name in nothing}
    return StratumBody.model_validate({**known, "actual": told.get("actual"), "rows": told["rows"], "positives": told["positives"]})
