"""Release: bundles, the latest snapshot and everybody's scores as one immutable, hashed directory.

Publishing writes a new directory, has a child process load and check it, and only then moves the pointer `current`.
Whatever fails on the way leaves what is served as it was.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.errors import EncoreError, NoRelease, ReleaseRefused
from features.files import digest_of, exclusive, new_directory, read_json, sha256_of, sha256_of_bytes, write_json
from features.vocabulary import LONGEST_ID
from serving.arrow import codes, id_array, numbers, read_arrow, write_arrow
from serving.everybody import Scores, score_everybody, stage_codes
from training.bundle import Bundle, load_bundle, save_bundle

if TYPE_CHECKING:
    from features.snapshot import Snapshot

FORMAT = 3
SNAPSHOT = "snapshot.arrow"


@dataclass(frozen=True)
class Release:
    """What a service answers from. Arrays are memory-mapped: worker processes share their pages.

    users: user ids as UTF-8 bytes, sorted. stages: positions in STAGES. vectors: users x features.
    """

    id: str
    manifest: Mapping[str, Any]
    users: npt.NDArray[np.bytes_]
    stages: npt.NDArray[np.int8]
    vectors: npt.NDArray[np.float64]
    features: tuple[str, ...]
    bundles: Mapping[str, Bundle]
    scores: Mapping[str, Scores]


def write_release(
    root: Path, snapshot: Snapshot, models: Mapping[str, tuple[Bundle, npt.NDArray[np.bool_], Mapping[str, Any]]], about: Mapping[str, Any]
) -> str:
    """Write a release directory and return its id; the same content has the same id and is written once.

    Args:
        models: task -> bundle, who is eligible, and what the registry says of the version.
        about: facts that do not change the content, such as the moment of scoring.
    """
    root.mkdir(parents=True, exist_ok=True)
    # Eligibility is code: a task that asks other people is another release, though its model is the same.
    parts = {task: [bundle.digest, sha256_of_bytes(eligible.tobytes()), version] for task, (bundle, eligible, version) in models.items()}
    content = digest_of([snapshot.manifest["recipe"], snapshot.manifest["as_of"], parts])
    release_id = f"{snapshot.as_of}-{content[:12]}"
    sweep(root)
    if _is_whole(root / release_id):
        return release_id
    with new_directory(root / release_id) as new:
        write_arrow(new / SNAPSHOT, _snapshot_columns(snapshot))
        tasks = {}
        for task, (bundle, eligible, version) in models.items():
            save_bundle(bundle, new / "bundles" / task)
            scores = score_everybody(bundle, snapshot, eligible)
            (new / "scores").mkdir(exist_ok=True)
            write_arrow(new / "scores" / f"{task}.arrow", {name: pa.array(values) for name, values in scores.columns().items()})
            tasks[task] = {**version, "bundle": bundle.digest, "eligible": int(eligible.sum())}
        manifest = {
            "format": FORMAT,
            "id": release_id,
            "as_of": snapshot.manifest["as_of"],
            "complete_until": snapshot.manifest["complete_until"],
            "zone": snapshot.manifest["zone"],
            "currency": snapshot.manifest["currency"],
            "features": snapshot.feature_names,
            "users": snapshot.table.num_rows,
            "tasks": tasks,
            **about,
            "files": {str(file.relative_to(new)): sha256_of(file) for file in sorted(new.rglob("*")) if file.is_file()},
        }
        write_json(new / "release.json", manifest)
    return release_id


def _is_whole(directory: Path) -> bool:
    """Whether a release stands there already; a damaged one is moved out of the way, to be written anew."""
    if not directory.exists():
        return False
    try:
        load_release(directory)
    except EncoreError:
        directory.rename(directory.with_name(f".new-damaged-{directory.name}"))
        sweep(directory.parent)
        return False
    return True


def load_release(directory: Path) -> Release:
    """Open a release; every file is held against its hash first.

    Raises:
        ReleaseRefused: something is missing, torn, changed, a link, or of another format.
    """
    try:
        manifest = read_json(directory / "release.json")
        if manifest["format"] != FORMAT:
            raise ReleaseRefused(f"Release {directory.name} has format {manifest['format']}; this version of Encore reads format {FORMAT}.")
        if manifest["id"] != directory.name:
            raise ReleaseRefused(f"Release {directory.name} says that it is {manifest['id']}.")
        _verify_files(directory, manifest["files"], needed=[SNAPSHOT, *(name for task in manifest["tasks"] for name in _files_of(task))])
        columns = read_arrow(directory / SNAPSHOT)
        features = tuple(manifest["features"])
        bundles = {task: load_bundle(directory / "bundles" / task, facts["bundle"]) for task, facts in manifest["tasks"].items()}
        scores = {task: Scores.of({name: numbers(values) for name, values in read_arrow(directory / "scores" / f"{task}.arrow").items()}) for task in bundles}
        lengths = {len(columns["vector"]), *(len(values) for task in scores.values() for values in task.columns().values())}
        if lengths != {manifest["users"]} or columns["vector"].type.list_size != len(features):
            raise ReleaseRefused(f"Release {directory.name}: its vectors, its scores and its manifest do not speak of the same users and features.")
        return Release(
            id=manifest["id"],
            manifest=manifest,
            users=id_array(columns["user_id"]),
            stages=codes(columns["stage"]),
            vectors=numbers(columns["vector"].flatten()).reshape(-1, len(features)),
            features=features,
            bundles=bundles,
            scores=scores,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise ReleaseRefused(f"Release {directory.name} cannot be read: {type(error).__name__}: {error}") from None


def check_release(directory: Path) -> Release:
    """Load a release and make sure that it scores here as it did in training.

    Raises:
        ReleaseRefused, BundleRefused: it does not.
    """
    release = load_release(directory)
    for task, bundle in release.bundles.items():
        bundle.check_golden_rows()
        scores = release.scores[task].score
        some = np.flatnonzero(~np.isnan(scores))[:50]
        again = bundle.scores(release.vectors[some][:, bundle.align(release.features)])
        if not np.array_equal(again, scores[some]):
            raise ReleaseRefused(f"Release {release.id}: stored scores of '{task}' are not what its model gives.")
    return release


def check_in_child(directory: Path, timeout: float = 120) -> None:
    """Check a release in a process of its own: a file that crashes LightGBM ends the child, not the caller."""
    code = "import sys, pathlib, serving.release as release; release.check_release(pathlib.Path(sys.argv[1]))"
    try:
        child = subprocess.run([sys.executable, "-P", "-c", code, str(directory)], capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603 - our own code
    except subprocess.TimeoutExpired:
        raise ReleaseRefused(f"Release {directory.name} could not be checked within {timeout:.0f} s.") from None
    if child.returncode != 0:
        reason = child.stderr.strip().splitlines()[-1] if child.stderr.strip() else f"the check ended with code {child.returncode}"
        raise ReleaseRefused(f"Release {directory.name} failed its check; what was served stays served. {reason}")


# --- the pointer ----------------------------------------------------------------------------------------------------


def current_id(root: Path) -> str:
    """The id of the release that is to be served.

    Raises:
        NoRelease: none was published yet.
    """
    return str(_pointer(root)["current"])


def point_to(root: Path, release_id: str) -> None:
    """Serve another release, and remember the one before; readers see the old pointer or the new."""
    try:
        before = _pointer(root)
    except (NoRelease, ReleaseRefused):  # a damaged pointer is mended by writing a new one
        before = {"current": None, "previous": None}
    if before["current"] != release_id:
        write_json(root / "current.json", {"current": release_id, "previous": before["current"]})


def activate(root: Path, release_id: str) -> None:
    """Check a release in a child process, then serve it."""
    with exclusive(root / ".lock", "A publication", wait=True):
        check_in_child(root / release_id)
        point_to(root, release_id)


def rollback(root: Path) -> str:
    """Serve the previous release again; returns its id.

    Raises:
        NoRelease: there is no previous one.
    """
    previous = _pointer(root)["previous"]
    if previous is None:
        raise NoRelease("There is no previous release to roll back to.")
    activate(root, str(previous))
    return str(previous)


def sweep(root: Path) -> None:
    """Remove what a crash left half written. Only a writer may: what it finds could be the work of another."""
    for leftover in root.glob(".new-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _pointer(root: Path) -> dict[str, Any]:
    try:
        pointer = json.loads((root / "current.json").read_bytes())
        named = [pointer["current"], *([] if pointer["previous"] is None else [pointer["previous"]])]
        if not all(re.fullmatch(r"[0-9a-f-]+", name) for name in named):
            raise ValueError("not an id")
        return dict(pointer)
    except FileNotFoundError:
        raise NoRelease("Nothing was published yet. Run: encore publish") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseRefused(f"The pointer current.json is damaged ({error}). Run: encore publish") from None


def _snapshot_columns(snapshot: Snapshot) -> dict[str, pa.Array]:
    names = snapshot.feature_names
    ids = [str(user).encode() for user in snapshot.user_ids]
    width = max(1, max(len(name) for name in ids))
    if width > LONGEST_ID:
        raise ReleaseRefused(f"A user id has {width} bytes; ids may have at most {LONGEST_ID}.")
    return {
        "user_id": pa.array([name.ljust(width, b"\0") for name in ids], pa.binary(width)),
        "stage": pa.array(stage_codes(snapshot), pa.int8()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(snapshot.matrix(names).ravel()), max(1, len(names))),
    }


def _files_of(task: str) -> tuple[str, str]:
    return f"bundles/{task}/bundle.json", f"scores/{task}.arrow"


def _verify_files(directory: Path, files: Mapping[str, str], needed: Sequence[str]) -> None:
    root = directory.resolve()
    missing = sorted(set(needed) - set(files))
    if missing:
        raise ReleaseRefused(f"Release {directory.name} does not list {', '.join(missing)}.")
    if (directory / "release.json").is_symlink():
        raise ReleaseRefused(f"Release {directory.name}: 'release.json' leads out of the release.")
    for name, sha256 in files.items():
        path = directory / name
        if path.is_symlink() or not path.resolve().is_relative_to(root):
            raise ReleaseRefused(f"Release {directory.name}: '{name}' leads out of the release.")
        if not path.is_file() or sha256_of(path) != sha256:
            raise ReleaseRefused(f"Release {directory.name}: '{name}' is missing or was changed after it was made (its hash differs).")
    unlisted = {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()} - set(files) - {"release.json"}
    if unlisted:
        raise ReleaseRefused(f"Release {directory.name} holds files that its manifest does not list: {', '.join(sorted(unlisted))}.")
