"""Headers of answers: what a browser may do with them, and how long a caller may keep a score."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

Headers = list[tuple[bytes, bytes]]

MOST_AGE = 60  # seconds; so long a caller may go without hearing of a new release, or that a user was deleted

_EVERYWHERE = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
STRICT: Headers = [*_EVERYWHERE, (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")]
# Both pages start by a script of their own, draw with styles and pictures in the text, and ask for nothing but the API's description.
_PAGE: Headers = [
    *_EVERYWHERE,
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:; "
        b"frame-ancestors 'none'; form-action 'none'; base-uri 'none'",
    ),
]
# Journey Builder shows the page of the custom activity in a frame, inside a frame of Marketing Cloud's: both have to be allowed.
_ACTIVITY: Headers = [
    *_EVERYWHERE,
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'none'; base-uri 'none'; "
        b"frame-ancestors https://*.exacttarget.com https://*.marketingcloudapps.com",
    ),
]
PAGES = {"/docs": _PAGE, "/redoc": _PAGE, "/v1/journeys/sfmc/": _ACTIVITY, "/v1/journeys/sfmc/index.html": _ACTIVITY}
# Everything that the console shows comes from files of this service; nothing in a page's text is run, not even as a style.
CONSOLE: Headers = [
    *_EVERYWHERE,
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        b"frame-ancestors 'none'; base-uri 'none'",
    ),
    (b"cross-origin-opener-policy", b"same-origin"),
]
NO_STORE = (b"cache-control", b"no-store")
# Who asks decides whether there is an answer, so a cache that serves several may not share it.
VARY = (b"vary", b"authorization, x-api-key")


def secured(headers: Headers, path: str) -> Headers:
    """An answer's headers with those that every answer has. Unless it says otherwise, nobody keeps a copy: most hold personal data."""
    added = CONSOLE if path == "/console" or path.startswith("/console/") else PAGES.get(path, STRICT)
    return [*headers, *added] if b"cache-control" in [name for name, _ in headers] else [*headers, *added, NO_STORE]


def conditional(body: bytes, seconds_fresh: float, asked: Iterable[tuple[bytes, bytes]]) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a score, or of "not modified" if the caller has this very answer.

    The tag is made of the answer itself, so that whatever changes it (another release, its age, a deletion) changes the tag, and
    all workers and hosts agree. It is a weak one: a proxy may compress the answer on its way.

    Args:
        seconds_fresh: until the scores expire; below 0 when they have. asked: the request's headers.
    """
    tag = b'W/"%s"' % blake2b(body, digest_size=12).hexdigest().encode()
    headers = [(b"etag", tag), *kept_for(seconds_fresh)]
    for name, value in asked:
        if name == b"if-none-match" and _names(value, tag):
            return 304, headers, b""
    return 200, [*plain(body), *headers], body


def kept_for(seconds_fresh: float) -> Headers:
    """How long a caller may keep a score: a minute at most, and not beyond its expiry."""
    return [(b"cache-control", b"private, max-age=%d, must-revalidate" % int(max(0.0, min(seconds_fresh, MOST_AGE)))), VARY]


def plain(body: bytes) -> Headers:
    """The headers that a JSON answer cannot do without."""
    return [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]


def _names(tags: bytes, tag: bytes) -> bool:
    """Whether If-None-Match has the tag; strong and weak ones are the same here (RFC 9110, 13.1.2)."""
    return tags.strip() == b"*" or tag[2:] in {part.strip().removeprefix(b"W/") for part in tags.split(b",")}
