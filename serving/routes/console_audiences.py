"""The console's page of audiences over HTTP: the page, a move of its handles, keeping one, and a file of a kept one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from features.errors import EncoreError
from serving.border.sessions import HOME, is_from_here
from serving.ledger import LedgerUnavailable
from serving.routes.console_page import STATUS, Page
from serving.routes.parts import get_ledger

if TYPE_CHECKING:
    from serving.console.choice import Choice
    from serving.console.told import Told

router = APIRouter(prefix=f"{HOME}/audiences", include_in_schema=False)


@router.get("")
def audiences(request: Request) -> Response:
    return _page(request, "")


@router.post("")
async def post_audience(request: Request) -> Response:
    """Keep an audience by a name, and show the page again."""
    if not is_from_here(request.scope):
        return await run_in_threadpool(_page, request, "elsewhere", 403)
    form = {name: values[0] for name, values in parse_qs((await request.body()).decode("utf-8", "replace")).items()}
    return await run_in_threadpool(_kept, request, form)


@router.get("/cut")
def get_cut(request: Request) -> Response:
    """What a move of a handle changes, for the page's script."""
    from serving.console.audiences import move
    from serving.console.formats import Formats

    asked = Page(request)
    try:
        told = asked.told
        formats = Formats(asked.words.language, told.manifest["currency"], told.manifest["zone"])
        return JSONResponse(move(told, _choice(told, request.query_params), asked.words, formats))
    except EncoreError as error:
        return Response(status_code=STATUS.get(type(error), 422))


@router.get("/export")
def export(request: Request) -> Response:
    """A kept audience as a CSV: those to treat, or with `group=all` everybody with their group. The audit log has who took it."""
    from serving.console.members_csv import members_csv
    from serving.destinations.files import file_name
    from serving.privacy.audit import record

    asked, ledger, key = Page(request), get_ledger(request), request.scope.get("key")
    everybody = request.query_params.get("group") == "all"
    try:
        release, saved = asked.told.release, ledger.audience(request.query_params.get("name", ""))
        rows, blocks = members_csv(release, saved, ledger, everybody)
        with ledger.connection() as connection:
            record(connection, "audience exported", {"audience": saved.id, "rows": rows, "release": release.id}, key.name if key else None)
    except LedgerUnavailable:
        return asked.answer("empty.html", 503, key="ledger")
    except EncoreError as error:
        status = STATUS.get(type(error), 404)
        return asked.answer("empty.html", status, key="no_release" if status == 503 else "not_found")
    name = f"{file_name(saved.name)}-{release.id}{'-with-control' if everybody else ''}.csv"
    return StreamingResponse(blocks, media_type="text/csv; charset=utf-8", headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _kept(request: Request, form: Mapping[str, str]) -> Response:
    from serving.console.audiences import keep, keep_suggested

    asked, ledger = Page(request), get_ledger(request)
    try:
        told = asked.told
        choice = _choice(told, form)
        name = form.get("suggested") or form.get("name", "").strip()
        said = (keep_suggested if "suggested" in form else keep)(told, ledger, name, choice)
    except LedgerUnavailable:
        return asked.answer("empty.html", 503, key="ledger")
    except EncoreError:
        return asked.answer("empty.html", 404, key="not_found")
    return RedirectResponse(f"{HOME}/audiences?{urlencode({**choice.fields(), 'said': said})}", 303)


def _page(request: Request, said: str, status: int = 200) -> Response:
    from serving.console.audiences import page

    asked = request.query_params
    said = said or (asked.get("said", "") if asked.get("said") in ("kept", "taken", "name") else "")

    def make(told: Told, words: Any, formats: Any) -> Mapping[str, Any]:
        return {**page(told, get_ledger(request), _choice(told, asked), words, formats), "tasks": [*told.tasks, *told.seeds]}

    answer = Page(request).drawn("audiences.html", make, said_of=said)
    answer.status_code = status if answer.status_code == 200 else answer.status_code
    return answer


def _choice(told: Told, asked: Mapping[str, str]) -> Choice:
    from serving.console.choice import chosen

    return chosen(asked, [*told.tasks, *told.seeds][0])
