"""What the log knew, and when: statements that are corrected, cancelled, said twice, or turn out to be another user's.

Every order is worth its number in cents, so a sum says which orders stand. Dates are of 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pyarrow.parquet as pq
import pytest

from features.errors import NoUsableData
from features.events import EventLog
from features.tiles import open_tiles

Facts = dict[str, tuple[float, float]]
STAYS_OUT = "the user was deleted from this log"
CLASH = "says something else than what is known under its id, and not that it became known later"


def order(name: str, day: str, cents: int, **more: Any) -> dict[str, Any]:
    return {"event": "order", "event_id": f"order {name}", "order_id": name, "occurred_at": day, "value_cents": cents, "quantity": 1, "currency": "EUR", **more}


def cancelled(name: str, day: str, **more: Any) -> dict[str, Any]:
    return {"event": "order_cancelled", "event_id": f"cancel {name}", "order_id": name, "occurred_at": day, **more}


def view(day: str, **more: Any) -> dict[str, Any]:
    return {"event": "product_view", "event_id": f"view {day} {sorted(more.items())}", "product_id": "soap", "occurred_at": day, **more}


def login(visitor: str, user: str, day: str, **more: Any) -> dict[str, Any]:
    return {"event": "identified", "event_id": f"{visitor} is {user}", "anonymous_id": visitor, "user_id": user, "occurred_at": day, **more}


@pytest.fixture(scope="module")
def log_of(make_log, make_batch) -> Callable[..., EventLog]:
    """Several lists of events, ingested one after the other."""

    def log(*batches: list[dict[str, Any]], written: str | None = None) -> EventLog:
        made = make_log(batches[0])
        for events in batches[1:]:
            made.append(make_batch(events, written=written))
        return made

    return log


@pytest.fixture(scope="module")
def known(make_snapshot) -> Callable[[EventLog, str], Facts]:
    """A log and a day -> user: (orders, cents) as it was known before that day."""

    def facts(log: EventLog, day: str) -> Facts:
        frame = make_snapshot(log, date.fromisoformat(day)).frame
        if "orders_count" not in frame:
            return dict.fromkeys(frame.index, (0, 0))
        return {user: (row["orders_count"], row["orders_revenue"]) for user, row in frame.iterrows()}

    return facts


# --- restatement ----------------------------------------------------------------------------------------------------

FIRST, CORRECTED = order("a", "2024-03-01T10:00", 100), order("a", "2024-03-01T10:00", 70, known_at="2024-03-10T09:00")


@pytest.mark.parametrize("together", [True, False])
def test_a_correction_counts_from_the_day_it_became_known(log_of, known, together):
    log = log_of([FIRST, CORRECTED]) if together else log_of([FIRST], [CORRECTED])
    assert known(log, "2024-03-10") == {"u": (1, 100)}
    assert known(log, "2024-03-11") == {"u": (1, 70)}


@pytest.mark.parametrize("known_at", ["2024-03-01T10:00", "2024-03-01T10:05"])
def test_an_older_version_that_arrives_last_does_not_replace_the_newer(log_of, known, known_at):
    log = log_of([CORRECTED], [{**FIRST, "known_at": known_at}])
    assert known(log, "2024-03-10") == {"u": (1, 100)}
    assert known(log, "2024-03-11") == {"u": (1, 70)}
    assert log.digest == log_of([{**FIRST, "known_at": known_at}, CORRECTED]).digest


def test_three_versions_of_which_the_middle_one_comes_last(log_of, known):
    third = order("a", "2024-03-01T10:00", 50, known_at="2024-03-20")
    log = log_of([FIRST], [third], [CORRECTED])
    assert [known(log, f"2024-03-{day}")["u"] for day in ("10", "20", "21")] == [(1, 100), (1, 70), (1, 50)]


def test_a_correction_may_name_another_user_and_another_day(log_of, known):
    log = log_of([FIRST], [order("a", "2024-02-01T10:00", 100, user_id="bob", known_at="2024-03-10")])
    assert known(log, "2024-03-05") == {"u": (1, 100)}
    assert known(log, "2024-03-11") == {"bob": (1, 100)}


def test_a_correction_without_a_moment_of_its_own_became_known_when_the_file_was_written(log_of, known):
    log = log_of([FIRST], [{**FIRST, "value_cents": 70}], written="2024-03-15T12:00")
    assert known(log, "2024-03-15") == {"u": (1, 100)}
    assert known(log, "2024-03-16") == {"u": (1, 70)}


def test_without_that_either_it_is_refused_and_what_was_known_stays(make_log, make_batch, known):
    log = make_log([FIRST])
    report = log.append(make_batch([{**FIRST, "value_cents": 70}, order("b", "2024-03-02", 5)]))
    assert (report.added, report.restated, dict(report.quarantined)) == (1, 0, {CLASH: 1})
    assert known(log, "2024-03-20") == {"u": (2, 105)}


def test_the_first_file_again_after_a_correction_takes_nothing_back(make_log, make_batch, known):
    log = make_log([FIRST])
    log.append(make_batch([{**FIRST, "value_cents": 70}], written="2024-03-15"))
    digest = log.digest
    for cents in (100, 70):
        report = log.append(make_batch([{**FIRST, "value_cents": cents}], written="2024-03-18"))
        assert (report.added, report.restated, report.duplicates) == (0, 0, 1)
    assert log.digest == digest
    assert known(log, "2024-03-20") == {"u": (1, 70)}


def test_the_same_said_later_is_a_duplicate_and_said_earlier_was_known_earlier(make_log, make_batch, known):
    log = make_log([{**FIRST, "known_at": "2024-03-05"}])
    digest = log.digest
    report = log.append(make_batch([{**FIRST, "known_at": "2024-03-08"}]))
    assert (report.added, report.restated, report.duplicates, log.digest) == (0, 0, 1, digest)
    log.append(make_batch([{**FIRST, "known_at": "2024-03-03"}, view("2024-02-01")]))
    assert known(log, "2024-03-03")["u"] == (0, 0)
    assert known(log, "2024-03-04")["u"] == (1, 100)
    assert log.digest == make_log([view("2024-02-01"), {**FIRST, "known_at": "2024-03-03"}]).digest


# --- cancellation ---------------------------------------------------------------------------------------------------

TWO = [order("a", "2024-03-01", 100), order("b", "2024-03-02", 10)]


@pytest.mark.parametrize("batches", [[TWO, [cancelled("a", "2024-03-05")]], [[cancelled("a", "2024-03-05")], TWO], [[*TWO, cancelled("a", "2024-03-05")]]])
def test_a_cancellation_ends_its_order_whichever_of_them_comes_first(log_of, known, batches):
    log = log_of(*batches)
    assert known(log, "2024-03-05") == {"u": (2, 110)}
    assert known(log, "2024-03-06") == {"u": (1, 10)}
    assert log.digest == log_of([*TWO, cancelled("a", "2024-03-05")]).digest


def test_a_correction_of_a_cancelled_order_does_not_bring_it_back(make_log, make_batch, known):
    log = make_log([*TWO, cancelled("a", "2024-03-05")])
    report = log.append(make_batch([order("a", "2024-03-01", 70, known_at="2024-03-08"), order("b", "2024-03-02", 20, known_at="2024-03-08")]))
    assert known(log, "2024-03-20") == {"u": (1, 20)}
    assert known(log, "2024-03-05") == {"u": (2, 110)}
    assert (report.restated, report.taken_back) == (1, 0)


def test_an_order_that_became_known_when_it_was_cancelled_already_never_counts(make_log, make_batch, known):
    late = order("a", "2024-03-01", 100, known_at="2024-03-09")
    log = make_log([view("2024-02-01"), cancelled("a", "2024-03-05"), late])
    assert [known(log, f"2024-03-{day}")["u"] for day in ("06", "10")] == [(0, 0), (0, 0)]
    digest = log.digest
    assert log.append(make_batch([late])).added == 0
    assert log.digest == digest


def test_the_same_number_in_another_shop_is_another_order(log_of, known):
    ann, bob = (order("1001", "2024-03-01", cents, event_id=f"order of {user}", user_id=user) for user, cents in (("ann", 100), ("bob", 10)))
    assert known(log_of([ann, bob], [cancelled("1001", "2024-03-05", user_id="ann")]), "2024-03-20") == {"ann": (0, 0), "bob": (1, 10)}


def test_a_guest_order_may_be_cancelled_by_the_user_that_the_guest_is_known_to_be(log_of, known):
    guest = [order("a", "2024-03-01", 100, anonymous_id="guest"), login("guest", "ann", "2024-03-03")]
    log = log_of(guest, [cancelled("a", "2024-03-05", user_id="ann")])
    assert known(log, "2024-03-05") == {"ann": (1, 100)}
    assert known(log, "2024-03-06") == {"ann": (0, 0)}
    log = log_of([order("a", "2024-03-01", 100, anonymous_id="guest"), cancelled("a", "2024-03-05", user_id="ann")], [login("guest", "ann", "2024-03-03")])
    assert known(log, "2024-03-06") == {"ann": (0, 0)}


# --- who is who -----------------------------------------------------------------------------------------------------

VISIT = [order("a", "2024-03-01", 100, anonymous_id="phone"), order("b", "2024-03-02", 10, user_id="ann")]


@pytest.mark.parametrize("together", [True, False])
def test_a_visitors_history_moves_to_the_user_from_the_day_the_link_is_known(log_of, known, together):
    link = login("phone", "ann", "2024-03-05T12:00")
    log = log_of([*VISIT, link]) if together else log_of(VISIT, [link])
    assert known(log, "2024-03-05") == {"ann": (1, 10), "phone": (1, 100)}
    assert known(log, "2024-03-06") == {"ann": (2, 110)}


def test_what_the_visitor_does_later_is_the_users(log_of, known):
    log = log_of([*VISIT, login("phone", "ann", "2024-03-05")], [order("c", "2024-03-10", 1, anonymous_id="phone")])
    assert known(log, "2024-03-11") == {"ann": (3, 111)}


def test_a_row_with_both_ids_is_the_users_from_its_own_day_on(log_of, known):
    log = log_of([view("2024-02-01", anonymous_id="phone"), order("a", "2024-03-01", 100, anonymous_id="phone", user_id="ann")])
    assert known(log, "2024-03-01") == {"phone": (0, 0)}
    assert known(log, "2024-03-02") == {"ann": (1, 100)}


def test_two_devices_of_one_user_become_one_each_on_its_own_day(log_of, known):
    visits = [order("a", "2024-03-01", 100, anonymous_id="phone"), order("b", "2024-03-02", 10, anonymous_id="tablet")]
    log = log_of(visits, [login("phone", "ann", "2024-03-05"), login("tablet", "ann", "2024-03-08")])
    assert known(log, "2024-03-03") == {"phone": (1, 100), "tablet": (1, 10)}
    assert known(log, "2024-03-06") == {"ann": (1, 100), "tablet": (1, 10)}
    assert known(log, "2024-03-09") == {"ann": (2, 110)}


@pytest.mark.parametrize("swapped", [False, True])
def test_links_make_a_chain_whichever_of_them_comes_first(log_of, known, swapped):
    links = [[login("phone", "mail", "2024-03-05")], [login("mail", "ann", "2024-03-08")]]
    log = log_of([order("a", "2024-03-01", 100, anonymous_id="phone")], *(reversed(links) if swapped else links))
    assert [set(known(log, f"2024-03-{day}")) for day in ("03", "06", "09")] == [{"phone"}, {"mail"}, {"ann"}]
    assert known(log, "2024-03-09") == {"ann": (1, 100)}
    assert log.current_ids() == {"phone": "ann", "mail": "ann"}


def test_a_link_that_would_close_a_circle_is_left_out(log_of, known):
    log = log_of(VISIT, [login("phone", "ann", "2024-03-05")], [login("ann", "phone", "2024-03-08")])
    assert log.current_ids() == {"phone": "ann"}
    assert known(log, "2024-03-20")["ann"] == (2, 110)


def test_an_id_belongs_to_the_user_that_was_known_for_it_first(log_of, known):
    early, late = login("phone", "ann", "2024-03-05"), login("phone", "bob", "2024-03-08")
    for batches in ([VISIT, [early], [late]], [VISIT, [late], [early]]):
        log = log_of(*batches)
        assert known(log, "2024-03-20") == {"ann": (2, 110), "bob": (0, 0)}
        assert log.digest == log_of([*VISIT, early, late]).digest


def test_a_link_that_was_left_out_counts_when_an_older_one_takes_its_rival_away(log_of, known):
    # phone is ann since the 5th and so not bob since the 8th, until it turns out that ann has been phone since the 3rd.
    batches = [VISIT, [login("phone", "ann", "2024-03-05"), login("phone", "bob", "2024-03-08")], [login("ann", "phone", "2024-03-03")]]
    log = log_of(*batches)
    assert log.current_ids() == {"ann": "bob", "phone": "bob"}
    assert log.digest == log_of(sum(batches, [])).digest
    assert known(log, "2024-03-20") == {"bob": (2, 110)}


def test_a_guest_stays_a_user_of_its_own(log_of, known):
    log = log_of([order("a", "2024-03-01", 100, user_id=None, anonymous_id="guest 1"), order("b", "2024-03-02", 10, user_id=None, anonymous_id="guest 2")])
    assert known(log, "2024-03-20") == {"guest 1": (1, 100), "guest 2": (1, 10)}
    assert log.current_ids() == {}


# --- again, and what the report says --------------------------------------------------------------------------------


def test_the_same_file_twice_changes_nothing(make_log, make_batch):
    events = [*VISIT, order("c", "2024-03-01", 1), order("c", "2024-03-01", 2, known_at="2024-03-10"), cancelled("b", "2024-03-04", user_id="ann")]
    events += [login("phone", "ann", "2024-03-05")]
    log = make_log(events)
    files = {path: path.read_bytes() for path in log.directory.rglob("*") if path.is_file()}
    report = log.append(make_batch(events))
    assert (report.added, report.restated, report.duplicates, report.taken_back, report.changes_from) == (0, 0, len(events), 0, None)
    assert {path: path.read_bytes() for path in log.directory.rglob("*") if path.is_file()} == files


def test_the_report_counts_what_is_new_corrected_repeated_and_taken_back(make_log, make_batch):
    log = make_log([FIRST, *VISIT[1:], order("c", "2024-03-03", 1), view("2024-03-04")])
    nobody = order("e", "2024-03-12", 2, user_id="")
    news = [CORRECTED, order("c", "2024-03-03", 1), cancelled("b", "2024-03-12", user_id="ann"), order("d", "2024-03-12", 2), nobody]
    report = log.append(make_batch(news))
    assert (report.read, report.added, report.restated, report.duplicates, report.taken_back) == (5, 2, 1, 1, 1)
    assert sum(report.quarantined.values()) == 1


def test_the_report_says_from_which_day_on_history_is_not_what_it_was(make_log, make_batch):
    log = make_log([FIRST, view("2024-03-08")])
    assert log.append(make_batch([view("2024-03-09"), view("2024-03-10")])).changes_from is None
    assert log.append(make_batch([view("2024-03-11"), view("2024-03-05", known_at="2024-03-07")])).changes_from == date(2024, 3, 7)
    assert log.append(make_batch([view("2024-03-01", known_at="2024-03-12")])).changes_from is None


def test_later_days_leave_the_digest_of_earlier_ones_and_corrections_of_them_do_not(make_log, make_batch):
    log, cut = make_log([FIRST, view("2024-03-08")]), date(2024, 3, 9)
    before = log.digest_before(cut)
    log.append(make_batch([view("2024-03-09"), {**CORRECTED, "known_at": "2024-03-09"}, login("phone", "u", "2024-03-10")]))
    assert log.digest_before(cut) == before
    log.append(make_batch([view("2024-03-07", known_at="2024-03-08")]))
    assert log.digest_before(cut) != before


def test_corrections_that_leave_a_day_empty_leave_no_trace_of_it(log_of):
    late, early = ({**FIRST, "known_at": f"2024-03-{day}"} for day in ("07", "05"))
    cut = date(2024, 3, 20)
    assert log_of([view("2024-03-01"), late], [early]).digest_before(cut) == log_of([view("2024-03-01"), early]).digest_before(cut)


# --- users who have to stay out -------------------------------------------------------------------------------------

PEOPLE = [*VISIT, login("phone", "ann", "2024-03-05"), order("c", "2024-03-06", 1, user_id="bob"), view("2024-03-07", user_id="bob")]


def ids_in(log: EventLog) -> set[str]:
    """Whoever is named by any of the log's tables."""
    tables = [pq.read_table(path) for path in log.directory.rglob("*.parquet")]
    columns = [table[name] for table in tables for name in ("user_id", "given_id", "from_id", "to_id", "anonymous_id") if name in table.column_names]
    return {name for column in columns for name in column.to_pylist()}


def test_a_deleted_user_is_erased_with_every_visitor_they_turned_out_to_be(make_log, known, shop, tmp_path):
    log = make_log(PEOPLE)
    open_tiles(log, shop, tmp_path / "tiles")
    assert log.bury(["ann"], "deleted") > 0
    assert known(log, "2024-03-20") == {"bob": (1, 1)}
    with pytest.raises(NoUsableData, match="No user is known"):
        known(log, "2024-03-05")
    assert ids_in(log) == {"bob"}
    tiles = open_tiles(log, shop, tmp_path / "tiles")
    assert [tiles.bucket(number).users.to_pylist() for number in range(len(tiles))] == [["bob"]]
    assert tiles.ever().days("orders")["user_id"].tolist() == ["bob"]


def test_a_deleted_user_stays_out_when_the_file_comes_again(make_log, make_batch, known):
    log = make_log(PEOPLE)
    log.bury(["ann"], "deleted")
    digest = log.digest
    report = log.append(make_batch([*PEOPLE, order("d", "2024-03-09", 7, anonymous_id="phone"), order("e", "2024-03-09", 7, user_id="ann")]))
    assert (report.added, report.duplicates, dict(report.quarantined)) == (0, 2, {STAYS_OUT: 5})
    assert log.digest == digest
    assert known(log, "2024-03-20") == {"bob": (1, 1)}


def test_a_file_of_nothing_but_deleted_users_is_no_error(make_log, make_batch):
    log = make_log(PEOPLE)
    log.bury(["ann"], "deleted")
    assert log.append(make_batch(VISIT)).added == 0


def test_the_last_user_may_be_deleted(make_log, known):
    log = make_log(TWO)
    assert log.bury(["u"], "deleted") == 2
    assert log.parts == []
    with pytest.raises(NoUsableData):
        known(log, "2024-03-20")


def test_a_suppressed_user_is_in_no_snapshot_and_in_the_log_still(make_log, make_batch, known):
    log = make_log(PEOPLE)
    assert log.bury(["ann"], "suppressed") == 0
    assert known(log, "2024-03-20") == {"bob": (1, 1)}
    with pytest.raises(NoUsableData, match="No user is known"):
        known(log, "2024-03-05")  # ann, and phone, which turned out to be ann
    log.append(make_batch([order("d", "2024-03-09", 7, user_id="ann")]))
    assert known(log, "2024-03-20") == {"bob": (1, 1)}
    assert ids_in(log) == {"ann", "phone", "bob"}


def test_a_deleted_user_cannot_return_as_a_suppressed_one(make_log, make_batch):
    log = make_log(PEOPLE)
    log.bury(["ann"], "deleted")
    log.bury(["ann"], "suppressed")
    log.append(make_batch(PEOPLE))
    assert ids_in(log) == {"bob"}


def test_who_stays_out_is_remembered_without_a_name(make_log):
    log = make_log(PEOPLE)
    log.bury(["ann"], "deleted")
    assert len(log.manifest["tombstones"]) == 2
    assert "ann" not in (log.directory / "manifest.json").read_text()
