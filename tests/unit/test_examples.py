"""Who is asked about and what counts as yes, on a log small enough to check in the head. The cutoff is 2024-06-01, the horizon 30 days."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from features.errors import LabelWindowOpen, NoUsableData
from features.store import SnapshotStore
from features.tiles import open_tiles
from training.examples import Examples, make_examples, require_both_classes, trigger_days
from training.task import AskedTask
from training.tasks import TASKS

FIRST, AS_OF, HORIZON = date(2024, 2, 1), date(2024, 6, 1), 30
CLOSED = AS_OF + timedelta(days=HORIZON)
Ask = Callable[..., Examples]


def order(user: str, day: str, name: str = "") -> dict[str, Any]:
    return {"user_id": user, "event": "order", "order_id": name or f"{user} {day}", "occurred_at": day, "value_cents": 1000, "quantity": 1, "currency": "EUR"}


def cancelled(user: str, day: str, name: str) -> dict[str, Any]:
    return {"user_id": user, "event": "order_cancelled", "order_id": name, "occurred_at": day}


def coupon(event: str, user: str, day: str, campaign: str) -> dict[str, Any]:
    return {"user_id": user, "event": event, "occurred_at": day, "campaign": campaign, "level": 30}


def asked(name: str, horizon: int = HORIZON, **changes: Any) -> AskedTask:
    return AskedTask(replace(TASKS[name], **changes), horizon, horizon)


def labels(examples: Examples) -> dict[str, int]:
    return dict(zip(examples.users.tolist(), examples.y.tolist(), strict=True))


@pytest.fixture(scope="module")
def ask(make_log, shop, tmp_path_factory) -> Ask:
    """Events and a question -> its examples."""
    known = {}

    def examples(question: AskedTask, events: list[dict[str, Any]], cutoffs: tuple[date, ...] = (AS_OF,), complete_until: date = CLOSED, first: date = FIRST):
        key = (id(events), complete_until)
        if key not in known:
            folder = tmp_path_factory.mktemp("examples")
            tiles = open_tiles(make_log(events, complete_until=complete_until), shop, folder / "tiles")
            known[key] = (tiles, SnapshotStore(folder / "snapshots"))
        tiles, store = known[key]
        found = make_examples(question, cutoffs, first, tiles, store)
        return found if question.task.trigger is None else (found, trigger_days(question, tiles))

    return examples


# --- the outcome window ---------------------------------------------------------------------------------------------

BUYERS = [
    *(order(user, "2024-05-01") for user in ("at midnight", "last minute", "too late", "never", "cancelled", "cancelled later", "again")),
    order("at midnight", "2024-06-01T00:00"),
    order("last minute", "2024-06-30T23:59"),
    order("too late", "2024-07-01T00:00"),
    order("cancelled", "2024-06-10", "c1"),
    cancelled("cancelled", "2024-06-11", "c1"),
    order("cancelled later", "2024-06-20", "c2"),
    cancelled("cancelled later", "2024-07-03", "c2"),
    order("again", "2024-06-05", "c3"),
    cancelled("again", "2024-06-06", "c3"),
    order("again", "2024-06-07"),
    order("twice before", "2024-05-01"),
    order("twice before", "2024-05-31T23:59"),
    order("no history", "2024-06-02"),
    order("long ago", "2023-11-01"),
]


def test_the_window_begins_with_the_cutoff_and_ends_before_the_horizon(ask):
    seen = labels(ask(asked("second_order"), BUYERS))
    assert (seen["at midnight"], seen["last minute"]) == (1, 1)
    assert (seen["too late"], seen["never"]) == (0, 0)


def test_a_cancelled_order_is_no_order_whenever_it_was_cancelled(ask):
    seen = labels(ask(asked("second_order"), BUYERS))
    assert (seen["cancelled"], seen["cancelled later"], seen["again"]) == (0, 0, 1)


def test_only_those_eligible_before_the_cutoff_are_asked_about(ask):
    assert set(labels(ask(asked("second_order"), BUYERS))) == {"at midnight", "last minute", "too late", "never", "cancelled", "cancelled later", "again"}
    assert labels(ask(asked("repeat_order"), BUYERS)) == {"twice before": 0}


def test_churn_is_the_absence_of_an_order(ask):
    seen = labels(ask(asked("churn", horizon=31), BUYERS, complete_until=CLOSED + timedelta(days=1)))
    assert (seen["at midnight"], seen["too late"], seen["never"], seen["twice before"]) == (0, 0, 1, 1)


def test_each_row_says_whose_it_is_and_of_when(ask):
    early = AS_OF - timedelta(days=HORIZON)
    examples = ask(asked("second_order"), BUYERS, (early, AS_OF))
    assert dict(zip(*np.unique(examples.as_of.astype(str), return_counts=True), strict=True)) == {"2024-05-02": 8, "2024-06-01": 7}
    assert labels(examples.at([early]))["twice before"] == 1  # the order of 2024-05-31 is inside that window
    assert len(examples.at([AS_OF])) == 7


def test_a_window_that_is_not_over_is_an_error_and_not_a_no(ask):
    with pytest.raises(LabelWindowOpen, match="as of 2024-06-01 needs events up to 2024-07-01, but the log is complete only until 2024-06-30") as caught:
        ask(asked("second_order"), BUYERS, complete_until=CLOSED - timedelta(days=1))
    assert (caught.value.as_of, caught.value.needs_until) == (AS_OF, CLOSED)


def test_nobody_to_ask_about_is_refused_in_words(ask):
    with pytest.raises(NoUsableData, match=r"Nobody is eligible for repeat_order \(two valid orders or more.*\) at any of 1 cutoff"):
        ask(asked("repeat_order"), SEED)


# --- what the model may see -----------------------------------------------------------------------------------------


def test_features_that_look_back_further_than_the_log_are_left_out(ask):
    names = ask(asked("second_order"), BUYERS, first=AS_OF - timedelta(days=100)).names
    assert {"orders_recency", "orders_count_90d", "orders_revenue_30d", "orders_basket_value"} <= set(names)
    assert not {"orders_count_180d", "orders_count_365d", "orders_count", "orders_tenure"} & set(names)


def test_they_return_when_the_log_is_long_enough(ask):
    half_a_year = ask(asked("second_order"), BUYERS, first=AS_OF - timedelta(days=180)).names
    assert ("orders_count_180d" in half_a_year, "orders_count_365d" in half_a_year, "orders_count" in half_a_year) == (True, False, False)
    assert "orders_count" in ask(asked("second_order"), BUYERS, first=AS_OF - timedelta(days=730)).names


def test_of_several_cutoffs_the_first_one_decides(ask):
    cutoffs = (AS_OF - timedelta(days=HORIZON), AS_OF)
    assert "orders_count_90d" not in ask(asked("second_order"), BUYERS, cutoffs, first=AS_OF - timedelta(days=100)).names


def test_values_are_those_of_the_snapshot_in_the_order_of_the_names(ask):
    examples = ask(asked("second_order"), BUYERS)
    assert examples.X.shape == (7, len(examples.names))
    assert examples.column("orders_recency").tolist() == [31] * 7
    assert examples.column("orders_revenue_90d").tolist() == [1000] * 7


# --- triggers -------------------------------------------------------------------------------------------------------

CAMPAIGNS = [
    *(order(user, "2024-05-01") for user in ("redeems", "keeps", "redeems another", "not sent", "redeems too late", "sent before")),
    *(coupon("campaign_received", user, "2024-06-01", "spring") for user in ("redeems", "keeps", "redeems another", "redeems too late", "stranger")),
    coupon("campaign_received", "sent before", "2024-05-20", "winter"),
    coupon("campaign_received", "redeems another", "2024-05-20", "winter"),
    coupon("coupon_redeemed", "redeems", "2024-06-30T23:00", "spring"),
    coupon("coupon_redeemed", "redeems another", "2024-06-05", "winter"),
    coupon("coupon_redeemed", "redeems too late", "2024-07-01", "spring"),
    coupon("coupon_redeemed", "sent before", "2024-06-05", "winter"),
]


def test_a_campaign_is_asked_about_for_those_who_received_it_that_day(ask):
    examples, days = ask(asked("coupon_response"), CAMPAIGNS)
    assert labels(examples) == {"redeems": 1, "keeps": 0, "redeems another": 0, "redeems too late": 0}
    assert days == [date(2024, 5, 20), date(2024, 6, 1)]


# --- look-alike -----------------------------------------------------------------------------------------------------

SEED = [
    *(order(user, "2024-05-01") for user in ("member", "stranger", "member to come")),
    *(order(user, "2023-12-01") for user in ("sleeping member", "sleeping stranger")),
    coupon("campaign_received", "member", "2024-05-02", "spring"),
    coupon("coupon_redeemed", "member", "2024-05-02", "spring"),
    coupon("coupon_redeemed", "sleeping member", "2023-12-01", "autumn"),
    coupon("coupon_redeemed", "member to come", "2024-06-02", "summer"),
]


def test_the_seed_is_the_positive_even_where_it_sleeps(ask):
    assert labels(ask(asked("lookalike"), SEED)) == {"member": 1, "sleeping member": 1, "stranger": 0, "member to come": 0}


def test_what_defines_the_seed_does_not_describe_it(ask):
    names = ask(asked("lookalike"), SEED).names
    assert "orders_recency" in names
    assert not [name for name in names if name.startswith(TASKS["lookalike"].left_out)]
    others = ask(asked("repeat_order", eligible=TASKS["lookalike"].eligible), SEED).names
    assert {"discounts_redemption_recency", "campaigns_received_90d"} <= set(others)


# --- too little -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("positives", "negatives"), [(0, 100), (100, 0), (1, 100), (29, 100), (100, 29)])
def test_fewer_than_thirty_of_either_class_are_refused_with_the_counts(positives, negatives):
    # Every customer stands at three cutoffs and counts once.
    with pytest.raises(NoUsableData, match=rf"training cutoffs: {positives} positives and {negatives} negatives \(customers\); at least 30 of each"):
        require_both_classes(labelled(positives, negatives, cutoffs=3), "training cutoffs")


def test_thirty_of_each_are_enough():
    examples = labelled(30, 30, cutoffs=1)
    require_both_classes(examples, "training cutoffs")
    assert examples.y.sum() == 30


def labelled(positives: int, negatives: int, cutoffs: int) -> Examples:
    y = np.tile(np.repeat([1, 0], [positives, negatives]), cutoffs).astype(np.int8)
    users = np.tile(np.arange(positives + negatives), cutoffs).astype(object)
    return Examples(np.zeros((len(y), 1)), ("none",), y, users, np.repeat(np.arange(cutoffs), positives + negatives).astype(object))
