"""Releases that were torn, changed, planted or half published: refused before they are opened, and what was served stays served."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from features.errors import BundleRefused, NoRelease, ReleaseRefused
from features.files import read_json, sha256_of, sha256_of_bytes, write_json
from features.snapshot import Snapshot
from serving.arrow import read_arrow, write_arrow
from serving.audiences.cut import cut
from serving.audiences.rules import Rule
from serving.current import Current
from serving.pointer import activate, check_in_child, current_id, point_to, rollback
from serving.release import check_release, load_release, write_release

TREES = "bundles/churn/trees_0.txt"
GOOD_FOR = timedelta(hours=48)
SCORED = {"scored_at": "2026-01-01T00:00:00+00:00"}


@pytest.fixture
def release(releases, published):
    """The folder of the release in service, to be broken."""
    return releases / published.second


@pytest.fixture
def closed_to_lightgbm(monkeypatch):
    """LightGBM ends the process on some torn files, so it must not even see one."""

    def opened(**_):
        raise AssertionError("LightGBM was given a text whose hash was not checked")

    monkeypatch.setattr("training.blend.lgb.Booster", opened)


def make_hashes_right(release):
    """What somebody who can write to the folder could do: the manifest lists the files as they are now."""
    manifest = read_json(release / "release.json")
    for task in manifest["tasks"]:
        header = read_json(release / "bundles" / task / "bundle.json")
        header["trees"] = [sha256_of(release / "bundles" / task / f"trees_{number}.txt") for number in range(len(header["trees"]))]
        write_json(release / "bundles" / task / "bundle.json", header)
        manifest["tasks"][task]["bundle"] = sha256_of(release / "bundles" / task / "bundle.json")
    files = [file for file in release.rglob("*") if file.is_file() and file.name != "release.json"]
    manifest["files"] = {str(file.relative_to(release)): sha256_of(file) for file in files}
    manifest["sizes"] = {str(file.relative_to(release)): file.stat().st_size for file in files}
    write_json(release / "release.json", manifest)


def rewrite(path, columns):
    """Write an Arrow file anew; the old one may still be mapped."""
    path.unlink()
    write_arrow(path, columns)


def with_recipe(published, recipe):
    """The published snapshot as another recipe would have made it: another release."""
    return Snapshot(published.snapshot.table, {**published.snapshot.manifest, "recipe": recipe})


def models_of(published, tasks=("churn",)):
    """What `write_release` takes, made from the published release."""
    loaded = load_release(published.root / published.second)
    return {task: (published.bundles[task], ~np.isnan(loaded.scores[task].score), {"version": "1", "kind": "model"}) for task in tasks}


# --- F4, F5: torn and changed files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [0, 2, 10, 25, 50, 75, 90, 99])
def test_a_torn_model_is_refused_before_lightgbm_opens_it(release, percent, closed_to_lightgbm):
    """F4, F5."""
    content = (release / TREES).read_bytes()
    (release / TREES).write_bytes(content[: len(content) * percent // 100])
    with pytest.raises(ReleaseRefused, match=r"trees_0\.txt' is missing or was changed"):
        load_release(release)


def test_one_changed_digit_of_a_leaf_is_refused(release, closed_to_lightgbm):
    """F4, F5."""
    text = (release / TREES).read_text()
    place = text.index("leaf_value=") + len("leaf_value=") + 4
    (release / TREES).write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    with pytest.raises(ReleaseRefused, match="hash differs"):
        load_release(release)


@pytest.mark.parametrize("name", ["snapshot.arrow", "scores/churn.arrow", "bundles/churn/bundle.json", "histories.arrow", "history_words.arrow"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.7, 0.999])
def test_one_flipped_bit_of_any_file_is_refused(release, name, place, closed_to_lightgbm):
    """F4, F5."""
    content = bytearray((release / name).read_bytes())
    content[int(len(content) * place)] ^= 1
    (release / name).write_bytes(content)
    with pytest.raises(ReleaseRefused, match=f"{name}' is missing or was changed"):
        load_release(release)


@pytest.mark.parametrize("name", ["snapshot.arrow", "scores/churn.arrow", "bundles/churn/bundle.json", "histories.arrow", TREES, "release.json"])
def test_a_missing_file_is_refused_by_name(release, name):
    """F4, F5."""
    (release / name).unlink()
    with pytest.raises(ReleaseRefused, match=name.rpartition("/")[2]):
        load_release(release)


NO_MANIFESTS = [b"", b"{", b"[]", b"null", b'"text"', b"{}", b'{"format": 1}', b'{"format": 2}', b"\xff\xfe", b'{"format": 1, "id": 5, "files": []}']


@pytest.mark.parametrize("content", NO_MANIFESTS)
def test_a_manifest_that_is_none_is_refused(release, content):
    """F4, F5."""
    (release / "release.json").write_bytes(content)
    with pytest.raises(ReleaseRefused):
        load_release(release)


def test_a_torn_release_is_not_taken_up_and_the_old_one_answers_on(releases, published, serve, tmp_path):
    """F4, F5."""
    point_to(releases, published.first)
    client = serve(releases, tmp_path)
    before = client.post("/v1/scores/churn", {"user_ids": list(published.snapshot.user_ids)}).json
    (releases / published.second / TREES).write_bytes(b"tree\n")
    point_to(releases, published.second)
    client.app.state.current.refresh()
    assert client.post("/v1/scores/churn", {"user_ids": list(published.snapshot.user_ids)}).json == before
    ready = client.get("/health/ready")
    assert (ready.status, ready.json["release"]) == (200, published.first)
    assert "trees_0.txt' is missing or was changed" in ready.json["failure"]
    point_to(releases, published.first)
    client.app.state.current.refresh()
    assert client.get("/health/ready").json["failure"] is None


# --- F6: a model of other features ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["histories.arrow", "history_words.arrow"])
def test_torn_histories_are_not_taken_up_and_the_old_release_answers_on(releases, published, serve, tmp_path, name):
    """F4."""
    point_to(releases, published.first)
    client = serve(releases, tmp_path)
    path = releases / published.second / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    point_to(releases, published.second)
    client.app.state.current.refresh()
    answer = client.get(f"/v1/scores/churn/{published.snapshot.user_ids[0]}")
    assert (answer.status, answer.json["release"]) == (200, published.first)
    assert f"'{name}' is missing or was changed" in client.app.state.current.failure


def test_a_model_whose_features_the_snapshot_lacks_is_refused_with_their_names(releases, published):
    """F6."""
    gone = published.bundles["churn"].features[3:5]
    point_to(releases, published.first)
    current = Current(releases, GOOD_FOR)
    current.refresh()

    whole = write_release(releases, with_recipe(published, "another"), models_of(published), SCORED)
    facts, columns = read_json(releases / whole / "release.json"), read_arrow(releases / whole / "snapshot.arrow")
    names = [name for name in facts["features"] if name not in gone]
    kept = load_release(releases / whole).vectors[:, [facts["features"].index(name) for name in names]]
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(kept.ravel()), len(names))
    rewrite(releases / whole / "snapshot.arrow", columns)
    write_json(releases / whole / "release.json", {**facts, "features": names})
    make_hashes_right(releases / whole)

    with pytest.raises(BundleRefused, match=f"needs 2 feature.s. that the snapshot lacks: {gone[0]}, {gone[1]}"):
        check_release(releases / whole)
    point_to(releases, whole)
    current.refresh()
    assert current.scorer.release.id == published.first
    assert f"lacks: {gone[0]}, {gone[1]}" in current.failure


@pytest.mark.parametrize("change", ["a feature less", "a user more", "scores of fewer users"])
def test_parts_that_do_not_fit_each_other_are_refused(release, change):
    """F6."""
    manifest = read_json(release / "release.json")
    if change == "a feature less":
        manifest["features"].pop()
    elif change == "a user more":
        manifest["users"] += 1
    else:
        scores = read_arrow(release / "scores/churn.arrow")
        rewrite(release / "scores/churn.arrow", {name: values[:-1] for name, values in scores.items()})
    write_json(release / "release.json", manifest)
    make_hashes_right(release)
    with pytest.raises(ReleaseRefused, match="do not speak of the same users and features"):
        load_release(release)


def test_features_are_found_by_name_when_the_snapshot_has_them_in_another_order(published, tmp_path):
    """F6."""
    described = published.snapshot.manifest["features"][::-1]
    turned = Snapshot(published.snapshot.table, {**published.snapshot.manifest, "features": described})
    name = write_release(tmp_path, turned, models_of(published), SCORED)
    again = check_release(tmp_path / name)
    assert again.scores["churn"].score.tobytes() == load_release(published.root / published.second).scores["churn"].score.tobytes()


# --- F7: crashes while publishing -----------------------------------------------------------------------------------


def test_a_crash_while_writing_leaves_what_is_served_and_its_rest_is_swept_by_the_next_publication(releases, published):
    """F7."""
    before = {path.name for path in releases.iterdir()}
    killed = """
import os, pathlib, sys
from features import files
root = pathlib.Path(sys.argv[1])
with files.new_directory(root / "2030-01-01-0123456789ab") as new:
    (new / "snapshot.arrow").write_bytes(b"half")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", killed, str(releases)], check=False).returncode == 9
    assert len(list(releases.glob(".new-*"))) == 1
    current = Current(releases, GOOD_FOR)
    current.refresh()
    assert (current.scorer.release.id, current.failure) == (published.second, None)
    made = write_release(releases, with_recipe(published, "new"), models_of(published), SCORED)
    assert {path.name for path in releases.iterdir()} == {*before, made}


def test_a_crash_between_writing_and_pointing_leaves_what_is_served(releases, published):
    """F7."""
    write_release(releases, with_recipe(published, "new"), models_of(published), SCORED)
    assert current_id(releases) == published.second


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"current": "2024', b"null", b"[]", b"{}", b'{"current": null}', b'{"current": 5, "previous": null}', b"\xff"]
)
def test_a_half_written_pointer_keeps_what_is_served_says_so_and_is_mended_by_publishing(releases, published, content):
    """F7."""
    current = Current(releases, GOOD_FOR)
    current.refresh()
    (releases / "current.json").write_bytes(content)
    current.refresh()
    assert current.scorer.release.id == published.second
    assert "current.json is damaged" in current.failure
    point_to(releases, published.second)
    current.refresh()
    assert (current.scorer.release.id, current.failure) == (published.second, None)


def test_what_cannot_be_made_beforehand_holds_up_no_release(releases, published, monkeypatch, caplog):
    def fail(*_):
        raise MemoryError("no room for a ranking")

    point_to(releases, published.first)
    current = Current(releases, GOOD_FOR)
    current.refresh()
    cut(current.scorer.release, Rule("churn", top_n=5))
    monkeypatch.setattr("serving.audiences.warm.ranking", fail)
    point_to(releases, published.second)
    with caplog.at_level("WARNING", logger="encore"):
        current.refresh()
    assert (current.scorer.release.id, current.failure) == (published.second, None)
    assert caplog.records[-1].facts["reason"] == "MemoryError: no room for a ranking"


def test_a_pointer_that_vanished_keeps_what_is_served(releases, published):
    """F7."""
    current = Current(releases, GOOD_FOR)
    current.refresh()
    (releases / "current.json").unlink()
    current.refresh()
    assert (current.scorer.release.id, bool(current.failure)) == (published.second, True)


def test_the_pointer_is_the_old_one_or_the_new_one_and_never_half(releases, published):
    """F7."""
    seen, stop = Counter(), threading.Event()

    def read():
        while not stop.is_set():
            seen[current_id(releases)] += 1

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        point_to(releases, published.first)
        point_to(releases, published.second)
    stop.set()
    reader.join()
    assert set(seen) <= {published.first, published.second}
    assert sum(seen.values()) > 0


def test_publishing_the_same_content_twice_gives_one_id_and_one_folder(releases, published):
    """F7."""
    snapshot, models = published.snapshot, models_of(published)
    first = write_release(releases, snapshot, models, SCORED)
    inode, listed = (releases / first).stat().st_ino, sorted(releases.iterdir())
    assert write_release(releases, snapshot, models, {"scored_at": "2026-02-02T00:00:00+00:00"}) == first
    assert ((releases / first).stat().st_ino, sorted(releases.iterdir())) == (inode, listed)
    assert read_json(releases / first / "release.json")["scored_at"] == "2026-01-01T00:00:00+00:00"


def test_a_damaged_release_is_written_anew_when_its_content_is_published_again(releases, published):
    """F7."""
    models = models_of(published)
    name = write_release(releases, published.snapshot, models, SCORED)
    (releases / name / TREES).write_bytes(b"torn")
    assert write_release(releases, published.snapshot, models, SCORED) == name
    check_release(releases / name)
    assert not list(releases.glob(".new-*"))


# --- the check before the pointer moves -----------------------------------------------------------------------------


def test_a_model_that_crashes_lightgbm_is_refused_by_a_child_and_the_caller_lives(releases, release, published):
    """F5, F6."""
    point_to(releases, published.first)
    text = (release / TREES).read_text()
    start = text.index("split_feature=")
    (release / TREES).write_text(text[:start] + "split_feature=9999999 -7" + text[text.index("\n", start) :])
    make_hashes_right(release)
    with pytest.raises(ReleaseRefused, match="failed its check; what was served stays served"):
        activate(releases, published.second)
    assert current_id(releases) == published.first


def test_scores_that_are_not_the_models_are_refused_though_every_hash_is_right(release):
    """F5, F6."""
    scores = {name: values.to_numpy(zero_copy_only=False).copy() for name, values in read_arrow(release / "scores/churn.arrow").items()}
    scores["score"][np.flatnonzero(~np.isnan(scores["score"]))[0]] += 1e-12
    rewrite(release / "scores/churn.arrow", {name: pa.array(values) for name, values in scores.items()})
    make_hashes_right(release)
    with pytest.raises(ReleaseRefused, match="stored scores of 'churn' are not what its model gives"):
        check_release(release)


def test_a_changed_model_is_refused_by_its_golden_rows_though_every_hash_is_right(release):
    """F5, F6."""
    text = (release / TREES).read_text()
    place = text.index("leaf_value=") + len("leaf_value=") + 4
    (release / TREES).write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    make_hashes_right(release)
    with pytest.raises(BundleRefused, match="does not reproduce its golden rows"):
        check_release(release)


def test_a_check_that_hangs_is_ended_and_refused(release):
    """F5, F6."""
    with pytest.raises(ReleaseRefused, match="could not be checked within 0 s"):
        check_in_child(release, timeout=0.01)


# --- F9: rollback ---------------------------------------------------------------------------------------------------


def test_rollback_restores_the_scores_to_the_byte_and_again_returns(releases, published, serve, tmp_path):
    """F9."""
    point_to(releases, published.first)
    client, users = serve(releases, tmp_path), {"user_ids": list(published.snapshot.user_ids)}
    before = client.post("/v1/scores/churn", users).body
    point_to(releases, published.second)
    client.app.state.current.refresh()
    after = client.post("/v1/scores/churn", users).body
    assert before != after

    assert rollback(releases) == published.first
    client.app.state.current.refresh()
    assert client.post("/v1/scores/churn", users).body == before
    assert read_json(releases / "current.json") == {"current": published.first, "previous": published.second}


def test_without_a_release_before_there_is_nothing_to_roll_back_to(releases, published):
    """F9."""
    write_json(releases / "current.json", {"current": published.second, "previous": None})
    with pytest.raises(NoRelease, match="no previous release"):
        rollback(releases)
    assert current_id(releases) == published.second


def test_a_rollback_to_a_damaged_release_is_refused_and_changes_nothing(releases, published):
    """F9."""
    (releases / published.first / TREES).write_bytes(b"torn")
    with pytest.raises(ReleaseRefused, match="what was served stays served"):
        rollback(releases)
    assert current_id(releases) == published.second


# --- F46: planted files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.pkl", "bundles/churn/trees_9.txt", "bundles/churn/.hidden", "scores/other.arrow"])
def test_a_file_that_the_manifest_does_not_list_is_refused(release, name):
    """F46."""
    (release / name).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ReleaseRefused, match="does not list"):
        load_release(release)


@pytest.mark.parametrize("name", [TREES, "snapshot.arrow", "release.json"])
def test_a_link_out_of_the_release_is_refused_and_not_followed(release, tmp_path, name):
    """F46."""
    outside = tmp_path / "outside"
    (release / name).rename(outside)
    (release / name).symlink_to(outside)
    with pytest.raises(ReleaseRefused, match=f"'{name}' leads out of the release"):
        load_release(release)


def test_a_folder_that_links_out_of_the_release_is_refused(release, tmp_path):
    """F46."""
    (release / "bundles").rename(tmp_path / "outside")
    (release / "bundles").symlink_to(tmp_path / "outside")
    with pytest.raises(ReleaseRefused, match="leads out of the release"):
        load_release(release)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "bundles/../../outside"])
def test_a_path_out_of_the_release_is_refused_and_nothing_outside_is_read(release, name):
    """F46."""
    (release.parent / "outside").write_text("outside")
    manifest = read_json(release / "release.json")
    manifest["files"][name] = sha256_of_bytes(b"outside")
    write_json(release / "release.json", manifest)
    with pytest.raises(ReleaseRefused, match="leads out of the release"):
        load_release(release)


@pytest.mark.parametrize("task", ["../../outside", "../churn", "/outside"])
def test_a_task_name_that_is_a_path_is_refused(release, task):
    """F46."""
    manifest = read_json(release / "release.json")
    manifest["tasks"][task] = manifest["tasks"]["churn"]
    write_json(release / "release.json", manifest)
    with pytest.raises(ReleaseRefused, match=r"does not list|leads out"):
        load_release(release)


@pytest.mark.parametrize("name", ["../outside", "/etc", "2024/../..", "", "."])
@pytest.mark.parametrize("field", ["current", "previous"])
def test_a_pointer_out_of_the_folder_is_refused(releases, published, field, name):
    """F46."""
    write_json(releases / "current.json", {"current": published.second, "previous": published.first, field: name})
    with pytest.raises((ReleaseRefused, NoRelease), match=r"damaged|no previous"):
        rollback(releases)


def test_a_release_under_another_name_is_refused(releases, published):
    """F46."""
    (releases / published.second).rename(releases / "2024-01-01-000000000000")
    with pytest.raises(ReleaseRefused, match=f"says that it is {published.second}"):
        load_release(releases / "2024-01-01-000000000000")
