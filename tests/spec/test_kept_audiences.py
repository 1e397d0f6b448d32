"""Audiences kept by date, what goes when a seed goes, and what look-alikes did afterwards beside matched others."""

from __future__ import annotations

import json
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.errors import NoUsableData, TrackingUnavailable, UnknownName
from features.identity import tombstone
from features.workspace import open_workspace
from training.lookalike.afterwards import matched_difference, sentences
from training.lookalike.audiences import audience_dates, keep_audience, keep_dial, kept_dial, locked_size, mark_sent, read_audience
from training.lookalike.base_rate import BANDS, bands_of, probabilities
from training.lookalike.expand import Ranking
from training.lookalike.expand_run import dial_of
from training.lookalike.keep import make_audience
from training.lookalike.reach import Dial
from training.lookalike.retire import pending, retire
from training.lookalike.seed import Seed
from training.lookalike.seed_store import SERVICE, delete_seed, drop_expired, erase_buried, exports_of, save_seed
from training.tracking import Version

JUNE = [date(2026, 6, day) for day in range(1, 31)]
USERS = np.array([f"u{number:02d}" for number in range(40)], dtype=object)
FALLING = np.arange(40.0)[::-1]  # u00 is most alike


@pytest.fixture
def place(tmp_path):
    """A workspace with two seeds."""
    workspace = open_workspace(tmp_path, {})
    for name in ("keen", "keen-2"):
        save_seed(workspace.root / "seeds", Seed(name, JUNE[0], ("s1", "s2"), (), {"kind": "list"}, name, (), date(2026, 12, 1)))
    return workspace


def made(place, day, scores=FALLING, size=10, sent=True):
    return keep_audience(place, "keen", JUNE[day - 1], USERS, scores, size, sent=sent)[0]


def moved(**places):
    """The scores, some users put elsewhere."""
    scores = FALLING.copy()
    for user, score in places.items():
        scores[int(user[1:])] = score
    return scores


# --- by date --------------------------------------------------------------------------------------------------------


def test_each_date_has_its_audience_and_says_who_came_and_went_since_the_one_before(place):
    assert made(place, 1).entries == tuple(USERS[:10])
    second = made(place, 8, moved(u03=-1.0))  # the fourth is now the last of all
    assert (second.before, second.entries, second.exits) == (JUNE[0], ("u10",), ("u03",))
    assert audience_dates(place, "keen") == [JUNE[0], JUNE[7]]
    assert "u03" in read_audience(place, "keen", JUNE[0]).users
    assert read_audience(place, "keen", JUNE[7]).users == second.users


def test_repeating_a_date_changes_not_a_byte(place):
    made(place, 1)
    first = made(place, 8, moved(u03=-1.0))
    file = place.root / "seeds" / "keen" / "audiences" / "2026-06-08.parquet"
    before = file.read_bytes()
    again = made(place, 8, moved(u03=-1.0), sent=False)
    assert (again.users, again.entries, again.exits, again.sent) == (first.users, first.entries, first.exits, True)
    assert file.read_bytes() == before


def test_of_outcomes_the_last_audience_that_was_sent_is_meant(place):
    made(place, 1)
    made(place, 2, sent=False)
    assert read_audience(place, "keen").as_of == JUNE[0]
    mark_sent(place, "keen", JUNE[1])
    assert read_audience(place, "keen").as_of == JUNE[1]
    with pytest.raises(UnknownName, match="2026-06-01, 2026-06-02"):
        read_audience(place, "keen", JUNE[2])
    with pytest.raises(NoUsableData, match="encore lookalike expand keen-2"):
        read_audience(place, "keen-2")


def test_what_was_sent_is_kept_and_old_nights_are_not(place):
    for day in (1, 2):
        made(place, day, sent=day == 1)
    keep_audience(place, "keen", JUNE[1] + timedelta(days=91), USERS, FALLING, 10, sent=False)
    assert audience_dates(place, "keen") == [JUNE[0], JUNE[1] + timedelta(days=91)]


def test_the_reach_is_locked_and_where_fewer_are_left_all_of_them_are_taken(place, caplog):
    keep_dial(place, "keen", Dial(size=50, base_rate=0.1))
    assert kept_dial(place, "keen") == Dial(size=50, base_rate=0.1)
    assert locked_size("keen", Dial(size=50), np.zeros(40)) == 40
    assert "fewer candidates" in caplog.text
    assert locked_size("keen", Dial(size=7), np.zeros(40)) == 7
    with pytest.raises(NoUsableData):
        locked_size("keen", Dial(size=7), np.zeros(0))


def test_a_dial_that_is_not_turned_is_that_of_the_last_time(place):
    keep_dial(place, "keen", Dial(size=5, base_rate=0.1))
    assert dial_of(place, "keen", {}) == Dial(size=5, base_rate=0.1)
    assert dial_of(place, "keen", {"base_rate": 0.2}) == Dial(size=5, base_rate=0.2)
    assert dial_of(place, "keen", {"size": 9}) == Dial(size=9, base_rate=0.1)
    assert not dial_of(place, "keen-2", {}).is_turned
    for wrong, says in (({"base_rate": 0.2}, "say its size"), ({"size": 5, "base_rate": 1.0}, "above 0 and below 1")):
        with pytest.raises(NoUsableData, match=says):
            dial_of(place, "keen-2", wrong)


# --- the end --------------------------------------------------------------------------------------------------------


def exported(place, name="keen"):
    ranking = Ranking(JUNE[0], USERS, FALLING, np.linspace(100, 0, 40), [])
    return make_audience(place, name, ranking, Dial(size=10), np.arange(101.0))[1]


def test_a_seed_takes_its_audiences_and_their_files_along_and_not_those_of_its_neighbour(place):
    files = {name: exported(place, name) for name in ("keen", "keen-2")}
    (place.exports / "lookalike-keen.2026-06-01-0123456789ab.parquet").write_bytes(b"an export over HTTP")
    delete_seed(place.root / "seeds", "keen")
    assert not [path for path in place.root.rglob("*keen*") if "keen-2" not in path.name]
    assert files["keen-2"].exists()
    assert drop_expired(place.root / "seeds", date(2026, 12, 1)) == ["keen-2"]
    assert list(place.exports.iterdir()) == []


def test_who_is_erased_leaves_the_audiences_and_their_files(place):
    exported(place)
    made(place, 8, moved(u03=-1.0))
    file = place.exports / "lookalike-keen.r1.parquet"
    pq.write_table(pq.read_table(place.root / "seeds" / "keen" / "audiences" / "2026-06-01.parquet"), file)
    erase_buried(place.root / "seeds", [tombstone("u03"), tombstone("u05")])
    kept = pd.read_csv(place.exports / "lookalike-keen.csv", dtype=str)
    assert list(kept["user_id"]) == [user for user in USERS[:10] if user not in ("u03", "u05")]
    assert list(kept.columns) == ["user_id", "rank", "similarity", "new"]
    assert not {"u03", "u05"} & {*pq.read_table(file)["user_id"].to_pylist()}
    assert read_audience(place, "keen", JUNE[7]).exits == (), "nobody leaves by being erased"
    assert (read_audience(place, "keen", JUNE[0]).before, read_audience(place, "keen", JUNE[0]).sent) == (None, True)


class Registry:
    """What `retire` asks of MLflow: the real thing is tried in tests/contract/test_lookalikes.py."""

    def __init__(self, digest):
        self.digest, self.retired, self.is_down = digest, [], False

    def with_alias(self, task, alias):
        if self.is_down:
            raise TrackingUnavailable("down")
        return Version(task, "1", "run", "bundle", {"encore.seed": self.digest}) if alias == "champion" else None

    def retire(self, version, when):
        self.retired.append(version.task)


def test_a_model_is_retired_once_and_when_mlflow_is_down_the_next_time(place):
    (place.root / "reports" / "lookalike-keen").mkdir(parents=True)
    delete_seed(place.root / "seeds", "keen")
    registry = Registry("keen")
    registry.is_down = True
    with pytest.raises(TrackingUnavailable):
        retire(place, registry)
    assert len(pending(place)) == 1
    assert "s1" not in pending(place)[0].read_text()
    registry.is_down = False
    assert (retire(place, registry), retire(place, registry), registry.retired) == (["keen"], [], ["lookalike-keen"])


def test_the_model_of_a_seed_that_was_made_anew_under_the_same_name_stays(place):
    (place.root / "reports" / "lookalike-keen").mkdir(parents=True)
    delete_seed(place.root / "seeds", "keen")
    save_seed(place.root / "seeds", Seed("keen", JUNE[0], ("s1", "s2"), (), {"kind": "list"}, "keen"))
    for digest in ("keen", "another"):
        registry = Registry(digest)
        retire(place, registry)
        assert registry.retired == []


def test_of_the_service_a_name_is_one_request_and_the_next_seed_takes_the_place_of_the_last(place):
    root = place.root / "seeds"
    for digest in ("first", "second"):
        save_seed(root, Seed("asked", JUNE[0], ("s1",), (), {}, digest), SERVICE)
    assert json.loads((root / "asked" / "manifest.json").read_text())["digest"] == "second"
    save_seed(root, Seed("keen", JUNE[0], ("s1", "s2"), (), {"kind": "list"}, "keen", (), date(2026, 12, 1)), SERVICE)
    assert json.loads((root / "keen" / "manifest.json").read_text())["made_by"] == "command line", "the same seed belongs to whom it belonged to"
    assert exports_of(root, "asked") == []


# --- afterwards -----------------------------------------------------------------------------------------------------


def test_members_are_compared_with_others_of_the_same_cell_as_many_as_there_are_members():
    # Cell 0: 4 members, 2 did; 2 others, none. Cell 1: 1 member, did; 4 others, 2 did. Cell 2: a member alone.
    cells = np.array([0] * 6 + [1] * 5 + [2])
    members = np.array([1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1], dtype=bool)
    did = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1], dtype=bool)
    found = matched_difference(did, members, ~members, cells)
    assert (found["users"], found["alone"], found["cells"]) == (5, 1, 2)
    assert found["members"] == pytest.approx(0.8 * 0.5 + 0.2 * 1.0)
    assert found["others"] == pytest.approx(0.8 * 0.0 + 0.2 * 0.5)
    assert found["difference"]["value"] == pytest.approx(0.5)
    # One added to each outcome: variances .25/6 and .1875/4 in cell 0, (2/9)/3 and .25/6 in cell 1; weights .8 and .2.
    half = 1.96 * (0.64 * (0.25 / 6 + 0.1875 / 4) + 0.04 * (2 / 27 + 0.25 / 6)) ** 0.5
    assert (found["difference"]["low"], found["difference"]["high"]) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)


def test_where_nobody_is_like_a_member_nothing_is_claimed():
    members = np.array([True, False])
    found = matched_difference(members, members, ~members, np.array([0, 1]))
    assert (found["difference"], found["alone"]) == (None, 1)


def test_the_interval_holds_the_truth_as_often_as_it_says_and_plain_rates_do_not_when_cells_differ():
    rng = np.random.default_rng(7)
    chance = np.array([0.02, 0.05, 0.10, 0.20, 0.40])  # by cell; members do it 0.05 more often
    holds, plain = 0, []
    for _ in range(400):
        cells = rng.integers(0, 5, 900)
        members = rng.random(900) < 0.05 + 0.08 * cells  # who buys often is a member more often
        did = rng.random(900) < chance[cells] + 0.05 * members
        found = matched_difference(did, members, ~members, cells)["difference"]
        holds += found["low"] <= 0.05 <= found["high"]
        plain.append(did[members].mean() - did[~members].mean())
    assert 0.93 <= holds / 400 <= 0.99
    assert np.mean(plain) > 0.09


def test_it_is_said_that_this_is_no_effect():
    members = np.array([True, True, False, False])
    found = matched_difference(np.array([True, False, True, False]), members, ~members, np.zeros(4, dtype=int))
    rate = {"value": 0.5, "low": 0.1, "high": 0.9}
    told = {"days": 30, "from": "2026-06-01", "what": "soap", "members": {"users": 2, "rate": rate}, "others": {"users": 2, "rate": rate}}
    lines = sentences({**told, "matched": found, "note": "no effect"})
    assert lines[-1] == "no effect"
    assert "a difference of +0.0 points" in lines[1]


# --- a base rate ----------------------------------------------------------------------------------------------------


def test_seed_users_who_score_like_everybody_give_everybody_the_base_rate():
    scores = np.linspace(0, 1, 10_001)
    assert bands_of(scores, np.linspace(0, 1, 101)) == pytest.approx(np.array(BANDS), abs=0.01)
    chances = probabilities(np.linspace(0, 0.999, 1000), 0.02, bands_of(scores, np.linspace(0, 1, 101)))
    assert chances.mean() == pytest.approx(0.02, rel=0.05)


def test_seed_users_at_the_top_make_the_top_likely_and_the_level_stays_that_of_the_user():
    scores = np.linspace(0, 1, 10_000)
    bands = bands_of(scores, np.full(101, 0.97))
    above = np.arange(10_000)[::-1] / 10_000
    chances = probabilities(above, 0.02, bands)
    assert chances.mean() == pytest.approx(0.02, rel=0.02)
    assert chances[-200] > 0.3 > 0.001 > chances[100]
