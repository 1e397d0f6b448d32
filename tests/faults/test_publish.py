"""Publications that are interrupted, fed with bad parts or left without their registry: what is served stays served."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.errors import BundleRefused, ReleaseRefused, SnapshotRefused, TrackingUnavailable
from features.exit_codes import exit_code
from features.files import read_json, sha256_of, write_json
from features.snapshot import Snapshot
from features.workspace import open_workspace
from serving.current import Current
from serving.pointer import activate, current_id, history, point_to, rollback
from serving.publish import publish
from serving.release import check_release, load_release, sweep_if_idle, write_release
from serving.verified import CHECKED, LARGEST_MANIFEST, is_checked
from training.tracking import Tracking

PROJECT = Path(__file__).parents[2]
GOOD_FOR = timedelta(hours=48)

# Publishes as `encore publish` does, and halts for ever at one point of the way, where it says so.
HALTING = """
import sys, time
from pathlib import Path

def halt(*_, **__):
    print("halted", flush=True)
    time.sleep(600)

import serving.pointer as pointer, serving.release as release
from features import files
place = sys.argv[2]
if place == "before the rename":
    files.os.rename = halt
elif place == "between writing and pointing":
    pointer.point_to = halt
elif place == "before the pointer is replaced":
    replace = files.os.replace
    files.os.replace = lambda here, there: halt() if there.name == "current.json" else replace(here, there)
root = Path(sys.argv[1])
source, tasks = release.load_release(root / sys.argv[3]), {}

import numpy as np, pyarrow as pa
from features.snapshot import Snapshot
rows = {"user_id": pa.array([user.decode() for user in source.users]), "stage": pa.array(["repeat"] * len(source.users))}
rows |= {name: pa.array(np.ascontiguousarray(source.vectors[:, column])) for column, name in enumerate(source.features)}
manifest = {**source.manifest, "features": [{"name": name} for name in source.features], "labels": [], "recipe": "another"}
models = {task: (bundle, np.ones(len(source.users), bool), {"version": "9", "kind": "model"}) for task, bundle in source.bundles.items()}
pointer.activate(root, release.write_release(root, Snapshot(pa.table(rows), manifest), models, {"scored_at": source.manifest["scored_at"]}))
"""


@pytest.fixture
def workspace(small_workspace, tmp_path, monkeypatch):
    """A copy of the small shop; its registry is the original's."""
    root = tmp_path / "workspace"
    shutil.copytree(small_workspace.root, root, ignore=shutil.ignore_patterns("mlflow"))
    monkeypatch.setenv("ENCORE_MLFLOW_URI", small_workspace.mlflow_uri)
    return open_workspace(root)


def lay(folder):
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}


# --- F3 -------------------------------------------------------------------------------------------------------------


def test_without_the_registry_a_publication_is_refused_and_the_same_command_publishes_later(workspace):
    """F3: what is served and the champion stay; nothing has to be mended."""
    before, champions = lay(workspace.root), Tracking(workspace, workspace.shop().name).champions()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(TrackingUnavailable, match="it resumes") as caught:
            publish(replace(workspace, mlflow_uri=f"http://127.0.0.1:{closed.getsockname()[1]}"))
    assert exit_code(caught.value) == 5
    assert lay(workspace.root) == before
    assert Tracking(workspace, workspace.shop().name).champions() == champions
    publish(workspace)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["down", "hangs"])
def test_the_command_gives_a_registry_up_within_seconds(workspace, fault):
    """F3: exit code 5 within 15 seconds, but for what Python takes to start."""
    with socket.socket() as registry:
        registry.bind(("127.0.0.1", 0))
        if fault == "hangs":
            registry.listen()  # takes connections and never says a word
        environment = {**os.environ, "ENCORE_MLFLOW_URI": f"http://127.0.0.1:{registry.getsockname()[1]}"}
        began = time.monotonic()
        command = [sys.executable, "-m", "encore", "publish", "--workspace", str(workspace.root)]
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=120, check=False)
        seconds = time.monotonic() - began
    assert done.returncode == 5, done.stderr
    assert seconds < 30, "the client of a registry that is down would wait for four minutes"
    assert "did not do what was asked" in done.stderr


# --- F7 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["between writing and pointing", "before the pointer is replaced"])
def test_a_publication_that_is_killed_leaves_what_is_served_and_the_next_one_is_whole(releases, published, place):
    """F7: `kill -9` of a real process at each point of the way; what it left is swept at the next start."""
    command = [sys.executable, "-c", HALTING, str(releases), place, published.second]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "halted\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    current = Current(releases, GOOD_FOR)
    current.refresh()
    assert (current.scorer.release.id, current.failure) == (published.second, None)
    assert current_id(releases) == published.second
    made = next(path.name for path in releases.glob("2*") if path.name not in (published.first, published.second))
    activate(releases, made)
    current.refresh()
    assert current.scorer.release.id == made


def test_what_is_being_written_is_not_swept(releases, published):
    """F7: a service that starts while somebody publishes leaves the unfinished release alone; after a `kill -9` it does not."""
    process = subprocess.Popen(
        [sys.executable, "-c", HALTING, str(releases), "before the rename", published.second], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "halted\n"
        sweep_if_idle(releases)
        assert len(list(releases.glob(".new-*"))) == 1
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    sweep_if_idle(releases)  # what `encore serve` does when it starts
    assert not list(releases.glob(".new-*"))
    assert current_id(releases) == published.second


# --- F9: the account of the moves -----------------------------------------------------------------------------------


def test_every_move_is_in_the_history_even_after_a_line_that_a_crash_tore(releases, published):
    """F9: who, when, from where to where."""
    (releases / "history.jsonl").write_bytes(b'{"at": "2026-01-01T00:00:00+00:00", "who": "a')
    rollback(releases)
    rollback(releases)
    told = history(releases)
    assert [(line["action"], line["from"], line["to"]) for line in told] == [
        ("rollback", published.second, published.first),
        ("rollback", published.first, published.second),
    ]
    assert all("@" in line["who"] and datetime.fromisoformat(line["at"]).tzinfo for line in told)


def test_a_release_that_nobody_touched_is_not_hashed_again_and_one_that_was_touched_is(releases, published, monkeypatch):
    """F9: a rollback is a flip of the pointer; a single byte that was changed, even with its times put back, makes it a check."""
    activate(releases, published.first)
    activate(releases, published.second)
    assert is_checked(releases / published.first)
    with monkeypatch.context() as patch:
        patch.setattr("serving.pointer.check_in_child", lambda _: pytest.fail("checked again"))
        patch.setattr("serving.verified.sha256_of", lambda _: pytest.fail("hashed again"))
        assert rollback(releases) == published.first
        assert load_release(releases / published.first).id == published.first
    file = releases / published.second / "snapshot.arrow"
    times, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not is_checked(releases / published.second)
    with pytest.raises(ReleaseRefused, match=r"snapshot\.arrow"):
        rollback(releases)
    assert current_id(releases) == published.first


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_note_of_what_was_checked_only_costs_another_check(releases, published, content):
    """F9: nothing depends on it."""
    activate(releases, published.first)
    (releases / CHECKED).write_text(content)
    assert not is_checked(releases / published.first)
    assert load_release(releases / published.first).id == published.first
    activate(releases, published.second)
    assert is_checked(releases / published.second)


# --- F20: snapshots that are none -----------------------------------------------------------------------------------


def changed(snapshot, change):
    """A snapshot whose table does not fit its manifest."""
    table, name = snapshot.table, snapshot.feature_names[3]
    place = table.column_names.index(name)
    tables = {
        "missing column": lambda: table.drop_columns([name]),
        "text for numbers": lambda: table.set_column(place, name, pa.array(["1"] * table.num_rows)),
        "whole numbers for numbers": lambda: table.set_column(place, name, pa.array(np.zeros(table.num_rows, np.int64))),
        "half the precision": lambda: table.set_column(place, name, table[name].cast(pa.float32())),
        "numbers for ids": lambda: table.set_column(0, "user_id", pa.array(np.arange(table.num_rows))),
    }
    return Snapshot(tables[change](), snapshot.manifest), "user_id" if change == "numbers for ids" else name


@pytest.mark.parametrize("change", ["missing column", "text for numbers", "whole numbers for numbers", "half the precision", "numbers for ids"])
def test_a_snapshot_of_other_columns_is_refused_with_their_names(releases, published, change):
    """F20: before anything is written."""
    snapshot, name = changed(published.snapshot, change)
    before, models = lay(releases), {"churn": (published.bundles["churn"], np.ones(snapshot.table.num_rows, bool), {"version": "1", "kind": "model"})}
    with pytest.raises(SnapshotRefused, match=f"1 column.s. of another kind: '{name}' is"):
        write_release(releases, snapshot, models, {"scored_at": "2026-01-01T00:00:00+00:00"})
    assert lay(releases) == before


def test_a_half_written_snapshot_is_refused_and_what_is_served_stays(workspace):
    """F20: by its hash, and with what to do."""
    before = lay(workspace.releases)
    for vectors in (workspace.root / "snapshots").glob("*/vectors.parquet"):
        vectors.write_bytes(vectors.read_bytes()[: vectors.stat().st_size // 2])
    with pytest.raises(SnapshotRefused, match="changed after it was made"):
        publish(workspace)
    assert lay(workspace.releases) == before


@pytest.mark.parametrize(("facts", "said"), [({"scored_at": 25}, "is from the future"), ({"as_of": 72}, "was still to come when it was scored")])
def test_a_release_from_the_future_is_refused(releases, published, facts, said):
    """F20: hours ahead of this machine's clock; a day is let pass, for clocks and zones differ."""
    current = Current(releases, GOOD_FOR)
    current.refresh()
    manifest = read_json(releases / published.first / "release.json")
    for name, hours in facts.items():
        moment = datetime.now(UTC) + timedelta(hours=hours)
        manifest[name] = moment.isoformat() if name == "scored_at" else moment.date().isoformat()
    write_json(releases / published.first / "release.json", manifest)
    point_to(releases, published.first)
    current.refresh()
    assert said in current.failure
    assert current.scorer.release.id == published.second


def test_scores_older_than_they_are_good_for_are_given_as_stale(published, serve, tmp_path):
    """F20: they are better than none; the answer and the readiness say so."""
    client = serve(published.root, tmp_path, good_for=timedelta(seconds=0))
    users = list(published.snapshot.user_ids)
    assert {score["status"] for score in client.post("/v1/scores/churn", {"user_ids": users}).json["scores"]} == {"STALE", "NOT_ELIGIBLE"}
    assert client.get("/health/ready").json["reason"] == "stale"


def test_vectors_of_another_type_in_a_release_are_refused(releases, published):
    """F20: though every hash is right."""
    from serving.arrow import read_arrow, write_arrow

    folder = releases / published.second
    columns, manifest = read_arrow(folder / "snapshot.arrow"), read_json(folder / "release.json")
    columns["vector"] = columns["vector"].cast(pa.list_(pa.float32(), columns["vector"].type.list_size))
    (folder / "snapshot.arrow").unlink()
    write_arrow(folder / "snapshot.arrow", columns)
    manifest["files"]["snapshot.arrow"], manifest["sizes"]["snapshot.arrow"] = sha256_of(folder / "snapshot.arrow"), (folder / "snapshot.arrow").stat().st_size
    write_json(folder / "release.json", manifest)
    with pytest.raises(ReleaseRefused, match="a column of float with 0 nulls where double without any is due"):
        load_release(folder)


# --- F46 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["snapshot.arrow", "bundles/churn/trees_0.txt", "release.json", "huge.bin"])
def test_a_huge_file_is_refused_by_its_size_and_not_read(releases, published, name):
    """F46: a terabyte that takes no place on the disk would take hours to hash and all memory to read."""
    folder = releases / published.second
    (folder / name).touch()
    os.truncate(folder / name, 2**40)
    began = time.monotonic()
    with pytest.raises(ReleaseRefused, match=name.rpartition("/")[2]):
        load_release(folder)
    assert time.monotonic() - began < 30
    assert LARGEST_MANIFEST < 2**40


def test_a_pickle_beside_a_model_in_the_registry_is_neither_opened_nor_published(workspace, small_workspace, tmp_path):
    """F46: a release is written from what a bundle is made of, and nothing else."""
    marker = tmp_path / "opened"
    bomb = f"cposix\nsystem\n(S'touch {marker}'\ntR.".encode()
    planted = [path.parent / name for path in small_workspace.mlflow_artifacts.rglob("bundle.json") for name in ("model.pkl", "bundle.pkl", "trees_99.txt")]
    assert planted
    for path in planted:
        path.write_bytes(bomb)
    try:
        made = publish(workspace)
    finally:
        for path in planted:
            path.unlink()
    assert not marker.exists()
    assert not [path for path in (workspace.releases / made).rglob("*") if path.suffix == ".pkl" or path.name == "trees_99.txt"]
    check_release(workspace.releases / made)


def test_a_version_whose_bundle_lies_elsewhere_is_refused(workspace, tmp_path):
    """F46: a tag of the registry that leads out of the run's artifacts."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "bundle.json").write_text("{}")
    tracking = Tracking(workspace, workspace.shop().name)
    champion = tracking.champions()[0]
    for path in ("../../../../outside", f"../{'../' * 10}{outside}", str(outside)):
        with pytest.raises((TrackingUnavailable, BundleRefused), match=r"did not do what was asked|cannot be read"):
            tracking.load(champion, path)
    assert json.loads((outside / "bundle.json").read_text()) == {}
