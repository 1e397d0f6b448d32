"""`Idempotency-Key` at the HTTP border: which routes know it, and how an answer is kept and given again."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from features.logs import log
from serving.border.idempotency import Claim, Kept, claim, keep, let_go
from serving.ledger import Ledger, LedgerUnavailable


async def once(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern='^("[ !#-~]{1,255}"|[!#-~][ !#-~]{0,254})$',
            description="Send the request again with the same key, and it takes effect once: within 24 hours you get the first answer again. "
            "A key of your own making for each request, such as a random UUID.",
            examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        ),
    ] = None,
) -> Claim | None:
    """A request's claim on its effect; None where it came without a key."""
    if idempotency_key is None:
        return None
    key, caller = idempotency_key.strip('"'), request.scope.get("key")
    sent = b"\0".join([request.method.encode(), request.scope["path"].encode(), request.scope["query_string"], await request.body()])
    digest = hmac.new(key.encode(), sent, sha256).hexdigest()
    name = sha256(f"{caller.id if caller else ''}\0{key}".encode()).hexdigest()
    claimed = await run_in_threadpool(claim, request.app.state.ledger, name, digest, datetime.now(UTC))
    request.state.claimed = claimed
    return claimed


OncePart = Annotated[Claim | None, Depends(once)]


class OnceRoute(APIRoute):
    """A route that keeps its answers to requests which depend on `once`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answered_once(request: Request) -> Response:
            try:
                response = await answer(request)
            except Kept as kept:
                return Response(kept.body, kept.status, {"Idempotency-Replayed": "true"}, media_type="application/json")
            except Exception:
                await _settle(request, None)
                raise
            await _settle(request, response if response.status_code < 300 else None)
            return response

        return answered_once


async def _settle(request: Request, response: Response | None) -> None:
    claimed: Claim | None = getattr(request.state, "claimed", None)
    if claimed is None:
        return
    ledger: Ledger = request.app.state.ledger
    try:
        if response is None:
            await run_in_threadpool(let_go, ledger, claimed)
        else:
            await run_in_threadpool(keep, ledger, claimed, response.status_code, bytes(response.body))
    except LedgerUnavailable:  # the caller gets the answer; who asks again before the lease is over does not
        log.warning("answer not kept for its idempotency key")
