"""Tombstones: who has to stay out, and of what, as a file of hashes. It holds no ids.

The file lies beside the releases, where the service looks at it every second, and the log looks at it whenever it is read: what is
written there counts at once, at the next training, and after any part of a workspace was restored from a backup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from features.errors import ReleaseRefused
from features.files import digest_of, exclusive, read_json, sha256_of_bytes, write_json

FILE = "tombstones.json"
NO_MARKETING, NO_PROFILING, DELETED, LIFTED = "no_marketing", "no_profiling", "deleted", "lifted"
KINDS = (LIFTED, NO_MARKETING, NO_PROFILING, DELETED)  # each includes the ones before it
OUT = (NO_PROFILING, DELETED)  # in no training, no snapshot, no score
FORMERLY = {"suppressed": NO_PROFILING}  # what older files call it

Stamp = tuple[int, int, int]


def tombstone(user_id: str) -> str:
    """How a user who must stay out is remembered: not by name."""
    return sha256_of_bytes(user_id.encode())


def joined(*lists: Mapping[str, str]) -> dict[str, str]:
    """All tombstones of some lists; a later list counts more, but who was deleted in one of them is deleted."""
    found: dict[str, str] = {}
    for one in lists:
        found |= {mark: FORMERLY.get(kind, kind) for mark, kind in one.items() if found.get(mark) != DELETED}
    return found


def kept_out(tombstones: Mapping[str, str]) -> dict[str, str]:
    """Those who may not be profiled: what the log, the snapshots and training leave out."""
    return {mark: kind for mark, kind in tombstones.items() if kind in OUT}


def read_tombstones(folder: Path) -> dict[str, str]:
    """The tombstones in a folder; none when it has no file of them.

    Raises:
        ReleaseRefused: the file is damaged. Nothing may be said then, since nobody knows of whom.
    """
    seen = stamp(folder)
    return dict(_read(folder, seen)) if seen else {}


@lru_cache(maxsize=8)
def _read(folder: Path, seen: Stamp) -> Mapping[str, str]:
    try:
        written = read_json(folder / FILE)
        found = dict(written["tombstones"])
        if written["sha256"] != digest_of(found):
            raise ValueError("its hash differs")
        found = joined(found)
        if any(not re.fullmatch("[0-9a-f]{64}", mark) or kind not in KINDS for mark, kind in found.items()):
            raise ValueError("it holds what is no tombstone")
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseRefused(f"The list {FILE} beside the releases is damaged ({error}). Write it anew from the log: encore publish") from None


def write_tombstones(folder: Path, tombstones: Mapping[str, str]) -> int:
    """Add tombstones to those in a folder; returns how many there are. Nobody vanishes from it: what was lifted says so."""
    with exclusive(folder / f".{FILE}.lock", "A change of the tombstones", wait=True):
        try:
            known = read_tombstones(folder)
        except ReleaseRefused:  # what comes here is all there is
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
