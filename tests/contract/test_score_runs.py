"""Score runs: everybody, in parts, the same bytes however often they are interrupted, and an account of what was scored with what."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import Locked, UnknownName
from features.files import exclusive, sha256_of
from serving import commands, runs
from serving.batch import SCORE_SCHEMA, texts
from serving.release import load_release
from serving.runs import score_run, write_one_file
from serving.scorer import Scorer
from serving.tombstones import tombstone

GOOD_FOR = timedelta(hours=48)

# Scores by parts of fifty users, slowly; what is written and how is the real thing.
SLOWLY = """
import sys, time
from datetime import timedelta
from pathlib import Path
from serving import runs
from serving.release import load_release
from serving.scorer import Scorer

write = runs.write_part

def slowly(scorer, run, part):
    time.sleep(0.1)
    return write(scorer, run, part)

runs.PART, runs.write_part = 50, slowly
print(runs.score_run(Scorer(load_release(Path(sys.argv[1])), timedelta(hours=48)), Path(sys.argv[2])).folder)
"""


@pytest.fixture
def scorer(published):
    return Scorer(load_release(published.root / published.second), GOOD_FOR)


@pytest.fixture
def by_fifty(monkeypatch):
    """Parts of fifty users instead of a hundred thousand."""
    monkeypatch.setattr(runs, "PART", 50)


def lay(folder):
    """The files of a run: name -> when and where it was written, and what is in it."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns, sha256_of(path)) for path in folder.iterdir()}


def test_parts_hold_every_user_once_for_each_task_in_their_order(scorer, tmp_path, by_fifty):
    run = score_run(scorer, tmp_path)
    tables = [pq.read_table(path) for path in sorted(run.folder.glob("part-*.parquet"))]
    assert len(tables) == -(-len(scorer.release.users) // 50) > 5
    whole = pa.concat_tables(tables)
    for task, scores in scorer.release.scores.items():
        known = ~np.isnan(scores.score)
        mine = whole.filter(pa.compute.equal(whole["model"], task))
        assert mine["user_id"].to_pylist() == [user.decode() for user in scorer.release.users[known]]
        assert mine["percentile"].to_numpy().tobytes() == scores.percentile[known].tobytes()
    write_one_file(run, tmp_path / "all.parquet")
    one = pq.read_table(tmp_path / "all.parquet")
    assert one.equals(whole.cast(one.schema))
    assert one.schema.types == SCORE_SCHEMA.types


def test_a_run_says_what_was_scored_with_what(scorer, tmp_path, by_fifty):
    run, release = score_run(scorer, tmp_path), scorer.release
    told = run.manifest
    assert {name: told[name] for name in ("id", "release", "versions", "users", "withheld")} == {
        "id": run.folder.name,
        "release": release.id,
        "versions": {"repeat_order": "30", "churn": "30", "lookalike": "30"},
        "users": 700,
        "withheld": 0,
    }
    assert told["snapshot"] == {"as_of": release.manifest["as_of"], "recipe": release.manifest["recipe"], "sha256": release.manifest["files"]["snapshot.arrow"]}
    assert told["rows"] == sum(part["rows"] for part in told["parts"]) == sum(int((~np.isnan(scores.score)).sum()) for scores in release.scores.values())
    assert [part["sha256"] for part in told["parts"]] == [sha256_of(run.folder / part["file"]) for part in told["parts"]]


def test_the_same_again_is_the_same_run_and_writes_nothing(scorer, tmp_path, by_fifty):
    first = score_run(scorer, tmp_path)
    before = lay(first.folder)
    assert score_run(scorer, tmp_path).folder == first.folder
    assert lay(first.folder) == before
    assert score_run(scorer, tmp_path, ["churn"]).folder != first.folder
    assert score_run(Scorer(scorer.release, timedelta(hours=1)), tmp_path).folder != first.folder


def test_another_release_can_be_scored_again_as_it_was(releases, published, tmp_path):
    """Replay: the run of an older release, made anew from nothing, has the digest that it had."""
    commands.score(workspace=releases.parent, release=published.first)
    folder = next((releases.parent / "scores").glob(f"{published.first}-*/run.json")).parent
    again = score_run(Scorer(load_release(releases / published.first), GOOD_FOR), tmp_path / "elsewhere")
    assert again.manifest == json.loads((folder / "run.json").read_bytes())
    with pytest.raises(UnknownName, match="Did you mean"):
        commands.score(workspace=releases.parent, release=published.first[:-1])


def test_a_part_that_was_changed_is_made_again_and_no_other(scorer, tmp_path, by_fifty):
    run = score_run(scorer, tmp_path)
    before = lay(run.folder)
    (run.folder / "part-00002.parquet").write_bytes(b"PAR1")
    (run.folder / "part-00004.parquet").unlink()
    after = lay(score_run(scorer, tmp_path).folder)
    assert {name for name in after if after[name][:2] != before[name][:2]} == {"part-00002.parquet", "part-00004.parquet"}
    assert {name: content for name, (*_, content) in after.items()} == {name: content for name, (*_, content) in before.items()}


def test_a_run_that_is_done_is_not_replaced_by_other_bytes(scorer, tmp_path, by_fifty, monkeypatch):
    """A part was lost, and this Encore scores otherwise: the run stays what was served, and says that a part is missing."""
    run = score_run(scorer, tmp_path)
    before = lay(run.folder)
    (run.folder / "part-00002.parquet").unlink()
    write = runs.write_part
    monkeypatch.setattr(runs, "write_part", lambda scorer, run, part: write(scorer, runs.Run(run.folder, run.tasks[:1]), part))
    with pytest.raises(runs.RunChanged, match="gave other bytes than those that were served"):
        score_run(scorer, tmp_path)
    assert lay(run.folder) == {name: found for name, found in before.items() if name != "part-00002.parquet"}


def test_an_erasure_that_was_killed_between_part_and_manifest_is_ended_by_the_next(scorer, tmp_path, by_fifty, monkeypatch):
    run = score_run(scorer, tmp_path)
    gone = pa.array(pq.read_table(run.folder / "part-00001.parquet")["user_id"].to_pylist()[:1])
    rows = sum(pa.compute.is_in(pq.read_table(part)["user_id"], gone).to_pylist().count(True) for part in run.folder.glob("part-*"))
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(runs, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        runs.without_users(run.folder, lambda users: pa.compute.is_in(users, gone))
    assert runs.without_users(run.folder, lambda users: pa.compute.is_in(users, gone)) == rows
    told = json.loads((run.folder / "run.json").read_bytes())
    assert told["erased"] == rows
    assert [part["sha256"] for part in told["parts"]] == [sha256_of(run.folder / part["file"]) for part in told["parts"]]
    assert runs.without_users(run.folder, lambda users: pa.compute.is_in(users, gone)) == 0


def test_a_run_that_is_killed_keeps_its_parts_and_ends_with_the_bytes_of_one_that_was_not(published, scorer, tmp_path, by_fifty):
    """`kill -9` amid the parts of a real process, twice."""
    root, command = tmp_path / "killed", [sys.executable, "-c", SLOWLY, str(published.root / published.second), str(tmp_path / "killed")]
    kept = {}
    for number in (2, 5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while len(list(root.glob("*/part-*.parquet"))) < number and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
        process.wait()
        folder = next(root.glob("2*"))
        parts = {name: found for name, found in lay(folder).items() if name.startswith("part-")}
        assert number <= len(parts) < 14
        assert not (folder / "run.json").exists()
        assert parts | kept == parts
        kept = parts
    (folder / ".part-00013.parquet.99999").write_bytes(b"half")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = lay(folder)
    assert done.stdout.strip() == str(folder)
    assert after | kept == after
    whole = score_run(scorer, tmp_path / "undisturbed")
    assert whole.folder.name == folder.name
    assert {name: content for name, (*_, content) in after.items()} == {name: content for name, (*_, content) in lay(whole.folder).items()}


def test_the_same_run_twice_at_once_is_locked(scorer, tmp_path):
    name = score_run(scorer, tmp_path).folder.name
    with exclusive(tmp_path / f".{name}.lock", "This score run"), pytest.raises(Locked, match="This score run is already running"):
        score_run(scorer, tmp_path)


def test_withheld_users_make_another_run_without_them(scorer, tmp_path):
    whole, users = score_run(scorer, tmp_path), pq.read_table(score_run(scorer, tmp_path).folder / "part-00000.parquet")["user_id"].to_pylist()
    release = scorer.release.withholding({tombstone(users[0].encode()): "suppressed"})
    less = score_run(Scorer(release, GOOD_FOR), tmp_path)
    assert less.folder != whole.folder
    assert less.manifest["withheld"] == 1
    assert {*users} - {*pq.read_table(less.folder / "part-00000.parquet")["user_id"].to_pylist()} == {users[0]}


@settings(max_examples=100, deadline=None)
@given(users=st.lists(st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=20)))
def test_ids_become_the_text_that_they_were(users):
    ids = [user.encode() for user in users]
    assert texts(np.array(ids, dtype=f"S{max(map(len, ids), default=1)}")).to_pylist() == users
