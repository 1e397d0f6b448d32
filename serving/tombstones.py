"""Tombstones beside the releases: users of whom nothing may be said, whichever release is in service.

`encore suppress` and `encore forget` write them and a running service looks at them every second, so that they count without a
new release and after a rollback to an older one. The file holds hashes, no ids, and only ever grows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import ReleaseRefused
from features.files import digest_of, exclusive, read_json, sha256_of_bytes, write_json
from features.workspace import Workspace

FILE = "tombstones.json"
KINDS = ("suppressed", "deleted")

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Withheld:
    """Whom a release does not speak of.

    tombstones: hash of a user -> `suppressed` or `deleted`. rows: those of them who are in the release, as rows of its snapshot.
    """

    tombstones: Mapping[str, str]
    rows: frozenset[int]

    def is_suppressed(self, user_id: str) -> bool:
        """Whether a user is suppressed; who was deleted is as unknown as somebody who never came."""
        return bool(self.tombstones) and self.tombstones.get(tombstone(user_id.encode())) == "suppressed"

    def without(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of those who may be spoken of, in their order."""
        return rows[~np.isin(rows, list(self.rows))] if self.rows else rows

    def marketable(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of those who may be spoken to, in their order: audiences and exports name nobody else."""
        return self.without(rows)


NOBODY = Withheld({}, frozenset())


def tombstone(user_id: bytes) -> str:
    """The hash of a user, as the log has it: `features.identity` makes the same and brings pandas."""
    return sha256_of_bytes(user_id)


def marks_of(user_ids: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """The first eight bytes of each user's hash: a release keeps them, for hashing a million ids takes a second."""
    return np.array([int(tombstone(user)[:16], 16) for user in user_ids], dtype=np.uint64)


def withheld(tombstones: Mapping[str, str], users: npt.NDArray[np.bytes_], marks: npt.NDArray[np.uint64]) -> Withheld:
    """Find those who are buried among the users of a release."""
    if not tombstones:
        return NOBODY
    listed = np.array([int(mark[:16], 16) for mark in tombstones], dtype=np.uint64)
    alike = np.flatnonzero(np.isin(marks, listed)).tolist()
    return Withheld(dict(tombstones), frozenset(row for row in alike if tombstone(bytes(users[row])) in tombstones))


def joined(*lists: Mapping[str, str]) -> dict[str, str]:
    """All tombstones of some lists; who was deleted in one of them is deleted."""
    found: dict[str, str] = {}
    for one in lists:
        found |= {mark: kind for mark, kind in one.items() if found.get(mark) != "deleted"}
    return found


def read_tombstones(folder: Path) -> dict[str, str]:
    """The tombstones in a folder; none when it has no file of them.

    Raises:
        ReleaseRefused: the file is damaged. Nothing may be said then, since nobody knows of whom.
    """
    try:
        written = read_json(folder / FILE)
        found = dict(written["tombstones"])
        if written["sha256"] != digest_of(found) or any(not re.fullmatch("[0-9a-f]{64}", mark) or kind not in KINDS for mark, kind in found.items()):
            raise ValueError("its hash differs")
        return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseRefused(f"The list {FILE} beside the releases is damaged ({error}). Write it anew from the log: encore publish") from None


def write_tombstones(folder: Path, tombstones: Mapping[str, str]) -> int:
    """Add tombstones to those in a folder; returns how many there are."""
    with exclusive(folder / f".{FILE}.lock", "A change of the tombstones", wait=True):
        try:
            known = read_tombstones(folder)
        except ReleaseRefused:  # the log's, which come here, are all there are
            known = {}
        found = joined(known, tombstones)
        if found and found != known:
            write_json(folder / FILE, described(found))
    return len(found)


def described(tombstones: Mapping[str, str]) -> dict[str, Any]:
    """Tombstones as they are written, with a hash that tells a damaged file."""
    return {"tombstones": dict(tombstones), "sha256": digest_of(tombstones)}


def stamp(folder: Path) -> Stamp | None:
    """What changes whenever the file in a folder does; None when there is none."""
    try:
        seen = (folder / FILE).stat()
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def bury_in_service(workspace: Workspace) -> dict[str, int]:
    """Tell the service of everybody who was suppressed or deleted in the log."""
    return {"withheld_in_service": write_tombstones(workspace.releases, workspace.log(workspace.shop()).manifest["tombstones"])}
