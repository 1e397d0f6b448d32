"""Exports of published releases, as a person or a scheduler runs them, on both ledgers."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks import Webhook

from features.errors import InvalidUse, NoRelease
from features.workspace import Workspace
from serving.audiences import members
from serving.audiences.rules import Rule
from serving.destinations import outbox
from serving.destinations.announce import note_failure, note_release
from serving.destinations.commands import run
from serving.destinations.delivery import DeliveryStopped
from serving.destinations.standings import changes, of_release, of_run
from serving.destinations.store import DELIVERIES, OUTBOX
from serving.ledger import Ledger
from serving.pointer import point_to
from serving.release import load_release
from serving.runs import score_run
from serving.scorer import Scorer
from serving.tombstones import tombstone, write_tombstones

SHOP = 'name = "Small shop"\nzone = "UTC"\ncurrency = "EUR"\n'
TASK = "repeat_order"
SECRETS = ("whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "C2FVsBQIhrscChlQIMV+b5sSYspob7oD")


@pytest.fixture
def place(releases, tmp_path, published, ledger_url):
    """A workspace in which the first release is in service."""
    (tmp_path / "encore.toml").write_text(SHOP)
    point_to(releases, published.first)
    return Workspace(tmp_path, "", ledger_url)


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


@pytest.fixture
def on_sqlite(releases, tmp_path, published):
    """As `place` and `ledger`, for what does not depend on the database."""
    (tmp_path / "encore.toml").write_text(SHOP)
    point_to(releases, published.first)
    place = Workspace(tmp_path, "", f"sqlite:///{tmp_path / 'ledger.db'}")
    with closing(Ledger(place.ledger_url)) as ledger:
        yield place, ledger


def to_braze(monkeypatch, receiver):
    monkeypatch.setenv("ENCORE_EXPORT_BRAZE_URL", receiver.url)
    monkeypatch.setenv("ENCORE_EXPORT_BRAZE_KEY", "secret-key")


def told_by(receiver):
    """What a Braze knows after the requests that it took."""
    known = {}
    for body in receiver.bodies:
        for item in body["attributes"]:
            user = known.setdefault(item.pop("external_id"), {})
            item.pop("_update_existing_only")
            user |= item
            for name in [name for name, value in item.items() if value is None]:
                del user[name]
    return {user: attributes for user, attributes in known.items() if attributes}


def said_by(release, task=TASK):
    """What a release says of everybody whom it may name, the slow way."""
    found = {}
    for score in Scorer(release, _day()).score(task, [release.users[row].decode() for row in release.withheld.marketable(_all(release)).tolist()]):
        user = score.user_id
        if score.score is not None:
            found[user] = {f"encore_{task}_score": round(score.score), f"encore_{task}_band": score.band}
    return found


def _all(release):
    import numpy as np

    return np.arange(len(release.users))


def _day():
    from datetime import timedelta

    return timedelta(days=1)


def test_looked_at_sent_then_only_what_changed(place, ledger, published, receive, monkeypatch):
    receiver = receive()
    to_braze(monkeypatch, receiver)
    given = {"tasks": (TASK,)}
    with pytest.raises(InvalidUse, match="--dry-run"):
        run(place, ledger, "braze", given)
    first, second = (load_release(place.releases / name) for name in (published.first, published.second))
    everybody = said_by(first)
    looked = run(place, ledger, "braze", given, dry_run=True)
    assert (looked["users"], looked["attributes"], looked["requests"]) == (len(everybody), 2 * len(everybody), -(-len(everybody) // 75))
    assert len(json.loads(looked["payload"])["attributes"]) == 3
    assert receiver.got == []
    with pytest.raises(InvalidUse, match="--dry-run"):  # another definition was not looked at
        run(place, ledger, "braze", {})
    sent = run(place, ledger, "braze", given)
    assert (sent["sent"], sent["refused"], told_by(receiver)) == (len(everybody), 0, everybody)
    assert {request["headers"]["authorization"] for request in receiver.got} == {"Bearer secret-key"}
    assert run(place, ledger, "braze", given)["sent"] == 0  # nothing changed
    point_to(place.releases, published.second)
    before = len(receiver.got)
    suppressed = next(user for user, said in said_by(second).items() if said != everybody[user])
    write_tombstones(place.releases, {tombstone(suppressed.encode()): "suppressed"})
    now = said_by(load_release(place.releases / published.second))
    delta = run(place, ledger, "braze", given)
    told = told_by(receiver)
    assert delta["since"] == published.first
    assert 0 < delta["sent"] < len(everybody)
    assert suppressed not in "".join(request["body"] for request in receiver.got[before:])
    assert {user: said for user, said in told.items() if user != suppressed} == now
    attributes = sum(len(item) - 2 for request in receiver.got[before:] for item in json.loads(request["body"])["attributes"])
    assert attributes == sum(now[user][name] != everybody.get(user, {}).get(name) for user in now for name in now[user])  # not one too many


def test_refused_users_are_told_again_by_the_next_run(place, ledger, published, receive, monkeypatch):
    release = load_release(place.releases / published.first)
    some = sorted(said_by(release))[:3]
    receiver = receive({"then": {"do": "refuse", "users": some}})
    to_braze(monkeypatch, receiver)
    facts = run(place, ledger, "braze", {"tasks": (TASK,)}, yes=True)
    letters = [json.loads(line) for line in (place.exports / facts["dead_letters"]).read_text().splitlines()]
    assert facts["refused"] == 3
    assert [(letter["user_id"], letter["reason"]) for letter in letters] == [(user, "not taken") for user in some]
    again = receive()
    monkeypatch.setenv("ENCORE_EXPORT_BRAZE_URL", receiver.url)
    write_tombstones(place.releases, {tombstone(some[0].encode()): "deleted"})
    facts = run(place, ledger, "braze", {"tasks": (TASK,)})
    assert facts["refused"] == 2
    assert [item["external_id"] for item in receiver.bodies[-1]["attributes"]] == some[1:]
    assert again.got == []


def test_killed_in_the_middle_it_goes_on_and_misses_nobody(place, ledger, published, receive, monkeypatch):
    """kill -9 of `encore export`; the second run tells the rest, and at most what was on its way once more."""
    receiver = receive({"then": {"do": "ok", "after": 0.4}})
    to_braze(monkeypatch, receiver)
    everybody = said_by(load_release(place.releases / published.first), "lookalike")
    code = (
        "import sys, dataclasses, encore, serving.destinations.export as export\n"
        "export.TOOLS['braze'] = dataclasses.replace(export.TOOLS['braze'], most=5, at_once=2)\n"
        "encore.app(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, "export", "braze", "-w", str(place.root), "--task", "lookalike", "--yes"]
    environment = {**os.environ, "ENCORE_LEDGER_URL": place.ledger_url}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not _row(ledger):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    noted, taken = _row(ledger), len(receiver.got)
    assert 0 < noted < len(published.snapshot.table)
    assert taken * 5 < len(everybody)
    facts = run(place, ledger, "braze", {"tasks": ("lookalike",)})
    counted = Counter(item["external_id"] for body in receiver.bodies for item in body["attributes"])
    assert set(counted) == set(everybody)
    assert told_by(receiver) == everybody
    assert sum(counted.values()) - len(counted) <= 75  # what was sent after the last note
    assert (facts["sent"], run(place, ledger, "braze", {"tasks": ("lookalike",)})["sent"]) == (0, 0)


def _row(ledger):
    with ledger.connection() as connection:
        return connection.execute(sa.select(DELIVERIES.c.next_row)).scalar() or 0


def test_a_receiver_that_is_down_stops_it_and_the_ledger_says_where(on_sqlite, receive, monkeypatch):
    place, ledger = on_sqlite
    receiver = receive({"first": [{"do": "ok"}], "then": {"do": "status", "status": 401}})
    to_braze(monkeypatch, receiver)
    with pytest.raises(DeliveryStopped, match="401"):
        run(place, ledger, "braze", {}, yes=True)
    with ledger.connection() as connection:
        (row,) = connection.execute(DELIVERIES.select()).mappings()
    assert row["state"] == "running"
    assert "401" in row["reason"]


def test_an_audience_is_true_for_entries_and_false_for_exits_and_without_its_control_group(on_sqlite, published, receive, monkeypatch):
    place, ledger = on_sqlite
    receiver = receive()
    to_braze(monkeypatch, receiver)
    first, second = (load_release(place.releases / name) for name in (published.first, published.second))
    saved, _ = members.save(ledger, first, "vip", Rule(TASK, top_n=40), shares={"treatment": 0.5, "control": 0.5})
    names, drawn = members.groups_of(first, saved)

    def reached(release):
        return {release.users[row].decode() for row in members.audience_of(release, saved, ledger).rows if names[drawn[row]] == "treatment"}

    run(place, ledger, "braze", {"audience": "vip"}, yes=True)
    assert told_by(receiver) == {user: {"encore_vip": True} for user in reached(first)}
    assert 5 < len(reached(first)) < 35
    point_to(place.releases, published.second)
    run(place, ledger, "braze", {"audience": "vip"})
    assert told_by(receiver) == {user: {"encore_vip": user in reached(second)} for user in reached(first) | reached(second)}


@pytest.mark.parametrize("destination", ["csv", "parquet"])
def test_the_table_and_what_was_added_changed_and_removed(on_sqlite, published, destination):
    place, ledger = on_sqlite
    read = {"csv": lambda path: pacsv.read_csv(path), "parquet": pq.read_table}[destination]

    def file(name):
        return read(place.exports / f"{destination}.{name}.{destination}").to_pylist()

    run(place, ledger, destination, {})
    first, second = (load_release(place.releases / name) for name in (published.first, published.second))
    table = file("predictive_scores")
    assert list(table[0]) == [
        *("user_id", "model", "score", "percentile", "band", "reason_1", "reason_2", "reason_3"),
        *("scored_at", "features_as_of", "model_version", "changed"),
    ]
    keys = [(row["user_id"], row["model"]) for row in table]
    assert len(set(keys)) == len(keys) == sum(len(said_by(first, task)) for task in first.bundles)
    assert all(row["changed"] for row in table)
    assert (file("added"), file("removed"), file("changed")) == (table, [], [])
    (one,) = Scorer(first, _day()).score(TASK, [next(user for user, model in keys if model == TASK)], reasons=True)
    mine = next(row for row in table if (row["user_id"], row["model"]) == (one.user_id, TASK))
    assert (mine["score"], mine["band"], mine["reason_1"]) == (pytest.approx(one.score), one.band, one.reasons[0].text)
    point_to(place.releases, published.second)
    gone, before, after = keys[0][0], said_by(first), said_by(second)
    write_tombstones(place.releases, {tombstone(gone.encode()): "suppressed"})
    for _ in range(2):  # written again for the same release it says the same
        run(place, ledger, destination, {})
        told = {(row["user_id"], row["model"]): row["changed"] for row in file("predictive_scores")}
        expected = {(user, task): said != before.get(user) for task in (TASK,) for user, said in after.items() if user != gone}
        assert {key: changed for key, changed in told.items() if key[1] == TASK} == expected
        assert {(row["user_id"], row["model"]) for row in file("changed")} == {key for key, changed in told.items() if changed}
        assert file("added") == []
        assert gone not in {row["user_id"] for row in file("removed")}  # who may not be named is not named as gone


def test_the_table_in_sqlite_and_in_postgresql(on_sqlite, published, postgres_server, monkeypatch):
    place, ledger = on_sqlite
    monkeypatch.setenv("ENCORE_EXPORT_POSTGRESQL_URL", postgres_server.url)
    engine = sa.create_engine(postgres_server.url.replace("postgresql://", "postgresql+psycopg://"))
    query = 'select user_id, model, score, band, reason_1, model_version, changed from predictive_scores order by user_id collate "C", model'
    told = []
    for release in (published.first, published.second):
        point_to(place.releases, release)
        run(place, ledger, "sqlite", {"tasks": (TASK,)})
        run(place, ledger, "postgresql", {"tasks": (TASK,)})
        with closing(sqlite3.connect(place.exports / "sqlite.predictive_scores.sqlite")) as file, engine.connect() as database:
            in_file = [tuple(row) for row in file.execute(query.replace(' collate "C"', ""))]
            in_database = [tuple(row) for row in database.execute(sa.text(query))]
        assert in_file == in_database
        assert {row[0] for row in in_file} == set(said_by(load_release(place.releases / release)))
        told.append(in_file)
    assert told[0] != told[1]
    assert {row[5] for row in told[1]} == {"30"}
    engine.dispose()


def test_lines_and_lists(on_sqlite, published, tmp_path, caplog):
    place, ledger = on_sqlite
    release = load_release(place.releases / published.first)
    members.save(ledger, release, "vip", Rule(TASK, top_n=5))
    vip = [release.users[row].decode() for row in members.audience_of(release, ledger.audience("vip"), ledger).rows]
    rows = [f"{user},{user}@shop.test,+86 138 0013 {place:04d}" for place, user in enumerate(vip[:3])]
    (tmp_path / "contacts.csv").write_text("\n".join(["id,Email,Phone", *rows, "stranger,x@y.test,", f"{vip[3]},none,", ""]))
    contacts = {"file": str(tmp_path / "contacts.csv"), "user_id": "id", "email": "Email", "phone": "Phone"}
    with caplog.at_level("WARNING", "encore"):
        assert run(place, ledger, "meta", {"audience": "vip", "contacts": contacts})["sent"] == 3
    assert "too few people" in caplog.text
    meta = pacsv.read_csv(place.exports / "meta.meta-001.csv").to_pylist()
    assert list(meta[0]) == ["EMAIL", "PHONE", "EXTERN_ID", "LOOKALIKE_VALUE"]
    assert {row["EXTERN_ID"] for row in meta} == set(vip[:3])
    run(place, ledger, "google", {"audience": "vip", "contacts": contacts})
    google = pacsv.read_csv(place.exports / "google.google.csv").to_pylist()
    assert [row["Email"] for row in google] == [row["EMAIL"] for row in meta]
    assert not {row["Phone"] for row in google} & {row["PHONE"] for row in meta}
    run(place, ledger, "sensors", {"audience": "vip"})
    lines = (place.exports / f"sensors.sensors.{published.first}.ndjson").read_text().splitlines()
    assert {json.loads(line)["distinct_id"] for line in lines} == set(vip)
    with pytest.raises(Exception, match="contacts"):
        run(place, ledger, "meta", {"audience": "vip"})


def test_a_score_run_and_its_release_say_the_same(on_sqlite, published, tmp_path):
    place, _ = on_sqlite
    first, second = (load_release(place.releases / name) for name in (published.first, published.second))
    runs = [of_run(score_run(Scorer(release, _day()), tmp_path / "scores")) for release in (first, second)]
    by_runs = {user: block.new[TASK][at] for block in changes(*runs) for at, user in enumerate(block.users)}
    by_releases = {
        user: block.new[TASK][at] for block in changes(*(of_release(one, list(one.bundles)) for one in (first, second))) for at, user in enumerate(block.users)
    }
    assert by_runs == by_releases
    assert by_runs


# --- events ---------------------------------------------------------------------------------------------------------


def events_of(receiver):
    return [JSONFormat().read(None, json.dumps(event)) for body in receiver.bodies for event in body]


def test_what_changed_for_users_is_told_once_signed_and_in_order(place, ledger, published, receive, monkeypatch):
    assert note_release(place, ledger, published.first, published.second) == 0  # nobody listens
    receiver = receive({"first": [{"do": "status", "status": 503}]})
    monkeypatch.setenv("ENCORE_EVENTS_URL", receiver.url)
    monkeypatch.setenv("ENCORE_EVENTS_SECRET", " ".join(SECRETS))
    first, second = (load_release(place.releases / name) for name in (published.first, published.second))
    members.save(ledger, first, "vip", Rule(TASK, top_n=40))
    number = note_release(place, ledger, published.first, published.second)
    assert (number > 0, note_release(place, ledger, published.first, published.second)) == (True, 0)
    note_failure(["retrain", "-w", str(place.root)], NoRelease("x"), {"ENCORE_EVENTS_URL": "x", "ENCORE_LEDGER_URL": place.ledger_url})
    note_failure(["retrain", "-w", str(place.root)], InvalidUse("x"), {"ENCORE_EVENTS_URL": "x", "ENCORE_LEDGER_URL": place.ledger_url})
    assert run(place, ledger, "events", {})["sent"] == number + 1
    assert run(place, ledger, "events", {})["sent"] == 0
    taken = [request for request in receiver.got if request["step"] == "ok"]
    for request in taken:
        for secret in SECRETS:
            Webhook(secret).verify(request["body"], request["headers"])
        assert request["headers"]["content-type"] == "application/cloudevents-batch+json"
    found = [event for request in taken for event in (JSONFormat().read(None, json.dumps(one)) for one in json.loads(request["body"]))]
    assert len({(event.get_source(), event.get_id()) for event in found}) == len(found) == number + 1
    assert {event.get_source() for event in found} == {"/encore/Small%20shop"}
    crossed = {event.get_subject(): event.get_data()["crossings"] for event in found if event.get_type() == "encore.score.band.crossed"}
    bands = [{task: {user: said[f"encore_{task}_band"] for user, said in said_by(one, task).items()} for task in one.bundles} for one in (first, second)]
    expected = {
        (user, task, old, bands[1][task][user]) for task in first.bundles for user, old in bands[0][task].items() if bands[1][task].get(user, old) != old
    }
    assert {(user, one["model"], one["from"], one["to"]) for user, all_of in crossed.items() for one in all_of} == expected
    vip = [{one.users[row].decode() for row in members.audience_of(one, ledger.audience("vip"), ledger).rows} for one in (first, second)]
    for type_, users in (("added", vip[1] - vip[0]), ("removed", vip[0] - vip[1])):
        assert {event.get_subject() for event in found if event.get_type() == f"encore.audience.member.{type_}"} == users
    (failed,) = [event for event in found if event.get_type() == "encore.run.failed"]
    assert (failed.get_subject(), failed.get_data()["kind"]) == ("retrain", "NoRelease")


def test_order_is_kept_and_poison_does_not_hold_up_the_rest(place, ledger, receive, monkeypatch):
    from datetime import date

    receiver = receive({"first": [{"do": "status", "status": 400}], "then": {"do": "reject", "users": ["poison"]}})
    monkeypatch.setenv("ENCORE_EVENTS_URL", receiver.url)
    monkeypatch.setenv("ENCORE_EVENTS_SECRET", SECRETS[0])
    with ledger.connection() as connection:
        for day in (1, 2, 3):
            for user in ("ann", "bob", "poison"):
                outbox.emit(connection, outbox.ORDER_DUE, user, {"day_number": day}, date(2026, 11, day))
                outbox.emit(connection, outbox.ORDER_DUE, user, {"day_number": 99}, date(2026, 11, day))  # once a day
    assert run(place, ledger, "events", {}) == {"sent": 6, "refused": 3}
    whole = [body for body, request in zip(receiver.bodies, receiver.got, strict=True) if "poison" not in request["body"]]
    seen = Counter()
    for body in whole[0:]:
        for event in body:
            assert event["data"]["day_number"] >= seen[event["subject"]]  # never an older one after a newer one
            seen[event["subject"]] = event["data"]["day_number"]
    assert seen == {"ann": 3, "bob": 3}
    with ledger.connection() as connection:
        states = dict(connection.execute(sa.select(OUTBOX.c.state, sa.func.count()).group_by(OUTBOX.c.state)).all())
    assert states == {"sent": 6, "refused": 3}


def test_events_wait_while_the_receiver_is_away(on_sqlite, receive, monkeypatch):
    from datetime import date

    from serving.work import work

    place, ledger = on_sqlite
    receiver = receive({"first": [{"do": "status", "status": 401}]})
    monkeypatch.setenv("ENCORE_EVENTS_URL", receiver.url)
    monkeypatch.setenv("ENCORE_EVENTS_SECRET", SECRETS[0])
    with ledger.connection() as connection:
        outbox.emit(connection, "quality.drifted", "churn", {"psi": 0.3}, date(2026, 11, 1))
    work(place, ledger, once=True)
    assert len(receiver.got) == 1
    work(place, ledger, once=True)
    (event,) = receiver.bodies[1]
    assert (event["type"], event["subject"], event["data"]) == ("encore.quality.drifted", "churn", {"psi": 0.3, "day": "2026-11-01"})
    assert event["id"] == receiver.bodies[0][0]["id"]
