"""Retraining a large shop: every task of a synthetic shop that has orders and visits, two tasks at once, with evidence and pictures.

    python bench/large.py DIR [--users 2_000_000]

Writes bench/LARGE.md: seconds, CPU seconds and peak memory (proportional, of all processes together) of the tiles and of
`encore retrain`, and what became of each task. A workspace that was retrained already is thrown away, its log is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from generate import EVENTS_PER_USER
from logs import write_logs

PAGE = Path(__file__).with_name("LARGE.md")
KINDS = ("session_start", "order")  # what every shop has
SETTINGS = 'name = "large"\nzone = "UTC"\ncurrency = "EUR"\n'


def proportional_mb(pid: int) -> float:
    """Memory of a process and of all below it; pages that several share count once."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found = next(line for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    except (OSError, StopIteration):  # it ended meanwhile
        return 0.0
    return int(found.split()[1]) / 1024 + sum(proportional_mb(int(child)) for child in below)


def measured(command: list[str], output: Path) -> dict[str, Any]:
    """Run a command, its output into a file."""
    before, began, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0.0
    with output.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, proportional_mb(process.pid))
            time.sleep(0.5)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"command": " ".join(command[1:3]), "exit": process.returncode, "seconds": time.perf_counter() - began, "cpu": cpu, "peak_mb": peak}


def page(found: dict[str, Any], directory: Path) -> str:
    """The measurement as Markdown."""
    lines = [json.loads(line) for line in (directory / "retrain.log").read_text().splitlines() if line.startswith("{")]
    took = {line["message"]: line["seconds"] for line in lines if "seconds" in line}
    fates = {}
    for line in lines:
        if "reason" in line and ": " in line["message"]:
            task, fate = line["message"].split(": ")
            fates.setdefault(task, (fate, line["reason"]))
    manifest = json.loads(next((directory / "workspace" / "snapshots").glob("*/manifest.json")).read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    features = sum(not feature.get("label") for feature in manifest["features"])
    users = f"{found['users']:,} users"
    rows = [f"| `encore {step['command'].split()[0]}` | {step['seconds']:.0f} | {step['cpu']:.0f} | {step['peak_mb']:.0f} |" for step in found["steps"]]
    parts = ("examples", "fit", "evidence")
    tasks = [
        f"| {task} | {fate} | {' | '.join(f'{took[key]:.0f}' if (key := f'{task}: {part}') in took else '' for part in parts)} | {reason} |"
        for task, (fate, reason) in fates.items()
    ]
    return (
        f"# Retraining a large shop\n\n`python bench/large.py DIR --users {found['users']}` on {os.cpu_count()} cores, {memory:.0f} GiB, Python "
        f"{platform.python_version()}; one run, load average {found['load']:.1f} before it.\n\n{users} of a synthetic shop, 400 days of orders "
        f"and visits, {features} features. Memory is proportional and of all processes together; `cycle` makes the tiles, `retrain` the vectors at every "
        "cutoff, the models, evidence and pictures of every task, two tasks at once.\n\n"
        "| step | seconds | CPU seconds | peak MB |\n|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        "| task | | examples s | fit s | evidence s | why |\n|---|---|---|---|---|---|\n" + "\n".join(tasks) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--users", type=lambda text: int(text.replace("_", "")), default=2_000_000)
    chosen = parser.parse_args()
    directory, workspace = chosen.directory.resolve(), chosen.directory.resolve() / "workspace"
    write_logs(directory, chosen.users * EVENTS_PER_USER, 7, daily=False, kinds=KINDS)
    shutil.rmtree(workspace, ignore_errors=True)
    workspace.mkdir()
    (workspace / "log").symlink_to(directory / "whole")
    (workspace / "encore.toml").write_text(SETTINGS)
    encore = [str(Path(sys.executable).parent / "encore")]
    before = os.getloadavg()[0]
    steps = [measured([*encore, step, "--workspace", str(workspace)], directory / f"{step}.log") for step in ("cycle", "retrain")]
    found = {"users": chosen.users, "load": before, "steps": steps}
    (directory / "found.json").write_text(json.dumps(found))
    PAGE.write_text(page(found, directory), encoding="utf-8")


if __name__ == "__main__":
    main()
