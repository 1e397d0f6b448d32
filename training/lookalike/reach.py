"""Reach: how many users at which likeness; the three dials of an audience, and who enters and leaves when it is made again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import NoUsableData
from training.blend import Vector

SLACK = 0.10  # of the size: a member stays in while so far behind the last place, since scores near it are as good as equal
SHARES = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 40, 50, 75, 100)  # percent of the candidates, of the curve


@dataclass(frozen=True)
class Dial:
    """Exactly one of: so many users, so many percent of the candidates, everybody at least so alike (0 to 100). base_rate: the share of
    the candidates who are what is looked for, where the user says so."""

    size: int | None = None
    top_percent: float | None = None
    similarity: float | None = None
    base_rate: float | None = None

    @property
    def is_turned(self) -> bool:
        return any(value is not None for value in (self.size, self.top_percent, self.similarity))

    def of(self, alike: Vector) -> int:
        """How many of the candidates it takes.

        Args:
            alike: the similarity of each candidate.

        Raises:
            NoUsableData: more than there are, or nobody.
        """
        if self.size is not None:
            wanted = self.size
        elif self.top_percent is not None:
            wanted = round(len(alike) * self.top_percent / 100)
        else:
            wanted = int((alike >= (self.similarity or 0.0)).sum())
        if not 0 < wanted <= len(alike):
            most = f"the most alike candidate has {alike.max():.0f}" if self.similarity is not None and len(alike) else f"there are {len(alike):,} candidates"
            raise NoUsableData(f"An audience of {wanted:,} users cannot be made: {most}. Turn the dial, or widen the candidate filter of the seed.")
        return wanted


@dataclass(frozen=True)
class Membership:
    """Who is in an audience, most alike first, and who came and went since it was made before."""

    users: tuple[str, ...]
    entries: tuple[str, ...]
    exits: tuple[str, ...]


def similarity(scores: Vector, of_seed: Vector) -> Vector:
    """0 to 100: the share of the seed that is at most so alike; 50 is as alike as the typical seed user.

    Args:
        of_seed: what models that had not seen them gave the seed users; they know their own too well.
    """
    ranks = np.searchsorted(np.sort(of_seed), scores, side="right")
    return np.asarray(100.0 * ranks / len(of_seed))


def reach_curve(scores: Vector, of_seed: Vector) -> list[dict[str, Any]]:
    """The three dials beside each other: percent of the candidates, how many that are, how alike the last of them is."""
    best_first = np.sort(scores)[::-1]
    sizes = np.unique(np.maximum(1, np.rint(len(scores) * np.array(SHARES) / 100)).astype(int))
    alike = similarity(best_first[sizes - 1], of_seed)
    return [{"size": int(size), "top_percent": 100.0 * int(size) / len(scores), "similarity": float(last)} for size, last in zip(sizes, alike, strict=True)]


def ranked(users: npt.NDArray[np.object_], scores: Vector) -> tuple[str, ...]:
    """Most alike first; equal scores in the order of ids."""
    return tuple(str(user) for user in users[np.lexsort((users.astype(str), -scores))])


def refreshed(best_first: Sequence[str], size: int, before: Collection[str] = ()) -> Membership:
    """The best `size` users, but nobody is exchanged for somebody who is as good as equal.

    A member of before stays while among the best `size` * 1.1; the other places go to the best of the rest. The size is the same
    at every refresh, and whoever left did so because more users than a tenth of it are more alike by now.
    """
    were = set(before)
    stay = set(best_first[: size + int(SLACK * size)]) & were
    kept = [user for user in best_first if user in stay][:size]
    places = size - len(kept)
    new = [user for user in best_first if user not in stay][:places]
    chosen = {*kept, *new}
    members = tuple(user for user in best_first if user in chosen)
    return Membership(members, tuple(user for user in members if user not in were), tuple(sorted(were - chosen)))
