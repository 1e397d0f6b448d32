"""Real servers that take up releases under load: no answer is lost, none is of two releases; workers that die are replaced."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path

import pytest

from serving.pointer import point_to, rollback
from serving.release import load_release
from serving.scorer import Scorer
from serving.tombstones import tombstone, write_tombstones

PROJECT = Path(__file__).parents[2]


def call(port, method, target, value=None):
    """Status and body of a request on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, target, None if value is None else json.dumps(value), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def until(condition, seconds=60.0):
    """Wait for something to become true; returns what it was."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


@contextmanager
def serving(root, workers=1):
    """`encore serve` in a session of its own, ready to score; gives the process and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "encore", "serve", "--workspace", str(root), "--port", str(port), "--workers", str(workers)]
    process = subprocess.Popen(command, cwd=PROJECT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or call(port, "GET", "/health/ready")[0] == 200)
        assert process.poll() is None
        yield process, port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def swaps(port):
    """How many releases were taken up, by all workers together."""
    return float(re.search(rb"^encore_release_swaps_total ([\d.]+)$", call(port, "GET", "/metrics")[1], re.MULTILINE)[1])


def children(process):
    """The processes that answer: those that uvicorn's supervisor started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            is_child = int(stat.read_text().rpartition(")")[2].split()[1]) == process.pid
            if is_child and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except (OSError, ValueError):
            continue
    return found


# --- F8 -------------------------------------------------------------------------------------------------------------


def test_twenty_swaps_under_load_lose_no_answer_and_mix_no_releases(releases, published):
    """F8: four clients at once, alone, in batches and with reasons."""
    users = list(published.snapshot.user_ids)
    truth = {
        (name, version): {score.user_id: score.percentile for score in Scorer(load_release(releases / name), timedelta(hours=48)).score("churn", users)}
        for name, version in ((published.first, "20"), (published.second, "30"))
    }
    stop = threading.Event()

    def ask(port, worker):
        answers, connection, number = Counter(), HTTPConnection("127.0.0.1", port, timeout=30), 0
        while not stop.is_set():
            number += 1
            some = users[(worker * 50 + number) % 600 :][:40]
            if number % 4:
                connection.request("GET", f"/v1/scores/churn/{some[0]}")
            else:
                connection.request("POST", "/v1/scores/churn", json.dumps({"user_ids": some, "reasons": number % 8 == 0}), {"content-type": "application/json"})
            answer = connection.getresponse()
            content = json.loads(answer.read()) if answer.status == 200 else {"scores": []}
            scores = content.get("scores", [content])
            used = {(score["release"], score["model_version"]) for score in scores}
            right = used <= {*truth} and all(score["percentile"] == truth[score["release"], score["model_version"]][score["user_id"]] for score in scores)
            answers[answer.status, len(used), right] += 1
        connection.close()
        return answers

    with serving(releases.parent) as (_, port), ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(ask, port, worker) for worker in range(4)]
        for number in range(20):
            point_to(releases, (published.first, published.second)[number % 2])
            until(lambda number=number: swaps(port) >= number + 2)
        stop.set()
        answers = sum((each.result() for each in asked), Counter())
    assert set(answers) == {(200, 1, True)}
    assert answers.total() >= 1_000


@pytest.mark.long
def test_the_slowest_hundredth_is_at_most_twice_as_slow_while_releases_are_swapped(tmp_path):
    """F8: three minutes with and three without swaps under full load, 200,000 users."""
    command = [sys.executable, "bench/swaps.py", str(tmp_path), "--users", "200000", "--seconds", "60", "--rounds", "3", "--swaps", "20"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["not_2xx"], told["wrong"]) == (0, [])
    assert told["changes"] >= 55
    assert told["ratio"] <= 2


# --- workers --------------------------------------------------------------------------------------------------------


def test_workers_take_up_releases_and_tombstones_are_replaced_when_they_die_and_end_together(releases, published):
    with serving(releases.parent, workers=2) as (process, port):
        until(lambda: len(children(process)) == 2 and swaps(port) == 2)
        assert rollback(releases) == published.first
        until(lambda: swaps(port) == 4)
        seen = {json.loads(call(port, "GET", "/health/ready")[1])["release"] for _ in range(20)}
        assert seen == {published.first}

        user = published.snapshot.user_ids[0]
        write_tombstones(releases, {tombstone(user.encode()): "suppressed"})
        time.sleep(1)
        assert {json.loads(call(port, "GET", f"/v1/scores/churn/{user}")[1])["status"] for _ in range(20)} == {"SUPPRESSED"}

        victim, other = children(process)
        os.kill(victim, signal.SIGKILL)
        until(lambda: other in children(process) and len({*children(process)} - {victim}) == 2)
        assert {call(port, "GET", "/health/ready")[0] for _ in range(20)} == {200}

        ours = children(process)
        process.terminate()
        assert process.wait(30) == 0
        assert not [pid for pid in ours if Path(f"/proc/{pid}").exists()]
        with pytest.raises(OSError):
            call(port, "GET", "/health/live")


def test_workers_of_a_killed_supervisor_end_and_leave_the_port(releases):
    with serving(releases.parent, workers=2) as (process, port):
        ours = until(lambda: children(process))
        assert len(ours) == 2
        process.kill()
        process.wait()
        until(lambda: not [pid for pid in ours if Path(f"/proc/{pid}").exists()], 30)
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
