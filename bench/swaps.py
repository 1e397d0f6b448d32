"""Swaps under full load: does a running service take up releases without a lost, a mixed or a slow answer?

    python bench/swaps.py DIR [--users 1000000] [--seconds 60] [--rounds 3] [--swaps 20] [--hashed] [--workers 1]

Needs wrk. Rounds without and with swaps take turns, so that a busy machine is busy for both. Beside wrk somebody posts ids all the
time and holds each answer against the release that it names. Releases lie as they were checked when they were published;
with --hashed the service has to hash every file of a release before it takes it up, as it does with a copied one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from service_load import Server, get, serving, wrk
from service_release import USERS, make

from serving.pointer import POINTER, rollback
from serving.release import load_release
from serving.verified import CHECKED

PORT, CONNECTIONS, IDS = 8180, 16, 40


@dataclass
class Watched:
    """What was answered to those who post ids: how many answers, which were wrong, how often the release changed."""

    answers: int = 0
    wrong: list[str] = field(default_factory=list)
    changes: int = 0


def both(root: Path, users: int) -> list[str]:
    """The two releases that are swapped, made where they are not there yet."""
    made = sorted(path.parent.name for path in root.glob("2*/release.json"))
    return made if len(made) == 2 and (root / POINTER).exists() else [make(root, users, version) for version in ("1", "2")]


def truth(root: Path, releases: list[str]) -> dict[str, tuple[str, dict[str, float]]]:
    """Release -> its version and the percentiles of some users."""
    found = {}
    for name in releases:
        release = load_release(root / name)
        percentile = release.scores["shipped"].percentile
        some = range(0, len(release.users), max(1, len(release.users) // IDS))
        known = {release.users[row].decode(): float(percentile[row]) for row in some}
        found[name] = (release.manifest["tasks"]["shipped"]["version"], known)
    return found


def watch(port: int, known: dict[str, tuple[str, dict[str, float]]], stop: threading.Event, seen: Watched) -> None:
    """Post ids until told to stop; an answer is of one release, in all of its scores."""
    connection, before = HTTPConnection("127.0.0.1", port, timeout=30), ""
    body = json.dumps({"user_ids": list(next(iter(known.values()))[1])})
    while not stop.wait(0.02):
        connection.request("POST", "/v1/scores/shipped", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        seen.answers += 1
        if answer.status != 200:
            seen.wrong.append(f"status {answer.status}")
            continue
        scores = json.loads(content)["scores"]
        release = scores[0]["release"]
        version, percentiles = known[release]
        if any((score["release"], score["model_version"], score["percentile"]) != (release, version, percentiles[score["user_id"]]) for score in scores):
            seen.wrong.append(f"{ {(score['release'], score['model_version']) for score in scores} }")
        seen.changes += before not in ("", release)
        before = release


def loaded(server: Server, root: Path, told: argparse.Namespace, swaps: int, folder: Path) -> tuple[float, int, float]:
    """wrk for a while, with so many swaps; p99 in ms, answers that were not 2xx, requests a second."""
    done = threading.Event()

    def swap() -> None:
        for _ in range(swaps):
            if done.wait(told.seconds / (swaps + 1)):
                return
            if told.hashed:
                (root / CHECKED).unlink(missing_ok=True)
            rollback(root)
            if told.hashed:
                (root / CHECKED).unlink(missing_ok=True)

    mover = threading.Thread(target=swap)
    mover.start()
    measured = wrk(server, get("/v1/scores/shipped/{user}"), CONNECTIONS, told.seconds, folder)
    done.set()
    mover.join()
    return measured.p99_ms, measured.bad, measured.rate


def measure(told: argparse.Namespace, folder: Path) -> dict[str, object]:
    root = told.workspace / "releases"
    known, stop, seen = truth(root, both(root, told.users)), threading.Event(), Watched()
    command = [sys.executable, "-m", "encore", "serve", "--workspace", str(told.workspace), "--port", str(PORT), "--workers", str(told.workers)]
    rounds, bad = [], 0
    with serving(command, PORT, "/health/ready", env={"ENCORE_PER_SECOND": "1000000"}) as server:
        watcher = threading.Thread(target=watch, args=(PORT, known, stop, seen))
        watcher.start()
        wrk(server, get("/v1/scores/shipped/{user}"), CONNECTIONS, 5, folder)  # what is slow in the first seconds is the start, no swap
        try:
            for _ in range(told.rounds):
                still, swapped = loaded(server, root, told, 0, folder), loaded(server, root, told, told.swaps, folder)
                bad += still[1] + swapped[1]
                rounds.append((still[0], swapped[0]))
                print(f"p99 {still[0]:.2f} ms without swaps, {swapped[0]:.2f} ms with; {still[2]:,.0f} and {swapped[2]:,.0f} requests/s", flush=True)  # noqa: T201
                time.sleep(1)
        finally:
            stop.set()
            watcher.join()
    ratio = statistics.median(with_swaps / without for without, with_swaps in rounds)
    return {"p99_ms": rounds, "ratio": round(ratio, 3), "not_2xx": bad, "posted": seen.answers, "wrong": seen.wrong[:5], "changes": seen.changes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workspace", type=Path, help="Where the two releases lie or will lie.")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--seconds", type=float, default=60, help="Of each run of wrk.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--swaps", type=int, default=20, help="In each run with swaps.")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--hashed", action="store_true", help="Every release is hashed before it is taken up.")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(measure(told, Path(name))))  # noqa: T201


if __name__ == "__main__":
    main()
