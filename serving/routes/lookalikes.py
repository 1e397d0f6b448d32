from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Response

from features.errors import UnknownName
from serving.audiences.ranking import ranked
from serving.border.once import OnceRoute, once
from serving.border.problems import RESPONSES, documented
from serving.current import Current
from serving.jobs import Job
from serving.lookalike_schemas import NAME, LookalikeBody, LookalikeRequest
from serving.orders import Lookalikes
from serving.release import ENTERED, LEFT
from serving.routes.parts import CurrentPart, LedgerPart, ScorerPart
from serving.schemas import JobBody, MembersBody

router = APIRouter(tags=["look-alikes"], responses=RESPONSES, route_class=OnceRoute)

Name = Annotated[str, Path(description="The look-alike's name.", pattern=NAME, examples=["sample-2026-06"])]
CHANGES = {"entries": ENTERED, "exits": LEFT}


@router.post(
    "/v1/lookalikes",
    status_code=202,
    summary="Find users like a seed",
    responses={200: {"model": LookalikeBody}, **documented(409)},
    dependencies=[Depends(once)],
)
def post_lookalike(request: LookalikeRequest, ledger: LedgerPart, current: CurrentPart, response: Response) -> LookalikeBody:
    """Queue a seed to be contrasted, proven and expanded; `encore work` does it where training is installed.

    Ask `GET /v1/lookalikes/{name}` how it went. When it is done, an audience of the same name exists and its model is served as
    `lookalike-{name}`. The same request again is the same look-alike (200), or another try (202) where it failed.
    """
    job, new = Lookalikes(ledger).order(request.name, request.model_dump(mode="json", exclude={"name"}))
    response.status_code = 202 if new else 200
    return _body(request.name, job, current)


@router.get("/v1/lookalikes", summary="The look-alikes that were asked for")
def get_lookalikes(ledger: LedgerPart, current: CurrentPart) -> list[LookalikeBody]:
    """Every look-alike with its state."""
    return [_body(name, job, current) for name, job in Lookalikes(ledger).all().items()]


@router.get("/v1/lookalikes/{name}", summary="How a look-alike went")
def get_lookalike(name: Name, ledger: LedgerPart, current: CurrentPart) -> LookalikeBody:
    """Its state; when it is done its contrast in words and its proof, and the audience as the current release has it: size, entries and
    exits of the last refresh. Members: `/v1/audiences/{name}/members`; who came and went: `/v1/lookalikes/{name}/changes`."""
    return _body(name, Lookalikes(ledger).job(name), current)


@router.post(
    "/v1/lookalikes/{name}/refresh",
    status_code=202,
    summary="Make its audience of today's users",
    responses=documented(409),
    dependencies=[Depends(once)],
)
def post_refresh(name: Name, ledger: LedgerPart) -> JobBody:
    """Queue a refresh and a release; `encore publish` does the same for every look-alike. The size stays, and users are exchanged only for
    others who are clearly more alike."""
    return JobBody.model_validate(Lookalikes(ledger).refresh(name))


@router.get("/v1/lookalikes/{name}/changes", summary="Who came and went at the last refresh")
def get_changes(
    name: Name,
    scorer: ScorerPart,
    which: Annotated[Literal["entries", "exits"], Query(description="`entries`: members who are new; `exits`: users who are no members any more.")],
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> MembersBody:
    """User ids, a page at a time: entries best first, exits in the order of ids. Users whom the shop does not know any more are not among them."""
    release, task = scorer.release, f"lookalike-{name}"
    if task not in release.members:
        raise UnknownName("look-alike", name, [known.removeprefix("lookalike-") for known in release.members])
    kind = release.members[task] == CHANGES[which]
    order = ranked(release.scores[task].score)
    rows = release.withheld.without(order[kind[order]] if which == "entries" else np.flatnonzero(kind))
    ids = [user.decode() for user in release.users[rows[offset : offset + limit]]]
    return MembersBody(release=release.id, user_ids=ids, next_offset=offset + limit if offset + limit < len(rows) else None)


@router.delete("/v1/lookalikes/{name}", status_code=202, summary="Delete a look-alike with its seed")
def delete_lookalike(name: Name, ledger: LedgerPart) -> JobBody:
    """Its audience is gone at once; `encore work` deletes the seed's ids, audiences and exports, and the next release is without its model.

    A seed of this name that was made on the command line stays, and the job's result says so.
    """
    return JobBody.model_validate(Lookalikes(ledger).forget(name))


def _body(name: str, job: Job, current: Current) -> LookalikeBody:
    loaded = current.loaded
    facts = loaded.tasks.get(f"lookalike-{name}", {}) if loaded and job.state == "done" else {}
    return LookalikeBody.model_validate({"name": name, "state": job.state, "job": job.id, "result": job.result, "audience": facts.get("audience")})
