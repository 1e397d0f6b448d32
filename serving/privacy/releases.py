"""Users erased from the releases on disk, all of them: a release without a user is another release, with an id and hashes of its own.

A release is immutable, and services and tools remember things by its id, so its rows are not taken out where it lies. It is written anew
without them, under a new id; then the pointer moves, in one step, from the old ones to the new ones (in service and the one before, so
that a rollback stays possible); then the old ones are deleted. Whatever is killed in between, the same again ends it. A release keeps the
ids that it had before, by which score runs and audiences still find it.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.errors import NoRelease, ReleaseRefused
from features.files import digest_of, exclusive, new_directory, sha256_of, write_json
from features.logs import log
from serving.arrow import dictionary, id_array, numbers, read_arrow, write_arrow
from serving.histories import HISTORIES
from serving.pointer import current_id, move_pointer, pointed_at
from serving.release import FORMAT, SNAPSHOT, sweep
from serving.verified import MANIFEST, SETTLED, is_checked, lying, note_checked, read_manifest

Rows = npt.NDArray[np.bool_]


def erase_from_releases(root: Path, names: frozenset[str]) -> dict[str, int]:
    """Write every release anew that holds one of these users; returns new id -> users erased from it.

    A release that this version of Encore cannot read cannot be rolled back to either: it is deleted, unless it is in service.
    """
    if not root.is_dir():
        return {}
    erased: dict[str, int] = {}
    with exclusive(root / ".writing", "The writing of a release", wait=True), exclusive(root / ".lock", "A publication", wait=True):
        sweep(root)
        moved: dict[str, str] = {}
        for directory in sorted(path.parent for path in root.glob("[0-9]*/release.json")):
            try:
                manifest = dict(read_manifest(directory))
                keep = _kept(directory, manifest, names)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, ReleaseRefused, pa.ArrowException) as error:
                _drop_unreadable(root, directory, str(error))
                continue
            if gone := int((~keep).sum()):
                moved[directory.name] = _without(directory, manifest, keep, names)
                erased[moved[directory.name]] = gone
        checked = [new for old, new in moved.items() if is_checked(root / old)]
        if moved:
            time.sleep(SETTLED)
            for new in checked:  # its hashes were made of what was written just now
                note_checked(root / new, lying(root / new))
            move_pointer(root, moved)
        for old in moved:
            shutil.rmtree(root / old)
    return erased


def former_ids(root: Path) -> dict[str, str]:
    """Id that a release had before users were erased from it -> the id that it has."""
    found: dict[str, str] = {}
    for path in sorted(root.glob("[0-9]*/release.json")):
        with suppress(OSError, ValueError, ReleaseRefused):
            found |= dict.fromkeys(read_manifest(path.parent).get("formerly", ()), path.parent.name)
    return found


def rows_in_releases(root: Path, names: frozenset[str]) -> dict[str, list[int]]:
    """Release -> the rows of some users in it."""
    found = {}
    for directory in sorted(path.parent for path in root.glob("[0-9]*/release.json")):
        try:
            rows = np.flatnonzero(~_kept(directory, read_manifest(directory), names)).tolist()
        except (OSError, ValueError, KeyError, ReleaseRefused, pa.ArrowException):
            continue
        if rows:
            found[directory.name] = rows
    return found


def _kept(directory: Path, manifest: Mapping[str, Any], names: frozenset[str]) -> Rows:
    if manifest["format"] != FORMAT:
        raise ReleaseRefused(f"its format is {manifest['format']}")
    users = id_array(read_arrow(directory / SNAPSHOT)["user_id"])
    wanted = [name.encode() for name in names if len(name.encode()) <= users.itemsize]
    return ~np.isin(users, np.array(wanted, dtype=users.dtype)) if wanted else np.ones(len(users), np.bool_)


def _without(directory: Path, manifest: Mapping[str, Any], keep: Rows, names: frozenset[str]) -> str:
    """Write a release anew with some of its rows; returns its new id, which is the same however often this is killed and begun again."""
    new_id = f"{manifest['as_of']}-{digest_of([directory.name, sorted(names)])[:12]}"
    tasks = {task: dict(facts) for task, facts in manifest["tasks"].items()}
    with new_directory(directory.parent / new_id) as new:
        for name in manifest["files"]:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            kind, _, rest = name.partition("/")
            if name in (SNAPSHOT, HISTORIES) or kind == "members":
                write_arrow(new / name, {column: _some(values, keep) for column, values in read_arrow(directory / name).items()})
            elif kind == "scores":
                tasks[rest.removesuffix(".arrow")]["eligible"] = _write_scores(directory / name, new / name, keep)
            else:
                shutil.copyfile(directory / name, new / name)
        files = [file for file in sorted(new.rglob("*")) if file.is_file()]
        told = {
            **manifest,
            "id": new_id,
            "formerly": [*manifest.get("formerly", ()), directory.name],
            "users": int(keep.sum()),
            "erased": manifest.get("erased", 0) + int((~keep).sum()),
            "tasks": tasks,
            "files": {str(file.relative_to(new)): sha256_of(file) for file in files},
            "sizes": {str(file.relative_to(new)): file.stat().st_size for file in files},
        }
        write_json(new / MANIFEST, told)
    return new_id


def _write_scores(old: Path, new: Path, keep: Rows) -> int:
    """Everybody's scores without some: who stays keeps score and percentile, and the ordered scores are made anew. Returns how many are scored."""
    columns = {name: _some(values, keep) for name, values in read_arrow(old).items()}
    scores = numbers(columns["score"])
    write_arrow(new, columns | {"ordered": pa.array(np.sort(scores))})
    return int((~np.isnan(scores)).sum())


def _some(values: pa.Array, keep: Rows) -> pa.Array:
    kept = values.filter(pa.array(keep))
    return dictionary(pa.chunked_array([kept.cast(pa.string())])) if pa.types.is_dictionary(kept.type) else kept


def _drop_unreadable(root: Path, directory: Path, why: str) -> None:
    try:
        served = directory.name in pointed_at(root) and directory.name == current_id(root)
    except (NoRelease, ReleaseRefused):
        served = False
    facts = {"release": directory.name, "reason": why}
    if served:
        raise ReleaseRefused(f"Nobody can be erased from release {directory.name}, which is in service: {why}. Publish anew, then delete again: encore publish")
    log.warning("a release that cannot be read is deleted: nobody could be erased from it", extra={"facts": facts})
    shutil.rmtree(directory)
