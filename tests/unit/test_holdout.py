"""The lot of a hold-out: the published hash, fair, independent between salts, the same for life, nested; and what effect it can tell from chance."""

from __future__ import annotations

import math
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InvalidUse
from serving.audiences.holdout import GROUPS, groups, lots, shares_of, siphash
from serving.audiences.power import detectable, needed
from serving.tombstones import marks_of

FULL = 2**64


def slow_siphash(message, key):
    """SipHash-2-4 as its paper writes it, for a message of any length."""
    k0, k1 = (int.from_bytes(key[place : place + 8], "little") for place in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def turned(word, left):
        return (word << left | word >> 64 - left) % FULL

    def rounds(times):
        for _ in range(times):
            v[0] = (v[0] + v[1]) % FULL
            v[2] = (v[2] + v[3]) % FULL
            v[1], v[3] = turned(v[1], 13) ^ v[0], turned(v[3], 16) ^ v[2]
            v[0] = turned(v[0], 32)
            v[2] = (v[2] + v[1]) % FULL
            v[0] = (v[0] + v[3]) % FULL
            v[1], v[3] = turned(v[1], 17) ^ v[2], turned(v[3], 21) ^ v[0]
            v[2] = turned(v[2], 32)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for place in range(0, len(padded), 8):
        word = int.from_bytes(padded[place : place + 8], "little")
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def ids(number, start=0):
    return np.array([f"user-{place}".encode() for place in range(start, start + number)])


def test_the_hash_is_the_published_one():
    key = bytes(range(16))
    assert slow_siphash(bytes(range(15)), key) == 0xA129CA6149BE45E5  # the paper's own example, appendix A
    words = np.array([int.from_bytes(bytes(range(8)), "little"), 0, FULL - 1], dtype=np.uint64)
    found = siphash(words, int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little"))
    assert [int(one) for one in found] == [slow_siphash(int(word).to_bytes(8, "little"), key) for word in words]


@settings(max_examples=30, deadline=None)
@given(users=st.lists(st.text(min_size=1, max_size=20).filter(lambda name: "\0" not in name), min_size=1, max_size=8), salt=st.text(max_size=20))
def test_a_lot_is_of_the_id_and_the_salt_alone(users, salt):
    try:
        encoded = [user.encode() for user in users]
        key = sha256(salt.encode()).digest()[:16]
    except UnicodeEncodeError:
        return
    expected = [slow_siphash(int(sha256(user).hexdigest()[:16], 16).to_bytes(8, "little"), key) for user in encoded]
    assert [int(lot) for lot in lots(marks_of(encoded), salt)] == expected


def test_a_user_has_one_group_for_life_whoever_else_is_asked_about():
    shares = shares_of(0.1, 0.05)
    everybody, some = ids(5_000), ids(5_000)[::-7]
    together = dict(zip(everybody.tolist(), groups(everybody, "spring", shares), strict=True))
    assert all(together[user] == group for user, group in zip(some.tolist(), groups(some, "spring", shares), strict=True))
    # If this changes, every running campaign has lost its control group.
    assert "".join(str(group) for group in groups(ids(12), "spring", shares_of(0.3))) == "000001001001"


@settings(max_examples=40, deadline=None)
@given(first=st.floats(0, 0.45), more=st.floats(0, 0.2), usual=st.floats(0, 0.15), more_usual=st.floats(0, 0.15), salt=st.text("ab", max_size=3))
def test_whoever_is_held_out_stays_so_when_the_share_grows(first, more, usual, more_usual, salt):
    users = ids(2_000)
    before, after = (
        dict(zip(users.tolist(), np.array(tuple(shares))[groups(users, salt, shares)], strict=True))
        for shares in (shares_of(first, usual), shares_of(first + more, usual + more_usual))
    )
    assert all(after[user] == group for user, group in before.items() if group != "treatment")


def chi_square(counts, expected):
    return float(((counts - expected) ** 2 / expected).sum())


def test_groups_have_their_shares_under_every_salt():
    """200 salts: the chi-square of three groups (2 degrees of freedom) is above its 95 % point, 5.99, in about 5 of 100, and never absurd."""
    marks, shares = marks_of(ids(20_000).tolist()), shares_of(0.1, 0.2)
    expected = 20_000 * np.array(list(shares.values()))
    found = [chi_square(np.bincount(groups(ids(0), f"salt {number}", shares, marks), minlength=3), expected) for number in range(200)]
    assert 2 <= sum(value > 5.991 for value in found) <= 22
    assert max(found) < 25
    assert 1.5 < np.mean(found) < 2.5


def test_lots_of_different_salts_are_independent_and_near_salts_too():
    """Halves of 60 salts in pairs, four cells of equal chance: chi-square with three degrees of freedom, above 7.81 in about 5 of 100."""
    marks = marks_of(ids(20_000).tolist())
    halves = [lots(marks, f"{number}") < np.uint64(2**63) for number in range(60)]
    found = []
    for first in range(60):
        for second in range(first):
            table = np.bincount(2 * halves[first] + halves[second], minlength=4)
            found.append(chi_square(table, np.full(4, 5_000.0)))
    assert 0.02 < np.mean(np.array(found) > 7.815) < 0.09
    assert max(found) < 30


def test_the_lot_has_nothing_to_do_with_the_order_or_the_look_of_ids():
    drawn = lots(marks_of(ids(50_000).tolist()), "x") / FULL
    assert abs(np.corrcoef(drawn, np.arange(50_000))[0, 1]) < 0.02
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.02
    assert chi_square(np.histogram(drawn, 20, (0, 1))[0], np.full(20, 2_500.0)) < 50


@pytest.mark.parametrize("shares", [{"treatment": 0.9}, {"treatment": 0.9, "contrl": 0.1}, {"treatment": 1.2, "control": -0.2}])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(InvalidUse):
        groups(ids(3), "x", shares)


@pytest.mark.parametrize("held", [(1.0, 0.0), (0.6, 0.4), (-0.1, 0.0)])
def test_somebody_must_be_left_to_treat(held):
    with pytest.raises(InvalidUse):
        shares_of(*held)
    assert tuple(shares_of(0.1, 0.1)) == GROUPS


# --- power ----------------------------------------------------------------------------------------------------------


def test_the_effect_that_is_found_is_found_four_times_out_of_five():
    """Campaigns drawn at the smallest effect: the pooled two-proportion test finds it in 80 of 100."""
    random, treated, control, rate = np.random.default_rng(3), 18_000, 2_000, 0.08
    effect = detectable(treated, control, rate).effect
    hits = random.binomial(treated, rate + effect, 20_000) / treated, random.binomial(control, rate, 20_000) / control
    pooled = (hits[0] * treated + hits[1] * control) / (treated + control)
    z = (hits[0] - hits[1]) / np.sqrt(pooled * (1 - pooled) * (1 / treated + 1 / control))
    assert abs((np.abs(z) > 1.959964).mean() - 0.8) < 0.015


def test_a_textbook_sample_size():
    """Fleiss, Levin and Paik, by formula 4.14 with equal groups: 0.25 against 0.40 at 80 % needs 152 each without the continuity correction."""
    assert abs(needed(0.15, 0.25, 0.5) / 2 - 152) <= 1


@settings(max_examples=60, deadline=None)
@given(rate=st.floats(0.001, 0.6), effect=st.floats(0.005, 0.3), control=st.floats(0.05, 0.5), worth=st.floats(1, 3))
def test_needed_and_detectable_are_each_others_answer(rate, effect, control, worth):
    users = needed(effect, rate, control, worth=worth)
    assert detectable(math.ceil(users * (1 - control)) + 1, math.ceil(users * control) + 1, rate, worth=worth).effect <= effect + 1e-9
    if users > 200:
        assert detectable(int(0.9 * users * (1 - control)), int(0.9 * users * control), rate, worth=worth).effect > effect
    assert needed(effect, rate, control, worth=2 * worth) <= users


def test_too_few_are_told():
    assert "empty" in detectable(100, 0, 0.1).reason
    assert "too few" in detectable(3, 1, 0.5).reason
    assert needed(0.5, 0.6) is None
    with pytest.raises(ValueError, match="rate"):
        detectable(10, 10, 1.5)
