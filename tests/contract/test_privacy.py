"""The register of suppressions, the audit log and the requests over HTTP, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from threading import Barrier

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from features.errors import InvalidTable, InvalidUse, NoUsableData
from features.tombstones import read_tombstones, tombstone, write_tombstones
from features.workspace import Workspace
from serving.border.auth import needed_scope
from serving.border.keys import create_key, read_keys, revoke_key
from serving.jobs import Jobs, without_ids
from serving.ledger import Ledger
from serving.privacy import audit
from serving.privacy.audit import AUDIT_LOG, Broken
from serving.privacy.needles import Needles
from serving.privacy.people import ids_in, people_of
from serving.privacy.register import agree, lift, listed, suppress
from serving.release import load_release
from serving.tombstones import Withheld

MANY = 6
ANN, BEN, CY = (tombstone(name) for name in ("ann", "ben", "cy"))


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


@pytest.fixture
def workspace(tmp_path, ledger_url, make_batch):
    """A shop in which the visitor v turned out to be ann."""
    place = Workspace(tmp_path / "shop", "", ledger_url)
    place.root.mkdir()
    place.shop_file.write_text('name = "Shop"\nzone = "UTC"\ncurrency = "EUR"\n')
    events = [
        {"event": "page_view", "occurred_at": "2024-01-01", "anonymous_id": "v"},
        {"event": "identified", "occurred_at": "2024-01-02", "anonymous_id": "v", "user_id": "ann"},
        {"event": "page_view", "occurred_at": "2024-01-03", "user_id": "ben"},
        {"event": "referral", "occurred_at": "2024-01-04", "user_id": "ben", "detail": "ann"},
    ]
    place.log(place.shop()).append(make_batch(events))
    return place


def whom(workspace, *given):
    return people_of(workspace.log(workspace.shop()), given).marks


# --- people ---------------------------------------------------------------------------------------------------------


def test_all_ids_of_a_person_are_found_by_any_of_them_or_by_a_hash(workspace):
    log = workspace.log(workspace.shop())
    both = {tombstone("ann"), tombstone("v")}
    asked = ["ann", "v", tombstone("ann"), tombstone("v").upper(), sha256(b"ann").hexdigest()]
    assert [people_of(log, [given]).marks for given in asked] == [both] * 5
    stranger = people_of(log, ["f" * 64, "zoe"])
    assert (stranger.unknown, stranger.marks) == (2, {"f" * 64, tombstone("f" * 64), tombstone("zoe")})


@pytest.mark.parametrize(
    ("text", "ids"),
    [("ann\nben\n", ["ann", "ben"]), ("\ufeffname,user_id\nA,ann\nB,ben\n", ["ann", "ben"]), ("hash\n" + ANN + "\n\n", [ANN]), ('"a,b"\n', ["a,b"])],
)
def test_a_file_of_ids_is_read_however_it_is_written(tmp_path, text, ids):
    (tmp_path / "list").write_text(text)
    assert ids_in(tmp_path / "list") == ids


def test_a_file_of_nobody_or_of_no_text_is_refused(tmp_path):
    (tmp_path / "empty").write_text("user_id\n\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(NoUsableData, match="names nobody"):
        ids_in(tmp_path / "empty")
    with pytest.raises(InvalidTable, match="UTF-8"):
        ids_in(tmp_path / "bytes")


# --- the register ---------------------------------------------------------------------------------------------------


def test_a_list_is_told_to_the_service_and_to_the_log_and_can_be_lifted(workspace, ledger):
    log = workspace.log(workspace.shop())
    assert suppress(workspace, ledger, whom(workspace, "ann"), "no_profiling", "asked by mail", datetime(2024, 5, 1, tzinfo=UTC)) == 2
    suppress(workspace, ledger, [BEN], "no_marketing", "newsletter")
    assert read_tombstones(workspace.releases) == {ANN: "no_profiling", tombstone("v"): "no_profiling", BEN: "no_marketing"}
    assert log.manifest["tombstones"] == log.own_tombstones == {ANN: "no_profiling", tombstone("v"): "no_profiling"}
    assert suppress(workspace, ledger, [ANN], "no_profiling", "again") == 0
    assert {(row["reason"], f"{row['since']:%Y-%m-%d}") for row in listed(ledger) if row["mark"] == ANN} == {("asked by mail", "2024-05-01")}
    assert lift(workspace, ledger, whom(workspace, "ann"), "no_profiling") == 2
    assert read_tombstones(workspace.releases) == {ANN: "lifted", tombstone("v"): "lifted", BEN: "no_marketing"}
    assert log.manifest["tombstones"] == log.own_tombstones == {}
    suppress(workspace, ledger, [ANN], "no_profiling", "once more")
    assert log.manifest["tombstones"] == {ANN: "no_profiling"}


def test_of_two_lists_the_stronger_counts_until_it_is_lifted(workspace, ledger):
    suppress(workspace, ledger, [ANN], "no_profiling", "x")
    suppress(workspace, ledger, [ANN], "no_marketing", "y")
    assert read_tombstones(workspace.releases) == {ANN: "no_profiling"}
    lift(workspace, ledger, [ANN], "no_profiling")
    assert read_tombstones(workspace.releases) == {ANN: "no_marketing"}


def test_a_deletion_is_never_lifted(workspace, ledger):
    suppress(workspace, ledger, [ANN], "deleted", "x")
    with pytest.raises(InvalidUse, match="cannot be lifted"):
        lift(workspace, ledger, [ANN], "deleted")
    suppress(workspace, ledger, [ANN], "no_marketing", "y")
    lift(workspace, ledger, [ANN], "no_marketing")
    assert agree(workspace, ledger) == {ANN: "deleted"}


def test_whoever_was_on_an_older_list_is_taken_over(workspace, ledger):
    """From before there was a register: beside the releases, and in the log."""
    write_tombstones(workspace.releases, {ANN: "suppressed"})
    workspace.log(workspace.shop()).bury(["ben"], "suppressed")
    suppress(workspace, ledger, [ANN], "no_marketing", "newsletter")
    assert agree(workspace, ledger) == {ANN: "no_profiling", BEN: "no_profiling"}
    assert {row["reason"] for row in listed(ledger) if row["kind"] == "no_profiling"} == {"was on the list before"}


@pytest.mark.parametrize("lost", ["beside", "log", "ledger"])
def test_whichever_of_the_three_copies_is_lost_the_others_restore_it(workspace, ledger, lost):
    suppress(workspace, ledger, [ANN, CY], "deleted", "x")
    log = workspace.log(workspace.shop())
    if lost == "beside":
        (workspace.releases / "tombstones.json").unlink()
    elif lost == "log":
        manifest = json.loads((log.directory / "manifest.json").read_bytes())
        (log.directory / "manifest.json").write_text(json.dumps({**manifest, "tombstones": {}}))
    else:
        with ledger.connection() as connection:
            connection.execute(sa.text("DELETE FROM suppressions"))
    both = {ANN: "deleted", CY: "deleted"}
    assert agree(workspace, ledger) == both
    assert read_tombstones(workspace.releases) == log.own_tombstones == both
    assert {row["mark"] for row in listed(ledger)} == {*both}


def test_erasing_a_user_leaves_no_mention_by_others(workspace):
    log = workspace.log(workspace.shop())
    assert log.bury(["ann"], "deleted") >= 2
    rows = pa.concat_tables([pa.parquet.read_table(part) for part in log.parts]).to_pylist()
    assert {row["user_id"] for row in rows} == {"ben"}
    assert [row["detail"] for row in rows if row["event"] == "referral"] == [None]
    assert log.ids() == {"ben"}
    assert log.bury(["ann"], "deleted") == 0


def test_no_marketing_is_scored_and_in_no_audience(published):
    release = load_release(published.root / published.second)
    ann, ben = (release.users[row].decode() for row in (0, 1))
    told = release.withholding({tombstone(ann): "no_marketing", tombstone(ben): "no_profiling"}).withheld
    rows = np.arange(4)
    assert (told.without(rows).tolist(), told.marketable(rows).tolist()) == ([0, 2, 3], [2, 3])
    assert [told.is_suppressed(user) for user in (ann, ben)] == [False, True]
    assert [told.may_be_marketed_to(user) for user in (ann, ben, "somebody")] == [False, False, True]
    assert Withheld({tombstone(ann): "lifted"}, frozenset()).may_be_marketed_to(ann)


# --- the audit log --------------------------------------------------------------------------------------------------


def write_some(ledger, number=3):
    links = []
    for entry in range(number):
        with ledger.connection() as connection:
            links.append(audit.record(connection, "release published", {"release": f"r{entry}", "share": 0.1, "名": None}))
    return links


def check(ledger, anchors=None):
    with ledger.connection() as connection:
        return audit.broken(connection, anchors)


def test_a_chain_that_nobody_touched_holds(ledger):
    links = write_some(ledger)
    assert [link.number for link in links] == [1, 2, 3]
    assert check(ledger, {link.number: link.digest for link in links}) is None


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        ("UPDATE audit_log SET what = 'nothing' WHERE number = 2", Broken(2, "it was changed after it was written")),
        ("UPDATE audit_log SET digest = '0' WHERE number = 2", Broken(2, "it was changed after it was written")),
        ("DELETE FROM audit_log WHERE number = 2", Broken(2, "it is missing; the next is 3")),
        ("DELETE FROM audit_log WHERE number = 1", Broken(1, "it is missing; the next is 2")),
        ("UPDATE audit_log SET before = '0' WHERE number = 3", Broken(3, "it does not follow on the entry before it")),
    ],
)
def test_the_first_link_that_does_not_hold_is_named(ledger, damage, broken):
    write_some(ledger)
    with ledger.connection() as connection:
        connection.execute(sa.text(damage))
    assert check(ledger) == broken


def test_an_end_that_was_cut_off_or_written_anew_is_missed_by_a_receipt(ledger):
    link = write_some(ledger)[-1]
    with ledger.connection() as connection:
        connection.execute(AUDIT_LOG.delete().where(AUDIT_LOG.c.number == 3))
    assert check(ledger) is None
    assert check(ledger, {3: link.digest}) == Broken(3, "the log ends before it, and a receipt names entry 3")
    write_some(ledger, 1)
    assert check(ledger, {3: link.digest}).number == 3


def test_of_many_who_write_at_once_each_has_a_link_of_one_chain(ledger_url):
    together = Barrier(MANY)

    def one(_):
        with closing(Ledger(ledger_url)) as own:
            own.audiences()
            together.wait(60)
            return [link.number for link in write_some(own, 5)]

    with ThreadPoolExecutor(MANY) as pool:
        numbers = [number for mine in pool.map(one, range(MANY)) for number in mine]
    with closing(Ledger(ledger_url)) as ledger:
        assert sorted(numbers) == [*range(1, 5 * MANY + 1)]
        assert check(ledger) is None


def test_an_entry_of_what_came_to_nothing_is_not_there(ledger):
    with pytest.raises(ZeroDivisionError), ledger.connection() as connection:
        audit.record(connection, "key created", {})
        1 / 0  # noqa: B018
    assert write_some(ledger, 1)[0].number == 1


def test_keys_and_audiences_and_lists_are_in_the_audit_log_without_a_secret_or_an_id(workspace, ledger):
    key = create_key(ledger, "shop", ["privacy"], days=1)
    revoke_key(ledger, read_keys(ledger)[0].id)
    revoke_key(ledger, read_keys(ledger)[0].id)
    ledger.save_audience("vip", {"task": "churn", "top_n": 5})
    suppress(workspace, ledger, [ANN], "no_profiling", "asked")
    with ledger.connection() as connection:
        rows = connection.execute(AUDIT_LOG.select().order_by(AUDIT_LOG.c.number)).mappings().all()
    assert [row["what"] for row in rows] == ["key created", "key revoked", "audience saved", "users suppressed"]
    text = json.dumps([dict(row) for row in rows])
    assert key[-40:] not in text
    assert ANN not in text
    assert check(ledger) is None


# --- needles --------------------------------------------------------------------------------------------------------


def test_one_id_is_not_taken_for_another_nor_a_number_for_an_id():
    needles = Needles(["ann@shop.example", "2375"])
    table = pa.table({"user_id": ["ann@shop.example", "joann@shop.example", "2375", "x"], "value": ["1", "2", "3", "2375"]})
    assert needles.rows_of(table).to_pylist() == [True, False, True, False]
    assert [needles.words_in(text) for text in (b"to ann@shop.example.", b"joann@shop.example", b"ann@shop.example.org", b"2375 EUR")] == [1, 0, 0, 0]
    value = {"user_ids": ["2375", "x"], "price": "2375", "rows": [{"user_id": "2375"}, {"user_id": "y"}], "seed": {"users": ["ann@shop.example"]}}
    assert needles.without(value) == ({"user_ids": ["x"], "price": "2375", "rows": [{"user_id": "y"}], "seed": {"users": []}}, 3)
    hashed = sha256(b"ann@shop.example").hexdigest()
    assert needles.rows_of(pa.table({"extern_id": [hashed, "0"]})).to_pylist() == [True, False]


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_a_request_is_queued_and_answered_without_an_id(client):
    asked = {"request": "suppress", "kind": "no_marketing", "user_ids": ["user-000003"], "reason": "newsletter"}
    told = client.post("/v1/privacy/requests", asked)
    assert (told.status, told.json["kind"], told.json["state"]) == (202, "privacy", "queued")
    assert b"user-000003" not in told.body
    again = client.get(f"/v1/privacy/requests/{told.json['id']}")
    assert (again.status, again.json) == (200, told.json)
    ledger = client.app.state.ledger
    job = Jobs(ledger).claim()
    assert (job.request["user_ids"], job.request["who"]) == (["user-000003"], "HTTP without a key")
    assert "user_ids" not in without_ids(job.request)
    other = Jobs(ledger).queue("export", {})
    assert client.get(f"/v1/privacy/requests/{other.id}").status == 404


@pytest.mark.parametrize(
    "asked",
    [
        {"request": "suppress", "user_ids": ["u"]},
        {"request": "delete", "kind": "no_profiling", "user_ids": ["u"]},
        {"request": "export", "user_ids": ["u", "v"]},
        {"request": "delete", "user_ids": []},
        {"request": "lift", "kind": "deleted", "user_ids": ["u"]},
        {"request": "price", "user_ids": ["u"]},
    ],
)
def test_a_request_that_is_none_is_refused(client, asked):
    assert client.post("/v1/privacy/requests", asked).status == 422


def test_it_needs_a_scope_of_its_own():
    assert needed_scope("/v1/privacy/requests") == "privacy"
