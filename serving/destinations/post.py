"""One POST to a checked address: no redirects, no proxy, a deadline for the whole exchange, and at most a megabyte of answer."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from queue import Empty, LifoQueue

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from serving.destinations.address import Address

CONNECT = 3.0  # seconds
MOST_READ = 1_000_000  # bytes of an answer; only lists of refused items are read from it, and nothing of it is ever shown


class Unreachable(Exception):
    """No answer: the reason in a word, such as `timeout`. Whether the request had an effect is not known."""


@dataclass(frozen=True)
class Answer:
    """What a receiver said. headers: their names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Poster:
    """Posts to one address from several threads, over connections that stay open.

    Args:
        timeout: seconds for a whole exchange; a receiver that sends a byte now and then does not prolong it.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address, self.timeout = address, timeout
        self._idle: LifoQueue[HTTPConnection] = LifoQueue()
        self._context = ssl.create_default_context() if address.scheme == "https" else None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a body and read the answer.

        Raises:
            Unreachable: there was none in time.
        """
        connection = self._connection()
        overdue = threading.Event()

        def hang_up() -> None:
            overdue.set()
            if connection.sock is not None:
                with suppress(OSError):
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # not TLS' own, which would wait for the other side

        timer = threading.Timer(self.timeout, hang_up)
        timer.daemon = True
        timer.start()
        response: BaseHTTPResponse | None = None
        stays_open = False
        try:
            connection.request("POST", self.address.target, body, {"host": self.address.authority, "user-agent": "encore", **headers}, preload_content=False)
            response = connection.getresponse()
            content = response.read(MOST_READ + 1, decode_content=True) or b""
            if overdue.is_set():
                raise Unreachable("timeout")
            stays_open = len(content) <= MOST_READ and response.headers.get("connection", "").lower() != "close"
            return Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, content)
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            raise Unreachable("timeout" if overdue.is_set() or "imeout" in type(error).__name__ else type(error).__name__) from None
        finally:
            timer.cancel()
            if response is not None:
                response.close()
            if stays_open:
                self._idle.put(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close what is open."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def _connection(self) -> HTTPConnection:
        with suppress(Empty):
            while True:
                connection = self._idle.get_nowait()
                if connection.is_connected:
                    return connection
                connection.close()  # the receiver hung up meanwhile
        failed: Exception | None = None
        for ip in self.address.ips:
            connection = self._new(ip)
            try:
                connection.connect()
            except (HTTPError, OSError, ValueError) as error:
                failed = error
                connection.close()
                continue
            connection.timeout = self.timeout
            return connection
        raise Unreachable(type(failed).__name__)

    def _new(self, ip: str) -> HTTPConnection:
        """A connection to the address itself; the name is only what the certificate must be for."""
        patience = min(CONNECT, self.timeout)
        if self._context is None:
            return HTTPConnection(ip, self.address.port, timeout=patience)
        name = self.address.host
        return HTTPSConnection(ip, self.address.port, timeout=patience, ssl_context=self._context, server_hostname=name, assert_hostname=name)
