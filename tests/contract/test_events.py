"""Scores of posted events: the vector is the snapshot's, to the bit, and every wrong event is named by its place and never repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.events import EventLog
from features.files import sha256_of
from features.requests import OneUser
from features.shop import simulate
from features.shopfile import Shop
from features.store import SnapshotStore
from features.tiles import open_tiles
from serving.event_schemas import EventsBody
from serving.events import tomorrow
from serving.facts import ShopFacts, facts_of, read_facts, write_facts
from serving.release import load_release
from serving.tombstones import tombstone, write_tombstones

PATH = "/v1/scores/churn:events"
ZONE = "Europe/Berlin"
SHOP = Shop(
    "Shop", ZONE, "EUR", attributes=("age", "growth_value"), tiers=(0, 10_000, 30_000, 80_000), daily_use={"care-full-size": 0.02, "brand-0": 1, "nothing": 3}
)
HEAVY = ("ibis", "duckdb", "pandas", "numba", "scipy", "sklearn", "lightgbm", "mlflow", "sqlglot", "matplotlib")


def histories(batch):
    """User -> all their events as a source hands them over."""
    found = defaultdict(list)
    for row in batch.events.to_pylist():
        found[row["user_id"]].append(row)
    return found


def posted(rows):
    """Rows of EVENT_SCHEMA as JSON values."""
    plain = [{name: value for name, value in row.items() if value is not None and name not in ("user_id", "anonymous_id")} for row in rows]
    return [{**row, "occurred_at": row["occurred_at"].isoformat(), "known_at": row["known_at"].isoformat()} for row in plain]


def bits(values):
    return np.array(list(values), np.float64).tobytes()


# --- the vector ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Played:
    histories: dict
    snapshots: dict
    makers: dict
    facts: ShopFacts


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A shop with its snapshots at three dates, and what makes vectors of events as of each."""
    folder, batch = tmp_path_factory.mktemp("played"), simulate(users=250, days=260, seed=11, zone=ZONE).batch
    log = EventLog(folder / "log", ZONE, "EUR")
    log.append(batch)
    tiles, store = open_tiles(log, SHOP, folder / "tiles"), SnapshotStore(folder / "snapshots")
    dates = [log.complete_until - timedelta(days=days) for days in (0, 33, 120)]
    snapshots = {as_of: store.get(tiles, as_of) for as_of in dates}
    facts = {as_of: facts_of(tiles, snapshot) for as_of, snapshot in snapshots.items()}
    makers = {as_of: OneUser(SHOP, one.kinds, one.norms, one.products, snapshots[as_of].feature_names) for as_of, one in facts.items()}
    return Played(histories(batch), snapshots, makers, facts[dates[0]])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_vector_is_the_snapshots_to_the_bit_in_whatever_order_and_with_whatever_later_events(played, data):
    as_of = data.draw(st.sampled_from(list(played.snapshots)))
    user = data.draw(st.sampled_from(sorted(played.histories)))
    events = data.draw(st.permutations(played.histories[user]))
    snapshot = played.snapshots[as_of]
    found = played.makers[as_of].vector(events, as_of)
    assert (found is None) == (user not in snapshot.user_ids)
    if found:
        place = snapshot.user_ids.get_loc(user)
        assert bits(found.values.values()) == snapshot.matrix(snapshot.feature_names)[place].tobytes()
        assert found.stage == snapshot.table["stage"][place].as_py()
        assert (0 < found.used <= len(events), found.stored, found.unresolved) == (True, 0, 0)
        assert len(snapshot.feature_names) > 150


def test_some_of_those_users_cancelled_orders_and_some_had_refunds(played):
    seen = {row["event"] for rows in played.histories.values() for row in rows}
    assert {"order_cancelled", "refund", "tier_changed", "attribute_set", "campaign_received", "delivered"} <= seen


@pytest.mark.parametrize("names", [["cycle_overdue"], ["touch_last_paid", "orders_count"], ["layers_recent"], ["membership_to_next_tier"], []])
def test_a_few_features_have_the_values_that_they_have_among_all(played, names):
    as_of, snapshot = next(iter(played.snapshots.items()))
    few = OneUser(SHOP, played.facts.kinds, played.facts.norms, played.facts.products, [name for name in names if name in snapshot.feature_names])
    for user in list(snapshot.user_ids)[::25]:
        found, place = few.vector(played.histories[user], as_of), snapshot.user_ids.get_loc(user)
        assert bits(found.values.values()) == snapshot.matrix(few.names)[place].tobytes()


def test_facts_are_read_as_they_were_written(played, tmp_path):
    write_facts(played.facts, tmp_path)
    again = read_facts(tmp_path)
    assert again.digest == played.facts.digest
    assert again.described() == played.facts.described()
    assert again.products.equals(played.facts.products)
    assert dict(zip(again.products["product_id"].to_pylist(), again.products["lasts"].to_pylist(), strict=True))["nothing"] == 480  # minutes: three a day


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def known(published):
    """User of the published shop -> their events."""
    return histories(simulate(users=700, days=300, seed=3).batch)


@pytest.mark.parametrize("task", ["repeat_order", "churn", "lookalike"])
def test_who_posts_a_users_history_gets_that_users_score(client, published, known, task):
    release = client.app.state.current.scorer.release
    for place in np.flatnonzero(~np.isnan(release.scores[task].score))[::40]:
        user = release.users[place].decode()
        body = {
            "events": posted(known[user])[:1_000],
            "as_of": release.manifest["as_of"],
            "vector": True,
            "reasons": True,
            "user_id": user,
            "complete_history": True,
        }
        answer, stored = client.post(f"/v1/scores/{task}:events", body).json, client.get(f"/v1/scores/{task}/{user}?reasons=true").json
        names = ("probability", "score", "percentile", "band", "stage", "details", "reasons", "model_version", "release", "baseline", "user_id")
        assert {name: answer[name] for name in names} == {name: stored[name] for name in names}
        stored_vector = dict(zip(release.features, release.vectors[place], strict=True))
        given = {name: np.nan if value is None else value for name, value in answer["vector"].items()}
        assert bits(given.values()) == bits(stored_vector[name] for name in given)
        assert answer["history"] == "posted"
        EventsBody.model_validate(answer)


def order(day, **more):
    return {"event": "order", "occurred_at": f"2024-05-{day:02}T12:00:00Z", "value_cents": 1000, "quantity": 2, **more}


def test_numbers_that_can_be_checked_in_the_head(client):
    body = {"events": [order(1, order_id="a"), order(11, order_id="b"), order(12, order_id="c")], "as_of": "2024-05-21", "vector": True}
    answer = client.post(PATH, body).json
    vector = answer["vector"]
    assert (vector["orders_recency"], vector["orders_count_30d"], vector["orders_revenue_30d"], vector["cycle_last_gap"]) == (9, 3, 3000, 1)
    assert (answer["stage"], answer["used"], answer["ignored"], answer["as_of"]) == ("repeat", 3, 0, "2024-05-21")
    body["events"] += [{"event": "order_cancelled", "order_id": "c", "occurred_at": "2024-05-13T00:00:00+02:00"}]
    answer = client.post(PATH, body).json
    assert (answer["vector"]["orders_recency"], answer["vector"]["orders_count_30d"], answer["used"]) == (10, 2, 4)


def test_what_happens_at_or_after_the_date_is_left_out_and_counted(client):
    events = [order(1), order(20), order(21, occurred_at="2024-05-21T00:00:00Z"), order(21), order(2, known_at="2024-05-22T00:00:00Z")]
    answer = client.post(PATH, {"events": events, "as_of": "2024-05-21", "vector": True}).json
    assert (answer["used"], answer["ignored"]) == (2, 3)
    assert answer["vector"] == client.post(PATH, {"events": events[:2], "as_of": "2024-05-21", "vector": True}).json["vector"]
    nothing = client.post(PATH, {"events": events[2:], "as_of": "2024-05-21"})
    assert (nothing.status, nothing.json["type"]) == (422, "urn:encore:problem:unusable-events")
    assert nothing.json["detail"] == "None of the 3 event(s) happened and was known before midnight of as_of in UTC."


def test_the_default_date_is_tomorrow_so_that_today_counts(client):
    now = datetime.now(UTC)
    answer = client.post(PATH, {"events": [{"event": "product_view", "occurred_at": now.isoformat()}], "vector": True}).json
    assert answer["as_of"] in {str(now.date() + timedelta(days=days)) for days in (1, 2)}  # the test may run at midnight
    assert (answer["used"], answer["stage"]) == (1, "first")


@pytest.mark.parametrize(
    ("moment", "zone", "day"),
    [
        ("2024-05-20T21:59:59Z", ZONE, 21),
        ("2024-05-20T22:00:00Z", ZONE, 22),
        ("2024-05-20T22:00:00Z", "UTC", 21),
        ("2024-05-20T00:00:00Z", "America/New_York", 20),
    ],
)
def test_tomorrow_begins_at_midnight_in_the_shops_zone(moment, zone, day):
    assert tomorrow(zone, datetime.fromisoformat(moment)) == date(2024, 5, day)


def test_an_event_that_is_said_twice_counts_once(client):
    once = [order(1, event_id="1"), order(2, event_id="2")]
    body = {"events": [*once, once[0]], "as_of": "2024-05-21", "vector": True}
    twice = client.post(PATH, body).json
    assert (twice["used"], twice["ignored"]) == (2, 1)
    assert twice["vector"] == client.post(PATH, {**body, "events": once}).json["vector"]
    other = client.post(PATH, {**body, "events": [*once, order(3, event_id="1")]})
    assert other.status == 422
    assert "events.2" in other.json["errors"][0]["problem"]


MARK = "secret-marker"
GOOD = order(1)


@pytest.mark.parametrize(
    ("event", "field", "word"),
    [
        ({"event": MARK}, "event", "canonical"),
        ({"event": 7}, "event", "string"),
        ({"occurred_at": "2024-05-01T12:00:00"}, "occurred_at", "timezone"),
        ({"occurred_at": MARK}, "occurred_at", "datetime"),
        ({"occurred_at": 1714564800}, "occurred_at", "as text"),
        ({"occurred_at": "0001-01-01T00:00:00Z"}, "occurred_at", "1970"),
        ({"occurred_at": "9999-12-31T23:59:59-23:00"}, "occurred_at", "2400"),
        ({"known_at": "2024-04-01T00:00:00Z"}, "", "device clock"),
        ({"value_cents": 10.5}, "value_cents", "integer"),
        ({"value_cents": "10"}, "value_cents", "integer"),
        ({"value_cents": 10**16}, "value_cents", "less than"),
        ({"quantity": True}, "quantity", "integer"),
        ({"product_id": MARK * 100}, "product_id", "characters"),
        ({"currency": "eur"}, "currency", "pattern"),
        ({MARK: 1}, "", "not known here"),
    ],
)
def test_each_wrong_event_is_named_by_its_place_and_never_repeated(client, event, field, word):
    answer = client.post(PATH, {"events": [GOOD, {**GOOD, **event}, GOOD]})
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    (error,) = answer.json["errors"]
    assert error["at"] == ".".join(["body", "events", "1", *([field] if field else [])])
    assert word in error["problem"]
    assert MARK not in answer.body.decode()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"events": []},
        {"events": [GOOD] * 1_001},
        {"events": "x"},
        {"events": [GOOD], "as_of": 20240521},
        {"events": [GOOD], "as_of": "2024-13-01"},
        {"events": [GOOD], "as_of": "1969-12-31"},
        {"events": [GOOD], "as_of": "2400-01-01"},
        {"events": [GOOD], "other": 1},
    ],
)
def test_a_request_of_another_shape_is_refused(client, body):
    assert client.post(PATH, body).status == 422


def test_null_is_nothing_said(client):
    names = ("known_at", "event_id", "order_id", "product_id", "quantity", "value_cents", "discount_cents", "coupon_cents", "currency", "campaign", "channel",
             "source", "medium", "detail", "level")  # fmt: skip
    said = client.post(PATH, {"events": [{**dict.fromkeys(names), **GOOD}], "as_of": None, "user_id": None, "vector": True})
    assert said.status == 200
    assert said.json["vector"] == client.post(PATH, {"events": [GOOD], "vector": True}).json["vector"]


def test_a_known_users_events_are_added_to_what_is_stored_unless_they_are_all_of_it(client, published):
    known, release = published.snapshot.user_ids[0], client.app.state.current.scorer.release
    until = release.manifest["as_of"]
    body = {
        "events": [{**GOOD, "occurred_at": f"{until}T12:00:00Z"}],
        "user_id": known,
        "vector": True,
        "as_of": str(date.fromisoformat(until) + timedelta(days=1)),
    }
    added = client.post(PATH, body).json
    assert (added["history"], added["stored_until"], added["used"], added["stored"], added["status"]) == ("stored", until, 1, 0, "OK")
    assert added["vector"]["orders_recency"] == 1
    whole = client.post(PATH, {**body, "complete_history": True}).json
    assert (whole["history"], whole["stored_until"], whole["user_id"]) == ("posted", None, known)
    assert whole["vector"] != added["vector"]
    early = client.post(PATH, {**body, "as_of": str(date.fromisoformat(until) - timedelta(days=1))})
    assert (early.status, until in early.json["detail"], "complete_history" in early.json["detail"]) == (422, True, True)
    unknown = client.post(PATH, {"events": [GOOD], "user_id": "somebody new"}).json
    assert (unknown["user_id"], unknown["history"]) == ("somebody new", "posted")
    for odd in ("", "tab\t", "x" * 300, "\ud800"):
        answer = client.post(PATH, {"events": [GOOD], "user_id": odd})
        assert answer.status == 422


@pytest.mark.parametrize(
    ("task", "days", "status"),
    [
        ("repeat_order", (1,), "NOT_ELIGIBLE"),
        ("repeat_order", (1, 5), "OK"),
        ("churn", (1,), "OK"),
        ("lookalike", (1,), "OK"),
    ],
)
def test_whom_a_prediction_is_not_about_is_not_eligible(client, task, days, status):
    body = {"events": [order(day, order_id=str(day)) for day in days], "as_of": "2024-05-21", "vector": True, "reasons": True}
    answer = client.post(f"/v1/scores/{task}:events", body).json
    assert (answer["status"], answer["eligible"], answer["score"] is None, answer["band"] is None) == (status, status == "OK", status != "OK", status != "OK")
    assert answer["vector"]
    EventsBody.model_validate(answer)
    later = client.post(f"/v1/scores/{task}:events", {**body, "as_of": "2025-09-01"}).json  # nobody of them bought in the last year
    assert (later["status"], later["probability"], later["reasons"]) == ("NOT_ELIGIBLE", None, None)


def test_a_stored_user_may_become_eligible_by_what_is_posted(client, published):
    """A user with one order is not asked about by repeat_order, until a second one is posted."""
    frame, release = published.snapshot.frame, client.app.state.current.scorer.release
    user = frame.index[(frame["orders_count"] == 1) & (frame["orders_recency"] < 300)][0]
    until = date.fromisoformat(release.manifest["as_of"])
    body = {"user_id": user, "as_of": str(until + timedelta(days=1))}
    assert client.get(f"/v1/scores/repeat_order/{user}").json["status"] == "NOT_ELIGIBLE"
    visit, bought = ({"event": event, "occurred_at": f"{until}T09:00:00Z"} for event in ("page_view", "order"))
    seen = [client.post("/v1/scores/repeat_order:events", {**body, "events": events}).json for events in ([visit], [visit, bought])]
    assert [(answer["status"], answer["stage"], answer["history"]) for answer in seen] == [("NOT_ELIGIBLE", "second", "stored"), ("OK", "repeat", "stored")]


def test_a_vector_is_asked_the_same_where_it_says_enough(client):
    path, orders = "/v1/scores/repeat_order:vector", {"orders_count": 1, "orders_recency": 10}
    answers = [client.post(path, {"features": features}).json for features in (orders, {**orders, "orders_count": 2}, {"orders_recency": 10})]
    assert [(answer["status"], answer["eligible"], answer["score"] is None) for answer in answers] == [
        ("NOT_ELIGIBLE", False, True),
        ("OK", True, False),
        ("OK", None, False),
    ]
    assert client.post(path, {"features": {"orders_cuont": 1}}).status == 422


def test_nothing_is_said_of_a_suppressed_user(client, published, serve, releases, tmp_path):
    user = published.snapshot.user_ids[3]
    write_tombstones(releases, {tombstone(user.encode()): "suppressed"})
    answer = serve(releases, tmp_path).post(PATH, {"events": [GOOD], "user_id": user, "complete_history": True})
    said = {name: value for name, value in answer.json.items() if value is not None}
    assert (answer.status, said["status"], said["history"], said["used"]) == (200, "SUPPRESSED", "none", 0)
    assert not {"score", "probability", "vector", "stage", "percentile", "eligible"} & {*said}
    EventsBody.model_validate(answer.json)


def test_amounts_in_another_currency_are_refused(client):
    answer = client.post(PATH, {"events": [GOOD, {**GOOD, "currency": "USD"}], "as_of": "2024-05-21"})
    assert (answer.status, answer.json["detail"]) == (422, "events.1 is in another currency than the shop's EUR; convert its amounts first.")
    assert client.post(PATH, {"events": [{**GOOD, "currency": "EUR"}], "as_of": "2024-05-21"}).status == 200


def test_an_unknown_prediction_and_no_release_are_the_usual_problems(client, serve, tmp_path):
    assert client.post("/v1/scores/chrun:events", {"events": [GOOD]}).status == 404
    nothing = serve(tmp_path / "none", tmp_path).post(PATH, {"events": [GOOD]})
    assert (nothing.status, "retry-after" in nothing.headers) == (503, True)


def test_largest_values_do_not_overflow_into_nonsense(client):
    events = [{"event": "order", "occurred_at": "2024-05-01T12:00:00Z", "value_cents": 10**15, "quantity": 10**9}] * 1_000
    answer = client.post(PATH, {"events": events, "as_of": "2024-05-21", "vector": True})
    assert answer.status == 200
    assert (answer.json["vector"]["orders_revenue_30d"], answer.json["vector"]["orders_count_30d"]) == (1e18, 1_000)


# --- the process -----------------------------------------------------------------------------------------------------


def rewritten(folder, change):
    """A release whose shop.json and manifest were changed together, as another version of Encore would have written them."""
    manifest, facts = (json.loads((folder / name).read_text()) for name in ("release.json", "shop.json"))
    change(manifest, facts)
    if "shop.json" in manifest["files"]:
        (folder / "shop.json").write_text(json.dumps(facts))
        manifest["files"]["shop.json"], manifest["sizes"]["shop.json"] = sha256_of(folder / "shop.json"), (folder / "shop.json").stat().st_size
    (folder / "release.json").write_text(json.dumps(manifest))


def of_another_version(manifest, facts):
    facts["code"] = "0" * 64


def without_facts(manifest, facts):
    for name in ("shop.json", "products.arrow"):
        del manifest["files"][name], manifest["sizes"][name]


@pytest.mark.parametrize("change", [of_another_version, without_facts])
def test_a_release_that_cannot_make_vectors_says_what_to_do_and_answers_everything_else(releases, published, serve, tmp_path, change):
    folder = releases / published.second
    rewritten(folder, change)
    if change is without_facts:
        (folder / "shop.json").unlink()
        (folder / "products.arrow").unlink()
    client = serve(releases, tmp_path)
    answer = client.post(PATH, {"events": [GOOD]})
    assert (answer.status, answer.json["type"]) == (503, "urn:encore:problem:no-facts")
    assert "encore publish" in answer.json["detail"]
    assert client.get("/v1/scores/churn/u").status == 200


ALONE = """
import json, sys
from datetime import timedelta
from pathlib import Path
from serving.current import Current
from serving.events import PostedEvents
from serving.event_schemas import EventsRequest
current = Current(Path(sys.argv[1]), timedelta(hours=48))
current.refresh()
posted = PostedEvents(current)
posted.warm()
answers = [json.loads(posted.score("churn", EventsRequest.model_validate(request)))["vector"] for request in json.load(sys.stdin)]
print(json.dumps([answers, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def test_the_service_needs_no_engine_for_it_and_its_loops_give_the_same_bits_uncompiled(published, known):
    release = load_release(published.root / published.second)
    users = [release.users[place].decode() for place in range(0, len(release.users), 12)]
    requests = [{"events": posted(known[user])[:1_000], "as_of": release.manifest["as_of"], "vector": True} for user in users]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(published.root)], input=json.dumps(requests), capture_output=True, text=True, env=os.environ, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answers, loaded = json.loads(done.stdout)
    columns = release.bundles["churn"].align(release.features)
    for place, answer in zip(range(0, len(release.users), 12), answers, strict=True):
        assert bits(np.nan if value is None else value for value in answer.values()) == release.vectors[place][columns].tobytes()
    assert len(answers) > 30
    assert not set(loaded) & set(HEAVY)
