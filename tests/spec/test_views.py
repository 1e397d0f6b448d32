"""What the features say about a handful of events. The cutoff is 2024-03-01; February has 29 days."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from features.bought import with_bought
from features.tiles import open_tiles

AS_OF = date(2024, 3, 1)
PRODUCTS = [
    {"product_id": "soap", "category": "bath", "brand": "acme", "department": "care"},
    {"product_id": "gel", "category": "bath", "brand": "other", "department": "care"},
    {"product_id": "pan", "category": "pans", "brand": "acme", "department": "kitchen"},
]


def order(number: int, day: str, cents: int = 1000, **more: Any) -> dict[str, Any]:
    return {"event": "order", "order_id": f"o{number}", "occurred_at": day, "value_cents": cents, "quantity": 1, "currency": "EUR", **more}


def line(number: int, day: str, product: str, **more: Any) -> dict[str, Any]:
    return {"event": "order_item", "order_id": f"o{number}", "occurred_at": day, "product_id": product, "quantity": 1, "value_cents": 500, **more}


@pytest.fixture(scope="module")
def user(make_log, make_snapshot):
    """Events -> the features of user "u" on the cutoff."""

    def features(*events: dict[str, Any]) -> dict[str, Any]:
        return make_snapshot(make_log(events, PRODUCTS), AS_OF).frame.loc["u"].to_dict()

    return features


THREE = (order(1, "2024-01-01T10:00", 1000), order(2, "2024-01-11T10:00", 2000), order(3, "2024-02-20T23:30", 3000))


def test_three_orders_are_counted_in_the_windows_they_fall_into(user):
    seen = user(*THREE)
    assert [seen[f"orders_count_{days}d"] for days in (7, 14, 30, 60, 90)] == [0, 1, 1, 3, 3]
    assert seen["orders_revenue_30d"] == 3000
    assert seen["orders_basket_value"] == 2000
    assert seen["stage"] == "repeat"


def test_recency_counts_from_the_last_order_and_tenure_from_the_first(user):
    seen = user(*THREE)
    assert seen["orders_recency"] == 10
    assert seen["orders_tenure"] == 60
    assert seen["orders_relative"] == 1  # the only buyer is the typical one
    assert seen["orders_rate"] == 1  # two more in sixty days
    assert seen["orders_active_share"] == 50 / 60  # the last of them fifty days after the first


def test_who_bought_once_has_been_inactive_since(user):
    seen = user(THREE[0])
    assert (seen["orders_rate"], seen["orders_active_share"]) == (0, 0)


def test_gaps_of_ten_and_forty_days_make_a_cycle_of_twenty_five(user):
    seen = user(*THREE)
    assert (seen["cycle_last_gap"], seen["cycle_earlier_gap"], seen["cycle_longest_gap"]) == (40, 10, 40)
    assert (seen["cycle_mean_gap"], seen["cycle_gap_deviation"]) == (25, 15)
    assert (seen["cycle_position"], seen["cycle_overdue"]) == (10 / 25, -15)


def test_the_cutoff_itself_is_not_history_and_the_second_before_it_is(user):
    assert user(order(1, "2024-02-29T23:59:59"), order(2, "2024-03-01T00:00:00"))["orders_count"] == 1


def test_the_shops_own_midnight_is_the_cutoff(make_log, make_snapshot):
    # 23:30 in UTC on the last day of February is 00:30 of the first of March in Paris.
    log = make_log([order(1, "2024-02-10T10:00"), order(2, "2024-02-29T23:30")], zone="Europe/Paris")
    assert make_snapshot(log, AS_OF).frame.loc["u", "orders_count"] == 1


def test_a_cancelled_order_counts_until_its_cancellation_is_known(make_log, make_snapshot):
    cancel = {"event": "order_cancelled", "order_id": "o2", "occurred_at": "2024-02-20T09:00"}
    log = make_log([order(1, "2024-01-01"), line(1, "2024-01-01", "soap"), order(2, "2024-02-10"), line(2, "2024-02-10", "pan"), cancel], PRODUCTS)
    before, after = make_snapshot(log, date(2024, 2, 20)).frame.loc["u"], make_snapshot(log, AS_OF).frame.loc["u"]
    assert (before["orders_count"], before["orders_revenue"], before["stage"], before["products_products"]) == (2, 2000, "repeat", 2)
    assert (after["orders_count"], after["orders_revenue"], after["stage"], after["products_products"]) == (1, 1000, "second", 1)
    assert after["orders_recency"] == 60
    assert after["satisfaction_cancellations"] == 1


def test_what_became_known_after_the_cutoff_is_not_history(user):
    assert user(order(1, "2024-01-01"), order(2, "2024-02-01", known_at="2024-03-02"))["orders_count"] == 1


def test_shares_of_favourite_category_brand_and_department(user):
    bought = [line(1, "2024-02-01", "soap"), line(1, "2024-02-01", "gel"), line(1, "2024-02-01", "pan"), line(2, "2024-02-02", "soap")]
    seen = user(order(1, "2024-02-01"), order(2, "2024-02-02"), *bought)
    assert (seen["products_products"], seen["products_categories"], seen["products_brands"], seen["products_departments"]) == (3, 2, 2, 2)
    assert (seen["products_top_category_share"], seen["products_top_brand_share"]) == (3 / 4, 3 / 4)
    assert seen["products_bought_again"] == 1 / 3
    assert seen["products_category_entropy"] == pytest.approx(0.562335, abs=1e-6)  # of 3/4 and 1/4


def test_purchases_of_a_category_in_a_year_however_it_is_spelt(make_log, make_snapshot, shop, tmp_path):
    bought = [line(1, "2023-02-28", "soap"), line(2, "2023-03-02", "soap"), line(2, "2023-03-02", "gel"), line(3, "2024-02-10", "pan", quantity=4)]
    cancel = {"event": "order_cancelled", "order_id": "o4", "occurred_at": "2024-02-20T09:00"}
    log = make_log([*bought, order(4, "2024-02-10"), line(4, "2024-02-10", "gel"), cancel], [*PRODUCTS[:1], {**PRODUCTS[1], "category": "BATH "}, PRODUCTS[2]])
    names = ["bought_category_bath_365d", "bought_category_pans_365d", "bought_brand_acme_365d", "bought_department_care_365d", "bought_category_wine_365d"]
    tiles = open_tiles(log, shop, tmp_path)
    before, after = (with_bought(make_snapshot(log, as_of), tiles, names) for as_of in (date(2024, 2, 20), AS_OF))
    assert after.frame.loc["u", names].tolist() == [2, 1, 2, 2, 0]  # lines, not pieces; a year and two days ago is too long ago
    assert before.frame.loc["u", names].tolist() == [4, 1, 3, 4, 0]  # a day before: not yet cancelled, and the first was within a year
    assert after.manifest["features"][-5]["meaning"] == "purchases of the brand 'acme' in the last 365 days"


def test_discounts_and_coupons_as_shares_of_spending(user):
    seen = user(order(1, "2024-02-01", 1000, discount_cents=100), order(2, "2024-02-02", 3000, coupon_cents=200))
    assert (seen["discounts_share"], seen["discounts_coupon_share"], seen["discounts_coupon_order_share"]) == (0.025, 0.05, 0.5)


def test_orders_on_a_saturday_evening_and_a_monday_night(user):
    seen = user(order(1, "2024-02-24T19:00"), order(2, "2024-02-26T03:00"))
    assert (seen["rhythm_weekend_share"], seen["rhythm_evening_share"], seen["rhythm_night_share"], seen["rhythm_morning_share"]) == (0.5, 0.5, 0.5, 0)


def test_one_of_two_campaigns_answered(user):
    received = [{"event": "campaign_received", "campaign": name, "occurred_at": f"2024-02-0{name}", "level": 7} for name in "12"]
    redeemed = {"event": "coupon_redeemed", "campaign": "2", "occurred_at": "2024-02-05"}
    seen = user(*received, redeemed)
    assert (seen["campaigns_received_30d"], seen["campaigns_answered"], seen["campaigns_answer_share"], seen["campaigns_recency"]) == (2, 1, 0.5, 28)


def test_tier_and_age_are_what_was_last_known_before_the_cutoff(user):
    def tier(day: str, level: int, **more: Any) -> dict[str, Any]:
        return {"event": "tier_changed", "occurred_at": day, "level": level, **more}

    ages = [{"event": "attribute_set", "detail": "age", "occurred_at": day, "level": level} for day, level in (("2024-01-01", 30), ("2024-03-02", 99))]
    seen = user(tier("2024-01-05", 1), tier("2024-02-05", 2), tier("2024-02-05", 1, known_at="2024-02-09"), tier("2024-03-01", 3), *ages)
    assert (seen["membership_tier"], seen["attributes_age"]) == (1, 30)


def test_two_tier_changes_on_one_day_leave_the_later(user):
    changes = [{"event": "tier_changed", "occurred_at": f"2024-02-05T{hour}:00", "level": level} for hour, level in (("18", 2), ("09", 1))]
    assert user(*changes)["membership_tier"] == 2


def test_browsing_and_interest_levels(user):
    views = [{"event": "product_view", "product_id": "soap", "occurred_at": day} for day in ("2024-02-29T08:00", "2024-02-29T09:00", "2024-02-10")]
    seen = user(*views, {"event": "cart_add", "product_id": "soap", "occurred_at": "2024-02-28"})
    assert (seen["activity_product_views_1d"], seen["activity_product_views_30d"], seen["activity_view_recency"]) == (2, 3, 1)
    assert (seen["activity_active_days_30d"], seen["interest_awareness_30d"], seen["interest_strong_7d"]) == (3, 3, 1)
    assert seen["activity_view_trend_30d"] == (2 * 30) / (3 * 7)
    assert seen["stage"] == "first"


def test_a_message_makes_nobody_active(user):
    seen = user({"event": "page_view", "occurred_at": "2024-01-01"}, {"event": "campaign_received", "campaign": "1", "occurred_at": "2024-02-20"})
    assert (seen["activity_recency"], seen["activity_active_days_30d"]) == (60, 0)


def test_refunds_deliveries_and_stars(user):
    after = [
        {"event": "refund", "order_id": "o1", "value_cents": 250, "occurred_at": "2024-02-20"},
        {"event": "delivered", "order_id": "o1", "level": 4, "occurred_at": "2024-02-05"},
        {"event": "rating", "level": 5, "occurred_at": "2024-02-06"},
        {"event": "rating", "level": 2, "occurred_at": "2024-02-07"},
    ]
    seen = user(order(1, "2024-02-01", 1000), *after)
    assert (seen["satisfaction_refund_share"], seen["satisfaction_delivery_days"], seen["satisfaction_stars"]) == (0.25, 4, 3.5)


def test_a_user_without_the_history_has_the_declared_empty_value(make_log, make_snapshot):
    events = [*THREE, line(1, "2024-01-01", "soap"), {"user_id": "visitor", "event": "page_view", "occurred_at": "2024-02-01"}]
    snapshot = make_snapshot(make_log(events, PRODUCTS), AS_OF)
    visitor = snapshot.table.to_pylist()[snapshot.user_ids.get_loc("visitor")]
    for entry in snapshot.manifest["features"]:
        if entry["family"] in ("orders", "cycle", "products", "rhythm", "discounts") and "activity" not in entry["name"]:
            empty = np.nan if entry["without_history"] is None else entry["without_history"]
            assert visitor[entry["name"]] == pytest.approx(empty, nan_ok=True), entry["name"]
