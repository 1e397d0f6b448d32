"""F15: three times as much as the service can do. What it takes on it answers in time, the rest hears 429 at once, and nothing lasts."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

HEAVY = "/v1/scores/repeat_order"
PROBE, QUICK, JOURNEY = "/health/ready", "/v1/scores/repeat_order/user-000001", "/v1/journeys/vip/user-000001"


@dataclass
class Seen:
    """What came of some requests: (status, seconds, text) of each."""

    answers: list[tuple[int, float, str]] = field(default_factory=list)

    def statuses(self):
        return Counter(status for status, *_ in self.answers)

    def seconds(self, status=200, share=0.99):
        """The time that this share of the answers of a status took at most."""
        times = sorted(seconds for found, seconds, _ in self.answers if found == status)
        return times[min(len(times) - 1, math.ceil(share * len(times)))]


async def ask(port, target, body=None):
    """Status, seconds, headers and text of one request over a connection of its own."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        method = "GET" if body is None else "POST"
        head = f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {len(body or b'')}\r\n\r\n"
        writer.write(head.encode() + (body or b""))
        told, _, text = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    lines = told.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(lines[0].split()[1]), time.perf_counter() - began, headers, text.decode()


async def closed_loop(port, body, seconds, callers):
    """Requests a second when each caller waits for its answer before it asks again."""
    end, answered = time.perf_counter() + seconds, 0

    async def caller():
        nonlocal answered
        while time.perf_counter() < end:
            status, *_ = await ask(port, HEAVY, body)
            assert status == 200
            answered += 1

    await asyncio.gather(*(caller() for _ in range(callers)))
    return answered / seconds


async def open_loop(port, target, body, rate, seconds, check=None):
    """Requests that come whether or not the ones before were answered."""
    seen, tasks, began = Seen(), set(), time.perf_counter()

    async def one():
        status, took, headers, text = await ask(port, target, body)
        seen.answers.append((status, took, text))
        if check:
            check(status, headers, text)

    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        task = asyncio.ensure_future(one())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if task.done():
            task.result()
    await asyncio.gather(*tasks)
    return seen


def private_memory(pid):
    """Bytes that only this process holds."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


@pytest.fixture
def service(request, start_service, tmp_path):
    """A real service that answers so many requests at once: its port and its process."""
    with start_service(tmp_path, environment={"ENCORE_MOST_AT_ONCE": str(request.param)}) as live:
        yield live.port, live.process.pid


def told_to_come_back(status, headers, text):
    assert status in (200, 429), text
    if status == 429:
        assert (headers["retry-after"], headers["content-type"]) == ("1", "application/problem+json")
        assert json.loads(text)["type"] == "urn:encore:problem:overloaded"


def all_answered(status, headers, text):
    assert status == 200, text


async def flood(port, pid, users, seconds):
    """Measure what the service can do, ask three times as much of it beside its other work, and look how it is afterwards."""
    body = json.dumps({"user_ids": (users * 2)[:1_000], "reasons": True}).encode()
    await ask(port, "/v1/audiences", json.dumps({"task": "churn", "top_n": 20, "name": "vip"}).encode())
    await closed_loop(port, body, 1.0, callers=4)
    capacity, before = await closed_loop(port, body, 2.0, callers=4), private_memory(pid)
    heavy, probes, quick, journeys = await asyncio.gather(
        open_loop(port, HEAVY, body, 3 * capacity, seconds, told_to_come_back),
        open_loop(port, PROBE, None, 10, seconds, all_answered),
        open_loop(port, QUICK, None, 20, seconds, all_answered),
        open_loop(port, JOURNEY, None, 10, seconds, all_answered),
    )
    ended, half = time.perf_counter(), private_memory(pid)
    again = await ask(port, HEAVY, body)
    return {
        "capacity": capacity,
        "seconds": seconds,
        "heavy": heavy,
        "probes": probes,
        "quick": quick,
        "journeys": journeys,
        "again": again[0],
        "recovery": time.perf_counter() - ended,
        "grown": half - before,
    }


def check_flood(found, *, waiting, probes_within):
    numbers = {name: (dict(one.statuses()), round(one.seconds(), 3)) for name, one in found.items() if isinstance(one, Seen)}
    print(found["capacity"], numbers, f"recovery {found['recovery']:.2f} s, grown by {found['grown'] / 1e6:.1f} MB")  # noqa: T201
    statuses = found["heavy"].statuses()
    assert min(statuses[200], statuses[429]) > 0 == len(statuses) - 2, numbers
    # A request that was taken on is answered when those before it are. Three times as long, because others use this machine now and then.
    assert found["heavy"].seconds(200) < 3 * waiting * found["seconds"] / statuses[200] + 2.0, numbers
    assert found["heavy"].seconds(429, 0.5) < found["heavy"].seconds(200, 0.5), "to be refused takes less than to be answered"
    assert found["probes"].seconds() < probes_within, numbers
    assert {json.loads(text)["fallback"] for _, _, text in found["journeys"].answers} == {False}
    assert (found["again"], found["recovery"] < 5.0) == (200, True)
    assert found["grown"] < 60e6


@pytest.mark.parametrize("service", [32], indirect=True)
def test_three_times_as_much_as_it_can_do_is_refused_in_time_and_leaves_no_trace(service, published):
    check_flood(asyncio.run(flood(*service, list(published.snapshot.user_ids), seconds=6)), waiting=8, probes_within=1.5)


@pytest.mark.long
@pytest.mark.parametrize("service", [128], indirect=True)
def test_a_minute_of_it(service, published):
    check_flood(asyncio.run(flood(*service, list(published.snapshot.user_ids), seconds=60)), waiting=32, probes_within=0.3)
