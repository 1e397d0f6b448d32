"""Files are whole or not there, and a lock holds between processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys

import pytest

from features.errors import Locked
from features.files import canonical_json, digest_of, exclusive, new_directory, read_json, sha256_of, sha256_of_bytes, write_bytes, write_json

HOLD = """
import pathlib, sys
from features.files import exclusive
with exclusive(pathlib.Path(sys.argv[1]), "Work"):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- atomic writes --------------------------------------------------------------------------------------------------


def test_a_written_file_has_its_content_and_leaves_nothing_beside_it(tmp_path):
    write_bytes(tmp_path / "deep" / "file", b"new")
    write_bytes(tmp_path / "deep" / "file", b"newer")
    assert (tmp_path / "deep" / "file").read_bytes() == b"newer"
    assert names(tmp_path / "deep") == ["file"]
    assert (tmp_path / "deep" / "file").stat().st_mode & 0o777 == 0o644


def test_a_write_that_finds_the_disk_full_keeps_the_old_file_and_no_rest(tmp_path, monkeypatch):
    write_bytes(tmp_path / "file", b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_content_is_on_disk_before_the_name_points_to_it(tmp_path, monkeypatch):
    seen, fsync = [], os.fsync
    monkeypatch.setattr("os.fsync", lambda handle: (seen.append((tmp_path / "file").exists()), fsync(handle)))
    write_bytes(tmp_path / "file", b"new")
    assert seen == [False, True]  # the content before the name, the name's directory after it


def test_json_is_written_as_it_is_read(tmp_path):
    value = {"b": [1, 0.1, None, "顾客"], "a": {}}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value


# --- digests --------------------------------------------------------------------------------------------------------


def test_equal_values_have_equal_digests(tmp_path):
    assert digest_of({"b": 1, "a": (1, 2)}) == digest_of({"a": [1, 2], "b": 1}) != digest_of({"a": [2, 1], "b": 1})
    assert json.loads(canonical_json({"x": 0.1})) == {"x": 0.1}
    (tmp_path / "file").write_bytes(b"content")
    assert sha256_of(tmp_path / "file") == sha256_of_bytes(b"content")


def test_a_value_that_json_has_no_word_for_has_no_digest():
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of(float("nan"))


# --- directories ----------------------------------------------------------------------------------------------------


def test_a_new_directory_appears_whole(tmp_path):
    with new_directory(tmp_path / "target") as working:
        (working / "file").write_text("content")
        assert names(tmp_path) == [working.name]
        assert working.name.startswith(".new-")
    assert names(tmp_path) == ["target"]
    assert (tmp_path / "target" / "file").read_text() == "content"


def test_a_directory_whose_making_fails_never_appears(tmp_path):
    with pytest.raises(RuntimeError, match="half way"), new_directory(tmp_path / "target") as working:
        (working / "file").write_text("content")
        raise RuntimeError("half way")
    assert names(tmp_path) == []


def test_a_directory_that_exists_stays_as_it_is(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").write_text("old")
    with new_directory(tmp_path / "target") as working:
        (working / "new").write_text("new")
    assert names(tmp_path) == ["target"]
    assert names(tmp_path / "target") == ["old"]


# --- locks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_lock_held_by_another_process_is_refused_with_its_id_and_freed_by_its_death(tmp_path, holder):
    with pytest.raises(Locked, match=rf"Work is already running \(process {holder.pid}\)"), exclusive(tmp_path / "lock", "Work"):
        pass
    holder.kill()
    holder.wait()
    with exclusive(tmp_path / "lock", "Work"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_lock_is_free_again_after_an_error_in_its_block(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError, match="half way"), exclusive(tmp_path / "lock", "Work"):
            raise RuntimeError("half way")


def _add_one(folder):
    for _ in range(30):
        with exclusive(folder / "lock", "Adding", wait=True):
            (folder / "count").write_text(str(int((folder / "count").read_text()) + 1))


def test_processes_that_wait_for_a_lock_take_turns(tmp_path):
    (tmp_path / "count").write_text("0")
    workers = [multiprocessing.get_context("fork").Process(target=_add_one, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert (tmp_path / "count").read_text() == "90"
