"""F18: the disk is full, or may not be written: scoring goes on, whoever writes is told, and what stood there stands there still.

The disks are real: small file systems in memory, which only root may mount. Elsewhere these tests are skipped by name.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.files import read_json, sha256_of
from features.snapshot import Snapshot
from features.workspace import Workspace
from serving import commands, runs
from serving.ledger import Ledger
from serving.pointer import current_id, history, point_to, rollback
from serving.release import load_release, sweep_if_idle, write_release
from serving.runs import score_run
from serving.scorer import Scorer
from serving.tombstones import read_tombstones, tombstone, write_tombstones
from serving.work import work

PROJECT = Path(__file__).parents[2]
SCORED = {"scored_at": "2026-01-01T00:00:00+00:00"}


class Disk:
    """A file system of its own, to be filled and closed for writing."""

    def __init__(self, path):
        self.path = path

    def fill(self, left=0):
        """Leave so many bytes free."""
        with (self.path / "filler").open("ab") as file:
            while True:
                free = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
                if free <= left:
                    return
                try:
                    file.write(b"\0" * min(free - left, 2**20))
                    file.flush()
                except OSError:
                    return

    def empty(self):
        (self.path / "filler").unlink()

    def close(self):
        subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path, published):
    """A disk of 64 MB with a copy of the published releases in `releases`."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("full disks are not tested: only root, with the right to mount, can make one")
    try:
        subprocess.run(["cp", "-a", str(published.root), str(place / "releases")], check=True)
        yield Disk(place)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def releases(disk):
    return disk.path / "releases"


@pytest.fixture
def client(disk, serve):
    return serve(disk.path / "releases", disk.path)


def other(published):
    """What another release is made of."""
    loaded = load_release(published.root / published.second)
    facts = {"version": "1", "kind": "model"}
    snapshot = Snapshot(published.snapshot.table, {**published.snapshot.manifest, "recipe": "another"})
    return snapshot, {task: (bundle, ~np.isnan(loaded.scores[task].score), facts) for task, bundle in published.bundles.items()}


def is_scoring(client, published):
    users = list(published.snapshot.user_ids)
    scores = client.post("/v1/scores/churn", {"user_ids": users}).json["scores"]
    journeys = {client.get(f"/v1/journeys/churn/{user}").status for user in users[:5]}
    return {score["release"] for score in scores} == {published.second} and "OK" in {score["status"] for score in scores} and journeys == {200}


def lay(folder):
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}


@pytest.mark.parametrize("left", [0, 4_096, 300_000])
def test_a_release_that_does_not_fit_is_not_there_at_all(disk, releases, client, published, left):
    """F18: at the first byte, at a later file; afterwards it can be written."""
    before = lay(releases)
    disk.fill(left)
    with pytest.raises(OSError, match="No space left") as caught:
        write_release(releases, *other(published), SCORED)
    assert caught.value.errno == errno.ENOSPC
    assert lay(releases) == before
    assert not list(releases.glob(".new-*"))
    assert is_scoring(client, published)
    disk.empty()
    made = write_release(releases, *other(published), SCORED)
    point_to(releases, made)
    client.app.state.current.refresh()
    assert client.get("/health/ready").json["release"] == made


def test_the_pointer_the_history_and_the_tombstones_keep_what_they_say(disk, releases, client, published):
    """F18: none of them is half written."""
    write_tombstones(releases, {tombstone(b"ann"): "deleted"})
    before, moves = lay(releases), history(releases)
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        point_to(releases, published.first)
    with pytest.raises(OSError, match="No space left"):
        write_tombstones(releases, {tombstone(b"bob"): "deleted"})
    client.app.state.current.refresh()
    assert lay(releases) == before
    assert (current_id(releases), history(releases), read_tombstones(releases)) == (published.second, moves, {tombstone(b"ann"): "deleted"})
    assert is_scoring(client, published)


def test_a_score_run_stops_and_goes_on_when_there_is_room(disk, releases, published, monkeypatch):
    """F18: the parts that are done stay, the others are written later, to the same bytes."""
    monkeypatch.setattr(runs, "PART", 20)
    scorer = Scorer(load_release(releases / published.second), timedelta(hours=48))
    whole = score_run(scorer, disk.path.parent / "elsewhere")
    disk.fill(200_000)
    with pytest.raises(OSError, match="No space left"):
        score_run(scorer, disk.path / "scores")
    folder = disk.path / "scores" / whole.folder.name
    done, expected = lay(folder), lay(whole.folder)
    assert 0 < len(done) < len(expected)
    assert done.items() <= expected.items()
    disk.empty()
    assert lay(score_run(scorer, disk.path / "scores").folder) == expected


def test_an_export_fails_with_its_reason_and_the_old_file_stays(disk, client, published):
    """F18: the job says so, the next one has its turn."""
    workspace = Workspace(disk.path, "", f"sqlite:///{disk.path.parent / 'ledger.db'}")
    client.app.state.ledger = Ledger(workspace.ledger_url)
    client.post("/v1/audiences", {"task": "churn", "top_percent": 100, "name": "all"})

    def export():
        job = client.post("/v1/audiences/all/exports?format=csv").json["id"]
        work(workspace, Ledger(workspace.ledger_url), once=True)
        return client.get(f"/v1/jobs/{job}").json

    first = export()
    before = lay(workspace.exports)
    disk.fill()
    full = export()
    assert (first["state"], full["state"]) == ("done", "failed")
    assert full["result"]["reason"]
    assert lay(workspace.exports) == before
    assert is_scoring(client, published)
    disk.empty()
    assert export()["state"] == "done"


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_ledger_that_cannot_write_refuses_and_scoring_goes_on(disk, client, published, fault):
    """F18: 503 with Retry-After for what has to be remembered, 200 for what only has to be known."""
    assert client.post("/v1/audiences", {"task": "churn", "top_n": 5, "name": "five"}).status == 201
    client.app.state.ledger._engine.dispose()
    disk.fill() if fault == "full" else disk.close()
    answer = client.post("/v1/audiences", {"task": "churn", "top_n": 7, "name": "seven"})
    assert (answer.status, answer.headers["retry-after"], answer.json["type"]) == (503, "30", "urn:encore:problem:ledger-unavailable")
    assert is_scoring(client, published)
    assert client.get("/v1/journeys/five/nobody").status == 200


def test_on_a_read_only_disk_a_service_starts_and_nothing_else_can_be_done(disk, releases, client, serve, published, tmp_path):
    """F18: as in a container whose release is part of the image."""
    before = lay(releases)
    disk.close()
    assert is_scoring(serve(releases, tmp_path), published)
    sweep_if_idle(releases)
    for attempt in (lambda: rollback(releases), lambda: write_release(releases, *other(published), SCORED), lambda: write_tombstones(releases, {})):
        with pytest.raises(OSError, match="Read-only file system"):
            attempt()
    assert lay(releases) == before


def test_the_command_says_in_a_sentence_that_the_disk_is_full_and_exits_5(disk, releases, published):
    """F18: no traceback, and a code by which a scheduler comes again."""
    out = disk.path / "scores.parquet"
    command = [sys.executable, "-m", "encore", "score", "--workspace", str(disk.path), "--out", str(out)]
    commands.score(workspace=disk.path, out=out)
    rows, digest = pq.read_metadata(out).num_rows, sha256_of(out)
    disk.fill()
    full = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert (full.returncode, "Traceback" in full.stderr, "No space left" in full.stderr) == (5, False, True)
    assert (pq.read_metadata(out).num_rows, sha256_of(out)) == (rows, digest)
    assert read_json(releases / "current.json")["current"] == published.second
