"""Tasks trained at once, each in a process: the same bytes as one after another, and a killed process is said clearly."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import joblib
import pandas as pd
import pytest

from features.errors import NoUsableData, WorkerLost
from features.events import EventLog
from features.exit_codes import exit_code
from features.shop import simulate
from features.shopfile import Shop
from features.store import SnapshotStore
from features.tiles import Tiles, open_tiles
from training import side_by_side
from training.fit import fit_task
from training.retrain import asked_tasks
from training.side_by_side import fit_tasks
from training.task import AskedTask

END = date(2024, 1, 1) + timedelta(days=250)
NAMES = ("lookalike", "churn", "reactivation")


def deadly(users: pd.DataFrame, window: int) -> pd.Series[bool]:
    """Who is eligible? Asking ends the process."""
    os.kill(os.getpid(), signal.SIGKILL)
    return users["orders_count"] > 0


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Tiles:
    folder = tmp_path_factory.mktemp("side_by_side")
    log = EventLog(folder / "log", "UTC", "EUR")
    log.append(simulate(users=1000, days=250, seed=1).batch)
    return open_tiles(log, Shop("Test shop", "UTC", "EUR", horizons={"churn": 30}), folder / "tiles")


@pytest.fixture
def asked(tiles: Tiles) -> list[AskedTask]:
    return asked_tasks(tiles, END, NAMES)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)


def test_each_task_gets_the_bytes_that_it_gets_alone(tiles: Tiles, asked: list[AskedTask], tmp_path: Path) -> None:
    at_once = list(fit_tasks(asked, END, tiles, SnapshotStore(tmp_path / "at_once")))
    assert isinstance(at_once[-1], NoUsableData), "too few of this young shop were ever gone"
    store = SnapshotStore(tmp_path / "alone")
    for task, candidate in zip(asked[:-1], at_once, strict=False):
        alone = fit_task(task, END, tiles, store)
        assert not isinstance(candidate, NoUsableData)
        assert candidate.asked.name == task.name
        assert (candidate.served.digest, candidate.evaluated.digest) == (alone.served.digest, alone.evaluated.digest)
        assert candidate.evidence.describe() == alone.evidence.describe()


def test_a_process_that_is_killed_is_an_error_that_says_what_to_do(tiles: Tiles, asked: list[AskedTask], tmp_path: Path) -> None:
    killed = [asked[0], replace(asked[1], task=replace(asked[1].task, eligible=deadly))]
    with pytest.raises(WorkerLost, match="it resumes") as raised:
        list(fit_tasks(killed, END, tiles, SnapshotStore(tmp_path)))
    assert exit_code(raised.value) == 5


def test_a_task_alone_needs_no_other_process(tiles: Tiles, asked: list[AskedTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side.joblib, "Parallel", None)
    found = list(fit_tasks(asked[-1:], END, tiles, SnapshotStore(tmp_path)))
    assert [type(one) for one in found] == [NoUsableData]
