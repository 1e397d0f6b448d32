"""The lease of a shop: exactly one holder, whatever the clocks say, and nobody is held up by the dead."""

from __future__ import annotations

import json
import threading
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from features.errors import Locked, TrackingUnavailable
from training import lease
from training.lease import FREE, Holder, Place, Row, Tag, leased

A, B = Holder("a" * 32, "kernel-1:5:7", "host one, process 1"), Holder("b" * 32, "kernel-2:5:7", "host two, process 2")


class Shared:
    """What MLflow's tags are to two clients: the last value that was written."""

    def __init__(self) -> None:
        self.value = FREE

    def tag(self) -> Tag:
        return Tag(lambda: self.value, self.write)

    def write(self, value: str) -> None:
        self.value = value


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'mlflow.db'}"
    server = request.getfixturevalue("postgres_server")
    server.run("drop table if exists encore_leases")
    return str(server.url)


@pytest.fixture
def row(url: str) -> Row:
    return Row(url, "corner-shop")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease of 0.3 s instead of two minutes."""
    for name, seconds in (("SECONDS", 0.3), ("POLL", 0.02), ("SETTLE", 0.1)):
        monkeypatch.setattr(lease, name, seconds)


# --- a row ------------------------------------------------------------------------------------------------------------


def test_one_holds_it_and_the_other_is_told_who(row):
    assert row.claim(A) is None
    assert row.claim(B).startswith("host one, process 1; free in ")
    assert (row.renew(A), row.renew(B)) == (True, False)
    row.release(B)  # not its own: nothing happens
    assert row.renew(A)
    row.release(A)
    assert row.claim(B) is None


def test_of_many_that_ask_at_once_exactly_one_gets_it(url):
    for number in range(5):
        name, start, won = f"shop {number}", threading.Barrier(8), []

        def ask(who: int, name: str = name, start: threading.Barrier = start, won: list[int] = won) -> None:
            row = Row(url, name)
            start.wait()
            if row.claim(Holder(f"{who}", f"kernel-{who}:1:1", f"host {who}")) is None:
                won.append(who)

        threads = [threading.Thread(target=ask, args=(who,)) for who in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


def test_an_expired_one_is_taken_over_and_its_former_holder_notices(row, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS", 0.05)
    assert row.claim(A) is None
    monkeypatch.setattr(lease, "SECONDS", 60)
    time.sleep(0.1)
    assert row.claim(B) is None
    assert not row.renew(A)
    row.release(A)
    assert row.renew(B)


def test_a_late_renewal_holds_as_long_as_nobody_has_taken_over(row, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS", 0.05)
    assert row.claim(A) is None
    time.sleep(0.1)
    assert row.renew(A)


def test_the_time_is_the_databases_own_and_not_the_hosts(row, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: 0.0)
        assert row.claim(A) is None
        assert row.claim(B) is not None
    with row.engine.connect() as connection:
        (left,) = connection.execute(sa.select(lease.LEASES.c.expires_at)).one()
    assert left - datetime.now(UTC).timestamp() == pytest.approx(lease.SECONDS, abs=10)  # the database runs on this host


def test_shops_in_one_database_do_not_wait_for_each_other(url):
    assert Row(url, "one").claim(A) is None
    assert Row(url, "two").claim(B) is None


def test_only_databases_that_are_tested_here_get_a_row():
    urls = ("sqlite:////a.db", "postgresql://h/d", "postgresql+psycopg://h/d", "http://h:5000", "https://h", "mysql://h/d", "mlruns")
    assert [Row.possible(url) for url in urls] == [True, True, True, False, False, False, False]


# --- either -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["row", "tag"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Row(f"sqlite:///{tmp_path / 'mlflow.db'}", "corner-shop") if request.param == "row" else Shared().tag()


def held(place: Place, holder: Holder, wait: bool = False) -> Any:
    return leased(place, holder, "A retrain of shop 'Corner shop'", nullcontext, wait=wait)


def test_a_killed_process_does_not_lock_out_its_own_workspace(place, quick):
    assert place.claim(A) is None
    assert place.claim(Holder("c" * 32, A.lock, "host one, process 9")) is None
    assert not place.renew(A)


def test_while_it_works_it_is_renewed_and_the_second_is_locked_out(place, quick):
    with held(place, A) as first:
        time.sleep(0.7)  # twice as long as a lease holds
        with pytest.raises(Locked, match=r"already running elsewhere \(host one, process 1"), held(place, B):
            pass
        first.confirm()
    with held(place, B):
        pass


def test_who_waits_gets_it_when_the_first_has_ended(place, quick):
    order: list[str] = []

    def second() -> None:
        with held(place, B, wait=True):
            order.append("second")

    waiting = threading.Thread(target=second)
    with held(place, A):
        waiting.start()
        time.sleep(0.5)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_one_that_was_lost_is_an_error_before_the_next_write(place, quick, monkeypatch):
    monkeypatch.setattr(lease, "_renew", lambda *_: None)  # the process is stopped
    with pytest.raises(Locked, match="another one has taken over"), held(place, A) as mine:
        time.sleep(0.35)
        assert place.claim(B) is None
        mine.confirm()
    assert place.renew(B)  # leaving, the loser took nothing away


def test_it_is_given_back_when_the_work_fails(place, quick):
    with pytest.raises(ZeroDivisionError), held(place, A):
        raise ZeroDivisionError
    with held(place, B):
        pass


def test_a_place_that_cannot_be_reached_at_the_end_hides_no_error(place, quick, monkeypatch):
    def down(*_: object) -> None:
        raise TrackingUnavailable("down")

    with pytest.raises(ZeroDivisionError), held(place, A):
        monkeypatch.setattr(type(place), "release", down)
        raise ZeroDivisionError


# --- a tag ------------------------------------------------------------------------------------------------------------


def test_of_two_that_see_it_free_at_once_the_last_to_write_holds_it(quick):
    shared, said, both_have_read = Shared(), {}, threading.Barrier(2)

    def ask(holder: Holder) -> None:
        tag = shared.tag()
        reads = []

        def read() -> str:
            seen = shared.value
            reads.append(seen)
            if len(reads) == 1:
                both_have_read.wait()
            return seen

        said[holder] = Tag(read, tag.write).claim(holder)

    threads = [threading.Thread(target=ask, args=(holder,)) for holder in (A, B)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = next(holder for holder in (A, B) if json.loads(shared.value)["token"] == holder.token)
    (loser,) = {A, B} - {winner}
    assert said == {winner: None, loser: winner.name}


def test_a_tag_that_nobody_changes_is_left_behind_and_taken_over(quick):
    shared = Shared()
    first, second = shared.tag(), shared.tag()
    assert first.claim(A) is None
    began = time.monotonic()
    assert second.claim(B) is None
    assert time.monotonic() - began > 0.3
    assert not first.renew(A)


@pytest.mark.parametrize("written", ["", "somebody was here", "[1]", '{"token": "x"}'])
def test_what_somebody_else_wrote_into_the_tag_stops_nobody(quick, written):
    shared = Shared()
    shared.value = written
    assert shared.tag().claim(A) is None


def test_the_lock_file_names_the_holder(tmp_path):
    (tmp_path / "one").touch()
    (tmp_path / "two").touch()
    first, again, other = (Holder.of(tmp_path / name) for name in ("one", "one", "two"))
    assert first.lock == again.lock != other.lock
    assert first.token != again.token
