"""What a receiver was told of everybody, and what changed since.

What is told of a user and a prediction is the score in whole points and the band, packed into one number. Two scores that tell the
same are the same, so that the noise of a new fit costs nobody a data point; and since what was told is a function of the release
alone, nothing drifts away unseen: the receiver has at any time exactly what the release that was last delivered says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from serving.release import Release
from serving.runs import Run
from serving.score_texts import BANDS, rounded
from serving.scorer import HIGH, LOW

ABSENT, UNKNOWN = -1, -2  # nothing is said of the user; what the receiver has of the user is not known
POINTS = 101  # a score is 0 to 100
IN = 1  # an audience's member
BLOCK = 50_000  # users

Users = npt.NDArray[np.bytes_]
Codes = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Standings:
    """users: ids as UTF-8 bytes, ascending. codes: of each prediction or audience, what is told of each user, or ABSENT."""

    users: Users
    codes: Mapping[str, Codes]


@dataclass(frozen=True)
class Block:
    """Some users in a row, of whom something changed.

    rows: their places in the whole comparison. old, new: by prediction or audience, what was told and what is to be told.
    """

    rows: npt.NDArray[np.int64]
    users: Users
    old: Mapping[str, Codes]
    new: Mapping[str, Codes]


def coded(score: npt.NDArray[np.float64], percentile: npt.NDArray[np.float64]) -> Codes:
    """Scores (0 to 100) and percentiles as what is told of them; NaN is ABSENT."""
    known = ~np.isnan(score)
    points = np.rint(np.where(known, score, 0.0)).astype(np.int16)
    band = (percentile >= LOW).astype(np.int16) + (percentile >= HIGH)
    return np.where(known, band * POINTS + points, ABSENT).astype(np.int16)


def points_of(code: int) -> int:
    return code % POINTS


def band_of(code: int) -> str:
    return BANDS[code // POINTS]


def of_release(release: Release, tasks: Sequence[str]) -> Standings:
    """What a release says of those whom marketing may speak to."""
    codes = {}
    for task in tasks:
        stored = release.scores[task]
        is_chance = release.bundles[task].kind in ("probability", "date")
        # Rounded as it is shown everywhere, so that score runs, which keep what is shown, say the same.
        found = coded(rounded(100 * stored.score if is_chance else stored.percentile), stored.percentile)
        codes[task] = only(found, release)
    return Standings(release.users, codes)


def of_audience(release: Release, name: str, rows: npt.NDArray[np.int64]) -> Standings:
    """Who is in an audience; rows: its members."""
    found = np.full(len(release.users), ABSENT, dtype=np.int16)
    found[rows] = IN
    return Standings(release.users, {name: only(found, release)})


def of_run(run: Run) -> Standings:
    """What a finished score run says, of the users in it."""
    columns = ["user_id", "model", "score", "percentile"]
    found = {task: [np.array([], "S1"), np.array([]), np.array([])] for task in run.tasks}
    for part in run.manifest["parts"]:
        table = pq.read_table(run.folder / part["file"], columns=columns)
        model = table["model"].to_numpy(zero_copy_only=False)
        for task in run.tasks:
            mine = table.filter(model == task)
            ids = np.array([str(user).encode() for user in mine["user_id"].to_pylist()] or [b""], dtype=np.bytes_)[: mine.num_rows]
            news = (ids, mine["score"].to_numpy(), mine["percentile"].to_numpy())
            found[task] = [np.concatenate(pair) for pair in zip(found[task], news, strict=True)]
    users = np.unique(np.concatenate([ids for ids, *_ in found.values()]))
    codes = {task: np.full(len(users), ABSENT, dtype=np.int16) for task in run.tasks}
    for task, (ids, score, percentile) in found.items():
        codes[task][np.searchsorted(users, ids)] = coded(score, percentile)
    return Standings(users, codes)


def only(codes: Codes, release: Release) -> Codes:
    """The same, with ABSENT for whom marketing may not speak to."""
    kept = np.full(len(codes), ABSENT, dtype=np.int16)
    rows = release.withheld.marketable(np.flatnonzero(codes != ABSENT))
    kept[rows] = codes[rows]
    return kept


def changes(before: Standings | None, now: Standings, again: Iterable[str] = (), start: int = 0) -> Iterator[Block]:
    """What a receiver that knows `before` has to be told to know `now`, block by block.

    Rows are counted through the users of `now`, then through those whom only `before` has.

    Args:
        again: users of whom it is not sure what the receiver knows: they are told everything. start: the first row, to go on where an
            earlier run ended.
    """
    names = tuple(now.codes)
    before = before or Standings(np.array([], now.users.dtype), {name: np.array([], np.int16) for name in names})
    places = _places(before.users, now.users)
    gone = np.setdiff1d(np.arange(len(before.users)), places)
    unsure = {user.encode() for user in again}
    total = len(now.users) + len(gone)
    for first in range(start - start % BLOCK, total, BLOCK):
        rows = np.arange(max(first, start), min(first + BLOCK, total))
        here, past = rows[rows < len(now.users)], gone[rows[rows >= len(now.users)] - len(now.users)]
        users = np.concatenate([now.users[here], before.users[past]])
        old = {name: np.concatenate([_at(before.codes[name], places[here]), before.codes[name][past]]) for name in names}
        new = {name: np.concatenate([now.codes[name][here], np.full(len(past), ABSENT, np.int16)]) for name in names}
        if unsure:
            doubtful = np.isin(users, list(unsure))
            old = {name: np.where(doubtful, UNKNOWN, codes).astype(np.int16) for name, codes in old.items()}
        changed = np.zeros(len(rows), dtype=bool)
        for name in names:
            changed |= old[name] != new[name]
        if changed.any():
            yield Block(rows[changed], users[changed], {name: old[name][changed] for name in names}, {name: new[name][changed] for name in names})


def _places(known: Users, wanted: Users) -> npt.NDArray[np.int64]:
    """The place of each wanted id among the known ones, -1 where it is none of them."""
    if len(known) == len(wanted) and known.dtype == wanted.dtype and np.array_equal(known, wanted):
        return np.arange(len(wanted))
    if not len(known):
        return np.full(len(wanted), -1)
    found = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[found] == wanted, found, -1)


def _at(codes: Codes, places: npt.NDArray[np.int64]) -> Codes:
    if not len(codes):
        return np.full(len(places), ABSENT, dtype=np.int16)
    return np.where(places >= 0, codes[places], ABSENT).astype(np.int16)
