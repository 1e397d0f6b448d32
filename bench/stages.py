"""Where the time goes: the functions between raw Parquet and snapshots, on one thread. python bench/stages.py DATA [--cutoffs N]

Names what a function spends itself, without the functions below it that are listed too.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import inspect
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jobs import build
from logs import monthly
from measure import report

from features.tiles import BUCKET_EVENTS

WATCHED = ("tiles", "tiling", "bucket", "kernels", "tile_kernels", "windows", "store", "snapshot", "files")


class Stages:
    """A stack of running functions; time goes to the one on top."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._stack, self._since = ["everything else"], time.process_time()

    def _turn(self) -> None:
        now = time.process_time()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            self._stack.append(name)
            self.calls[name] += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._turn()
                self._stack.pop()

        return watched


def install(stages: Stages) -> None:
    """Watch every function and method of the modules WATCHED, wherever it was imported to, and use one thread."""
    modules = {name: importlib.import_module(f"features.{name}") for name in WATCHED if importlib.util.find_spec(f"features.{name}")}
    for short, module in modules.items():
        for name, value in list(vars(module).items()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value) or (is_compiled(value) and not name.startswith("_")):
                watched = stages.watch(f"{short}.{name}", value)
                for other in modules.values():
                    if vars(other).get(name) is value:
                        setattr(other, name, watched)
            elif inspect.isclass(value):
                for method, function in list(vars(value).items()):
                    if inspect.isfunction(function) and (method == "__init__" or not method.startswith("__")):
                        setattr(value, method, stages.watch(f"{short}.{name}.{method}", function))
    for module in modules.values():
        if hasattr(module, "ThreadPoolExecutor"):
            module.ThreadPoolExecutor = lambda *_args, **_kwargs: ThreadPoolExecutor(1)  # a stage's time is then its own
    os.cpu_count = lambda: 1


def is_compiled(value: object) -> bool:
    return hasattr(value, "py_func")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cutoffs", type=int, default=1)
    chosen, stages = parser.parse_args(), Stages()
    install(stages)
    for place in (chosen.data.parent / "tiny", chosen.data):
        workspace = Path(tempfile.mkdtemp(dir=chosen.data, prefix=".work-"))
        stages.seconds.clear()
        stages.calls.clear()
        facts = build(place / "whole", monthly()[-chosen.cutoffs :], workspace, BUCKET_EVENTS, 1)
        stages._turn()
        shutil.rmtree(workspace)
    ordered = sorted(stages.seconds.items(), key=lambda entry: -entry[1])
    report({**facts, "stages": {name: [round(seconds, 3), stages.calls[name]] for name, seconds in ordered}})


if __name__ == "__main__":
    main()
