"""Lots: a number per user and day that is drawn once and for all, so that every run samples the same pairs."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def lots(users: Iterable[str], day: int) -> npt.NDArray[np.float64]:
    """Between 0 and 1, one per user: those below `share` are a sample of that share, and part of every larger one.

    CRC-32 tells users apart, the finisher of SplitMix64 (Steele, Lea, Flood 2014) makes days independent.
    """
    mixed = np.array([zlib.crc32(user.encode()) for user in users], np.uint64) ^ (np.uint64(day % 2**32) << np.uint64(32))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
