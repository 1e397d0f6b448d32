"""The HTTP border: a FastAPI app over a scorer and a ledger."""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from anyio import CapacityLimiter
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.gzip import GZipMiddleware

from features.errors import InvalidShopFile
from features.workspace import Workspace
from serving.arrow import arrow_without_pandas
from serving.border import problems
from serving.border.auth import Keyed, Keyring, describe_keys
from serving.border.body_limit import BodyLimit
from serving.border.description import DESCRIPTION, TAGS, describe_journeys, operation_id
from serving.border.limits import THREADS, TURN, Limited
from serving.border.observe import AccessLog, Observed
from serving.current import Current
from serving.events import PostedEvents
from serving.hot import HotScores
from serving.ledger import Ledger
from serving.lines import lines_in_background
from serving.routes import ROUTERS
from serving.score_json import Answers
from training import preflight_notes

LARGEST_BODY = 1_000_000  # bytes; 1,000 of the longest ids take a quarter of it
WORTH_PACKING = 10_000  # bytes; an answer below travels in a few packets anyway


@dataclass(frozen=True)
class ServiceSettings:
    """What the service is told by its environment.

    releases: folder of releases; ledger_url: SQLAlchemy URL; good_for: how long a score counts as fresh. per_second: requests of a
    key that says nothing else, shared by `workers` processes; most_at_once: requests in one process; open_on_purpose: whether it may
    listen beyond this machine while no key exists. hard_limit: age of scores from which the service says that it is not ready; access_log:
    which requests have a line. preflight: file of the last check's and retrain's notes.
    """

    releases: Path
    ledger_url: str
    good_for: timedelta = timedelta(hours=48)
    per_second: float = 1_000
    workers: int = 1
    most_at_once: int = 128
    open_on_purpose: bool = False
    hard_limit: timedelta = timedelta(hours=168)
    access_log: AccessLog = AccessLog.ERRORS
    preflight: Path | None = None


def service_settings(workspace: Workspace, environment: Mapping[str, str] = os.environ) -> ServiceSettings:
    """Settings of a workspace's service.

    ENCORE_SCORES_GOOD_FOR_HOURS: how long scores are fresh (48). ENCORE_PER_SECOND: requests of a key (1000). ENCORE_MOST_AT_ONCE: requests
    at once in a process (128). ENCORE_OPEN=1: listen anywhere without a key. ENCORE_SCORES_HARD_LIMIT_HOURS: age of scores from which the
    service is not ready (168). ENCORE_ACCESS_LOG: off, errors or all.
    """

    def number(name: str, default: float, what: str, least: float = -math.inf) -> float:
        told = environment.get(name, str(default))
        with suppress(ValueError):
            if least <= float(told) < math.inf:
                return float(told)
        raise InvalidShopFile("the environment", [f"{name} is '{told}'; it must be a number of {what}, such as {default:g}"])

    told = environment.get("ENCORE_ACCESS_LOG", AccessLog.ERRORS)
    if told not in list(AccessLog):
        raise InvalidShopFile("the environment", [f"ENCORE_ACCESS_LOG is '{told}'; it must be {', '.join(AccessLog)}"])
    return ServiceSettings(
        workspace.releases,
        workspace.ledger_url,
        timedelta(hours=number("ENCORE_SCORES_GOOD_FOR_HOURS", 48, "hours")),
        per_second=number("ENCORE_PER_SECOND", 1_000, "requests a second", 0.001),
        most_at_once=int(number("ENCORE_MOST_AT_ONCE", 128, "requests at once", 4)),
        open_on_purpose=environment.get("ENCORE_OPEN") == "1",
        hard_limit=timedelta(hours=number("ENCORE_SCORES_HARD_LIMIT_HOURS", 168, "hours")),
        access_log=AccessLog(told),
        preflight=workspace.root / preflight_notes.FILE,
        workers=int(number("ENCORE_WORKERS", 1, "processes", 1)),
    )


def create_app(settings: ServiceSettings) -> FastAPI:
    """The service. It starts whatever is missing, and says what is missing."""
    arrow_without_pandas()
    current, ledger = Current(settings.releases, settings.good_for), Ledger(settings.ledger_url)
    keyring, posted = Keyring(ledger), PostedEvents(current)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        current.refresh()
        current.watch()
        keyring.look()
        keyring.watch()
        posted.warm_in_background()
        current_default_thread_limiter().total_tokens = THREADS
        sys.setswitchinterval(TURN)
        # What stands now stands for good: the collector need not walk through it again, which stops everything for tens of milliseconds.
        gc.collect()
        gc.freeze()
        gc.enable()
        with lines_in_background():
            yield
        current.stop()
        keyring.stop()
        ledger.close()

    silent = {"tracing": False, "metrics": False, "logs": False}  # FastAPI would look for OpenTelemetry at every request
    app = FastAPIOffline(
        title="Encore",
        version="1",
        description=DESCRIPTION,
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
        lifespan=lifespan,
        telemetry=silent,
    )
    app.state.current = current
    app.state.ledger = ledger
    app.state.keyring = keyring
    app.state.answers = Answers(current)
    app.state.posted_events = posted
    app.state.preflight = settings.preflight
    app.state.journey_threads, app.state.journeys_asked = CapacityLimiter(2), {}
    problems.install(app)
    app.state.hard_limit = settings.hard_limit
    app.add_middleware(GZipMiddleware, minimum_size=WORTH_PACKING, compresslevel=1)  # the first one added is the innermost
    app.add_middleware(HotScores, answers=app.state.answers, events=posted)
    app.add_middleware(BodyLimit, most=LARGEST_BODY)
    app.add_middleware(Limited, per_second=settings.per_second, workers=settings.workers, most_at_once=settings.most_at_once)
    app.add_middleware(Keyed, keyring=keyring)
    app.add_middleware(Observed, access_log=settings.access_log)
    for router in ROUTERS:
        app.include_router(router)
    describe_keys(app)
    describe_journeys(app)
    return app
