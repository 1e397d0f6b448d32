"""Deliveries to receivers that fail, limit, time out, hang, take parts and die (F41): real ones, in processes of their own."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from serving.destinations.address import resolved
from serving.destinations.braze import BRAZE
from serving.destinations.delivery import DeadLetters, DeliveryStopped, Progress, Sending, deliver
from serving.destinations.items import Item
from serving.destinations.post import Poster
from serving.destinations.tool import Account

QUICK = replace(BRAZE, most=4, at_once=1, timeout=0.5, first_wait=0.02, tries=4)
BUSY = {"do": "status", "status": 429}
DOWN = {"do": "status", "status": 503}


def users_of(body):
    return [item["external_id"] for item in body["attributes"]]


@pytest.fixture
def delivery(receive, tmp_path):
    """A plan and a tool -> what came of ten users: receiver, progress, dead letters."""

    def run(plan, tool=QUICK, number=10, start=0, size=0):
        receiver = receive(plan)
        account = Account(receiver.url, ("key",), made_at="2026-11-01T00:00:00+00:00")
        poster = Poster(resolved(receiver.url, ["127.0.0.1"]), tool.timeout)
        dead, saved = DeadLetters(tmp_path / "dead.ndjson", size), []
        progress, error = Progress(next_row=start), None
        some = (Item(row, f"u{row}", {"score": row}) for row in range(start, number))
        try:
            deliver(some, Sending(tool, account, poster, "definition"), dead, progress, lambda so_far: saved.append(replace(so_far)))
        except DeliveryStopped as stopped:
            error = str(stopped)
        finally:
            dead.close()
            poster.close()
        letters = [json.loads(line) for line in (tmp_path / "dead.ndjson").read_text().splitlines()]
        assert saved[-1] == progress
        assert progress.dead_bytes == (tmp_path / "dead.ndjson").stat().st_size
        return receiver, progress, letters, error

    return run


def test_everybody_is_told_once(delivery):
    receiver, progress, letters, _ = delivery({})
    assert [users_of(body) for body in receiver.bodies] == [["u0", "u1", "u2", "u3"], ["u4", "u5", "u6", "u7"], ["u8", "u9"]]
    assert (progress, letters) == (Progress(10, 10, 0, 0), [])


@pytest.mark.parametrize("step", [DOWN, {"do": "status", "status": 500}, {"do": "status", "status": 408}, {"do": "hang", "seconds": 20}, {"do": "cut"}])
def test_what_fails_for_a_while_is_sent_again_under_the_same_id(delivery, step):
    tool = replace(QUICK, headers=lambda account, body, request_id: {"x-id": request_id})
    receiver, progress, letters, _ = delivery({"first": [{"do": "ok"}, step, step]}, tool)
    assert (progress.sent, letters) == (10, [])
    sent = Counter(tuple(users_of(body)) for body in receiver.bodies)
    assert sent == {("u0", "u1", "u2", "u3"): 1, ("u4", "u5", "u6", "u7"): 3, ("u8", "u9"): 1}
    ids = [request["headers"]["x-id"] for request in receiver.got]
    assert ids[1] == ids[2] == ids[3]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("asked, unit", [("1", 1.0), ("1000", 0.001)])
def test_retry_after_in_seconds_and_in_milliseconds_is_waited_for(delivery, asked, unit):
    receiver, progress, _, _ = delivery({"first": [{**BUSY, "headers": {"retry-after": asked}}]}, replace(QUICK, retry_unit=unit), number=2)
    first, second = (request["at"] for request in receiver.got)
    assert 1.0 <= second - first < 8
    assert progress.sent == 2


def test_a_receiver_that_asks_for_an_hour_is_asked_again_another_time(delivery):
    receiver, progress, letters, error = delivery({"then": {**BUSY, "headers": {"retry-after": "3600"}}})
    assert "3600 s" in error
    assert (progress.next_row, len(receiver.got), letters) == (0, 1, [])


def test_only_refused_items_are_sent_again_and_then_are_dead_letters(delivery):
    receiver, progress, letters, _ = delivery({"then": {"do": "refuse", "users": ["u1", "u6"]}})
    assert [users_of(body) for body in receiver.bodies] == [["u0", "u1", "u2", "u3"], ["u1"], ["u4", "u5", "u6", "u7"], ["u6"], ["u8", "u9"]]
    assert (progress.sent, progress.refused) == (8, 2)
    assert [(letter["user_id"], letter["reason"], letter["attributes"]) for letter in letters] == [
        ("u1", "not taken", {"score": 1}),
        ("u6", "not taken", {"score": 6}),
    ]


def test_an_item_that_is_taken_the_second_time_is_no_dead_letter(delivery):
    _, progress, letters, _ = delivery({"first": [{"do": "refuse", "users": ["u1"]}]})
    assert (progress.sent, letters) == (10, [])


def test_a_batch_that_is_refused_whole_is_halved_until_the_culprit_is_alone(delivery):
    receiver, progress, letters, _ = delivery({"then": {"do": "reject", "users": ["u2"]}})
    assert [users_of(body) for body in receiver.bodies[:5]] == [["u0", "u1", "u2", "u3"], ["u0", "u1"], ["u2", "u3"], ["u2"], ["u3"]]
    assert progress.sent == 9
    assert [(letter["user_id"], letter["reason"]) for letter in letters] == [("u2", "status 400")]


@pytest.mark.parametrize("status, word", [(401, "key"), (403, "key"), (404, "address"), (302, "redirect"), (418, "kind")])
def test_what_no_retry_mends_stops_the_delivery_at_once(delivery, status, word):
    receiver, progress, letters, error = delivery({"then": {"do": "status", "status": status, "body": {"secret": "of the receiver"}}})
    assert str(status) in error
    assert word in error
    assert "secret" not in error
    assert (len(receiver.got), progress.next_row, letters) == (1, 0, [])


def test_a_receiver_that_is_down_stops_the_delivery_after_three_batches(delivery):
    receiver, progress, letters, error = delivery({"then": DOWN}, number=40)
    assert "3 batches in a row" in error
    assert len(receiver.got) in range(12, 18)  # three batches of four tries, and at most the start of the next
    assert (progress.sent, progress.refused, progress.next_row, len(letters)) == (0, 12, 12, 12)
    assert letters[0]["reason"] == "status 503 after 4 tries"


def test_an_export_that_is_wrong_is_not_sent_user_by_user(delivery):
    _, progress, letters, error = delivery({"then": {"do": "status", "status": 400}}, number=400)
    assert "--dry-run" in error
    assert progress.sent == 0
    assert len(letters) <= 8


def test_it_goes_on_where_it_stopped_and_forgets_letters_that_were_not_noted(delivery, tmp_path):
    (tmp_path / "dead.ndjson").write_text('{"user_id": "u0"}\n{"user_id": "torn')
    receiver, _, letters, _ = delivery({}, start=5, size=len('{"user_id": "u0"}\n'))
    assert [user for body in receiver.bodies for user in users_of(body)] == ["u5", "u6", "u7", "u8", "u9"]
    assert letters == [{"user_id": "u0"}]


def test_several_requests_at_once_keep_to_the_rate_and_miss_nobody(delivery):
    tool = replace(QUICK, most=1, at_once=8, per_second=50)
    receiver, progress, _, _ = delivery({"then": {"do": "ok", "after": 0.1}}, tool, number=40)
    assert sorted(user for body in receiver.bodies for user in users_of(body)) == sorted(f"u{row}" for row in range(40))
    at = sorted(request["at"] for request in receiver.got)
    assert at[-1] - at[0] > 0.7  # 40 at 50 a second
    assert progress.sent == 40


def test_while_the_receiver_limits_nobody_else_sends(delivery):
    tool = replace(QUICK, most=1, at_once=4)
    receiver, progress, _, _ = delivery({"first": [{**BUSY, "headers": {"retry-after": "1"}}]}, tool, number=20)
    at = [request["at"] for request in receiver.got]
    assert sum(1 for moment in at if moment - at[0] < 0.9) <= 12  # those that were on their way; without the pause all twenty
    assert progress.sent == 20
