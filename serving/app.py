"""The HTTP border: a FastAPI app over a scorer and a ledger."""

from __future__ import annotations

import gc
import math
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.gzip import GZipMiddleware

from features.errors import InvalidShopFile
from features.workspace import Workspace
from serving.arrow import arrow_without_pandas
from serving.border import keys_copy, problems
from serving.border.auth import Keyed, Keyring, describe_keys
from serving.border.body_limit import BodyLimit
from serving.border.description import DESCRIPTION, TAGS, describe_journeys, operation_id
from serving.border.keys_copy import KeysCopy
from serving.border.limits import THREADS, TURN, Limited
from serving.border.observe import AccessLog, Observed
from serving.border.sessions import Attempts, Sessions
from serving.current import Current
from serving.events import PostedEvents
from serving.hot import HotScores
from serving.journeys.ask import Journeys
from serving.journeys.known import KnownAudiences
from serving.journeys.token import LEAST_KEY, JourneyBuilder
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
    keys_copy: where the keys are copied to, for a start while the ledger is down. journey_builder: how Salesforce signs, where it may ask.
    session_secret: what the console's cookies are signed with.
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
    keys_copy: Path | None = None
    journey_builder: JourneyBuilder | None = None
    session_secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)


def service_settings(workspace: Workspace, environment: Mapping[str, str] = os.environ) -> ServiceSettings:
    """Settings of a workspace's service.

    ENCORE_SCORES_GOOD_FOR_HOURS: how long scores are fresh (48). ENCORE_PER_SECOND: requests of a key (1000). ENCORE_MOST_AT_ONCE: requests
    at once in a process (128). ENCORE_OPEN=1: listen anywhere without a key. ENCORE_SCORES_HARD_LIMIT_HOURS: age of scores from which the
    service is not ready (168). ENCORE_ACCESS_LOG: off, errors or all. ENCORE_SFMC_JWT_KEY: what Salesforce's Journey Builder signs its calls with,
    32 bytes or more; ENCORE_SFMC_CUSTOMER_KEY: the External Key's name, where it signs with one. ENCORE_SESSION_SECRET: what the console's cookies
    are signed with, where several hosts answer for one address (by default another one at every start: people sign in again).
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
    signed_with = environment.get("ENCORE_SFMC_JWT_KEY", "")
    if 0 < len(signed_with.encode()) < LEAST_KEY:
        seen = f"ENCORE_SFMC_JWT_KEY has {len(signed_with.encode())} bytes; it must have {LEAST_KEY} or more"
        raise InvalidShopFile("the environment", [f"{seen}, as the JWT Signing Secret of an installed package has"])
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
        keys_copy=workspace.releases / keys_copy.FILE,
        workers=int(number("ENCORE_WORKERS", 1, "processes", 1)),
        journey_builder=JourneyBuilder(signed_with, environment.get("ENCORE_SFMC_CUSTOMER_KEY")) if signed_with else None,
        session_secret=environment.get("ENCORE_SESSION_SECRET") or secrets.token_hex(32),
    )


def create_app(settings: ServiceSettings) -> FastAPI:
    """The service. It starts whatever is missing, and says what is missing."""
    arrow_without_pandas()
    current, ledger = Current(settings.releases, settings.good_for), Ledger(settings.ledger_url)
    keyring, posted = Keyring(ledger, KeysCopy(settings.keys_copy, settings.ledger_url) if settings.keys_copy else None), PostedEvents(current)

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
    app.state.quality_gauges = settings.preflight.with_name("quality.prom") if settings.preflight else None
    app.state.journeys = Journeys(current, app.state.answers, KnownAudiences())
    app.state.journey_builder = settings.journey_builder
    app.state.sessions, app.state.attempts = Sessions(settings.session_secret), Attempts()
    problems.install(app)
    app.state.hard_limit = settings.hard_limit
    app.add_middleware(GZipMiddleware, minimum_size=WORTH_PACKING, compresslevel=1)  # the first one added is the innermost
    app.add_middleware(HotScores, answers=app.state.answers, events=posted)
    app.add_middleware(BodyLimit, most=LARGEST_BODY)
    app.add_middleware(Limited, per_second=settings.per_second, workers=settings.workers, most_at_once=settings.most_at_once)
    app.add_middleware(Keyed, keyring=keyring, sessions=app.state.sessions)
    app.add_middleware(Observed, access_log=settings.access_log)
    for router in ROUTERS:
        app.include_router(router)
    describe_keys(app)
    describe_journeys(app)
    return app
