"""Measures the main job and the service, and writes bench/RESULTS.md.

    python bench/run.py [--data DIR]

Every step runs as a process of its own; seconds, CPU seconds and peak memory are the operating system's account of it.
`--data` names a folder that has uci_online_retail/order_items.parquet; without it that part is left out.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
EXAMPLES = Path(__file__).parent.parent / "examples"
REQUESTS, WARM_UP = 3_000, 300
EMPTY = "import fastapi, uvicorn\napp = fastapi.FastAPI()\n@app.get('/')\nasync def empty(): return {}\nuvicorn.run(app, port=%d, log_level='error')"


@dataclass(frozen=True)
class Spent:
    """What one process took."""

    seconds: float
    cpu: float
    memory_mb: float
    code: int


def run(*command: str) -> Spent:
    """Run an encore command and account for it."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "encore", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Spent(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, process.returncode)


def pipeline(workspace: Path) -> list[tuple[str, Spent]]:
    """Every step of the main job on the shop file in a workspace."""
    steps = ("ingest", "build", "retrain", "publish", "score", "retrain")
    names = ("ingest", "build (one snapshot)", "retrain (all tasks, evidence, plots)", "publish", "score everybody", "retrain again (already done)")
    return [(name, run(step, "--workspace", str(workspace))) for name, step in zip(names, steps, strict=True)]


@contextmanager
def listening(command: list[str], port: int) -> Iterator[int]:
    """A server for the length of the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                HTTPConnection("127.0.0.1", port, timeout=1).connect()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def latencies(port: int, path: str, body: dict[str, object] | None = None, requests: int = REQUESTS) -> list[float]:
    """Milliseconds of each request on one kept connection, after a warm-up."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    data, taken = (None if body is None else json.dumps(body)), []
    for _ in range(WARM_UP + requests):
        began = time.perf_counter()
        connection.request("GET" if body is None else "POST", path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        taken.append(1000 * (time.perf_counter() - began))
        if answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status}")
    return sorted(taken[WARM_UP:])


def service(workspace: Path) -> list[tuple[str, list[float]]]:
    """Latencies of the service beside those of an empty FastAPI handler."""
    served = [sys.executable, "-m", "encore", "serve", "--workspace", str(workspace), "--port", "8051"]
    with listening(served, 8051) as ours, listening([sys.executable, "-c", EMPTY % 8052], 8052) as empty:
        time.sleep(3)
        thousand = {"user_ids": [str(number) for number in range(1_000)]}
        return [
            ("empty FastAPI handler", latencies(empty, "/")),
            ("GET score by id", latencies(ours, "/v1/scores/repeat_order/1228")),
            ("GET journey branch", latencies(ours, "/v1/journeys/repeat_order/1228")),
            ("GET score with reasons", latencies(ours, "/v1/scores/repeat_order/1228?reasons=true", requests=300)),
            ("POST 1,000 ids", latencies(ours, "/v1/scores/repeat_order", thousand, requests=100)),
        ]


def table_of_steps(title: str, steps: list[tuple[str, Spent]]) -> str:
    rows = [f"| {name} | {spent.seconds:.1f} | {spent.cpu:.1f} | {spent.memory_mb:.0f} | {spent.code} |" for name, spent in steps]
    return f"## {title}\n\n| step | seconds | CPU seconds | peak MB | exit code |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def table_of_latencies(found: list[tuple[str, list[float]]]) -> str:
    base = statistics.median(found[0][1])
    rows = [
        f"| {name} | {statistics.median(taken):.2f} | {taken[int(0.99 * len(taken))]:.2f} | {statistics.median(taken) / base:.1f}x |" for name, taken in found
    ]
    head = "## Service, one connection, one worker process\n\n| request | p50 ms | p99 ms | p50 over the empty handler |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def table_of_quality(workspace: Path) -> str:
    """Held-out quality of every model in service, from the release."""
    current = json.loads((workspace / "releases" / "current.json").read_text())["current"]
    tasks = json.loads((workspace / "releases" / current / "release.json").read_text())["tasks"]
    rows = []
    for task, facts in tasks.items():
        verdict = facts["decision"].splitlines()[0]
        for who, measured in facts["metrics"].items():
            cells = [_cell(measured.get(name)) for name in ("auc", "average_precision", "log_loss", "brier", "ece", "lift_10")]
            rows.append(f"| {task} | {who} | {' | '.join(cells)} | {verdict if who == 'model' else ''} |")
    return (
        "| task | | AUC | average precision | log loss | Brier | ECE | lift at 10 % | gate |\n|---|---|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def _cell(measured: dict[str, float] | None) -> str:
    if measured is None:
        return "-"
    interval = "" if measured["low"] is None else f" [{measured['low']:.4f}, {measured['high']:.4f}]"
    return f"{measured['value']:.4f}{interval}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    data = parser.parse_args().data
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    sections = [
        "# Results\n",
        f"`python bench/run.py --data DIR` on {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}; a shared, noisy machine: "
        "single runs, to be read as orders of magnitude.\n",
    ]
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(folder) / "demo"
        demo.mkdir()
        shutil.copy(Path(__file__).parent.parent / "features" / "sources" / "complete_journey.toml", demo / "encore.toml")
        sections.append(table_of_steps("Complete Journey: 1.64 M events, 2,469 users", pipeline(demo)))
        sections.append("Quality on the last four cutoffs (look-alike: on hidden customers), 95 % intervals over customers:\n\n" + table_of_quality(demo))
        sections.append(table_of_latencies(service(demo)))
        if data and (data / "uci_online_retail").is_dir():
            uci = Path(folder) / "uci"
            uci.mkdir()
            shutil.copy(EXAMPLES / "uci_online_retail.toml", uci / "encore.toml")
            (uci / "order_items.parquet").symlink_to((data / "uci_online_retail" / "order_items.parquet").resolve())
            sections.append(table_of_steps("UCI Online Retail: 541,909 lines by the mapping in examples/", pipeline(uci)))
            sections.append(table_of_quality(uci))
    RESULTS.write_text("\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
