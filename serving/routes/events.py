from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from serving.border.problems import RESPONSES
from serving.event_schemas import EventsBody, EventsRequest
from serving.events import PostedEvents

router = APIRouter(prefix="/v1/scores", tags=["scores"], responses=RESPONSES)


async def _posted(request: Request) -> PostedEvents:
    return cast(PostedEvents, request.app.state.posted_events)


@router.post("/{task}:events", summary="The score of a user's events", response_model=EventsBody)
async def post_events(
    task: Annotated[str, Path(description="A prediction, as `/v1/models` lists them.", examples=["repeat_order"])],
    request: EventsRequest,
    posted: Annotated[PostedEvents, Depends(_posted)],
) -> Response:
    """What the model says of somebody who did these things: a new visitor, or a user of the release, to whose stored history they are added.

    Post what happened since the date of the release (`as_of` in `/v1/models`), such as today's visit. What the stored history has already is
    left out and counted as `stored`. Cancellations of stored orders and corrections of them by `event_id` are worked in. With
    `complete_history: true` nothing stored is added: the events are all that the user ever did.

    Features know what is before a midnight in the shop's zone; the default is the next one, so that today counts. The vector is the one that a
    snapshot of that date would hold, judged by what was normal in the shop when the release was made. Who the prediction is not about is
    `NOT_ELIGIBLE`, such as somebody with one order for a prediction of repeat buyers; of whom nothing may be said, `SUPPRESSED`.
    """
    return Response(await run_in_threadpool(posted.score, task, request), media_type="application/json")
