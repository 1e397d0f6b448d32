"""The HTTP border: a FastAPI app over a scorer and a ledger."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from features.errors import InvalidShopFile
from features.workspace import Workspace
from serving import problems
from serving.current import Current
from serving.hot import HotScores
from serving.ledger import Ledger
from serving.limit import BodyLimit
from serving.observe import Observed
from serving.routes import ROUTERS
from serving.score_json import Answers

LARGEST_BODY = 1_000_000  # bytes; 1,000 of the longest ids take a quarter of it

DESCRIPTION = """
Scores of a shop's users, and audiences cut from them.

Every state of a user is an answer with status 200: look at `status` (`OK`, `STALE`, `NOT_ELIGIBLE`, `NOT_FOUND`,
`INVALID`). Errors are `application/problem+json` and never repeat what was sent. `503` comes with `Retry-After`.
`/v1/journeys/...` answers 200 in every state, with `branch: "fallback"` when nothing can be said.
"""


@dataclass(frozen=True)
class ServiceSettings:
    """What the service is told by its environment.

    releases: folder of releases; ledger_url: SQLAlchemy URL; good_for: how long a score counts as fresh.
    """

    releases: Path
    ledger_url: str
    good_for: timedelta = timedelta(hours=48)


def service_settings(workspace: Workspace, environment: Mapping[str, str] = os.environ) -> ServiceSettings:
    """Settings of a workspace's service; ENCORE_SCORES_GOOD_FOR_HOURS sets how long scores are fresh (default 48)."""
    told = environment.get("ENCORE_SCORES_GOOD_FOR_HOURS", "48")
    try:
        hours = float(told)
    except ValueError:
        raise InvalidShopFile("the environment", [f"ENCORE_SCORES_GOOD_FOR_HOURS is '{told}'; it must be a number of hours, such as 48"]) from None
    return ServiceSettings(workspace.releases, workspace.ledger_url, timedelta(hours=hours))


def create_app(settings: ServiceSettings) -> FastAPI:
    """The service. It starts whatever is missing, and says what is missing."""
    current = Current(settings.releases, settings.good_for)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        current.refresh()
        current.watch()
        # What stands now stands for good: the collector need not walk through it again, which stops everything for tens of milliseconds.
        gc.collect()
        gc.freeze()
        yield
        current.stop()

    silent = {"tracing": False, "metrics": False, "logs": False}  # FastAPI would look for OpenTelemetry at every request
    app = FastAPIOffline(title="Encore", version="1", description=DESCRIPTION, lifespan=lifespan, telemetry=silent)
    app.state.current = current
    app.state.ledger = Ledger(settings.ledger_url)
    app.state.answers = Answers(current)
    problems.install(app)
    app.add_middleware(HotScores, answers=app.state.answers)  # the first one added is the innermost
    app.add_middleware(BodyLimit, most=LARGEST_BODY)
    app.add_middleware(Observed)
    for router in ROUTERS:
        app.include_router(router)
    return app
