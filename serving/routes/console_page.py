"""A request for a page of the console: its language, the release that it is about, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from features.errors import EncoreError, NoRelease, UnknownName
from features.logs import log
from serving.border.auth import needed_scope
from serving.border.sessions import HOME, cookie
from serving.ledger import LedgerUnavailable
from serving.routes.parts import get_current

if TYPE_CHECKING:
    from serving.console.told import Told

LANGUAGE = "encore_language"
A_YEAR = 365 * 24 * 3600
STATUS = {NoRelease: 503, LedgerUnavailable: 503, UnknownName: 404}


class Page:
    """One request for a page: its language, and how it is answered. What draws is loaded with the first page that somebody looks at."""

    def __init__(self, request: Request) -> None:
        from serving.console.first import prepare_once
        from serving.console.words import LANGUAGES, Words, chosen

        prepare_once(get_current(request))
        self.request = request
        wanted = request.query_params.get("lang")
        self.switched = wanted if wanted in LANGUAGES else None
        headers = request.scope["headers"]
        self.words = Words(chosen(self.switched or cookie(headers, LANGUAGE), request.headers.get("accept-language", "")))

    @property
    def is_public(self) -> bool:
        """Whether it is a page for those who have not signed in: it tells nothing of the shop."""
        return needed_scope(self.request.url.path) is None

    @property
    def told(self) -> Told:
        """The release in service, with what was read of it before.

        Raises:
            NoRelease: there is none.
        """
        from serving.console.told import Told

        state, scorer = self.request.app.state, get_current(self.request).scorer
        known: Told | None = getattr(state, "told", None)
        if known is None or known.scorer is not scorer:
            known = state.told = Told(get_current(self.request).root, scorer)
        return known

    @property
    def told_if_any(self) -> Told | None:
        return self.told if get_current(self.request).loaded else None

    def answer(self, template: str, status: int = 200, **values: Any) -> Response:
        """A template's page."""
        from serving.console.formats import Formats
        from serving.console.render import render

        told, key = None if self.is_public else self.told_if_any, self.request.scope.get("key")
        manifest = told.manifest if told else {}
        formats = Formats(self.words.language, manifest.get("currency", "EUR"), manifest.get("zone", "UTC"))
        about = {
            "shop": told.shop_name if told else "",
            "release": manifest.get("id"),
            "as_of": manifest.get("as_of"),
            "users": manifest.get("users"),
            "scored_at": told.scored_at if told else None,
            "stale": bool(told and told.scorer.is_stale(datetime.now(UTC))),
            "failure": None if self.is_public else get_current(self.request).failure,
            "signed_in": key.name if key else None,
            "here": self.request.url.path,
            "is_public": self.is_public,
            "switch": {language: self._with(language) for language in ("en", "zh")},
        }
        body = render(template, self.words, formats, about=about, page=template.removesuffix(".html"), **{"one": None, **values})
        answer = HTMLResponse(body, status, {"Vary": "Accept-Language, Cookie", "Content-Language": self.words.language})
        if self.switched:
            answer.set_cookie(LANGUAGE, self.switched, A_YEAR, path=HOME, samesite="strict", httponly=True, secure=self.request.url.scheme == "https")
        return answer

    def drawn(self, template: str, make: Callable[[Told, Any, Any], Mapping[str, Any] | None], **values: Any) -> Response:
        """A page of the release in service: what `make` says of it (release, words, formats), or in words why there is nothing to say."""
        from serving.console.formats import Formats

        try:
            told = self.told
            found = make(told, self.words, Formats(self.words.language, told.manifest["currency"], told.manifest["zone"]))
            return self.answer(template, one=found, **values)
        except NoRelease:
            return self.answer("empty.html", 503, key="no_release")
        except (UnknownName, LedgerUnavailable) as error:
            key = "not_found" if isinstance(error, UnknownName) else "ledger"
            return self.answer("empty.html", STATUS[type(error)], key=key)
        except EncoreError as error:
            log.error("console", exc_info=error)
            return self.answer("empty.html", 500, key="fault")

    def kept(self, template: str, make: Callable[[Told | None, Any, Any], Mapping[str, Any]]) -> Response:
        """A page of what the ledger keeps of campaigns, whether or not a release is in service."""
        from serving.console.formats import Formats

        told = self.told_if_any
        formats = Formats(self.words.language, *((told.manifest["currency"], told.manifest["zone"]) if told else ()))
        try:
            return self.answer(template, **make(told, self.words, formats))
        except (UnknownName, LedgerUnavailable) as error:
            return self.answer("empty.html", STATUS[type(error)], key="no_campaign" if isinstance(error, UnknownName) else "campaigns")

    def _with(self, language: str) -> str:
        """This very page in another language."""
        query = [(name, value) for name, value in self.request.query_params.multi_items() if name != "lang"]
        return f"{self.request.url.path}?{urlencode([*query, ('lang', language)])}"
