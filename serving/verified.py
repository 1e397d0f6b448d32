"""Whether the files of a release are what its manifest says: by their hashes, and for what was hashed before by a look at the disk.

Hashing the release of a million users takes seconds. So who checked one notes how its files lay (inode, size, times of the last
change); as long as they lie like that nobody has touched them, and taking them up or rolling back to them takes milliseconds.
A copy lies elsewhere and is hashed. Against somebody who writes into the folder on purpose neither hashes nor notes help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.errors import ReleaseRefused
from features.files import digest_of, read_json, sha256_of, write_json

MANIFEST = "release.json"
CHECKED = "checked.json"
LARGEST_MANIFEST = 64 * 2**20  # bytes; a thousand features and a hundred models take one
SETTLED = 0.05  # seconds after a change until the next one has another time, on any file system of today


def read_manifest(directory: Path) -> Mapping[str, Any]:
    """A release's manifest.

    Raises:
        ReleaseRefused: it is a link or larger than any manifest. OSError, ValueError: it cannot be read.
    """
    path = directory / MANIFEST
    if path.is_symlink():
        raise ReleaseRefused(f"Release {directory.name}: '{MANIFEST}' leads out of the release.")
    if path.stat().st_size > LARGEST_MANIFEST:
        raise ReleaseRefused(f"Release {directory.name}: '{MANIFEST}' has {path.stat().st_size:,} bytes; at most {LARGEST_MANIFEST:,} are read.")
    manifest: Mapping[str, Any] = read_json(path)
    return manifest


def verify_files(directory: Path, manifest: Mapping[str, Any], needed: Sequence[str]) -> None:
    """Hold every file against the manifest: where it is, its size, and only then its hash.

    Raises:
        ReleaseRefused: a file is missing, unlisted, changed, or not in the release.
    """
    root, files, sizes = directory.resolve(), manifest["files"], manifest["sizes"]
    if missing := sorted(set(needed) - set(files)):
        raise ReleaseRefused(f"Release {directory.name} does not list {', '.join(missing)}.")
    for name in files:
        path = directory / name
        if path.is_symlink() or not path.resolve().is_relative_to(root):
            raise ReleaseRefused(f"Release {directory.name}: '{name}' leads out of the release.")
    unlisted = {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()} - set(files) - {MANIFEST}
    if unlisted:
        raise ReleaseRefused(f"Release {directory.name} holds files that its manifest does not list: {', '.join(sorted(unlisted))}.")
    for name, sha256 in files.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != sizes[name] or sha256_of(path) != sha256:
            raise ReleaseRefused(f"Release {directory.name}: '{name}' is missing or was changed after it was made (its hash differs).")


def lying(directory: Path) -> str:
    """How the files of a release lie on this disk: another answer after any change of any of them."""
    seen = [(str(path.relative_to(directory)), path.lstat()) for path in sorted(directory.rglob("*"))]
    return digest_of([[name, found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns] for name, found in seen])


def note_checked(directory: Path, lay: str) -> None:
    """Remember that a release was checked as it lay; the caller holds the lock of the folder of releases."""
    known = {name: how for name, how in _checked(directory.parent).items() if (directory.parent / name).exists()}
    write_json(directory.parent / CHECKED, {**known, directory.name: lay})


def is_checked(directory: Path) -> bool:
    """Whether a release lies as it did when it was checked."""
    try:
        return _checked(directory.parent).get(directory.name) == lying(directory)
    except OSError:
        return False


def _checked(root: Path) -> dict[str, str]:
    try:
        return dict(read_json(root / CHECKED))
    except (OSError, ValueError, TypeError):  # what is not remembered is hashed again
        return {}
