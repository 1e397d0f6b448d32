"""The console over HTTP: pages, their files, signing in and out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from serving.border.sessions import COOKIE, HOME, LASTS, back_to, is_from_here
from serving.routes.console_page import Page
from serving.routes.parts import get_current, get_ledger

if TYPE_CHECKING:
    from serving.console.told import Told

router = APIRouter(prefix="/console", include_in_schema=False)

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
LONGEST_FORM = 10_000  # bytes


# --- pages ----------------------------------------------------------------------------------------------------------


@router.get("")
def home(request: Request) -> Response:
    return RedirectResponse(f"{HOME}/audiences", 303)


@router.get("/trust")
def trust(request: Request) -> Response:
    from serving.console.trust import overview

    return Page(request).drawn("trust.html", lambda told, words, formats: {"cards": overview(told)})


@router.get("/trust/{task:any}")
def trust_one(task: str, request: Request) -> Response:
    from serving.console.trust import page

    return Page(request).drawn("trust_one.html", lambda told, words, formats: page(told, get_ledger(request), task, words, formats))


@router.get("/why")
def why(request: Request) -> Response:
    from serving.console.why import page

    asked = request.query_params.get("of")
    return Page(request).drawn(
        "why.html", lambda told, words, formats: {**page(told, asked or [*told.tasks, *told.seeds][0], words, formats), "tasks": [*told.tasks, *told.seeds]}
    )


@router.get("/users")
def users(request: Request) -> Response:
    from serving.console import memberships, person

    user_id = request.query_params.get("id", "")

    def make(told: Told, words: Any, formats: Any) -> Mapping[str, Any]:
        if not user_id:
            return {"user_id": "", "absent": None, "asked": False}
        found = person.page(told, user_id, words, formats)
        audiences = None if found["absent"] else memberships.of(told, get_ledger(request), user_id)
        return {**found, "asked": True, "audiences": audiences}

    return Page(request).drawn("users.html", make)


@router.get("/shop")
def shop(request: Request) -> Response:
    from serving.console.shop import page

    return Page(request).drawn("shop.html", page)


@router.get("/lookalikes")
def lookalikes(request: Request) -> Response:
    from serving.console.lookalikes import overview

    return Page(request).drawn("lookalikes.html", lambda told, words, formats: {"seeds": overview(told)})


@router.get("/lookalikes/{task:any}")
def lookalikes_one(task: str, request: Request) -> Response:
    from serving.console.lookalikes import page

    return Page(request).drawn("lookalikes_one.html", lambda told, words, formats: page(told, task, words, formats))


@router.get("/health")
def health(request: Request) -> Response:
    from serving.console.health import page

    asked, current, state = Page(request), get_current(request), request.app.state
    return asked.answer("health.html", one={**page(asked.told_if_any, current.root, state.preflight, current.failure), "keys": state.keyring.state})


@router.get("/effect")
def effect(request: Request) -> Response:
    from serving.console.effect import overview

    return Page(request).kept("effect.html", lambda told, words, formats: {"campaigns": overview(get_ledger(request), words, formats)})


@router.get("/effect/{name:any}")
def effect_one(name: str, request: Request) -> Response:
    from serving.console.effect import page

    def make(told: Told | None, words: Any, formats: Any) -> Mapping[str, Any]:
        return {"one": page(get_ledger(request), name, told, datetime.now(UTC).astimezone(formats.zone).date(), words, formats)}

    return Page(request).kept("effect_one.html", make)


# --- signing in -----------------------------------------------------------------------------------------------------


@router.get("/sign-in")
def sign_in(request: Request) -> Response:
    needs = request.query_params.get("needs", "")
    return _form(request, problem="scope" if needs else "", needs=needs if needs in ("score", "audience", "read", "admin") else "")


@router.post("/sign-in")
async def post_sign_in(request: Request) -> Response:
    """Take a key, answer with a cookie."""
    state, client = request.app.state, request.client.host if request.client else ""
    if not is_from_here(request.scope):
        return _form(request, 403, "elsewhere")
    if wait := state.attempts.wait(client):
        answer = _form(request, 429, "wait")
        answer.headers["Retry-After"] = str(int(wait) + 1)
        return answer
    body = await request.body()
    form = parse_qs(body.decode("utf-8", "replace")) if len(body) <= LONGEST_FORM else {}
    sent, wanted = (form.get(name, [""])[0].strip() for name in ("key", "next"))
    now = time.time()
    held = state.keyring.find(sent.encode())
    if held is None or now >= held.ends:
        state.attempts.note(client)
        return _form(request, 401, "wrong" if held is None else "over", wanted)
    answer = RedirectResponse(back_to(wanted), 303)
    answer.set_cookie(COOKIE, state.sessions.begin(held, now), LASTS, path=HOME, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    if not is_from_here(request.scope):
        return _form(request, 403, "elsewhere")
    answer = RedirectResponse(f"{HOME}/sign-in", 303)
    answer.delete_cookie(COOKIE, path=HOME, httponly=True, samesite="strict")
    return answer


def _form(request: Request, status: int = 200, problem: str = "", wanted: str | None = None, needs: str = "") -> Response:
    is_open = request.app.state.keyring.is_open
    wanted = request.query_params.get("next", "") if wanted is None else wanted
    return Page(request).answer("sign_in.html", status, problem=problem, wanted=back_to(wanted), needs=needs, is_open=is_open)


# --- files ----------------------------------------------------------------------------------------------------------


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """A style sheet, a script, a picture."""
    found = _static().get(name)
    if found is None:
        return Response(status_code=404)
    return Response(found, media_type=TYPES[name.rpartition(".")[2]], headers={"Cache-Control": "public, max-age=300"})


@cache
def _static() -> Mapping[str, bytes]:
    folder = files("serving.console") / "static"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in TYPES}
