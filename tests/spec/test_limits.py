"""How much is let in: a key's rate, requests at once, and what a journey gets instead of a refusal."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from serving.border.limits import Bucket, Limited, is_quick

KEY = SimpleNamespace(id="one", per_second=2.0)


def scope(path="/v1/scores/churn/u", method="GET", query=b"", key=None):
    return {"type": "http", "method": method, "path": path, "query_string": query, "headers": [], **({"key": key} if key else {})}


async def call(app, asked):
    """Status, headers and body of an answer."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    await app(asked, receive, send)
    return sent[0]["status"], {name.decode(): text.decode() for name, text in sent[0]["headers"]}, b"".join(part.get("body", b"") for part in sent[1:])


class Gate:
    """An app whose requests wait until they are let go, or fail."""

    def __init__(self):
        self.inside, self.go, self.fault = 0, asyncio.Event(), None

    async def __call__(self, scope, receive, send):
        self.inside += 1
        await self.go.wait()
        if self.fault:
            raise self.fault
        await PlainTextResponse("answered")(scope, receive, send)


# --- the bucket ------------------------------------------------------------------------------------------------------


def test_a_bucket_of_two_a_second_by_hand():
    bucket = Bucket(2.0)
    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert [bucket.take(100.5), bucket.take(100.5)] == [0.0, 0.5]
    assert [bucket.take(900.0) for _ in range(3)] == [0.0, 0.0, 0.5], "it never holds more than a second's worth"


def test_a_rate_below_one_a_second_lets_one_in_and_then_waits():
    bucket = Bucket(0.1)
    assert (bucket.take(0.0), bucket.take(0.0), bucket.take(9.0), bucket.take(10.0)) == (0.0, 10.0, pytest.approx(1.0), 0.0)


@settings(max_examples=200, deadline=None)
@given(rate=st.floats(0.01, 1e4), steps=st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_no_span_lets_in_more_than_its_length_times_the_rate_and_one_bucket(rate, steps):
    bucket, now, taken = Bucket(rate), 1_000.0, []
    for step in steps:
        now += step
        wait = bucket.take(now)
        assert 0 <= wait <= 1 / rate + 1e-6
        taken += [now] * (not wait)
    for first in range(0, len(taken), 7):
        for last in range(first, len(taken), 11):
            assert last - first + 1 <= (taken[last] - taken[first]) * rate + max(rate, 1.0) + 1e-6


# --- a key's rate ----------------------------------------------------------------------------------------------------


@pytest.fixture
def answered():
    return PlainTextResponse("answered")


def test_a_key_beyond_its_rate_is_told_when_to_come_back_and_others_are_not_touched(answered):
    app = Limited(answered, per_second=1_000, workers=1, most_at_once=8)

    async def story():
        mine = [await call(app, scope(key=KEY)) for _ in range(3)]
        return mine, await call(app, scope(key=SimpleNamespace(id="other", per_second=None))), await call(app, scope())

    mine, other, nobody = asyncio.run(story())
    assert [status for status, *_ in mine] == [200, 200, 429]
    assert (mine[2][1]["retry-after"], mine[2][1]["content-type"]) == ("1", "application/problem+json")
    assert b"2 requests a second" in mine[2][2]
    assert other[0] == nobody[0] == 200


def test_workers_share_a_keys_rate(answered):
    app = Limited(answered, per_second=8, workers=4, most_at_once=8)
    key = SimpleNamespace(id="one", per_second=None)
    told = [asyncio.run(call(app, scope(key=key))) for _ in range(3)]
    assert [status for status, *_ in told] == [200, 200, 429]
    assert b"8 requests a second" in told[2][2], "the caller knows nothing of workers"


def test_retry_after_is_whole_seconds_and_enough(answered):
    app, key = Limited(answered, per_second=1, workers=1, most_at_once=8), SimpleNamespace(id="slow", per_second=0.3)
    told = [asyncio.run(call(app, scope(key=key))) for _ in range(2)]
    assert (told[0][0], told[1][0], told[1][1]["retry-after"]) == (200, 429, "4")


def test_a_journey_beyond_the_rate_falls_back(answered):
    app, key = Limited(answered, per_second=1, workers=1, most_at_once=8), SimpleNamespace(id="slow", per_second=0.001)
    told = [asyncio.run(call(app, scope("/v1/journeys/at risk/顾客/x", key=key))) for _ in range(2)]
    assert [status for status, *_ in told] == [200, 200]
    assert b'"audience":"at risk","user_id":"\xe9\xa1\xbe\xe5\xae\xa2/x","branch":"fallback","fallback":true,"status":"LIMITED"' in told[1][2]


# --- at once ---------------------------------------------------------------------------------------------------------


async def enter(app, asked, gate, seconds=5.0):
    """Start a request; returns when it is inside, refused, or waits for nothing."""
    task, before = asyncio.ensure_future(call(app, asked)), gate.inside
    async with asyncio.timeout(seconds):
        while gate.inside == before and not task.done():
            await asyncio.sleep(0)
    return task


def test_more_at_once_than_may_be_are_refused_at_once_and_probes_never():
    async def story():
        gate = Gate()
        app = Limited(gate, per_second=1, workers=1, most_at_once=8)
        quick = [await enter(app, scope(), gate) for _ in range(6)]
        slow = [await enter(app, scope("/v1/audiences", "POST"), gate) for _ in range(3)]
        assert [task.done() for task in (*quick, *slow)] == [False] * 8 + [True], "two of eight may be slow ones"
        refused = [slow[2].result(), await call(app, scope())]
        journey = await call(app, scope("/v1/journeys/churn/u"))
        probe = await enter(app, scope("/health/live"), gate)
        assert not probe.done()
        gate.go.set()
        told = await asyncio.gather(*quick, *slow[:2], probe)
        return refused, journey, told, app

    refused, journey, told, app = asyncio.run(story())
    assert [(status, headers["retry-after"]) for status, headers, _ in refused] == [(429, "1")] * 2
    assert (journey[0], b'"status":"OVERLOADED"' in journey[2]) == (200, True)
    assert [status for status, *_ in told] == [200] * 9
    assert (app.at_once, app.slow) == (0, 0)


def test_slow_requests_leave_room_for_quick_ones():
    async def story():
        gate = Gate()
        app = Limited(gate, per_second=1, workers=1, most_at_once=8)
        slow = [await enter(app, scope("/v1/scores/churn", "POST"), gate) for _ in range(20)]
        assert sum(not task.done() for task in slow) == 2
        quick = [await enter(app, scope(), gate) for _ in range(6)]
        assert not any(task.done() for task in quick)
        gate.go.set()
        await asyncio.gather(*slow, *quick)
        return app

    app = asyncio.run(story())
    assert (app.at_once, app.slow) == (0, 0)


@pytest.mark.parametrize("end", ["a fault", "a client that is gone"])
def test_a_place_is_free_again_however_a_request_ends(end):
    async def story():
        gate = Gate()
        app = Limited(gate, per_second=1, workers=1, most_at_once=4)
        tasks = [await enter(app, scope("/v1/audiences" if number == 0 else "/v1/scores/churn/u"), gate) for number in range(4)]
        assert (app.at_once, app.slow, (await call(app, scope()))[0]) == (4, 1, 429)
        if end == "a fault":
            gate.fault = RuntimeError("a fault")
            gate.go.set()
        else:
            for task in tasks:
                task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, RuntimeError | asyncio.CancelledError) for error in ended)
        assert (app.at_once, app.slow) == (0, 0)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "target", "quick"),
    [
        ("GET", "/v1/scores/churn/u", True),
        ("GET", "/v1/scores/churn/u?reasons=true", False),
        ("GET", "/v1/users/u/scores", True),
        ("GET", "/v1/journeys/vip/u?campaign=7", True),
        ("GET", "/v1/audiences/vip/members", False),
        ("POST", "/v1/scores/churn", False),
        ("POST", "/v1/scores/churn:vector", True),
        ("POST", "/v1/audiences", False),
    ],
)
def test_what_is_quick(method, target, quick):
    path, _, query = target.partition("?")
    assert is_quick(scope(path, method, query.encode())) == quick
