"""F40: the same Idempotency-Key twice, at the same time, with another request, after a day, over the death of a process: one effect."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from serving.border import idempotency
from serving.border.idempotency import IDEMPOTENCY, IdempotencyKeyInUse, IdempotencyKeyReused, Kept, claim, keep, let_go
from serving.border.keys import create_key
from serving.jobs import JOBS
from serving.ledger import Ledger

EXPORT, AUDIENCE = "/v1/audiences/vip/exports", {"task": "churn", "top_n": 5, "name": "vip"}
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)

# Work that takes a while, and a process that dies, when it is told to, between what it did and the note that it did it.
SLOW_AND_MORTAL = """
import os, time, serving.jobs, serving.border.once
queue, keep = serving.jobs.Jobs.queue, serving.border.once.keep
def slow(*arguments):
    time.sleep(1)
    return queue(*arguments)
def dies(*arguments):
    if os.path.exists(sys.argv[1] + "/die"):
        os._exit(9)
    keep(*arguments)
serving.jobs.Jobs.queue, serving.border.once.keep = slow, dies
"""


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


def answered(ledger, key, request, now=NOW):
    """What a second request with this key hears."""
    with pytest.raises(Kept) as kept:
        claim(ledger, key, request, now)
    return kept.value.status, kept.value.body


def exports(folder):
    """How many exports were ever queued."""
    with closing(Ledger(f"sqlite:///{folder / 'ledger.db'}")) as ledger, ledger.connection() as connection:
        return connection.execute(sa.select(sa.func.count()).where(JOBS.c.kind == "export")).scalar()


def export(client, key, target=EXPORT):
    return client.request("POST", target, b"", {"idempotency-key": key})


# --- the ledger's side ------------------------------------------------------------------------------------------------


def test_the_answer_is_kept_for_a_day_and_no_longer(ledger):
    first = claim(ledger, "key", "request", NOW)
    keep(ledger, first, 202, b"{}")
    assert answered(ledger, "key", "request") == (202, b"{}")
    assert answered(ledger, "key", "request", NOW + timedelta(hours=24, seconds=-1)) == (202, b"{}")
    again = claim(ledger, "key", "request", NOW + timedelta(hours=24))
    assert again.effect != first.effect


def test_what_is_over_is_deleted_by_whoever_comes_next(ledger):
    for number in range(3):
        keep(ledger, claim(ledger, f"key {number}", "request", NOW), 200, b"{}")
    claim(ledger, "another", "request", NOW + timedelta(days=2))
    with ledger.connection() as connection:
        assert connection.execute(sa.select(IDEMPOTENCY.c.id)).scalars().all() == ["another"]


def test_another_request_with_the_key_is_refused_answered_or_not(ledger):
    first = claim(ledger, "key", "request", NOW)
    with pytest.raises(IdempotencyKeyReused):
        claim(ledger, "key", "another", NOW)
    keep(ledger, first, 200, b"{}")
    with pytest.raises(IdempotencyKeyReused):
        claim(ledger, "key", "another", NOW)


def test_a_request_that_came_to_nothing_may_be_tried_again_at_once(ledger):
    let_go(ledger, claim(ledger, "key", "request", NOW))
    keep(ledger, claim(ledger, "key", "request", NOW), 200, b"{}")
    assert answered(ledger, "key", "request") == (200, b"{}")


def test_the_claim_of_a_process_that_died_is_taken_over_with_its_effect_by_one(ledger):
    first = claim(ledger, "key", "request", NOW)
    with pytest.raises(IdempotencyKeyInUse):
        claim(ledger, "key", "request", NOW + timedelta(seconds=59))
    later = NOW + idempotency.LEASE
    assert claim(ledger, "key", "request", later) == first
    with pytest.raises(IdempotencyKeyInUse):
        claim(ledger, "key", "request", later)


def test_of_many_claims_at_once_one_is_granted(ledger):
    claim(ledger, "first", "request", NOW)  # the tables are made
    begin, granted, refused = threading.Barrier(8), [], []

    def take():
        begin.wait()
        try:
            granted.append(claim(ledger, "key", "request", NOW))
        except IdempotencyKeyInUse as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(granted), len(refused)) == (1, 7)


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_a_repeated_request_gets_the_first_answer_and_nothing_happens_twice(client, tmp_path):
    client.post("/v1/audiences", AUDIENCE)
    first, again, quoted = export(client, "k-1"), export(client, "k-1"), export(client, '"k-1"')
    assert (first.status, again.status, quoted.status) == (202, 202, 202)
    assert first.json == again.json == quoted.json
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == quoted.headers["idempotency-replayed"] == "true"
    assert export(client, "k-2").json["id"] != first.json["id"]
    assert client.request("POST", EXPORT, b"").json["id"] != first.json["id"]
    assert exports(tmp_path) == 3


def test_a_created_audience_is_created_again_in_the_answer_only(client):
    headers = {"content-type": "application/json", "idempotency-key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    body = b'{"task": "churn", "top_n": 5, "name": "vip"}'
    answers = [client.request("POST", "/v1/audiences", body, headers) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].body == answers[1].body


@pytest.mark.parametrize("other", [("/v1/audiences/vip/exports?format=parquet", b""), (EXPORT, b"{}"), ("/v1/audiences", b'{"task": "churn", "top_n": 9}')])
def test_a_key_that_comes_with_another_request_is_refused(client, other, tmp_path):
    client.post("/v1/audiences", AUDIENCE)
    export(client, "k-1")
    target, body = other
    answer = client.request("POST", target, body, {"content-type": "application/json", "idempotency-key": "k-1"})
    assert (answer.status, answer.json["type"]) == (422, "urn:encore:problem:idempotency-key-reused")
    assert exports(tmp_path) == 1


def test_an_error_is_not_kept(client):
    refused = export(client, "k-1")
    client.post("/v1/audiences", AUDIENCE)
    assert (refused.status, export(client, "k-1").status) == (404, 202)
    invalid = client.request("POST", "/v1/audiences", b"{}", {"content-type": "application/json", "idempotency-key": "k-2"})
    sound = client.request("POST", "/v1/audiences", b'{"task": "churn", "top_n": 9}', {"content-type": "application/json", "idempotency-key": "k-2"})
    assert (invalid.status, sound.status) == (422, 200)


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "顾客", 'a"b'])
def test_a_key_that_is_none_is_a_problem(client, key):
    answer = export(client, key)
    assert (answer.status, answer.json["errors"][0]["at"]) == (422, "header.Idempotency-Key")


def test_keys_of_two_callers_are_two_keys_and_nobody_replays_without_one(published, serve, tmp_path):
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        callers = [create_key(ledger, name, ["audience"], days=30) for name in ("crm", "mail")]
    client = serve(published.root, tmp_path)
    headers = {"content-type": "application/json", "idempotency-key": "k-1"}

    def exported(key):
        return client.request("POST", EXPORT, b"", {**headers, "x-api-key": key})

    client.request("POST", "/v1/audiences", b'{"task": "churn", "top_n": 5, "name": "vip"}', {"content-type": "application/json", "x-api-key": callers[0]})
    first, other, again = exported(callers[0]), exported(callers[1]), exported(callers[0])
    assert first.json == again.json != other.json
    assert (other.status, client.request("POST", EXPORT, b"", headers).status) == (202, 401)


def test_nothing_of_a_request_is_in_the_ledger(client, tmp_path):
    seed = b'{"name": "samples", "seed": {"user_ids": ["secret-marker@example.org"]}, "size": 10}'
    first = client.request("POST", "/v1/lookalikes", seed, {"content-type": "application/json", "idempotency-key": "secret-marker"})
    assert first.status == 202
    with client.app.state.ledger.connection() as connection:
        row = connection.execute(IDEMPOTENCY.select()).mappings().one()
    assert "secret-marker" not in repr(dict(row))
    assert row["body"] == first.body


def test_after_a_day_the_same_key_is_a_new_one(client, tmp_path, monkeypatch):
    client.post("/v1/audiences", AUDIENCE)
    first = export(client, "k-1")
    for hours, is_new in ((23.99, False), (24.01, True)):

        class Later(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(hours=hours)  # noqa: B023 - called in this round

        monkeypatch.setattr("serving.border.once.datetime", Later)
        later = export(client, "k-1")
        assert (later.status, later.json != first.json) == (202, is_new)
    assert exports(tmp_path) == 2


# --- a real service ---------------------------------------------------------------------------------------------------


def test_at_the_same_time_and_over_the_death_of_the_process_there_is_one_effect(start_service, serve, published, tmp_path, monkeypatch):
    with start_service(tmp_path, before=SLOW_AND_MORTAL) as live:
        live.post("/v1/audiences", AUDIENCE)
        answers = []

        def ask():
            answers.append(live.post(EXPORT, b"", {"idempotency-key": "k-1"}))

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status for answer in answers) == [202, 409, 409, 409, 409]
        busy = next(answer for answer in answers if answer.status == 409)
        assert (busy.headers["retry-after"], busy.json["type"]) == ("1", "urn:encore:problem:idempotency-key-in-use")
        late = live.post(EXPORT, b"", {"idempotency-key": "k-1"})
        assert late.json == next(answer for answer in answers if answer.status == 202).json
        assert exports(tmp_path) == 1

        (tmp_path / "die").touch()
        with pytest.raises(OSError):
            live.post(EXPORT, b"", {"idempotency-key": "k-2"})
        assert (live.process.wait(30), exports(tmp_path)) == (9, 2)

    client = serve(published.root, tmp_path)
    assert export(client, "k-2").status == 409
    monkeypatch.setattr(idempotency, "LEASE", timedelta(0))
    again = export(client, "k-2")
    assert (again.status, exports(tmp_path)) == (202, 2)
    assert client.get(f"/v1/jobs/{again.json['id']}").json["state"] == "queued"
