"""How much a request may send."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.border.problems import problem

TOO_LARGE = "The body is larger than {most:,} bytes. Send it in parts."


class BodyLimit:
    """Refuses a body beyond `most` bytes before it is held in memory, whether or not it announces its length.

    FastAPI's own limit answers in plain text, and versions that lack it ignore the setting in silence.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        announced = next((length.decode("latin-1") for name, length in scope["headers"] if name == b"content-length"), "0")
        if announced.isdecimal() and int(announced[:20]) > self.most:  # 20 digits are enough to see that it is too large
            return await problem(413, "content-too-large", TOO_LARGE.format(most=self.most))(scope, receive, send)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise HTTPException(413, TOO_LARGE.format(most=self.most))
            return message

        return await self.app(scope, counted, send)
