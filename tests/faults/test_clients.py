"""F16, F17: clients that are slow, silent, endless or gone hold nothing for long, and a service that is told to end finishes first."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

SCORES = "/v1/scores/repeat_order"
HURRIED = """
from serving.border import connection
connection.HEADERS_WITHIN, connection.BODY_WITHIN, connection.TAKEN_WITHIN = 0.6, 1.0, 1.0
"""
SLOW_PLACES = 2  # of most_at_once = 8, a quarter


@pytest.fixture(scope="module")
def hurried(start_service, tmp_path_factory):
    """A service whose deadlines are a second or less, and that does eight things at once, two of them slow."""
    with start_service(tmp_path_factory.mktemp("hurried"), before=HURRIED, environment={"ENCORE_MOST_AT_ONCE": "8"}) as live:
        yield live


@pytest.fixture(scope="module")
def many(published):
    """A request for a thousand scores: half a megabyte of answer."""
    users = list(published.snapshot.user_ids)
    return json.dumps({"user_ids": [users[place % len(users)] for place in range(1_000)]}).encode()


def head(body, path=SCORES, length=None):
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length or len(body)}\r\n\r\n".encode()


def rest_of(connection):
    """Everything that still comes, until the other side hangs up."""
    connection.settimeout(30)
    parts = []
    try:
        while part := connection.recv(1_000_000):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer else None


def open_files(live):
    return len(os.listdir(f"/proc/{live.process.pid}/fd"))


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


# --- F17: slow, silent and endless ------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", ["headers", "body", "chunks"])
def test_a_client_that_sends_a_byte_at_a_time_is_answered_408_and_hung_up_on(hurried, slow):
    text = b'{"user_ids": ["' + b"x" * 500 + b'"]}'
    begin = {"headers": b"", "body": head(text), "chunks": head(text).replace(b"content-length: %d" % len(text), b"transfer-encoding: chunked")}[slow]
    trickle = {"headers": head(text), "body": text, "chunks": b"".join(b"1\r\n%c\r\n" % letter for letter in text)}[slow]
    with hurried.connect() as connection:
        connection.sendall(begin)
        began = time.monotonic()
        try:
            for letter in trickle:
                connection.sendall(bytes([letter]))
                time.sleep(0.1)
                assert time.monotonic() < began + 20, "nobody hung up"
        except ConnectionError:
            pass
        answer = rest_of(connection)
    assert status_of(answer) in (408, None)  # who goes on sending after the end may not get to see why
    assert hurried.get("/health/live").status == 200


@pytest.mark.parametrize("sent", ["half of the headers", "half of the body"])
def test_a_client_that_stops_sending_reads_why(hurried, sent):
    text = b'{"user_ids": ["u"]}'
    with hurried.connect() as connection:
        connection.sendall(head(text)[:30] if sent == "half of the headers" else head(text) + text[:5])
        answer = rest_of(connection)
    told, _, body = answer.partition(b"\r\n\r\n")
    assert (status_of(answer), b"connection: close" in told, b"application/problem+json" in told) == (408, True, True)
    assert json.loads(body)["detail"] == "The request did not arrive in time. Send it again, without pauses."


def test_a_connection_on_which_nothing_comes_is_closed_before_and_after_a_request(hurried):
    with hurried.connect() as connection:
        assert rest_of(connection) == b""
    with hurried.connect() as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status_of(connection.recv(10_000)) == 200
        connection.settimeout(0.2)
        closed, end = False, time.monotonic() + 20
        while not closed and time.monotonic() < end:
            try:
                connection.sendall(b"\r\n")  # counts as something to the keep-alive timer of uvicorn
                closed = connection.recv(1_000) == b""
            except TimeoutError:
                pass
            except ConnectionError:
                closed = True
        assert closed


ENDLESS = {
    "a header": b"GET /health/live HTTP/1.1\r\nx: " + b"x" * 1_000_000,
    "headers": b"GET /health/live HTTP/1.1\r\n" + b"x: x\r\n" * 200_000,
    "the path": b"GET /v1/scores/churn/" + b"x" * 1_000_000,
    "what follows a body": head(b"", length=0).replace(b"content-length: 0", b"transfer-encoding: chunked") + b"0\r\n" + b"x: x\r\n" * 200_000,
    "a chunk's name": head(b"", length=0).replace(b"content-length: 0", b"transfer-encoding: chunked") + b"1;" + b"x" * 1_000_000,
}


@pytest.mark.parametrize("endless", ENDLESS)
def test_what_has_no_end_is_cut_off_at_64_kilobytes(hurried, endless):
    before = hurried.resident()
    with hurried.connect() as connection:
        try:
            for place in range(0, len(ENDLESS[endless]), 16_384):
                connection.sendall(ENDLESS[endless][place : place + 16_384])
                time.sleep(0.002)
        except ConnectionError:
            pass
        assert status_of(rest_of(connection)) in (431, 400, None)
    assert hurried.resident() - before < 20_000_000
    assert hurried.get("/health/live").status == 200


@pytest.mark.parametrize("size", [100, 30_000, 70_000, 300_000])
def test_requests_that_come_in_one_go_are_all_answered(hurried, size):
    text = json.dumps({"user_ids": ["u", "x" * size]}).encode()
    with hurried.connect() as connection:
        connection.sendall((head(text) + text) * 5 + b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answers = rest_of(connection)
    assert answers.count(b"HTTP/1.1 200 OK") == 6


@pytest.mark.parametrize(
    "text", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\n\r\n", b"SCORE / HTTP/1.1\r\n\r\n"]
)
def test_what_is_no_request_is_a_problem(hurried, text):
    with hurried.connect() as connection:
        connection.sendall(text)
        answer = rest_of(connection)
    assert (status_of(answer), b"application/problem+json" in answer) == (400, True)


# --- F17: gone, and never reading ---------------------------------------------------------------------------------------


def test_clients_that_vanish_in_the_middle_free_their_places(hurried, many):
    until(lambda: settled(hurried))
    before = open_files(hurried)
    for _ in range(5 * SLOW_PLACES):
        with hurried.connect() as connection:
            connection.sendall(head(many) + many[:5_000])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, as when a cable is cut
    until(lambda: hurried.ask("POST", SCORES, many).status == 200)
    until(lambda: open_files(hurried) <= before)
    assert [hurried.ask("POST", SCORES, many).status for _ in range(2 * SLOW_PLACES)] == [200] * 2 * SLOW_PLACES  # no place was lost


def deaf_client(live, request):
    """A connection that asks until nobody listens any more, and reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect(("127.0.0.1", live.port))
    connection.settimeout(0.3)
    try:
        for _ in range(1_000):
            connection.sendall(request)
    except TimeoutError:
        return connection
    raise AssertionError("the service read requests without end")


def test_clients_that_never_read_hold_up_nobody_and_are_hung_up_on(hurried, many):
    assert hurried.ask("POST", SCORES, many).status == 200
    until(lambda: settled(hurried))
    before, memory = open_files(hurried), hurried.resident()
    deaf = [deaf_client(hurried, head(many) + many) for _ in range(SLOW_PLACES)]
    # They hold all places for slow requests now, or have been hung up on already; look-ups and probes do not wait for those.
    for target in (f"{SCORES}/user-000001", "/health/ready", "/v1/journeys/churn/user-000001"):
        assert hurried.get(target).status == 200
    until(lambda: hurried.ask("POST", SCORES, many).status == 200)
    until(lambda: open_files(hurried) <= before)
    assert hurried.resident() - memory < 50_000_000
    for connection in deaf:
        connection.close()


def settled(live):
    """Whether no connection comes or goes any more."""
    seen = set()
    for _ in range(5):
        seen.add(open_files(live))
        time.sleep(0.05)
    return len(seen) == 1


# --- F16: told to end ---------------------------------------------------------------------------------------------------


def test_told_to_end_the_service_takes_nobody_new_and_finishes_what_it_has(start_service, tmp_path):
    text = b'{"user_ids": ["user-000001"]}'
    with start_service(tmp_path) as live:
        with live.connect() as busy, live.connect() as idle:
            idle.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
            told = b""
            while not told.endswith(b"}"):
                told += idle.recv(10_000)
            busy.sendall(head(text) + text[:10])
            time.sleep(0.5)
            live.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            until(lambda: refused(live))
            assert rest_of(idle) == b""
            time.sleep(max(0.0, began + 3 - time.monotonic()))
            assert live.process.poll() is None
            busy.sendall(text[10:])
            answer = rest_of(busy)
        assert (status_of(answer), b"connection: close" in answer) == (200, True)
        assert live.process.wait(20) in (0, -signal.SIGTERM)
        assert time.monotonic() < began + 25, "longer than it may take"
    assert "Traceback" not in Path(live.errors).read_text()


def refused(live):
    try:
        live.connect().close()
    except ConnectionRefusedError:
        return True
    return False
