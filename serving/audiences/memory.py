"""What is worked out of a release once and asked for many times: rankings, columns, groups. Bounded by what it weighs."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np

from serving.release import Release

MOST_BYTES = 400_000_000  # a ranking of two million users weighs 64 MB
Made = TypeVar("Made")

_lock = threading.Lock()
_making: dict[tuple[int, Hashable], threading.Lock] = {}
_kept: OrderedDict[tuple[int, Hashable], tuple[weakref.ref[Release], Any, int]] = OrderedDict()


def remembered(release: Release, key: Hashable, make: Callable[[], Made]) -> Made:
    """What `make` gives, kept for this very release: one that withholds other users is another. The oldest asked for goes first.

    Of several who ask at the same moment one makes it, and the others wait for it.
    """
    place = id(release), key
    with _lock:
        if (found := _of(place, release)) is not None:
            return found[0]  # type: ignore[no-any-return]
        making = _making.setdefault(place, threading.Lock())
    with making:
        with _lock:
            if (found := _of(place, release)) is not None:
                return found[0]  # type: ignore[no-any-return]
        try:
            made = make()
            _keep(place, release, made)
        finally:
            _making.pop(place, None)
    return made


def _of(place: tuple[int, Hashable], release: Release) -> tuple[Any] | None:
    found = _kept.get(place)
    if found is None or found[0]() is not release:
        return None
    _kept.move_to_end(place)
    return (found[1],)


def _keep(place: tuple[int, Hashable], release: Release, made: Any) -> None:
    with _lock:
        for old in [old for old, (holder, _, _) in _kept.items() if holder() is None]:
            del _kept[old]
        _kept[place] = weakref.ref(release), made, weight(made)
        while len(_kept) > 1 and sum(size for _, _, size in _kept.values()) > MOST_BYTES:
            _kept.popitem(last=False)


def is_remembered(release: Release, key: Hashable) -> bool:
    """Whether it need not be made again."""
    with _lock:
        found = _kept.get((id(release), key))
        return found is not None and found[0]() is release


def known(release: Release) -> list[Any]:
    """The keys of what is kept for a release."""
    with _lock:
        return [key for (holder, key) in _kept if holder == id(release)]


def weight(made: Any) -> int:
    """Bytes of the arrays in it."""
    if isinstance(made, np.ndarray):
        return made.nbytes
    return sum(part.nbytes for part in vars(made).values() if isinstance(part, np.ndarray)) if hasattr(made, "__dict__") else 0
