"""A soak: half an hour of everything that the service is asked, with a swap a minute. Does its memory stay flat?

    python bench/soak.py DIR [--users 1000000] [--minutes 30] [--per-second 200]

A few clients ask at a steady rate, so that the service works all the time and is never full: scores of known and unknown users, with
reasons, of a thousand ids, of vectors, audiences, journeys, and requests that are wrong. Writes bench/SOAK.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from service_load import private_mb, serving
from service_release import NAMES, USERS
from swaps import both

from serving.pointer import rollback

RESULTS = Path(__file__).with_name("SOAK.md")
PORT, CLIENTS = 8190, 4
JSON = {"content-type": "application/json"}
EXPECTED = {"wrong": (404, 422)}  # of questions that are wrong on purpose; all others are answered with 200


class Seen:
    """What was answered: statuses by kind of question, and how long each took in milliseconds."""

    def __init__(self) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.milliseconds: list[float] = []

    def unexpected(self) -> dict[str, int]:
        return {f"{kind}: {status}": number for (kind, status), number in self.statuses.items() if status not in EXPECTED.get(kind, (200,))}


def question(dice: random.Random, users: int) -> tuple[str, str, str, str | None]:
    """Kind, method, path and body of something that somebody would ask."""
    user = f"user-{dice.randrange(users):07d}"
    if (kind := dice.choices(("score", "reasons", "unknown", "journey", "vector", "ids", "audience", "wrong"), (60, 8, 5, 10, 8, 2, 1, 6))[0]) == "score":
        return kind, "GET", f"/v1/scores/shipped/{user}", None
    if kind == "reasons":
        return kind, "GET", f"/v1/scores/shipped/{user}?reasons=true", None
    if kind == "unknown":
        return kind, "GET", f"/v1/scores/deep/nobody-{dice.random()}", None
    if kind == "journey":
        return kind, "GET", f"/v1/journeys/shipped/{user}", None
    if kind == "vector":
        return kind, "POST", "/v1/scores/shipped:vector", json.dumps({"features": {name: dice.randrange(30) for name in dice.sample(NAMES, 20)}})
    if kind == "ids":
        return kind, "POST", "/v1/scores/shipped", json.dumps({"user_ids": [f"user-{dice.randrange(users):07d}" for _ in range(1_000)]})
    if kind == "audience":
        return kind, "POST", "/v1/audiences", json.dumps({"task": "shipped", "top_percent": dice.randrange(1, 50)})
    return kind, *dice.choice((("GET", "/v1/scores/no_such_task/u", None), ("POST", "/v1/scores/shipped", '{"user_ids": 7}')))


def client(seed: int, users: int, per_second: float, stop: threading.Event, seen: Seen) -> None:
    """Ask at a steady rate until told to stop; one who is late does not hurry to catch up."""
    dice, connection = random.Random(seed), HTTPConnection("127.0.0.1", PORT, timeout=30)  # noqa: S311 - load, no secret
    while not stop.wait(dice.expovariate(per_second)):
        kind, method, path, body = question(dice, users)
        began = time.perf_counter()
        try:
            connection.request(method, path, body, JSON if body else {})
            answer = connection.getresponse()
            answer.read()
            seen.statuses[kind, answer.status] += 1
        except (OSError, HTTPException):
            connection.close()
            seen.statuses[kind, 0] += 1
        seen.milliseconds.append(1e3 * (time.perf_counter() - began))


def soak(told: argparse.Namespace) -> tuple[list[float], Seen]:
    """Private memory of the service in MB after each minute, and what was answered."""
    root, stop, seen, memory = told.workspace / "releases", threading.Event(), Seen(), []
    both(root, told.users)
    command = [sys.executable, "-m", "encore", "serve", "--workspace", str(told.workspace), "--port", str(PORT)]
    with serving(command, PORT, "/health/ready") as server:
        asking = [threading.Thread(target=client, args=(seed, told.users, told.per_second / CLIENTS, stop, seen)) for seed in range(CLIENTS)]
        for one in asking:
            one.start()
        for minute in range(told.minutes):
            time.sleep(60)
            rollback(root)
            memory.append(private_mb(server.session))
            print(minute + 1, f"{memory[-1]:.1f} MB", len(seen.milliseconds), seen.unexpected(), flush=True)  # noqa: T201
        stop.set()
        for one in asking:
            one.join()
    return memory, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path, help="Where the two releases lie or will lie.")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--minutes", type=int, default=30, help="At least 3.")
    parser.add_argument("--per-second", type=float, default=200)
    told = parser.parse_args()
    memory, seen = soak(told)
    thirds = [memory[len(memory) * part // 3 : len(memory) * (part + 1) // 3] for part in range(3)]
    quantiles = statistics.quantiles(seen.milliseconds, n=100)
    rows = [
        ("questions", f"{len(seen.milliseconds):,}"),
        ("answers other than expected", json.dumps(seen.unexpected()) if seen.unexpected() else "none"),
        ("p50, p99 as the client sees them", f"{quantiles[49]:.1f} ms, {quantiles[98]:.1f} ms"),
        ("private memory after the first minute, at the most, at the end", f"{memory[0]:.1f} MB, {max(memory):.1f} MB, {memory[-1]:.1f} MB"),
        ("mean of its first, second, last third", ", ".join(f"{statistics.mean(part):.1f} MB" for part in thirds)),
        ("releases taken up", f"{told.minutes}"),
    ]
    head = (
        f"# The service: a soak\n\n`python bench/soak.py DIR --users {told.users} --minutes {told.minutes} --per-second {told.per_second:g}` on "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; one worker, a swap a minute.\n\n| | |\n|---|---|\n"
    )
    RESULTS.write_text(head + "".join(f"| {name} | {value} |\n" for name, value in rows) + f"\nMB by minute: {', '.join(f'{mb:.1f}' for mb in memory)}\n")


if __name__ == "__main__":
    main()
