"""Sessions of the console: a browser shows a key once and then sends a cookie that names it, signed, for half a day.

The cookie holds no key. It counts as long as its key does: whatever revokes, ends or narrows the key does so to every session of it.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import deque
from collections.abc import Iterable
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from starlette.responses import RedirectResponse
from starlette.types import Scope

if TYPE_CHECKING:
    from serving.border.auth import Held, Keyring

COOKIE = "encore_session"
LASTS = 12 * 3600  # seconds
HOME, SIGN_IN = "/console", "/console/sign-in"
WRONG, FROM_ONE, FROM_ALL = 60.0, 10, 100  # seconds, and wrong keys within them after which nobody there, or nobody at all, may try


class Sessions:
    """Makes and reads the cookies.

    Args:
        secret: what they are signed with; the same in all processes that answer for one address.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def begin(self, held: Held, now: float) -> str:
        """The cookie's value of a new session."""
        signed = f"{held.key.id}.{int(min(now + LASTS, held.ends))}.{secrets.token_hex(8)}"
        return f"{signed}.{self._mac(held, signed)}"

    def find(self, headers: Iterable[tuple[bytes, bytes]], keyring: Keyring, now: float) -> Held | None:
        """The key of the session that a request carries, valid or not; None without a session, or with one that is over or not ours."""
        signed, _, mac = cookie(headers, COOKIE).rpartition(".")
        key, ends = [*signed.split("."), "", ""][:2]
        held = keyring.known(key)
        if held is None or not hmac.compare_digest(self._mac(held, signed), mac) or not ends.isdigit() or now >= int(ends):
            return None
        return held

    def _mac(self, held: Held, signed: str) -> str:
        return hmac.new(self._secret + held.digest, signed.encode(), sha256).hexdigest()


class Attempts:
    """Counts wrong keys, so that nobody can try many. It is of this process."""

    def __init__(self) -> None:
        self._wrong: deque[tuple[float, str]] = deque(maxlen=FROM_ALL)

    def wait(self, client: str, now: float | None = None) -> float:
        """Seconds until a client may try again; 0 if at once."""
        now = time.monotonic() if now is None else now
        while self._wrong and now - self._wrong[0][0] >= WRONG:
            self._wrong.popleft()
        mine = [at for at, who in self._wrong if who == client]
        if len(self._wrong) >= FROM_ALL:
            return WRONG - (now - self._wrong[0][0])
        return WRONG - (now - mine[-FROM_ONE]) if len(mine) >= FROM_ONE else 0.0

    def note(self, client: str, now: float | None = None) -> None:
        self._wrong.append((time.monotonic() if now is None else now, client))


def cookie(headers: Iterable[tuple[bytes, bytes]], name: str) -> str:
    """The value of a cookie, or nothing."""
    for header, value in headers:
        if header == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1")).get(name)
            except CookieError:
                return ""
            if found:
                return found.value
    return ""


def is_console(path: str) -> bool:
    return path == HOME or path.startswith(f"{HOME}/")


def to_sign_in(scope: Scope, needed: str = "") -> RedirectResponse:
    """To the page that takes a key, and from there back to where one wanted to go."""
    query = scope.get("query_string", b"").decode("latin-1")
    wanted = scope["path"] + (f"?{query}" if query else "") if scope["method"] in ("GET", "HEAD") else HOME
    return RedirectResponse(f"{SIGN_IN}?next={quote(wanted, safe='')}" + (f"&needs={needed}" if needed else ""), 303)


def back_to(wanted: str) -> str:
    """Where to go after signing in: a page of the console and nothing else."""
    parts = urlsplit(wanted)
    safe = not parts.scheme and not parts.netloc and is_console(parts.path) and not parts.path.startswith(SIGN_IN)
    safe = safe and "\\" not in wanted and ".." not in parts.path.split("/")
    return wanted if safe and wanted.isprintable() else HOME


def is_from_here(scope: Scope) -> bool:
    """Whether a browser sent a form from a page of this very service: others may not act in a visitor's name."""
    told = {name: value.decode("latin-1") for name, value in scope["headers"] if name in (b"origin", b"host", b"sec-fetch-site")}
    if b"sec-fetch-site" in told:
        return told[b"sec-fetch-site"] in ("same-origin", "none")
    return b"origin" not in told or urlsplit(told[b"origin"]).netloc == told.get(b"host", "")
