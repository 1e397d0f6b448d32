"""Servers as processes of their own, wrk against them, and the kernel's account of what they took."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]  # where there are two, neither takes the other's time
TICK = os.sysconf("SC_CLK_TCK")
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Server:
    """A running server: its port and its session, which holds all of its processes. ready_s, ready_cpu_s: from start to the first answer."""

    port: int
    session: int
    ready_s: float
    ready_cpu_s: float


@dataclass(frozen=True)
class Measured:
    """One run of wrk. cpu_us: CPU time of the server for each request; bad: answers that were not 2xx or did not come."""

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    bad: int


@contextmanager
def serving(
    command: Sequence[str], port: int, path: str, wait: float = 60, folder: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server for the length of the block, on one core; ready when it answers `path` with anything below 500.

    Raises:
        TimeoutError: it was not ready in time, or ended.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        list(command),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=folder,
        env={**os.environ, **(env or {})},
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
    )
    try:
        while not _answers(port, path):
            if process.poll() is not None or time.perf_counter() - began > wait:
                ended = "ended before it was ready" if process.poll() is not None else f"was not ready within {wait:.0f} s"
                raise TimeoutError(f"{Path(command[0]).name} {ended}")
            time.sleep(0.02)
        yield Server(port, process.pid, time.perf_counter() - began, cpu_seconds(process.pid))
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], patience: float = 10) -> None:
    """End a server and all that it started: a child that outlives its parent would answer in the place of the next server."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        left = processes(process.pid)
        for place in left:
            with suppress(ProcessLookupError):
                os.kill(int(place.name), ending)
        given_up = time.monotonic() + patience
        while left and time.monotonic() < given_up:
            process.poll()  # takes the leader's end, or it would stay in the table
            left = [place for place in left if place.exists()]
            time.sleep(0.02)
    process.wait()


def _answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def wrk(server: Server, script: str, connections: int, seconds: float, folder: Path) -> Measured:
    """Load a server with requests that a Lua script makes."""
    file = folder / "request.lua"
    file.write_text(script)
    before = cpu_seconds(server.session)
    told = subprocess.run(
        [
            str(shutil.which("wrk")),
            "-t1",
            f"-c{connections}",
            f"-d{seconds:g}s",
            "--timeout",
            "10s",
            "--latency",
            "-s",
            str(file),
            f"http://127.0.0.1:{server.port}",
        ],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {CLIENT_CORE}),
    ).stdout
    spent = cpu_seconds(server.session) - before
    number = int(re.search(r"(\d+) requests in", told)[1])  # type: ignore[index]
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", told)
    return Measured(
        rate=float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1]),  # type: ignore[index]
        p50_ms=_milliseconds(told, "50%"),
        p99_ms=_milliseconds(told, "99%"),
        cpu_us=1e6 * spent / max(1, number),
        bad=int(refused[1] if refused else 0) + (sum(map(int, broken.groups())) if broken else 0),
    )


def _milliseconds(told: str, share: str) -> float:
    number, unit = re.search(rf"{share}\s+([\d.]+)(us|ms|s|m)\b", told).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]


def processes(session: int) -> list[Path]:
    """All processes of a session, and their children who left it."""
    parents, found = {}, {session}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            _, parent, _, its_session = (place / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        parents[int(place.name)] = int(parent)
        if int(its_session) == session:
            found.add(int(place.name))
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return [Path("/proc") / str(process) for process in found if process in parents]


def cpu_seconds(session: int) -> float:
    """CPU time that the processes of a session have taken."""
    return sum(sum(map(int, (place / "stat").read_text().rpartition(")")[2].split()[11:13])) for place in processes(session)) / TICK


def private_mb(session: int) -> float:
    """Memory that no other process shares and that is no file's: what one more worker costs."""
    total = 0
    for place in processes(session):
        total += int(re.search(r"Private_Dirty:\s+(\d+)", (place / "smaps_rollup").read_text())[1])  # type: ignore[index]
    return total / 1024


def get(path: str) -> str:
    """A Lua script that asks one path; `{user}` is any of a million users."""
    if "{user}" not in path:
        return f'request = function() return wrk.format("GET", "{path}") end'
    first, _, last = path.partition("{user}")
    return f'request = function() return wrk.format("GET", "{first}" .. string.format("user-%07d", math.random(0, 999999)) .. "{last}") end'


def post(path: str, body: str) -> str:
    """A Lua script that posts one body."""
    return f'wrk.method = "POST"\nwrk.path = "{path}"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [==[{body}]==]'
