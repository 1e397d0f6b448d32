"""Measures the service's speed and weight beside an empty FastAPI handler and other servers; writes bench/SERVING.md.

    python bench/service.py [--workspace DIR] [--users 1000000] [--seconds 3] [--rounds 3] [--peers] [--environments DIR]

wrk on loopback (apt-get install wrk), the server on one core and wrk on another. The machine may be busy: what counts are ratios, so the
empty handler and the service take turns and the medians of the rounds are compared; CPU time for each request, which the kernel
accounts, says what the wall clock of a busy machine cannot.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from service_load import Measured, Server, get, post, private_mb, serving, wrk
from service_peers import peers
from service_release import NAMES, USERS, make

from serving.pointer import current_id
from serving.release import Release, load_release
from serving.scorer import Scorer
from serving.vector import score_vector

RESULTS = Path(__file__).with_name("SERVING.md")
PORT = 8160
EMPTY = """
import sys, fastapi, uvicorn
app = fastapi.FastAPI()

@app.get("/")
async def empty(): return {}

uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""
CONNECTIONS = 16


def middle(rounds: list[Measured]) -> Measured:
    """The median of each figure; answers that were not 2xx add up."""
    figures = {name: statistics.median(getattr(one, name) for one in rounds) for name in ("rate", "p50_ms", "p99_ms", "cpu_us")}
    return Measured(**figures, bad=sum(one.bad for one in rounds))


def against(empty: Server, ours: Server, script: str, connections: int, told: argparse.Namespace, folder: Path) -> tuple[Measured, Measured]:
    """The empty handler and a request of ours, in turns."""
    pairs = []
    for _ in range(told.rounds):
        pairs.append((wrk(empty, get("/"), connections, told.seconds, folder), wrk(ours, script, connections, told.seconds, folder)))
    return middle([pair[0] for pair in pairs]), middle([pair[1] for pair in pairs])


def own_time(release: Release) -> list[str]:
    """Microseconds of CPU inside the process, without HTTP."""
    scorer = Scorer(release, timedelta(hours=48))
    users = [f"user-{number:07d}" for number in range(0, len(release.users), max(1, len(release.users) // 500))][:500]
    rows = []
    for task in ("shipped", "deep"):
        columns = release.bundles[task].align(release.features)
        vectors = [dict(zip(NAMES, row.tolist(), strict=True)) for row in release.vectors[: len(users)][:, columns]]
        for what, ask in (
            ("reasons of one user", lambda number, task=task: scorer.score(task, [users[number]], reasons=True)),
            ("score of a vector", lambda number, task=task, vectors=vectors: score_vector(scorer, task, vectors[number])),
        ):
            rows.append(f"| {what} | {task} | {_cpu(ask, 200):.0f} |")
    return rows


def _cpu(ask: Callable[[int], object], times: int) -> float:
    ask(0)
    taken = []
    for number in range(times):
        began = time.process_time_ns()
        ask(number)
        taken.append(time.process_time_ns() - began)
    return statistics.median(taken) / 1e3


def measure(workspace: Path, told: argparse.Namespace, folder: Path) -> list[str]:
    """All sections of the page."""
    release = load_release(workspace / "releases" / current_id(workspace / "releases"))
    first = release.vectors[0].tolist()
    row = [None if value != value else value for value in first]
    vector = json.dumps({"features": dict(zip(NAMES, row, strict=True))})
    thousand = json.dumps({"user_ids": [f"user-{(number * 997) % len(release.users):07d}" for number in range(1_000)]})
    own = own_time(release)
    ours = [sys.executable, "-m", "encore", "serve", "--workspace", str(workspace), "--port", str(PORT)]
    with ExitStack() as running:
        service = running.enter_context(serving(ours, PORT, "/health/ready"))
        at_start = private_mb(service.session)
        empty = running.enter_context(serving([sys.executable, "-c", EMPTY, str(PORT + 1)], PORT + 1, "/"))
        questions = [
            ("GET score by id, precomputed", get("/v1/scores/shipped/{user}"), CONNECTIONS),
            ("GET score by id, precomputed", get("/v1/scores/shipped/{user}"), 1),
            ("POST a vector, computed live: shipped blend", post("/v1/scores/shipped:vector", vector), CONNECTIONS),
            ("POST a vector, computed live: 500 x 63", post("/v1/scores/deep:vector", vector), CONNECTIONS),
            ("POST 1,000 ids", post("/v1/scores/shipped", thousand), CONNECTIONS),
            ("GET score with reasons: shipped blend", get("/v1/scores/shipped/{user}?reasons=true"), 1),
            ("GET score with reasons: 500 x 63", get("/v1/scores/deep/{user}?reasons=true"), 1),
        ]
        lines = []
        for name, script, connections in questions:
            base, found = against(empty, service, script, connections, told, folder)
            print(name, base, found, flush=True)  # noqa: T201
            lines.append(line(name, connections, found, base))
            if name.startswith("GET score by id"):
                lines.append(line("empty FastAPI async handler, in the same rounds", connections, base, base))
        after = private_mb(service.session)
        _, again = against(empty, service, get("/v1/scores/shipped/{user}"), CONNECTIONS, told, folder)
    with serving([sys.executable, "-m", "encore", "serve", "--workspace", str(folder / "nothing"), "--port", str(PORT)], PORT, "/health/live") as bare:
        pass
    sections = [
        f"## One worker process on one core, {len(release.users):,} users x {len(release.features)} features\n",
        "| request | connections | requests/s | over the empty handler | p50 ms | p99 ms | CPU us a request | CPU over the empty handler | not 2xx |",
        "|---|---|---|---|---|---|---|---|---|",
        *lines,
        "\n## Inside the process, without HTTP\n",
        "| work | model | CPU us, median |\n|---|---|---|",
        *own,
        "\n## Weight and start\n",
        "| | |\n|---|---|",
        f"| private memory of the worker, after the start and after all of the load above | {at_start:.0f} MB, {after:.0f} MB |",
        f"| start to ready with nothing published: wall, CPU | {bare.ready_s:.2f} s, {bare.ready_cpu_s:.2f} s |",
        f"| start to ready with the release (every file held against its hash): wall, CPU | {service.ready_s:.2f} s, {service.ready_cpu_s:.2f} s |",
        f"| the empty FastAPI app: wall, CPU | {empty.ready_s:.2f} s, {empty.ready_cpu_s:.2f} s |",
    ]
    if told.peers:
        sections += others(release, workspace, row, told, folder, again, {"POST a vector, 500 x 63": post("/v1/scores/deep:vector", vector)}, ours)
    return sections


def others(
    release: Release,
    workspace: Path,
    row: list[float | None],
    told: argparse.Namespace,
    folder: Path,
    ours: Measured,
    scripts: dict[str, str],
    command: list[str],
) -> list[str]:
    """The peers, one after the other; ours once more beside each."""
    trees = workspace / "releases" / release.id / "bundles" / "deep" / "trees_0.txt"
    lines = [
        "\n## Other servers of the same 500 trees x 63 leaves, one worker, 16 connections\n",
        "GET by id is what a journey tool asks of Encore; the peers keep no users, so a vector is posted to them.\n",
        "| server | requests/s | p99 ms | CPU us a request | private MB | ready s | not 2xx | our GET by id | our vector |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    environments = told.environments or folder / "environments"
    for peer in peers(trees, row, NAMES, folder, environments, PORT + 10, told.install_seconds):
        if isinstance(peer, str):
            lines.append(f"| {peer} | | | | | | | | |")
            continue
        try:
            with serving(peer.command, PORT + 10, peer.ready, wait=180, env=peer.environment) as server, serving(command, PORT, "/health/ready") as service:
                found, known, posted = [], [], []
                for _ in range(told.rounds):
                    found.append(wrk(server, peer.script, CONNECTIONS, told.seconds, folder))
                    known.append(wrk(service, get("/v1/scores/shipped/{user}"), CONNECTIONS, told.seconds, folder))
                    posted.append(wrk(service, next(iter(scripts.values())), CONNECTIONS, told.seconds, folder))
                theirs, by_id, vector = middle(found), middle(known), middle(posted)
                print(peer.name, theirs, by_id, vector, flush=True)  # noqa: T201
                weight = f"{private_mb(server.session):.0f} | {server.ready_s:.1f}"
                times = f"{by_id.rate / theirs.rate:.1f}x | {vector.rate / theirs.rate:.1f}x"
                lines.append(f"| {peer.name} | {theirs.rate:,.0f} | {theirs.p99_ms:.1f} | {theirs.cpu_us:,.0f} | {weight} | {theirs.bad} | {times} |")
        except (TimeoutError, AttributeError, TypeError, subprocess.CalledProcessError) as error:
            lines.append(f"| {peer.name}: did not run here ({type(error).__name__}: {error}) | | | | | | | | |")
    return lines


def line(name: str, connections: int, found: Measured, base: Measured) -> str:
    return (
        f"| {name} | {connections} | {found.rate:,.0f} | {found.rate / base.rate:.2f}x | {found.p50_ms:.2f} | {found.p99_ms:.2f} | {found.cpu_us:,.0f} | "
        f"{found.cpu_us / base.cpu_us:.2f}x | {found.bad} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, help="Where a release of this bench lies or will lie; default: a temporary folder.")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--seconds", type=float, default=3, help="Of each run of wrk.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="Other servers, too; some are installed into environments of their own.")
    parser.add_argument("--environments", type=Path, help="Folder of those environments, to be kept.")
    parser.add_argument("--install-seconds", type=float, default=600, help="The most time that installing one of them may take.")
    told = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace = told.workspace or folder / "workspace"
        if not (workspace / "releases" / "current.json").exists():
            make(workspace / "releases", told.users)
        load = os.getloadavg()[0]
        sections = measure(workspace, told, folder)
    how = f"--users {told.users} --seconds {told.seconds:g} --rounds {told.rounds}{' --peers' if told.peers else ''}"
    head = (
        f"# The service: speed and weight\n\n`python bench/service.py {how}` on {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, "
        f"medians of {told.rounds} rounds. The load average before it began was {load:.1f}.\n"
    )
    RESULTS.write_text("\n".join([head, *sections]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
