"""How long the console's pages take at a million users. Writes bench/CONSOLE.md.

    python bench/console.py DIR

DIR has the two releases of bench/swaps.py, which are made where there are none yet. Everybody is enrolled in a running campaign, if none is logged. Each
page is asked for over a connection of its own, first once (files are opened, rankings made), then again and again; beside the times stands the
processor time of the service, which other work on the machine hardly changes. Then the handles of the page of audiences are moved, and the release is
swapped, the page of audiences the first to ask the new one. And services are started only to ask each for one page: at once, as with a session that
outlived the start, and after the form to sign in.
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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path

from service_load import cpu_seconds, end, private_mb
from service_release import AS_OF, FEATURES, USERS
from swaps import both

from features.workspace import open_workspace
from serving.campaigns.enrol import enrol
from serving.campaigns.plan import Plan
from serving.campaigns.store import campaigns, save_campaign
from serving.ledger import Ledger
from serving.pointer import current_id, rollback
from serving.release import load_release

PAGE = Path(__file__).with_name("CONSOLE.md")
TIMES, MOVES, SWAPS, STARTS, PORT, SIGNING_IN = 60, 400, 4, 3, 8791, 2.0  # seconds that somebody takes to sign in
MOST, MOST_MOVE = 200, 50  # ms, as promised
SERVE = "import sys, encore; encore.app(['serve', '--workspace', sys.argv[1], '--port', sys.argv[2]])"
CAMPAIGN = "effect/bench"
PAGES = (
    "audiences",
    "audiences?of=shipped&at=20&skip=2&margin=20&contact_cost=1",
    "trust",
    "trust/shipped",
    "why?of=shipped",
    "why?of=deep",
    "users?id=user-0500000",
    "users?id=nobody",
    "shop",
    "lookalikes",
    "effect",
    CAMPAIGN,
    "health",
    "sign-in",
)


def get(path: str, over: http.client.HTTPConnection | None = None) -> bytes:
    connection = over or http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request("GET", path, headers={"Accept-Language": "zh"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{path} answered {answer.status}")
    if over is None:
        connection.close()
    return body


def took(work: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)


def asked(page: str) -> float:
    """Milliseconds until a page is there."""
    return took(lambda: get(f"/console/{page}"))


@contextmanager
def service(workspace: Path) -> Iterator[int]:
    """A service that is ready, by its process."""
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(workspace), str(PORT)], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                get("/health/ready")
                break
            except (OSError, SystemExit):
                time.sleep(0.02)
        else:
            raise SystemExit("the service did not start")
        yield process.pid
    finally:
        end(process)


def first_page(workspace: Path, page: str, signs_in: bool) -> float:
    """Milliseconds of the first page that anybody opens in a service, with or without the form to sign in before it."""
    with service(workspace):
        time.sleep(1)  # whatever a start leaves to do is done
        if signs_in:
            asked("sign-in")
            time.sleep(SIGNING_IN)
        return asked(page)


def pages(process: int) -> Iterator[tuple[str, float, list[float], float]]:
    """Page, its first time, all others in order, and milliseconds of the service's processor time for each of them."""
    for page in PAGES:
        first, before = asked(page), cpu_seconds(process)
        times = sorted(asked(page) for _ in range(TIMES))
        yield page, first, times, 1e3 * (cpu_seconds(process) - before) / TIMES


def moves() -> Iterator[float]:
    """Milliseconds of each move, as a browser makes them: over one connection, any range."""
    chance, connection = random.Random(1), http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)  # noqa: S311
    for _ in range(MOVES):
        skip, at = sorted(chance.sample(range(101), 2))
        path = f"/console/audiences/cut?of=shipped&at={at}&skip={skip}&held={chance.choice((10, 20, 50))}&margin=20&contact_cost=1"
        yield took(lambda path=path: get(path, connection))  # type: ignore[misc]
    connection.close()


def after_swap(root: Path) -> float:
    """Milliseconds of the page of audiences, the first that asks a release."""
    rollback(root)
    wanted = current_id(root)
    while json.loads(get("/v1/models"))["release"] != wanted:
        time.sleep(0.02)
    return asked("audiences")


def log_campaign(workspace: Path) -> None:
    """A running campaign of everybody, once."""
    place = open_workspace(workspace)
    with closing(Ledger(place.ledger_url)) as ledger:
        if not campaigns(ledger):
            plan = Plan("bench", date.fromisoformat(AS_OF), 3_650, audience="all", rule={"task": "shipped", "top_percent": 100}, task="shipped", salt="bench")
            enrol(ledger, load_release(place.releases / current_id(place.releases)), save_campaign(ledger, plan)[0], plan.starts)


def p99(times: list[float]) -> float:
    return times[min(len(times) - 1, int(0.99 * len(times)))]


def measured(workspace: Path) -> Iterator[str]:
    """The page of results, line by line, each as soon as it is known."""
    cores, gib = len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield "# The console, measured\n"
    yield f"`python bench/console.py DIR`: {USERS:,} users, {FEATURES} features, two predictions; {cores} cores, {gib:.0f} GiB, one worker."
    yield f"Load when it began: {os.getloadavg()[0]:.1f}; other work on the machine makes every time longer, and hardly the processor time.\n"
    yield f"The first page in a service, {STARTS} starts, ms: with a session that outlived the start; and {SIGNING_IN:g} s after the form to sign in.\n"
    yield "| page | at once | after signing in |\n|---|---|---|"
    late = []
    for page in ("audiences", "trust"):
        tries = {signs_in: [first_page(workspace, page, signs_in) for _ in range(STARTS)] for signs_in in (False, True)}
        yield f"| {page} | {' | '.join(', '.join(f'{ms:.0f}' for ms in found) for found in tries.values())} |"
        late += [f"the first {page} of a service, {way}" for way, found in zip(("at once", "signed in"), tries.values(), strict=True) if min(found) > MOST]
    with service(workspace) as process:
        private = private_mb(process)
        asked("sign-in")
        time.sleep(SIGNING_IN)
        prepared = private_mb(process)
        yield f"\nOne after the other in one service, each over a connection of its own: the first time, and {TIMES} more.\n"
        yield f"`{CAMPAIGN}` is a running campaign of {USERS:,} members.\n"
        yield "| page | first ms | median ms | p99 ms | CPU ms |\n|---|---|---|---|---|"
        missed = late
        for page, first, times, cpu in pages(process):
            yield f"| {page} | {first:.0f} | {statistics.median(times):.1f} | {p99(times):.1f} | {cpu:.1f} |"
            missed += [page] if max(first, p99(times)) > MOST else []
        before = cpu_seconds(process)
        times = sorted(moves())
        cpu = 1e3 * (cpu_seconds(process) - before) / MOVES
        yield f"| a move of a handle, {MOVES} over one connection | | {statistics.median(times):.1f} | {p99(times):.1f} | {cpu:.1f} |"
        missed += ["a move of a handle"] if p99(times) > MOST_MOVE else []
        root = workspace / "releases"
        yield f"\nThe page of audiences, the first after a swap, ms: {', '.join(f'{after_swap(root):.0f}' for _ in range(SWAPS))}.\n"
        memory = {"when ready": private, "after the form to sign in": prepared, "after all of this": private_mb(process)}
        yield f"Private memory of the service: {', '.join(f'{mb:.0f} MB {when}' for when, mb in memory.items())}."
    yield f"Load when it ended: {os.getloadavg()[0]:.1f}.\n"
    yield f"Over {MOST} ms a page, or {MOST_MOVE} ms a move: {', '.join(missed) or 'nothing'}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workspace", type=Path)
    workspace = parser.parse_args().workspace
    both(workspace / "releases", USERS)
    log_campaign(workspace)
    lines = []
    for line in measured(workspace):
        print(line, flush=True)  # noqa: T201
        lines.append(line)
    PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
