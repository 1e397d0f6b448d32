"""Jobs whose worker is killed, stopped or taken for dead: each is done once more, and none for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from features.workspace import open_workspace
from serving import jobs as held
from serving.jobs import JOBS, LEASE, MOST_TRIES, Jobs
from serving.ledger import Ledger
from serving.lookalike_schemas import LookalikeRequest
from serving.orders import Lookalikes
from serving.work import KINDS, run_job, work

ASKED = LookalikeRequest(name="best", seed={"user_ids": ["somebody"]}, size=5).model_dump(mode="json", exclude={"name"})
# A real `encore work` whose job takes for ever: the job's own work is replaced, all that claims, renews and finishes is not.
WORKER = """
import pathlib, sys, time
import encore
from serving import jobs, work
jobs.RENEWAL = 0.1
def for_ever(workspace, ledger, job):
    pathlib.Path(sys.argv[1], "begun").write_text(job.worker)
    time.sleep(3600)
work.KINDS["export"] = for_ever
encore.app(["work", "--workspace", sys.argv[1]])
"""


@pytest.fixture
def place(tmp_path):
    workspace = open_workspace(tmp_path, {})
    return workspace, Ledger(workspace.ledger_url)


@pytest.fixture
def worker(tmp_path):
    """Start a real worker and wait until it has begun a job; it is killed at the end."""
    started = []

    def start():
        (tmp_path / "begun").unlink(missing_ok=True)
        started.append(subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        until = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < until, "the worker did not begin"
            assert started[-1].poll() is None, "the worker ended"
            time.sleep(0.05)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def row_of(ledger, job):
    with ledger.connection() as connection:
        return connection.execute(JOBS.select().where(JOBS.c.id == job.id)).mappings().one()


def age(ledger, job, seconds):
    """As if so many seconds had gone by since the last renewal."""
    with ledger.connection() as connection:
        connection.execute(JOBS.update().where(JOBS.c.id == job.id).values(renewed_at=time.time() - seconds))


def test_a_worker_renews_and_when_it_is_killed_the_next_one_does_its_job(place, worker, monkeypatch):
    workspace, ledger = place
    job = Jobs(ledger).queue("export", {"audience": "vip"})
    process = worker()
    first = row_of(ledger, job)
    time.sleep(0.5)
    assert row_of(ledger, job)["renewed_at"] > first["renewed_at"], "the thread renews while the job runs"
    assert Jobs(ledger).claim() is None, "it is held"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert Jobs(ledger).claim() is None, "for two minutes nobody can know that it is gone"
    age(ledger, job, LEASE + 1)
    monkeypatch.setitem(KINDS, "export", lambda *_: {"file": "vip.csv"})
    assert work(workspace, ledger, once=True) == 1
    done = row_of(ledger, job)
    assert (done["state"], done["tries"], done["result"]) == ("done", 2, {"file": "vip.csv"})


def test_a_job_that_ends_its_worker_each_time_fails_with_the_reason_and_leaves_no_id(place):
    _, ledger = place
    job, _ = Lookalikes(ledger).order("best", ASKED)
    for number in range(MOST_TRIES):
        assert Jobs(ledger).claim().tries == number + 1
        age(ledger, job, LEASE + 1)
    assert Jobs(ledger).claim() is None
    row = row_of(ledger, job)
    assert (row["state"], "somebody" in str(row["request"])) == ("failed", False)
    assert row["result"]["reason"].startswith(f"Its worker ended {MOST_TRIES} times")
    assert Lookalikes(ledger).order("best", ASKED)[1], "it can be asked for again"


def test_a_worker_that_was_taken_for_dead_cannot_finish_what_is_another_ones(place, caplog, monkeypatch):
    workspace, ledger = place
    Jobs(ledger).queue("export", {})
    slow = Jobs(ledger).claim()
    age(ledger, slow, LEASE + 1)
    quick = Jobs(ledger).claim()
    assert (quick.id, quick.worker != slow.worker) == (slow.id, True)
    assert not Jobs(ledger).renew(slow)
    monkeypatch.setitem(KINDS, "export", lambda *_: {"by": "the slow one"})
    run_job(workspace, ledger, slow)
    assert "taken over by another worker" in caplog.text
    assert row_of(ledger, quick)["state"] == "running"
    assert Jobs(ledger).finish(quick, "done", {"by": "the quick one"})
    assert row_of(ledger, quick)["result"] == {"by": "the quick one"}


def test_a_ledger_that_is_away_for_a_moment_does_not_end_the_renewals(place, tmp_path, monkeypatch):
    _, ledger = place
    monkeypatch.setattr(held, "RENEWAL", 0.02)
    Jobs(ledger).queue("export", {})
    job = Jobs(ledger).claim()
    with Jobs(ledger).held(job):
        (tmp_path / "ledger.db").rename(tmp_path / "away.db")
        (tmp_path / "ledger.db").mkdir()
        time.sleep(0.2)
        (tmp_path / "ledger.db").rmdir()
        (tmp_path / "away.db").rename(tmp_path / "ledger.db")
        before = row_of(ledger, job)["renewed_at"]
        time.sleep(0.2)
        assert row_of(ledger, job)["renewed_at"] > before


def test_what_only_a_fault_of_ours_says_is_not_told(place, caplog, monkeypatch):
    workspace, ledger = place

    def fault(*_):
        raise KeyError("customer-4711")

    monkeypatch.setitem(KINDS, "export", fault)
    job = Jobs(ledger).queue("export", {})
    work(workspace, ledger, once=True)
    reason = row_of(ledger, job)["result"]["reason"]
    assert reason.startswith("A fault of Encore itself: KeyError at test_jobs.py:")
    assert "4711" not in reason + str([record.__dict__ for record in caplog.records])
