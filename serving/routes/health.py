from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from serving.current import Current
from serving.observe import READY, REGISTRY, RELEASE_AGE, SWAPS
from serving.routes.parts import CurrentPart
from serving.schemas import HealthBody

router = APIRouter(tags=["health"])


@router.get("/health/live", summary="Is the process up?")
async def live() -> HealthBody:
    """200 as long as the process answers at all."""
    return HealthBody(status="live")


@router.get("/health/ready", summary="Can it score?", responses={503: {"model": HealthBody}})
async def ready(current: CurrentPart, response: Response) -> HealthBody:
    """200 when a release is in service, stale or not; 503 with the reason when there is none."""
    body = _health(current)
    if body.status != "ready":
        response.status_code = 503
        response.headers["Retry-After"] = "30"
    return body


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(current: CurrentPart) -> Response:
    """Requests, latencies, scores by status and version, age of the scores in service, swaps."""
    scorer, now = current.loaded, datetime.now(UTC)
    READY.set(0 if scorer is None or scorer.is_stale(now) else 1)
    SWAPS.set(current.swaps)
    RELEASE_AGE.set((now - scorer.scored_at).total_seconds() if scorer else float("nan"))
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


# Some load balancers probe with HEAD.
router.add_api_route("/health/live", live, methods=["HEAD"], include_in_schema=False)
router.add_api_route("/health/ready", ready, methods=["HEAD"], include_in_schema=False)


def _health(current: Current) -> HealthBody:
    scorer = current.loaded
    if scorer is None:
        return HealthBody(status="not ready", reason="no_model", failure=current.failure)
    stale = scorer.is_stale(datetime.now(UTC))
    return HealthBody(
        status="ready",
        reason="stale" if stale else None,
        release=scorer.release.id,
        as_of=scorer.release.manifest["as_of"],
        stale=stale,
        failure=current.failure,
    )
