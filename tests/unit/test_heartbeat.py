"""What a monitor reads of retrains: the format, what is kept and what is overwritten, and that writing it stops nothing."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from features.errors import GateRefused, InvalidShopFile, Locked, NoUsableData, TrackingUnavailable
from features.logs import step
from training.heartbeat import BEAT, CODE, FILE, HELP, STATE, STATES, SUCCESS, exposition, heartbeat, parse, reported, task_state, update

KILLED = """
import os, signal, sys
from pathlib import Path
from features.logs import step
from training.heartbeat import heartbeat

with heartbeat(Path(sys.argv[1])), step("churn: fit"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def read(root: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The file as Prometheus' own reader sees it: (metric, labels without the workspace) -> value."""
    text = (root / FILE).read_text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {sample.labels.pop("workspace") for sample in samples} == {str(root)}
    return {(sample.name, tuple(sample.labels.items())): sample.value for sample in samples}


def beats(root: Path) -> list[tuple[str, str]]:
    """(task, stage), in the order of their times."""
    found = {labels: value for (metric, labels), value in read(root).items() if metric == BEAT}
    return [(dict(labels)["task"], dict(labels)["stage"]) for labels in sorted(found, key=lambda labels: found[labels])]


def states(root: Path) -> dict[str, str]:
    return {dict(labels)["task"]: dict(labels)["state"] for (metric, labels), value in read(root).items() if metric == STATE and value == 1}


def run(root: Path, error: Exception | None = None) -> None:
    """A retrain that ends well, or with an error."""
    if error is None:
        with reported(root):
            return
    with pytest.raises(type(error)), reported(root):
        raise error


def test_every_line_is_one_that_the_format_has(tmp_path):
    with heartbeat(tmp_path), step("churn: fit"):
        task_state(tmp_path, "churn", "promoted")
    run(tmp_path)
    lines = (tmp_path / FILE).read_text().split("\n")
    assert lines.pop() == ""  # the last line ends too
    comments = [line for line in lines if line.startswith("#")]
    assert [line.split()[1:3] for line in comments] == [[word, metric] for metric in HELP for word in ("HELP", "TYPE")]
    samples = [line for line in lines if not line.startswith("#")]
    assert len(samples) == 3 + 1 + 1 + len(STATES)
    assert [line for line in samples if not re.fullmatch(r'encore_retrain_\w+\{workspace="[^"]+"(,\w+="[^"]*")*\} \d+(\.\d{1,3})?', line)] == []


def test_a_beat_says_where_the_retrain_is(tmp_path):
    with heartbeat(tmp_path):
        with step("churn: fit"):
            time.sleep(0.002)
            assert beats(tmp_path)[-1] == ("churn", "fit")
        with step("tiles"):
            time.sleep(0.002)
    assert beats(tmp_path) == [("", "start"), ("churn", "fit"), ("", "tiles"), ("", "end")]


def test_a_step_outside_a_retrain_beats_nothing(tmp_path):
    with heartbeat(tmp_path):
        pass
    with step("publish: champions"):
        pass
    assert set(beats(tmp_path)) == {("", "start"), ("", "end")}  # often within one millisecond


def test_a_retrain_that_fails_still_says_that_it_ended(tmp_path):
    with pytest.raises(ZeroDivisionError), heartbeat(tmp_path):
        raise ZeroDivisionError
    assert beats(tmp_path)[-1] == ("", "end")


def test_a_killed_retrain_leaves_the_stage_that_it_died_in(tmp_path):
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[2], check=False).returncode == -9
    assert beats(tmp_path) == [("", "start"), ("churn", "fit")]
    assert not list((tmp_path / FILE).parent.glob(".*"))


def test_two_retrains_of_single_tasks_keep_both(tmp_path):
    task_state(tmp_path, "churn", "promoted")
    task_state(tmp_path, "value", "refused")
    assert states(tmp_path) == {"churn": "promoted", "value": "refused"}
    task_state(tmp_path, "churn", "already done")
    assert states(tmp_path) == {"churn": "already done", "value": "refused"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrackingUnavailable("down"), 5),
        (NoUsableData("too few"), 6),
        (InvalidShopFile("encore.toml", []), 2),
        (ZeroDivisionError(), 1),
    ],
)
def test_a_failed_run_leaves_the_last_success_unchanged(tmp_path, error, code):
    run(tmp_path)
    success = read(tmp_path)[SUCCESS, ()]
    assert time.time() - 60 < success <= time.time()
    run(tmp_path, error)
    assert read(tmp_path) == {(SUCCESS, ()): success, (CODE, ()): code}


def test_a_refusal_by_the_gate_is_work_done(tmp_path):
    run(tmp_path, GateRefused("worse"))
    assert read(tmp_path)[CODE, ()] == 3
    assert read(tmp_path)[SUCCESS, ()] > time.time() - 60


def test_who_finds_the_lock_taken_writes_nothing_into_the_file_of_the_other(tmp_path):
    with heartbeat(tmp_path):
        before = (tmp_path / FILE).read_bytes()
        run(tmp_path, Locked("taken"))
        assert (tmp_path / FILE).read_bytes() == before


def test_a_mistyped_folder_is_not_made(tmp_path):
    run(tmp_path / "shpo", InvalidShopFile("encore.toml", []))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_stops_nothing_and_is_said_in_the_log(tmp_path, caplog, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    task_state(tmp_path, "churn", "promoted")
    before = (tmp_path / FILE).read_bytes()
    monkeypatch.setattr("features.files.os.fsync", full)
    monkeypatch.setattr(logging.getLogger("encore"), "propagate", True)
    with heartbeat(tmp_path), reported(tmp_path):
        done = True
    assert done
    assert (tmp_path / FILE).read_bytes() == before
    assert {record.message for record in caplog.records} == {"heartbeat not written"}
    assert "No space left" in caplog.records[0].facts["reason"]


def test_a_file_in_the_place_of_the_folder_stops_nothing(tmp_path):
    (tmp_path / "metrics").write_text("")
    run(tmp_path)
    assert (tmp_path / "metrics").read_text() == ""


def test_a_damaged_file_is_written_anew_with_what_can_be_read(tmp_path):
    task_state(tmp_path, "churn", "promoted")
    path = tmp_path / FILE
    path.write_bytes(b"\xff\xfe\x00 " + b"\nno_such_metric 1\n" + path.read_bytes()[:-20])
    task_state(tmp_path, "value", "refused")
    assert states(tmp_path) == {"churn": "promoted", "value": "refused"}
    assert "no_such_metric" not in path.read_text()


def test_a_workspace_that_was_moved_speaks_under_its_new_name(tmp_path):
    update(tmp_path, {(CODE, ()): 0})
    moved = tmp_path.rename(tmp_path.with_name(tmp_path.name + "-moved"))
    task_state(moved, "churn", "promoted")
    assert read(moved)[CODE, ()] == 0


@given(st.text(), st.text(), st.floats(0, 4e9).map(lambda value: round(value, 3)))
def test_any_name_comes_back(task, root, value):
    samples = {(BEAT, (("task", task), ("stage", "fit"))): value}
    assert parse(exposition(Path("/" + root), samples)) == samples
    (family, *_) = [family for family in text_string_to_metric_families(exposition(Path("/shop"), samples)) if family.samples]
    assert family.samples[0].labels["task"] == task
