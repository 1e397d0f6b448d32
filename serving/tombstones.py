"""Whom a release does not speak of, and whom nobody may speak to, whichever release is in service.

`encore privacy suppress` and `encore privacy delete` write the list beside the releases and a running service looks at it every second,
so that it counts without a new release and after a rollback to an older one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.files import sha256_of_bytes
from features.tombstones import FILE, KINDS, NO_MARKETING, NO_PROFILING, OUT, Stamp, described, joined, read_tombstones, stamp, write_tombstones

__all__ = ["FILE", "KINDS", "NOBODY", "Stamp", "Withheld", "described", "joined", "marks_of", "read_tombstones", "stamp", "withheld", "write_tombstones"]


@dataclass(frozen=True)
class Withheld:
    """Whom a release does not speak of.

    tombstones: hash of a user -> kind, as `features.tombstones`. rows: those of them who are in the release and may not be spoken of
    (no profiling, deleted), as rows of its snapshot. unmarketed: those who are scored, and may not be spoken to (no marketing).
    """

    tombstones: Mapping[str, str]
    rows: frozenset[int]
    unmarketed: frozenset[int] = frozenset()

    def is_suppressed(self, user_id: str) -> bool:
        """Whether a user may not be profiled; who was deleted is as unknown as somebody who never came."""
        return bool(self.tombstones) and self.tombstones.get(tombstone(user_id.encode())) == NO_PROFILING

    def may_be_marketed_to(self, user_id: str) -> bool:
        """Whether a user may be in an audience, a campaign or a journey's branch; also of users whom the release does not know."""
        return not self.tombstones or self.tombstones.get(tombstone(user_id.encode())) not in (NO_MARKETING, *OUT)

    def without(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of those who may be spoken of, in their order."""
        return rows[~np.isin(rows, list(self.rows))] if self.rows else rows

    def marketable(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The rows of those who may be spoken to, in their order: audiences and exports name nobody else."""
        spoken_of = self.without(rows)
        return spoken_of[~np.isin(spoken_of, list(self.unmarketed))] if self.unmarketed else spoken_of


NOBODY = Withheld({}, frozenset())


def tombstone(user_id: bytes) -> str:
    """The hash of a user, as `features.tombstones` has it of a text."""
    return sha256_of_bytes(user_id)


def marks_of(user_ids: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """The first eight bytes of each user's hash: a release keeps them, for hashing a million ids takes a second."""
    return np.array([int(tombstone(user)[:16], 16) for user in user_ids], dtype=np.uint64)


def withheld(tombstones: Mapping[str, str], users: npt.NDArray[np.bytes_], marks: npt.NDArray[np.uint64]) -> Withheld:
    """Find those who are listed among the users of a release."""
    if not tombstones:
        return NOBODY
    listed = np.array([int(mark[:16], 16) for mark in tombstones], dtype=np.uint64)
    alike = np.flatnonzero(np.isin(marks, listed)).tolist()
    kinds = {row: tombstones.get(tombstone(bytes(users[row]))) for row in alike}
    out, unmarketed = (frozenset(row for row, kind in kinds.items() if kind in some) for some in (OUT, (NO_MARKETING,)))
    return Withheld(dict(tombstones), out, unmarketed)


def out_of_runs(tombstones: Mapping[str, str]) -> list[str]:
    """Those whom no score run has: what names a run, besides its release."""
    return sorted(mark for mark, kind in tombstones.items() if kind in OUT)
