"""Kept audiences on both databases: frozen or following, only changes written, done again harmless, one group for life."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa

from features.errors import UnknownName
from serving.audiences.cut import cut
from serving.audiences.holdout import shares_of
from serving.audiences.members import audience_of, changes, groups_of, inside, rows_of, save, split
from serving.audiences.refresh import refresh
from serving.audiences.rules import Rule
from serving.ledger import AUDIENCES, MEMBERS, Ledger, LedgerUnavailable, NameTaken
from serving.release import load_release
from serving.tombstones import tombstone, withheld

PATH = "/v1/audiences"
TOP, HALF = Rule("churn", top_n=40), shares_of(0.3, 0.2)


@pytest.fixture(scope="module")
def release(published):
    return load_release(published.root / published.second)


@pytest.fixture(scope="module")
def later(release):
    """The release after it: the best ten have fallen out, ten others have come."""
    scores = release.scores["churn"]
    moved = scores.score.copy()
    moved[cut(release, Rule("churn", top_n=10)).rows] = 0.0
    return replace(release, id="later", scores={**release.scores, "churn": replace(scores, score=moved)})


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


def stays(ledger):
    """All rows of members: user -> [(still in, group)]."""
    with ledger.connection() as connection:
        rows = connection.execute(MEMBERS.select().order_by(MEMBERS.c.entered_at)).all()
    found = {}
    for row in rows:
        found.setdefault(row.user_id, []).append((row.left_at is None, row.group))
    return found


def ids(release, audience):
    return {user.decode() for user in release.users[audience.rows].tolist()}


def test_a_snapshot_keeps_the_members_that_it_had(ledger, release, later):
    saved, new = save(ledger, release, "frozen", TOP, "snapshot", HALF)
    again, renewed = save(ledger, release, "frozen", TOP, "snapshot", HALF)
    assert (new, renewed, again.id, ledger.audience("frozen").release) == (True, False, saved.id, release.id)
    before = ids(release, audience_of(release, saved, ledger))
    assert refresh(ledger, later) == []
    assert ids(later, audience_of(later, saved, ledger)) == before == set(stays(ledger)) == ids(release, cut(release, TOP))
    assert audience_of(release, saved, ledger).expected == pytest.approx(cut(release, TOP).expected, abs=1e-9)
    assert (audience_of(release, saved, ledger).rows == cut(release, TOP).rows).all()


def test_a_live_audience_follows_and_only_changes_are_written(ledger, release, later):
    saved, _ = save(ledger, release, "live", TOP, "live", HALF)
    assert changes(ledger, "live").since is None
    (first,) = refresh(ledger, release)
    assert (first.size, first.entries, first.exits) == (40, 40, 0)
    (followed,) = refresh(ledger, later)
    assert (followed.size, followed.entries, followed.exits) == (40, 10, 10)
    found = changes(ledger, "live")
    before, after = ids(release, cut(release, TOP)), ids(later, cut(later, TOP))
    assert (set(found.entries), set(found.exits), found.release) == (after - before, before - after, "later")
    assert found.entries == sorted(found.entries)
    assert len(stays(ledger)) == 50
    assert inside(later, saved, ledger).sum() == 40


def test_a_refresh_that_is_done_again_changes_nothing_not_even_what_changed_last(ledger, release, later):
    save(ledger, release, "live", TOP)
    refresh(ledger, release)
    refresh(ledger, later)
    before, told = stays(ledger), changes(ledger, "live")
    assert [(one.entries, one.exits) for one in refresh(ledger, later, ["live"])] == [(0, 0)]
    assert (stays(ledger), changes(ledger, "live")) == (before, told)


def test_who_comes_back_begins_a_stay_of_its_own_in_the_same_group(ledger, release, later):
    save(ledger, release, "live", TOP, "live", HALF)
    for one in (release, later, release):
        refresh(ledger, one)
    twice = [found for found in stays(ledger).values() if len(found) == 2]
    assert len(twice) == 10
    assert all([still for still, _ in found] == [False, True] and found[0][1] == found[1][1] for found in twice)


def test_the_groups_written_are_those_of_the_lot_and_of_the_answer(ledger, release):
    saved, _ = save(ledger, release, "held", Rule("churn", top_percent=100), "live", HALF)
    refresh(ledger, release)
    names, places = groups_of(release, saved)
    lot = {user.decode(): names[place] for user, place in zip(release.users.tolist(), places, strict=True)}
    written = {user: found[0][1] for user, found in stays(ledger).items()}
    assert written == {user: lot[user] for user in written}
    counts = split(release, cut(release, Rule("churn", top_percent=100)).rows, "held", HALF)
    assert counts == {name: list(written.values()).count(name) for name in HALF}
    assert min(counts.values()) > 0


def test_an_audience_that_cannot_be_cut_keeps_its_members_and_the_others_go_on(ledger, release, later):
    save(ledger, release, "of churn", TOP)
    save(ledger, release, "of orders", Rule(where={"feature": "orders_count", "at_least": 5}))
    refresh(ledger, release)
    without = replace(later, scores={name: scores for name, scores in later.scores.items() if name != "churn"})
    told = {one.name: one for one in refresh(ledger, without)}
    assert "churn" in told["of churn"].reason
    assert told["of orders"].reason is None
    assert len(changes(ledger, "of churn").entries) == 40
    with pytest.raises(UnknownName):
        refresh(ledger, release, ["nobody"])


def test_whoever_may_not_be_spoken_to_leaves(ledger, release):
    live, _ = save(ledger, release, "live", TOP)
    frozen, _ = save(ledger, release, "frozen", TOP, "snapshot")
    refresh(ledger, release)
    user = bytes(release.users[cut(release, TOP).rows[0]])
    silent = replace(release, withheld=withheld({tombstone(user): "no_marketing"}, release.users, release.marks))
    refresh(ledger, silent)
    assert changes(ledger, "live").exits == [user.decode()]
    row = int(np.searchsorted(release.users, user))
    assert not inside(silent, frozen, ledger)[row]
    assert not inside(silent, live, ledger)[row]
    assert inside(release, frozen, ledger)[row]


def test_the_same_name_for_another_kind_or_hold_out_is_a_conflict(ledger, release):
    save(ledger, release, "vip", TOP, "live", HALF)
    for kind, shares in (("snapshot", HALF), ("live", None), ("live", shares_of(0.1))):
        with pytest.raises(NameTaken):
            save(ledger, release, "vip", TOP, kind, shares)
    assert stays(ledger) == {}


def test_a_snapshot_that_fails_in_the_middle_is_not_there_at_all(ledger, release):
    ledger.audiences()
    with ledger.connection() as connection:
        connection.execute(sa.text("alter table audience_members rename to elsewhere"))
    with pytest.raises(LedgerUnavailable):
        save(ledger, release, "frozen", TOP, "snapshot")
    with ledger.connection() as connection:
        connection.execute(sa.text("alter table elsewhere rename to audience_members"))
    assert ledger.audiences() == []


def test_rules_of_older_ledgers_are_read_and_live(ledger, release):
    old = {"task": "churn", "top_n": 5, "top_percent": None, "min_probability": None}
    with ledger.connection() as connection:
        connection.execute(sa.insert(AUDIENCES).values(id="old", name="old", rule=old, created_at=sa.func.current_timestamp()))
    saved = ledger.audience("old")
    assert (saved.kind, saved.shares, audience_of(release, saved, ledger).size) == ("live", None, 5)


def test_dropping_an_audience_takes_its_members_along(ledger, release):
    save(ledger, release, "of churn", TOP, "snapshot")
    ledger.drop_audience("of churn", "churn")
    assert (ledger.audiences(), stays(ledger)) == ([], {})


def test_ids_that_a_release_does_not_know_have_no_row(release):
    known = release.users[[3, 1]]
    asked = np.array([*known.tolist(), b"nobody", known[0] + b"-and-more-than-any-id-has", b"\xe9\xa1\xbe"])
    assert rows_of(release, asked).tolist() == [1, 3]
    assert rows_of(release, np.array([], dtype=np.bytes_)).tolist() == []


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_a_kept_kind_has_a_tenth_held_out_unless_it_says_else(client, release):
    made = client.post(PATH, {"task": "churn", "top_percent": 100, "name": "spring", "kind": "snapshot"})
    assert (made.status, made.json["kind"], set(made.json["groups"])) == (201, "snapshot", {"treatment", "control"})
    assert made.json == client.get(f"{PATH}/spring").json
    pages = {group: client.get(f"{PATH}/spring/members?group={group}&limit=10000").json["user_ids"] for group in made.json["groups"]}
    assert {group: len(found) for group, found in pages.items()} == made.json["groups"]
    assert sorted(sum(pages.values(), [])) == sorted(client.get(f"{PATH}/spring/members?limit=10000").json["user_ids"])
    assert 0.02 < made.json["groups"]["control"] / made.json["size"] < 0.2
    plain = client.post(PATH, {"task": "churn", "top_n": 9, "name": "plain"}).json
    assert (plain["kind"], plain["groups"]) == ("live", None)
    assert client.post(PATH, {"task": "churn", "top_n": 9, "name": "all", "kind": "live", "holdout": {"control": 0}}).json["groups"] is None
    assert client.get(f"{PATH}/plain/members?group=control").json["user_ids"] == []


def test_changes_come_a_page_at_a_time(client, release, later):
    client.post(PATH, {"task": "churn", "top_n": 40, "name": "live"})
    empty = client.get(f"{PATH}/live/changes").json
    assert (empty["since"], empty["entries"], empty["user_ids"]) == (None, 0, [])
    for one in (release, later):
        refresh(client.app.state.ledger, one)
    page = client.get(f"{PATH}/live/changes?of=exits&limit=6").json
    assert (page["entries"], page["exits"], len(page["user_ids"]), page["next_offset"], page["release"]) == (10, 10, 6, 6, "later")
    assert len(client.get(f"{PATH}/live/changes?of=exits&offset=6").json["user_ids"]) == 4


@pytest.mark.parametrize("name", ["curve", "suggested", "preview", "churn"])
def test_names_that_are_paths_or_predictions_are_refused(client, name):
    assert client.post(PATH, {"task": "churn", "top_n": 5, "name": name}).status == 409
