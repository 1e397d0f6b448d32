"""Heartbeat: what a monitor asks about retrains, as a text file for node_exporter's textfile collector.

`metrics/retrain.prom` in the workspace, whole at any moment. A value stays until a later retrain overwrites it, so that
retrains of single tasks add up. That it cannot be written is logged and stops nothing. The format is Prometheus' text
exposition format 0.0.4.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from features.errors import EncoreError, GateRefused, Locked
from features.exit_codes import FAULT, exit_code
from features.files import write_bytes
from features.logs import announced, log

FILE = Path("metrics") / "retrain.prom"
STATES = ("promoted", "refused", "logged", "already done", "no usable data")
BEAT, SUCCESS, CODE, STATE, DRIFT = (
    "encore_retrain_heartbeat_timestamp_seconds",
    "encore_retrain_last_success_timestamp_seconds",
    "encore_retrain_last_exit_code",
    "encore_retrain_task_state",
    "encore_retrain_features_drifted",
)
HELP = {
    BEAT: "When a retrain last began this stage of this task; the latest says where it is, or where it was killed.",
    SUCCESS: "When a retrain last did its work to the end, whatever the gate said of it (exit codes 0 and 3).",
    CODE: "Exit code of the last retrain that ended by itself.",
    STATE: "1 for what the last retrain of this task came to, 0 for the rest.",
    DRIFT: "How many features had drifted from what the champion of this task was trained on, at the last retrain that could tell.",
}
LINE = re.compile(r"(\w+)\{(.*)\} (\d+(?:\.\d+)?)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[tuple[str, Labels], float]  # metric and labels, without the workspace -> value


@contextmanager
def heartbeat(root: Path) -> Iterator[None]:
    """Beat at `start`, at every step that the block announces, and at `end` however the block ends, short of a kill."""
    _beat(root, "start")
    before = announced.set(lambda message: _beat(root, message))
    try:
        yield
    finally:
        announced.reset(before)
        _beat(root, "end")


@contextmanager
def reported(root: Path) -> Iterator[None]:
    """Note the exit code that the block will end the process with, and the time if its work was done to the end."""
    try:
        yield
    except Locked:  # the file tells of the retrain that holds the lock
        raise
    except Exception as error:
        done: Samples = {(SUCCESS, ()): _now()} if isinstance(error, GateRefused) else {}
        update(root, {(CODE, ()): exit_code(error) if isinstance(error, EncoreError) else FAULT, **done})
        raise
    update(root, {(CODE, ()): 0, (SUCCESS, ()): _now()})


def task_state(root: Path, task: str, state: str, drifted: int | None = None) -> None:
    """Note what a retrain came to for one task: one of `STATES`, and how many features drifted, where that is known."""
    told: Samples = {} if drifted is None else {(DRIFT, (("task", task),)): drifted}
    update(root, {**told, **{(STATE, (("task", task), ("state", name))): name == state for name in STATES}})


def update(root: Path, changes: Samples) -> None:
    """Overwrite some values of a workspace's file and keep the others."""
    if not root.is_dir():  # a mistyped folder is not made
        return
    path = root / FILE
    try:
        known = parse(path.read_bytes().decode(errors="replace")) if path.exists() else {}
        write_bytes(path, exposition(root, {**known, **changes}).encode(errors="replace"))
    except OSError as error:
        log.warning("heartbeat not written", extra={"facts": {"file": str(path), "reason": str(error)}})


def exposition(root: Path, samples: Samples) -> str:
    """The text of the file; every line names the workspace, because one collector may read the files of several."""
    lines = []
    for metric, meaning in HELP.items():
        lines += [f"# HELP {metric} {meaning}", f"# TYPE {metric} gauge"]
        for (_, labels), value in sorted(item for item in samples.items() if item[0][0] == metric):
            words = ",".join(f'{name}="{_escaped(text)}"' for name, text in (("workspace", str(root)), *labels))
            lines.append(f"{metric}{{{words}}} {float(value):.15g}")
    return "\n".join(lines) + "\n"


def parse(text: str) -> Samples:
    """The samples of a file that `exposition` wrote; a line that it would not have written is passed over."""
    found = {}
    for metric, labels, value in (match.groups() for match in map(LINE.fullmatch, text.split("\n")) if match):
        words = tuple((name, re.sub(r"\\(.)", lambda seen: {"n": "\n"}.get(seen[1], seen[1]), quoted)) for name, quoted in LABEL.findall(labels))
        found[metric, tuple(word for word in words if word[0] != "workspace")] = float(value)
    return found


def _beat(root: Path, message: str) -> None:
    """A step is announced as `task: stage`, or as a stage alone."""
    task, _, stage = message.rpartition(": ")
    update(root, {(BEAT, (("task", task), ("stage", stage))): _now()})


def _now() -> float:
    return round(time.time(), 3)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
