"""Connections that nobody can hold for ever: deadlines for what arrives and for what is taken, of which uvicorn has none."""

from __future__ import annotations

from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.border.headers import secured
from serving.border.problems import problem
from serving.metrics import REQUESTS

HEADERS_WITHIN = 10.0  # seconds from connecting, or from a request's first byte, to the end of its headers
BODY_WITHIN = 30.0  # seconds from the headers to the end of the body
TAKEN_WITHIN = 60.0  # seconds in which a client must take what was sent to it
LARGEST_HEAD = 65_536  # bytes of request line and headers; the parser itself sets no limit
FRAMING = 8  # bytes of chunk headers for each byte that they carry; one byte a chunk needs five

NO_HTTP = "This is not an HTTP request that can be read."
SLOW = "The request did not arrive in time. Send it again, without pauses."
TOO_LONG = "The request line and the headers are longer than 65,536 bytes. Ask for long ids with POST."

# For uvicorn. Idle connections cost little, and a proxy that keeps its own longer than we do would now and then meet a closed one.
# Orchestrators kill after 30 seconds.
OPTIONS: dict[str, Any] = {
    "http": "serving.border.connection:Connection",
    "ws": "none",
    "access_log": False,
    "log_config": None,
    "server_header": False,
    "timeout_keep_alive": 75,
    "timeout_graceful_shutdown": 25,
}


class Connection(HttpToolsProtocol):
    """uvicorn's connection, with deadlines.

    A request that does not arrive in time is answered 408, one of endless headers 431. A client that does not take its answer is hung
    up on: the answer's memory and the request's place among those in flight are free again.
    """

    _deadline: TimerHandle | None = None  # for what should arrive
    _hanging_up: TimerHandle | None = None
    _begun = False  # a request has, but its headers are not complete
    _in_body = False
    _messages = 0
    _read = 0  # bytes of the headers; in a body, bytes of framing less what it carried

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect(HEADERS_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self._wait_for_taking(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._messages, self._in_body
        super().data_received(data)
        if self.transport.is_closing() or not (self._in_body or self._begun or self.cycle is None or self.cycle.response_complete):
            return  # a whole request, whose answer is being made
        if before == (self._messages, self._in_body):  # what came with the end of something else is not told apart; one read is not much
            self._count(len(data))
        if self._deadline is None:
            self._expect(BODY_WITHIN if self._in_body else HEADERS_WITHIN)

    def on_message_begin(self) -> None:
        self._begun, self._messages, self._read = True, self._messages + 1, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._begun, self._in_body, self._read = False, True, 0
        self.headers = []  # what comes after a body is not for the scope, which has the others
        self._expect(None)

    def on_body(self, body: bytes) -> None:
        self._read -= FRAMING * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body, self._read = False, 0
        self._expect(None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._wait_for_taking(TAKEN_WITHIN)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._wait_for_taking(TAKEN_WITHIN)

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._wait_for_taking(TAKEN_WITHIN)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_taking(TAKEN_WITHIN)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._wait_for_taking(None)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "bad-request", NO_HTTP)

    def _count(self, size: int) -> None:
        self._read += size
        if self._read > LARGEST_HEAD:
            self._refuse(431, "request-header-fields-too-large", TOO_LONG)

    def _late(self) -> None:
        self._deadline = None
        if self._begun or self._in_body:
            self._refuse(408, "request-timeout", SLOW)
        else:
            self._close()

    def _refuse(self, status: int, kind: str, detail: str) -> None:
        """Answer in the app's place, unless it is answering or has answered, and hang up."""
        if self.transport.is_closing():
            return
        if self.cycle is None or (self.cycle.response_complete and self._begun) or not self.cycle.response_started:
            REQUESTS.labels("none", "none", str(status)).inc()
            answer = problem(status, kind, detail)
            headers = secured([*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close")], "")
            self.transport.write(b"".join([STATUS_LINE[status], *(b"%s: %s\r\n" % pair for pair in headers), b"\r\n", answer.body]))
        self._close()

    def _close(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # whatever the app still says has no reader
            self.cycle.message_event.set()
        self.transport.close()
        self._wait_for_taking(TAKEN_WITHIN)

    def _expect(self, within: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if within is None else self.loop.call_later(within, self._late)

    def _wait_for_taking(self, within: float | None) -> None:
        if self._hanging_up is not None and within is None:
            self._hanging_up.cancel()
            self._hanging_up = None
        elif self._hanging_up is None and within is not None:
            self._hanging_up = self.loop.call_later(within, self.transport.abort)
