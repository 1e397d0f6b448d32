"""What the ledger promises whoever keeps something in it, the same on SQLite and on PostgreSQL: one of many at once, all or nothing."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa

from features.errors import UnknownName
from serving.border.idempotency import IDEMPOTENCY, IdempotencyKeyInUse, IdempotencyKeyReused, Kept, claim, keep, let_go
from serving.border.keys import NameInUse, create_key, read_keys
from serving.jobs import Jobs
from serving.ledger import AUDIENCES, Duplicate, Ledger, NameTaken

MANY = 4
RULE = {"task": "churn", "top_n": 5, "top_percent": None, "min_probability": None}


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


@pytest.fixture
def at_once(ledger_url):
    """Do something with a ledger of one's own, several at the same moment; what each returned, or raised."""

    def run(do):
        together = Barrier(MANY)

        def one(number):
            with closing(Ledger(ledger_url)) as ledger:
                ledger.audiences()
                together.wait(30)
                try:
                    return do(ledger, number)
                except Exception as error:
                    return type(error)

        with ThreadPoolExecutor(MANY) as pool:
            return list(pool.map(one, range(MANY)))

    return run


def test_an_audience_comes_back_as_it_was_kept(ledger):
    kept, new = ledger.save_audience("顾客 vip", RULE)
    again, renewed = ledger.save_audience("顾客 vip", RULE)
    assert (new, renewed, again.id) == (True, False, kept.id)
    assert ledger.audience("顾客 vip").rule == ledger.audience(kept.id).rule == RULE
    assert [audience.name for audience in ledger.audiences()] == ["顾客 vip"]
    with pytest.raises(NameTaken):
        ledger.save_audience("顾客 vip", {**RULE, "top_n": 6})
    with pytest.raises(UnknownName):
        ledger.audience("nobody")


def test_an_audience_that_several_keep_at_once_is_one(ledger, at_once):
    told = at_once(lambda own, _: own.save_audience("vip", RULE))
    assert sum(new for _, new in told) == 1
    assert len({audience.id for audience, _ in told}) == 1


def test_what_fails_in_the_middle_leaves_nothing(ledger):
    values = {"name": "vip", "rule": RULE, "created_at": datetime.now(UTC)}
    with pytest.raises(Duplicate), ledger.connection() as connection:
        connection.execute(AUDIENCES.insert().values(id="1", **values))
        connection.execute(AUDIENCES.insert().values(id="2", **values))
    with pytest.raises(ZeroDivisionError), ledger.connection() as connection:
        connection.execute(AUDIENCES.insert().values(id="1", **values))
        1 / 0  # noqa: B018
    assert ledger.audiences() == []


def test_no_two_workers_get_the_same_job(ledger, at_once):
    queued = [Jobs(ledger).queue("export", {"number": number}).id for number in range(20)]

    def take(own, _):
        taken = []
        while job := Jobs(own).claim():
            taken.append(job.id)
        return taken

    assert Counter(job for taken in at_once(take) for job in taken) == Counter(queued)


def test_a_job_is_finished_by_its_worker_and_times_survive(ledger):
    jobs = Jobs(ledger)
    queued = jobs.queue("export", {"rule": RULE})
    job = jobs.claim()
    assert (job.id, job.request, job.tries) == (queued.id, {"rule": RULE}, 1)
    assert jobs.finish(job, "done", {"rows": 3})
    assert (jobs.job(job.id).state, jobs.job(job.id).result) == ("done", {"rows": 3})
    assert not jobs.finish(job, "failed", {})


def test_two_keys_of_a_name_however_many_are_asked_for_at_once(ledger, at_once):
    told = at_once(lambda own, _: create_key(own, "shop", ["score"], days=1))
    made = [key for key in told if key is not NameInUse]
    assert 1 <= len(made) <= 2
    assert {key.id for key in read_keys(ledger)} == {key[4:16] for key in made}


def test_of_equal_requests_at_once_one_takes_effect(ledger, at_once):
    now = datetime.now(UTC)
    told = at_once(lambda own, _: claim(own, "caller and key", "request", now))
    (mine,) = [one for one in told if one is not IdempotencyKeyInUse]
    keep(ledger, mine, 201, b'{"made": 1}')
    with pytest.raises(Kept) as again:
        claim(ledger, "caller and key", "request", now + timedelta(hours=23))
    assert (again.value.status, again.value.body) == (201, b'{"made": 1}')
    with pytest.raises(IdempotencyKeyReused):
        claim(ledger, "caller and key", "another request", now)
    assert claim(ledger, "caller and key", "another request", now + timedelta(hours=25)).effect != mine.effect


def test_a_request_that_came_to_nothing_is_forgotten(ledger):
    now = datetime.now(UTC)
    let_go(ledger, claim(ledger, "key", "request", now))
    with ledger.connection() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(IDEMPOTENCY)).scalar() == 0
    assert claim(ledger, "key", "request", now)
