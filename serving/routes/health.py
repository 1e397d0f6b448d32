from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from serving.border.auth import Keyring
from serving.current import Current
from serving.metrics import exposition
from serving.routes.parts import CurrentPart, KeyringPart
from serving.schemas import HealthBody

router = APIRouter(tags=["health"])


@router.get("/health/live", summary="Is the process up?")
async def live() -> HealthBody:
    """200 as long as the process answers at all."""
    return HealthBody(status="live")


@router.get("/health/ready", summary="Can it score?", responses={503: {"model": HealthBody}})
async def ready(current: CurrentPart, keyring: KeyringPart, request: Request, response: Response) -> HealthBody:
    """200 when a release is in service, with the status `stale` once its scores have expired. 503 with the reason when there is none (`no_model`),
    when its scores are older than the hard limit (`too_old`; they are given all the same), or when keys are needed that nobody knows."""
    body = health_of(current, keyring, request.app.state.hard_limit)
    if body.status == "not ready":
        response.status_code = 503
        response.headers["Retry-After"] = "30"
    return body


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(current: CurrentPart, request: Request) -> Response:
    """Requests and latencies by route; scores by status and version; ages of features, scores and models; swaps, refused releases, lost log lines; realised
    quality, expectation and alerts of each prediction as `encore quality` last found them."""
    return Response(exposition(current, request.app.state.quality_gauges), media_type=CONTENT_TYPE_LATEST)


# Some load balancers probe with HEAD.
router.add_api_route("/health/live", live, methods=["HEAD"], include_in_schema=False)
router.add_api_route("/health/ready", ready, methods=["HEAD"], include_in_schema=False)


def health_of(current: Current, keyring: Keyring, hard_limit: timedelta) -> HealthBody:
    """What every page that tells of readiness says."""
    body = _health(current, hard_limit)
    body.keys = keyring.state
    if body.keys == "unknown":
        body.status, body.reason = "not ready", "keys_unknown"
    return body


def _health(current: Current, hard_limit: timedelta) -> HealthBody:
    scorer = current.loaded
    if scorer is None:
        return HealthBody(status="not ready", reason="no_model", failure=current.failure)
    now = datetime.now(UTC)
    stale, too_old = scorer.is_stale(now), now - scorer.scored_at >= hard_limit
    return HealthBody(
        status="not ready" if too_old else "stale" if stale else "ready",
        reason="too_old" if too_old else "stale" if stale else None,
        release=scorer.release.id,
        as_of=scorer.release.manifest["as_of"],
        stale=stale,
        failure=current.failure,
    )
