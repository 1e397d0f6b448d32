"""Cutoffs, and their split by time: the last ones test, with a gap of one horizon before them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from features.errors import NoUsableData

MOST_CUTOFFS, TEST_CUTOFFS, LEAST_HISTORY = 24, 4, 90  # the last one in days: the look-back of most features


@dataclass(frozen=True)
class Split:
    """Cutoffs to train on and to test on.

    provisional: the data span does not permit four test cutoffs.
    """

    train: tuple[date, ...]
    test: tuple[date, ...]

    @property
    def provisional(self) -> bool:
        return len(self.test) < TEST_CUTOFFS


def calendar(first_day: date, until: date, horizon: int) -> list[date]:
    """Regular cutoffs whose label windows are over at `until`: clamp(horizon, 7, 30) days apart, at most 24."""
    step = timedelta(days=min(max(horizon, 7), 30))
    cutoff = until - timedelta(days=horizon)
    cutoffs: list[date] = []
    while cutoff >= first_day + timedelta(days=LEAST_HISTORY) and len(cutoffs) < MOST_CUTOFFS:
        cutoffs.append(cutoff)
        cutoff -= step
    return cutoffs[::-1]


def closed(cutoffs: list[date], first_day: date, until: date, horizon: int) -> list[date]:
    """Of given cutoffs, the last 24 that have some history and whose label windows are over at `until`."""
    usable = [day for day in cutoffs if first_day + timedelta(days=LEAST_HISTORY) <= day <= until - timedelta(days=horizon)]
    return usable[-MOST_CUTOFFS:]


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
            return Split(tuple(train), tuple(test))
    raise NoUsableData(
        f"{len(cutoffs)} cutoff(s) with a closed window of {horizon} days are too few to train and to test with a gap of "
        f"{horizon} days between. Ingest a longer history or choose a shorter horizon in encore.toml ([horizons])."
    )
