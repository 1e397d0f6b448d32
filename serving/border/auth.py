"""Who may ask for what, over HTTP: the keys in memory, the check in front of every route, and how the API's description tells of it."""

from __future__ import annotations

import hmac
import threading
import time
from base64 import b64decode
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from features.errors import EncoreError
from features.logs import log
from serving.border.keys import SCOPES, Key, read_keys, write_last_used
from serving.border.keys_copy import CopyRefused, KeysCopy
from serving.border.limits import REFUSED, answer_journey, is_journey
from serving.border.problems import documented, problem
from serving.border.sessions import Sessions, is_console, to_sign_in
from serving.journeys.activity import OPEN
from serving.ledger import Ledger

LOOK_EVERY = 3.0  # seconds until a new or a revoked key counts
OLD = 15.0  # seconds without a look at the ledger after which the health page says so
NOTE_EVERY = 60.0  # seconds between two notes of a key's last use
LENGTH, ID = len("enc_") + 12 + 1 + 40, slice(4, 16)  # of a key in bytes, and its id's place
NOBODY = bytes(32)

# What needs no key: probes have none, and whoever wants to read the API's description has none yet. Neither tells anything of the shop.
ANYBODY = {"health", "docs", "redoc", "openapi.json", "static-offline-docs"}
# The scope that a path needs, by its first two parts. What is not listed needs `admin`: a forgotten line lets nobody in.
NEEDS: dict[str, str | None] = {
    "v1/scores": "score",
    "v1/users": "score",
    "v1/journeys": "score",
    "v1/audiences": "audience",
    "v1/audiences:preview": "audience",
    "v1/campaigns": "audience",
    "v1/lookalikes": "audience",
    "v1/jobs": "audience",
    "v1/models": "read",
    "v1/preflight": "read",
    "v1/quality": "read",
    "v1/privacy": "privacy",
    "v2": "score",
    "v2/models": "score",
    "v2/health": None,
    "console": "read",
    "console/trust": "read",
    "console/why": "read",
    "console/users": "score",
    "console/shop": "read",
    "console/lookalikes": "read",
    "console/effect": "read",
    "console/health": "read",
    "console/audiences": "audience",
    "console/sign-in": None,
    "console/sign-out": None,
    "console/static": None,
    "metrics": "read",  # they tell of traffic and predictions; Prometheus sends a key like everybody else
}

HOW = "Send it as `Authorization: Bearer KEY`, as `X-Api-Key: KEY`, or as the password of Basic authentication."
MISSING = f"This service asks for an API key. {HOW} Whoever runs the service makes one with: encore keys create NAME --scope {{needed}}"
WRONG = f"The API key is not one of this service's. See that it was copied whole, from `enc_` on. {HOW}"
EXPIRED = "The API key has expired. Whoever runs the service makes another of the same name: encore keys create NAME --scope {needed}"
REVOKED = "The API key was revoked. Whoever runs the service makes another: encore keys create NAME --scope {needed}"
SCOPE = "The API key may not do this: it needs the scope {needed}, and has {has}. Whoever runs the service makes one: encore keys create NAME --scope {needed}"
UNKNOWN = "The keys could not be read from the ledger since the service started, so nobody can be let in. The service's log says why. Try again later."


def needed_scope(path: str) -> str | None:
    """The scope that a path needs; None where no key is needed."""
    if path in OPEN:
        return None
    parts = path.split("/", 3)[1:3]
    return None if parts and parts[0] in ANYBODY else NEEDS.get("/".join(parts), "admin")


class Held(NamedTuple):
    """A key in memory. may: its scopes, all for `admin`; ends: when it is over, in seconds since 1970."""

    key: Key
    digest: bytes
    may: frozenset[str]
    ends: float


class Keyring:
    """The ledger's keys in memory, looked at again every few seconds.

    Before the first key is made, everybody may ask. From the first key on nobody may without one, not even when all are revoked.
    A ledger that fails leaves the keys known so far as they are; when it failed from the start, those of the copy on disk count for as long
    as a copy is good, and without one nobody is let in.
    """

    def __init__(self, ledger: Ledger, copy: KeysCopy | None = None) -> None:
        self.ledger, self.copy = ledger, copy
        self._from_copy = False
        self.looked = self.is_open = self.is_known = False
        self._held: dict[bytes, Held] = {}
        self.used: dict[str, float] = {}  # id of a key -> when, in seconds since 1970
        self._noted: dict[str, float] = {}
        self._seen_at = time.monotonic()
        self._failing = False
        self._stop = threading.Event()

    @property
    def state(self) -> Literal["open", "known", "old", "unknown"]:
        """`open`: no key was ever made. `known`. `old`: revocations wait until the ledger is back. `unknown`: nobody is let in."""
        if not self.is_known:
            return "unknown"
        if time.monotonic() - self._seen_at > OLD:
            return "old"
        return "open" if self.is_open else "known"

    def look(self) -> None:
        """Take the ledger's keys; when it fails, keep what was known and say so once."""
        try:
            keys = read_keys(self.ledger)
            if self._held and not keys:
                raise EncoreError("The ledger has no keys any more.")
        except Exception as error:  # noqa: BLE001 - whatever a database does, the service and its watch go on
            if not self._failing:
                kept = {"reason": str(error), "keys": len(self._held), "known": self.is_known}
                log.error("keys not refreshed: those known so far stay valid, and revocations wait", extra={"facts": kept})
            self._failing = True
            if not self.is_known or self._from_copy:
                self._use_copy()
        else:
            if self._failing:
                log.info("keys refreshed again", extra={"facts": {"keys": len(keys)}})
            self._held = {key.id.encode(): _held(key) for key in keys}
            self._failing, self._from_copy, self._seen_at = False, False, time.monotonic()
            self.is_known, self.is_open = True, not keys
            if self.copy:
                self.copy.keep(keys)
        self.looked = True

    def _use_copy(self) -> None:
        """Take the keys of the copy on disk, or none where it does not count (any more)."""
        try:
            if self.copy is None:
                return
            keys, age = self.copy.read(datetime.now(UTC))
        except CopyRefused as error:
            if self._from_copy or not self.looked:
                log.error("keys unknown: nobody is let in", extra={"facts": {"reason": str(error)}})
            self._held, self.is_known, self._from_copy = {}, False, False
        else:
            if not self._from_copy:
                log.warning("keys of the copy on disk count until the ledger is back", extra={"facts": {"keys": len(keys), "seconds_old": age.total_seconds()}})
            self._held = {key.id.encode(): _held(key) for key in keys}
            self._seen_at = time.monotonic() - age.total_seconds()
            self.is_known, self.is_open, self._from_copy = True, False, True

    def find(self, sent: bytes) -> Held | None:
        """The key that was sent, valid or not; None if it is not one of ours."""
        held = self._held.get(sent[ID]) if len(sent) == LENGTH else None
        return held if hmac.compare_digest(sha256(sent).digest(), held.digest if held else NOBODY) else None

    def known(self, key_id: str) -> Held | None:
        """The key of an id, valid or not."""
        return self._held.get(key_id.encode(errors="replace"))

    def write_use(self) -> None:
        """Note in the ledger when keys were last used, each at most once a minute; what fails is tried again."""
        due = {key: at for key, at in self.used.copy().items() if at - self._noted.get(key, 0.0) >= NOTE_EVERY}
        if due and not self._failing:
            try:
                write_last_used(self.ledger, {key: datetime.fromtimestamp(at, UTC) for key, at in due.items()})
                self._noted |= due
            except Exception as error:  # noqa: BLE001
                log.warning("last use of keys not noted", extra={"facts": {"reason": str(error)}})

    def watch(self) -> threading.Thread:
        """Look again and again in a thread of its own."""

        def look() -> None:
            while not self._stop.wait(LOOK_EVERY):
                self.look()
                self.write_use()

        thread = threading.Thread(target=look, name="keys", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._stop.set()


def _held(key: Key) -> Held:
    ends = min(key.expires_at, key.revoked_at) if key.revoked_at else key.expires_at
    return Held(key, key.digest, frozenset(SCOPES) if "admin" in key.scopes else key.scopes, ends.timestamp())


class Keyed:
    """Lets in who has a key of the right scope, and leaves it in `scope["key"]`.

    What it refuses is refused before a body is read. It costs a few microseconds: a look at the headers, one SHA-256, one comparison in
    constant time. It asks no database.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, sessions: Sessions) -> None:
        self.app, self.keyring, self.sessions = app, keyring, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if not self.keyring.looked:
            await run_in_threadpool(self.keyring.look)
        if self.keyring.is_open or (needed := needed_scope(scope["path"])) is None:
            return await self.app(scope, receive, send)
        if not self.keyring.is_known:
            REFUSED.labels("keys unknown").inc()
            closed = answer_journey(scope, "UNAVAILABLE") if is_journey(scope) else problem(503, "keys-unknown", UNKNOWN)
            return await closed(scope, receive, send)
        sent, now = key_sent(scope["headers"]), time.time()
        in_browser = not sent and is_console(scope["path"])  # a person, who is shown where to sign in
        held = self.sessions.find(scope["headers"], self.keyring, now) if in_browser else self.keyring.find(sent)
        if held is None or now >= held.ends:
            if in_browser:
                return await to_sign_in(scope)(scope, receive, send)
            return await self._unauthorized(sent, held, needed, scope, receive, send)
        if needed not in held.may:
            if in_browser:
                return await to_sign_in(scope, needed)(scope, receive, send)
            return await self._forbidden(held.key, needed, scope, receive, send)
        self.keyring.used[held.key.id] = now
        scope["key"] = held.key
        return await self.app(scope, receive, send)

    async def _unauthorized(self, sent: bytes, held: Held | None, needed: str, scope: Scope, receive: Receive, send: Send) -> None:
        REFUSED.labels("no valid key").inc()
        words = (REVOKED if held.key.revoked_at else EXPIRED) if held else WRONG if sent else MISSING
        challenge = 'Bearer realm="encore", error="invalid_token"' if sent else 'Bearer realm="encore"'
        answer = problem(401, "unauthorized", words.format(needed=needed))
        answer.headers["WWW-Authenticate"] = challenge
        return await answer(scope, receive, send)

    async def _forbidden(self, key: Key, needed: str, scope: Scope, receive: Receive, send: Send) -> None:
        REFUSED.labels("other scope").inc()
        answer = problem(403, "forbidden", SCOPE.format(needed=needed, has=" and ".join(sorted(key.scopes))))
        answer.headers["WWW-Authenticate"] = f'Bearer realm="encore", error="insufficient_scope", scope="{needed}"'
        return await answer(scope, receive, send)


def key_sent(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key among a request's headers, or nothing. `X-Api-Key` counts first: a proxy may want `Authorization` for itself."""
    authorization = b""
    for name, value in headers:
        if name == b"x-api-key":
            return value
        if name == b"authorization":
            authorization = value
    if authorization.startswith(b"Bearer "):  # as nearly everybody writes it
        return authorization[7:].strip()
    scheme, _, rest = authorization.partition(b" ")
    scheme = scheme.lower()
    if scheme == b"bearer":
        return rest.strip()
    if scheme == b"basic":
        try:
            user, _, password = b64decode(rest, validate=True).partition(b":")
        except ValueError:
            return rest
        return password if password.startswith(b"enc_") else user
    return authorization


def describe_keys(app: FastAPI) -> None:
    """Tell in the API's description which keys there are, which scope each operation needs, and what is answered without."""
    describe = app.openapi
    scopes = "; ".join(f"`{scope}`: {what}" for scope, what in SCOPES.items())
    text = f"An API key (`encore keys create`). Needed as soon as one exists. Scopes: {scopes}."
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer", "description": text},
        "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": text},
        "basic": {"type": "http", "scheme": "basic", "description": f"{text} It is the password; the user name does not matter."},
    }

    def described() -> dict[str, Any]:
        document = describe()
        if "securitySchemes" in document.setdefault("components", {}):
            return document
        document["components"]["securitySchemes"] = schemes
        for path, operations in document["paths"].items():
            if needed := needed_scope(path):
                for operation in operations.values():
                    _describe(operation, needed, is_journey({"path": path}))
        return document

    app.openapi = described  # type: ignore[method-assign]


def _describe(operation: dict[str, Any], needed: str, journey: bool) -> None:
    operation["security"] = [{"bearer": [needed]}, {"header": [needed]}, {"basic": [needed]}]
    operation["description"] = f"{operation.get('description', '')}\n\nNeeds a key of the scope `{needed}`, as soon as any key exists.".strip()
    answers = documented(401, 403) if journey else documented(401, 403, 429, 503)
    for status, answer in answers.items():
        operation["responses"].setdefault(str(status), answer)
