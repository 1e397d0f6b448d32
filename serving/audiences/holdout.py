"""Hold-out: a lot that keeps part of an audience out of its campaign, so that what the campaign adds can be known.

A user's lot is a number between 0 and 1, made of the id and a salt and of nothing else, so that it is the same in every release, on
every refresh, on every machine, for life: SipHash-2-4 (Aumasson and Bernstein 2012), keyed with the first 16 bytes of the SHA-256
of the salt, of the first 8 bytes of the SHA-256 of the id. A release keeps those 8 bytes (`marks`), so two million lots take a
fraction of a second. Control takes the lots from 0 up, business as usual those from 1 down, treatment what lies between: where a share
grows, whoever was in the group stays in it. Lots of different salts are independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from features.errors import InvalidUse, unknown_name
from serving.audiences.memory import remembered
from serving.release import Release
from serving.tombstones import marks_of

GROUPS = ("treatment", "control", "business_as_usual")
DEFAULT: Mapping[str, float] = {"treatment": 0.9, "control": 0.1}
BLOCK = 1 << 14  # lots drawn at once: their four words of state stay in the processor's cache
Lots = npt.NDArray[np.uint64]


def shares_of(control: float = 0.1, business_as_usual: float = 0.0) -> dict[str, float]:
    """The shares of all groups, of the held-out ones'.

    Raises:
        InvalidUse: they are no shares, or leave nobody to treat.
    """
    if not (0 <= control < 1 and 0 <= business_as_usual < 1 and control + business_as_usual < 1):
        raise InvalidUse("Shares of a hold-out lie from 0 to below 1, and must leave somebody to treat: such as control 0.1.")
    held = {"control": control, **({"business_as_usual": business_as_usual} if business_as_usual else {})}
    return {"treatment": 1 - sum(held.values()), **held}


def groups(users: npt.NDArray[np.bytes_], salt: str, shares: Mapping[str, float], marks: Lots | None = None) -> npt.NDArray[np.int8]:
    """The group of each user, as its place in tuple(shares).

    Args:
        users: ids as UTF-8. salt: of the campaign or audience. shares: group -> share, which add up to 1. marks: of the users, as a release has
            them; without, they are made, which takes a second for a million.

    Raises:
        InvalidUse: a group that is none of GROUPS, or shares that do not add up to 1.
    """
    return _by_lot(lots(marks_of([bytes(user) for user in users]) if marks is None else marks, salt), shares)


def _by_lot(drawn: Lots, shares: Mapping[str, float]) -> npt.NDArray[np.int8]:
    names = tuple(shares)
    for name in names:
        if name not in GROUPS:
            raise InvalidUse(unknown_name("group", name, GROUPS))
    if any(share < 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-9:
        raise InvalidUse(f"The shares of {', '.join(names)} must add up to 1.")
    found = np.full(len(drawn), names.index("treatment") if "treatment" in names else 0, dtype=np.int8)
    control, usual = shares.get("control", 0.0), shares.get("business_as_usual", 0.0)
    if control:
        found[_below(drawn, control)] = names.index("control")
    if usual:
        found[~_below(drawn, 1 - usual)] = names.index("business_as_usual")
    return found


def groups_in(release: Release, salt: str, shares: Mapping[str, float]) -> npt.NDArray[np.int8]:
    """The group of every user of a release, as its place in tuple(shares). Lots take most of the time, and are the same whatever the shares."""
    key = "groups", salt, tuple(shares.items())
    return remembered(release, key, lambda: _by_lot(remembered(release, ("lots", salt), lambda: lots(release.marks, salt)), shares))


def lots(marks: Lots, salt: str) -> Lots:
    """The lot of each mark under a salt, from 0 to 2^64 - 1."""
    key = sha256(salt.encode()).digest()
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")
    drawn = np.empty(len(marks), dtype=np.uint64)
    for start in range(0, len(marks), BLOCK):
        drawn[start : start + BLOCK] = siphash(np.asarray(marks[start : start + BLOCK], dtype=np.uint64), k0, k1)
    return drawn


def siphash(words: Lots, k0: int, k1: int) -> Lots:
    """SipHash-2-4 of messages of eight bytes (little-endian words), all with the same key."""
    last = np.uint64(8 << 56)  # the length, in the last block
    state = [np.full(len(words), key ^ start, dtype=np.uint64) for key, start in zip((k0, k1, k0, k1), START, strict=True)]
    spare = np.empty_like(words)
    state[3] ^= words
    _rounds(state, spare, 2)
    state[0] ^= words
    state[3] ^= last
    _rounds(state, spare, 2)
    state[0] ^= last
    state[2] ^= np.uint64(0xFF)
    _rounds(state, spare, 4)
    return np.asarray(state[0] ^ state[1] ^ state[2] ^ state[3])


START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def _rounds(state: list[Lots], spare: Lots, times: int) -> None:
    a, b, c, d = state
    for _ in range(times):
        for x, y, left, z in ((a, b, 13, True), (c, d, 16, False), (a, d, 21, False), (c, b, 17, True)):
            x += y
            _turn(y, left, spare)
            y ^= x
            if z:
                _turn(x, 32, spare)


def _turn(word: Lots, left: int, spare: Lots) -> None:
    """Rotate all words to the left, in place."""
    np.right_shift(word, np.uint64(64 - left), out=spare)
    np.left_shift(word, np.uint64(left), out=word)
    np.bitwise_or(word, spare, out=word)


def _below(drawn: Lots, share: float) -> npt.NDArray[np.bool_]:
    return np.asarray(drawn < np.uint64(min(int(share * 2.0**64), 2**64 - 1)))
