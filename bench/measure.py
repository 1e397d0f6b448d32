"""What a piece of work takes: seconds, CPU seconds and peak memory, each piece in a process of its own. Standard library only."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass
class Spent:
    """One run. seconds, cpu: of the work itself, without start-up and warm-up; memory_mb: the most the process ever held."""

    seconds: float
    cpu: float
    memory_mb: float
    facts: dict[str, Any] = field(default_factory=dict)


@contextmanager
def timed(name: str, facts: dict[str, Any]) -> Iterator[None]:
    """Add the seconds and CPU seconds of the block to `facts`, as `name` and `name_cpu`."""
    began, cpu = time.perf_counter(), time.process_time()
    yield
    facts[name] = facts.get(name, 0.0) + time.perf_counter() - began
    facts[f"{name}_cpu"] = facts.get(f"{name}_cpu", 0.0) + time.process_time() - cpu


def report(facts: Mapping[str, Any]) -> None:
    """The last thing a child says. `facts` has seconds and seconds_cpu."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mb": peak, **facts}), flush=True)  # noqa: T201


def run(script: str, *arguments: str, python: str = sys.executable, environment: Mapping[str, str] | None = None) -> Spent:
    """Run a script of this folder as a child, and read what it reports."""
    command = [python, str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    return Spent(facts.pop("seconds"), facts.pop("seconds_cpu"), facts.pop("peak_mb"), facts)


def best(runs: list[Spent]) -> Spent:
    """The quickest run, with the largest memory of all."""
    quickest = min(runs, key=lambda run: run.seconds)
    return Spent(quickest.seconds, min(run.cpu for run in runs), max(run.memory_mb for run in runs), quickest.facts)
