"""How long the console's pages take with the release of `service_release.py`: python bench/console.py WORKSPACE

Each page is asked for over a real connection, first once (files are opened, distributions made), then again and again; printed are the first time and the
median and the longest of the others, in milliseconds. Then the handles of the page of audiences are moved; the release is swapped, if the workspace has two,
and the page is the first to ask the new one; and a running campaign of everybody is logged, if the ledger has none, for the page of its effect.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

from service_release import AS_OF

from features.workspace import open_workspace
from serving.campaigns.enrol import enrol
from serving.campaigns.plan import Plan
from serving.campaigns.store import campaigns, save_campaign
from serving.ledger import Ledger
from serving.pointer import current_id, rollback
from serving.release import load_release

TIMES, MOVES, SWAPS, PORT = 15, 400, 4, 8791
SERVE = "import sys, encore; encore.app(['serve', '--workspace', sys.argv[1], '--port', sys.argv[2]])"
PAGES = (
    "trust",
    "trust/shipped",
    "why?of=shipped",
    "why?of=deep",
    "users?id=user-0500000",
    "users?id=nobody",
    "shop",
    "lookalikes",
    "health",
    "sign-in",
    "audiences",
    "audiences?of=shipped&at=20&skip=2&margin=20&contact_cost=1",
    "effect",
    "effect/bench",
)


def asked(path: str) -> float:
    """Milliseconds until a page is there."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request("GET", f"/console/{path}", headers={"Accept-Language": "zh"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status >= 500:
        raise SystemExit(f"/console/{path} answered {answer.status}")
    return 1e3 * (time.perf_counter() - began)


def wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit("the service did not start")


def moves() -> Iterator[float]:
    """Milliseconds of each move, as a browser makes them: over one connection, any range."""
    chance, connection = random.Random(1), http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)  # noqa: S311
    for _ in range(MOVES):
        skip, at = sorted(chance.sample(range(101), 2))
        began = time.perf_counter()
        connection.request("GET", f"/console/audiences/cut?of=shipped&at={at}&skip={skip}&held={chance.choice((10, 20, 50))}&margin=20&contact_cost=1")
        answer = connection.getresponse()
        if answer.status != 200 or not json.loads(answer.read())["said"]:
            raise SystemExit(f"a move was answered {answer.status}")
        yield 1e3 * (time.perf_counter() - began)
    connection.close()


def after_swap(root: Path) -> float:
    """Milliseconds of the page of audiences, the first that asks a release."""
    rollback(root)
    wanted = current_id(root)
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
        connection.request("GET", "/v1/models")
        serves = json.loads(connection.getresponse().read())["release"]
        connection.close()
        if serves == wanted:
            return asked("audiences")
        time.sleep(0.02)


def log_campaign(workspace: Path) -> None:
    """A running campaign of everybody, once."""
    place = open_workspace(workspace)
    with closing(Ledger(place.ledger_url)) as ledger:
        if not campaigns(ledger):
            plan = Plan("bench", date.fromisoformat(AS_OF), 3_650, audience="all", rule={"task": "shipped", "top_percent": 100}, task="shipped", salt="bench")
            enrol(ledger, load_release(place.releases / current_id(place.releases)), save_campaign(ledger, plan)[0], plan.starts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path)
    told = parser.parse_args()
    log_campaign(told.workspace)
    root = told.workspace / "releases"
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(told.workspace), str(PORT)])
    try:
        wait_until_ready(process)
        print(f"load {os.getloadavg()[0]:.1f}\n\n| page | first | median | longest |\n|---|---|---|---|")  # noqa: T201
        for path in PAGES:
            first, times = asked(path), [asked(path) for _ in range(TIMES)]
            print(f"| {path} | {first:.0f} | {statistics.median(times):.1f} | {max(times):.1f} |")  # noqa: T201
        times = sorted(moves())
        print(f"\n{MOVES} moves: median {statistics.median(times):.1f}, p99 {times[int(0.99 * MOVES)]:.1f}, longest {times[-1]:.1f}")  # noqa: T201
        if len(list(root.glob("2*/release.json"))) > 1:
            print(f"first page after a swap: {', '.join(f'{after_swap(root):.0f}' for _ in range(SWAPS))}; load {os.getloadavg()[0]:.1f}")  # noqa: T201
    finally:
        process.terminate()
        process.wait(30)


if __name__ == "__main__":
    main()
