"""Cutoffs, and their split by time: the last ones test, with a gap of one horizon before them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from features.errors import NoUsableData

MOST_CUTOFFS, TEST_CUTOFFS, APART, LEAST_HISTORY = 24, 4, 3, 90  # the last one in days: the look-back of most features
SHORTEST_PROOF = 30  # days of the windows on which a model that extrapolates is measured


@dataclass(frozen=True)
class Split:
    """Cutoffs to train on and to test on.

    provisional: the data span does not permit four test cutoffs, three of which have windows that do not overlap.
    """

    train: tuple[date, ...]
    test: tuple[date, ...]
    horizon: int = 0

    @property
    def cutoffs(self) -> tuple[date, ...]:
        """All of them, in order."""
        return tuple(sorted({*self.train, *self.test}))

    @property
    def provisional(self) -> bool:
        return len(self.test) < TEST_CUTOFFS or self._apart() < APART

    def _apart(self) -> int:
        """How many of the test windows, taken from the last one back, do not overlap."""
        count, until = 0, date.max
        for cutoff in reversed(self.test):
            if cutoff + timedelta(days=self.horizon) <= until:
                count, until = count + 1, cutoff
        return count


def calendar(first_day: date, until: date, horizon: int) -> list[date]:
    """Regular cutoffs whose label windows are over at `until`: clamp(horizon, 7, 30) days apart, at most 24."""
    step = _spacing(horizon)
    cutoff = until - timedelta(days=horizon)
    cutoffs: list[date] = []
    while cutoff >= first_day + timedelta(days=LEAST_HISTORY) and len(cutoffs) < MOST_CUTOFFS:
        cutoffs.append(cutoff)
        cutoff -= step
    return cutoffs[::-1]


def closed(cutoffs: list[date], first_day: date, until: date, horizon: int) -> list[date]:
    """Of given cutoffs, at most 24 that have some history and whose label windows are over at `until`.

    More than that are thinned to the spacing of a regular calendar, or daily ones would leave no room for the gap.
    """
    usable = [day for day in cutoffs if first_day + timedelta(days=LEAST_HISTORY) <= day <= until - timedelta(days=horizon)]
    if len(usable) > MOST_CUTOFFS:
        thinned: list[date] = []
        for day in reversed(usable):
            if not thinned or day <= thinned[-1] - _spacing(horizon):
                thinned.append(day)
        usable = thinned[::-1]
    return usable[-MOST_CUTOFFS:]


def longest_window(first_day: date, until: date, horizon: int) -> int:
    """Days of the longest label window, at most the horizon, with which there are cutoffs to train on and one to test on.

    Raises:
        NoUsableData: not even windows of 30 days.
    """
    for days in range(horizon, min(horizon, SHORTEST_PROOF), -1):
        try:
            split_by_time(calendar(first_day, until, days), days)
        except NoUsableData:
            continue
        return days
    shortest = min(horizon, SHORTEST_PROOF)
    split_by_time(calendar(first_day, until, shortest), shortest)
    return shortest


def _spacing(horizon: int) -> timedelta:
    return timedelta(days=min(max(horizon, 7), 30))


def split_by_time(cutoffs: list[date], horizon: int) -> Split:
    """Test on the last cutoffs, train on those whose label windows end before the first of them.

    As many test cutoffs as leave at least two to train on, four at the most.

    Raises:
        NoUsableData: the span is too short for one test cutoff and one training cutoff.
    """
    for least, tests in [(2, tests) for tests in range(TEST_CUTOFFS, 0, -1)] + [(1, 1)]:
        test = cutoffs[-tests:]
        train = [day for day in cutoffs if test and day <= test[0] - timedelta(days=horizon)]
        if len(test) == tests and len(train) >= least:
            return Split(tuple(train), tuple(test), horizon)
    raise NoUsableData(
        f"{len(cutoffs)} cutoff(s) with a closed window of {horizon} days are too few to train and to test with a gap of "
        f"{horizon} days between. Ingest a longer history or choose a shorter horizon in encore.toml ([horizons])."
    )
