"""A slow reading of what happened: every feature and label of one user, in plain Python, from the raw events.

`MEANS` says in a line what each feature means; it knows nothing of tiles, parts or passes over windows. An event is a
dictionary with all its fields, empty ones as None and times as datetimes; an empty amount adds nothing.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from features.vocabulary import EVENTS

Event = dict[str, Any]
Means = Callable[["Seen", int | None], Any]
DAY = timedelta(days=1)
TIERS, USES = (0, 100, 500), {"care": 0.1, "p4": 0.25, "p9": 2.0}  # p9 is sold and in no list of products
PRODUCTS = [
    {"product_id": f"p{number}", "category": category, "brand": brand, "department": department}
    for number, (category, brand, department) in enumerate(
        [("care", "b1", "d1"), ("care", "b2", "d1"), ("hair", "b1", "d2"), ("Hair", None, "d2"), ("care", "b3", None), (None, None, None)]
    )
]
PASSIVE = {"order", "order_item", "order_cancelled", "refund", "coupon_received", "coupon_redeemed", "delivered", "delivery_late", "referral"}
PASSIVE |= {"campaign_received", "held_out", "unsubscribed", "sample_received", "identified", "tier_changed", "attribute_set"}
ACTIVE = tuple(event for event in EVENTS if event not in PASSIVE)
GOODS = {  # spelling does not make other goods, and what nobody sells nobody bought
    "category_care": ("category", "care"), "category_hair": ("category", "hair", "Hair"), "brand_b1": ("brand", "b1"), "department_d2": ("department", "d2"),
    "category_wine": ("category",),
}  # fmt: skip
INTEREST = {"awareness": ("page_view", "product_view"), "weak": ("favourite", "review_read", "support", "search"), "strong": ("cart_add", "checkout")}


# --- what was known -------------------------------------------------------------------------------------------------


class Seen:
    """What stands of one user as of a date.

    rows: the events, each with `ago` (days; yesterday is 1) and `hour` on the shop's clock. said: (event, day from which it
    was known to be this user's) of all that was ever said of them. norms: what is normal in the shop.
    """

    def __init__(self, user: str, said: Sequence[Event], as_of: date, zone: str, norms: dict[str, float]) -> None:
        self.rows: list[Event] = []
        self.said: list[tuple[Event, date]] = []
        self.norms, clock = norms, ZoneInfo(zone)
        cut = datetime.combine(as_of, time(), clock).astimezone(UTC)
        heard = [event for event in said if event["known_at"] < cut and event["occurred_at"] - event["known_at"] <= DAY]
        links = links_of(heard)
        cancels = [(event, max(event["occurred_at"], event["known_at"])) for event in heard if event["event"] == "order_cancelled" and not event["product_id"]]
        facts: dict[str, list[Event]] = {}
        for event in sorted(heard, key=lambda event: event["known_at"]):
            facts.setdefault(event["event_id"], []).append(event)
        for versions in facts.values():
            for version, later in zip(versions, [*versions[1:], None], strict=True):
                given = given_id(version)
                if owner(links, given, cut) != user:
                    continue
                begin, end = max(version["known_at"], links[given][1] if given in links else version["known_at"]), later["known_at"] if later else cut
                if version["event"] in ("order", "order_item") and version["order_id"]:
                    mine = [(cancel, off) for cancel, off in cancels if cancel["order_id"] == version["order_id"]]
                    end = min([end, *(off for cancel, off in mine if owner(links, given_id(cancel), off) == owner(links, given, off))])
                if begin < end:
                    self.said.append((version, begin.astimezone(clock).date()))
                    if end == cut and version["occurred_at"] < cut:
                        local = version["occurred_at"].astimezone(clock)
                        self.rows.append({**version, "ago": (as_of - local.date()).days, "hour": local.hour, "weekend": local.weekday() >= 5})

    def of(self, window: int | None, *events: str) -> list[Event]:
        return [row for row in self.rows if row["event"] in events and (window is None or row["ago"] <= window)]

    def changes(self, field: str, *events: str, detail: str | None = None) -> list[Any]:
        """The values of a field in turn; of several at one moment, the one that was first said later comes later."""

        def about(event: Event) -> bool:
            return event["event"] in events and event[field] is not None and detail in (None, event["detail"])

        first: dict[Any, date] = {}
        for event, day in filter(lambda said: about(said[0]), self.said):
            what = (event["occurred_at"], event[field])
            first[what] = min(day, first.get(what, day))
        found = {(row["occurred_at"], first[row["occurred_at"], row[field]], row[field]) for row in self.rows if about(row)}
        return [value for _, _, value in sorted(found)]

    @property
    def gaps(self) -> list[int]:
        """Days from each day with an order to the next."""
        days = sorted({row["ago"] for row in self.of(None, "order")}, reverse=True)
        return [before - after for before, after in pairwise(days)]


def given_id(event: Event) -> str:
    return str(event["user_id"] or event["anonymous_id"])


def links_of(heard: Sequence[Event]) -> dict[str, tuple[str, datetime]]:
    """Visitor -> (who it is, since when): what was known first counts."""
    found: dict[str, tuple[str, datetime]] = {}
    both = [event for event in heard if event["user_id"] and event["anonymous_id"]]
    for event in sorted(both, key=lambda event: (event["known_at"], event["anonymous_id"], event["user_id"])):
        found.setdefault(event["anonymous_id"], (event["user_id"], event["known_at"]))
    return found


def owner(links: dict[str, tuple[str, datetime]], given: str, moment: datetime) -> str:
    return links[given][0] if given in links and links[given][1] <= moment else given


# --- what the features mean -----------------------------------------------------------------------------------------


def per(above: float | Fraction | None, below: float | Fraction | None) -> float | None:
    return None if above is None or not below else float(Fraction(above) / Fraction(below))


def count(*events: str, of: Callable[[Event], Any] = lambda row: True) -> Means:
    return lambda seen, window: sum(1 for row in seen.of(window, *events) if of(row))


def total(field: str, *events: str) -> Means:
    return lambda seen, window: sum(row[field] or 0 for row in seen.of(window, *events))


def days(*events: str) -> Means:
    return lambda seen, window: len({row["ago"] for row in seen.of(window, *events)})


def last(*events: str) -> Means:
    return lambda seen, window: min((row["ago"] for row in seen.of(None, *events)), default=None)


def first(*events: str) -> Means:
    return lambda seen, window: max((row["ago"] for row in seen.of(None, *events)), default=None)


def ratio(above: Means, below: Means) -> Means:
    return lambda seen, window: per(above(seen, window), below(seen, window))


def share(event: str | tuple[str, ...], of: Callable[[Event], Any]) -> Means:
    events = (event,) if isinstance(event, str) else event
    return ratio(count(*events, of=of), count(*events))


def mean(field: str, event: str) -> Means:
    return ratio(total(field, event), count(event))


def trend(what: Means, recent: int) -> Means:
    """Per day in the last days against per day in the window."""
    return lambda seen, window: per(Fraction(what(seen, recent), recent), Fraction(what(seen, window), window or 1))


def tally(key: str, *events: str) -> Callable[[Seen, int | None], Counter[str]]:
    """How often each value of a field, or of the product's category, brand or department, occurs."""
    known = {product["product_id"]: product for product in PRODUCTS}

    def value(row: Event) -> str | None:
        return row[key] if key in row else known.get(row["product_id"], {}).get(key)

    return lambda seen, window: Counter(word for word in map(value, seen.of(window, *events)) if word is not None)


def different(key: str, *events: str) -> Means:
    return lambda seen, window: len(tally(key, *events)(seen, window))


def again(key: str, *events: str) -> Means:
    return lambda seen, window: per(sum(1 for n in tally(key, *events)(seen, window).values() if n > 1), different(key, *events)(seen, window))


def top_share(key: str, *events: str) -> Means:
    return lambda seen, window: per(max(tally(key, *events)(seen, window).values(), default=0), tally(key, *events)(seen, window).total())


def top(key: str, *events: str) -> Means:
    return lambda seen, window: min(((-n, word) for word, n in tally(key, *events)(seen, window).items()), default=(0, None))[1]


def entropy(key: str, *events: str) -> Means:
    def nats(seen: Seen, window: int | None) -> float | None:
        counts = tally(key, *events)(seen, window).values()
        return sum(-n / sum(counts) * math.log(n / sum(counts)) for n in counts) if counts else None

    return nats


def bought(dimension: str, *values: str) -> Means:
    return lambda seen, window: sum(tally(dimension, "order_item")(seen, window)[value] for value in values)


def changed(place: int, field: str, *events: str, detail: str | None = None) -> Means:
    """The first (0) or the last (-1) value."""
    return lambda seen, window: (seen.changes(field, *events, detail=detail) or [None])[place]


def hours(begin: int, end: int) -> Callable[[Event], bool]:
    return lambda row: begin <= row["hour"] < end


def weekend(row: Event) -> bool:
    return bool(row["weekend"])


def lasting(row: Event) -> int:
    """Minutes that an order line lasts."""
    categories = {product["product_id"]: product["category"] for product in PRODUCTS}
    use = USES.get(row["product_id"], USES.get(str(categories.get(row["product_id"]))))
    return round(1440 / use) * max(row["quantity"] or 0, 1) if use else 0


def supply(seen: Seen, window: int | None) -> int:
    return sum(map(lasting, seen.of(window, "order_item")))


def supply_age(seen: Seen, window: int | None) -> int | None:
    return max((row["ago"] for row in seen.of(None, "order_item") if lasting(row)), default=None)


def deviation(seen: Seen, window: int | None) -> float | None:
    gaps = seen.gaps
    return math.sqrt(Fraction(sum(gap * gap for gap in gaps), len(gaps)) - Fraction(sum(gaps), len(gaps)) ** 2) if gaps else None


def minus(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left - right


def to_next_tier(seen: Seen, window: int | None) -> int | None:
    rank, points = (MEANS[name](seen, None) for name in ("membership_tier", "membership_growth_value"))
    return None if points is None or (rank or 0) + 1 >= len(TIERS) else max(TIERS[(rank or 0) + 1] - points, 0)


def is_one_of(label: str, words: str) -> Means:
    return lambda seen, window: None if MEANS[label](seen, None) is None else MEANS[label](seen, None) in words.split()


def same_source(seen: Seen, window: int | None) -> bool | None:
    ends = [MEANS[f"touch_{end}_source"](seen, None) for end in ("first", "last")]
    return None if None in ends else ends[0] == ends[1]


def rfm(seen: Seen, window: int | None) -> tuple[bool, bool, bool] | None:
    """Whether a buyer is recent, frequent and spending."""
    ago, n, spent = last("order")(seen, None), count("order")(seen, None), total("value_cents", "order")(seen, None)
    return (ago <= seen.norms["recency"], n > seen.norms["frequency"], spent > seen.norms["monetary"]) if n else None


def digit(place: int) -> Means:
    return lambda seen, window: (rfm(seen, None) or [None] * 3)[place]


def rfm_group(seen: Seen, window: int | None) -> str | None:
    names = {"": "lost", "S": "valuable once", "F": "frequent once", "FS": "valuable, to win back"}
    names |= {"R": "new", "RS": "valuable, to develop", "RF": "regular", "RFS": "champion"}
    digits = rfm(seen, None)
    return names["".join(letter for letter, holds in zip("RFS", digits, strict=True) if holds)] if digits else None


def layer(seen: Seen, window: int | None) -> str:
    n, spent, norms = count("order")(seen, None), total("value_cents", "order")(seen, None), seen.norms
    if n == 0:
        return "visitor"
    cycles = last("order")(seen, None) / norms["cycle"]
    if n == 1:
        return f"{'new' if cycles <= 1 else 'cooling'}, {'high' if spent > norms['first_order_cents'] else 'low'} value"
    if cycles > 2:
        return "lapsed" if cycles > 3 else "lapsing"
    if spent >= norms["top_spend"] and days(*ACTIVE)(seen, 90) >= norms["top_activity"]:
        return "super user"
    if not norms["discounts"]:
        return "loyal"
    return "discount-sensitive" if share("order", full_price)(seen, None) < Fraction(1, 2) else "loyal full-price"


def full_price(row: Event) -> bool:
    return not row["coupon_cents"] and not row["discount_cents"]


def cycles(seen: Seen, window: int | None) -> float | None:
    ago = last("order")(seen, None)
    return None if ago is None else ago / seen.norms["cycle"]


ORDERS, SPENT, PIECES = count("order"), total("value_cents", "order"), total("quantity", "order")
PRICE, VISIT = ratio(SPENT, PIECES), ("session_start", "page_view")
PAID, OWNED = "cpc ppc cpm paid paid_social paidsocial display retargeting affiliate", "email e-mail sms push edm newsletter wechat"
MEANS: dict[str, Means] = {
    "orders_count": ORDERS, "orders_days": days("order"), "orders_revenue": SPENT, "orders_items": PIECES,
    "orders_basket_value": ratio(SPENT, ORDERS), "orders_basket_items": ratio(PIECES, ORDERS),
    "orders_recency": last("order"), "orders_tenure": first("order"),
    "orders_relative": lambda seen, window: per(ORDERS(seen, None), max(seen.norms["frequency"], 1)),
    "orders_rate": lambda seen, window: per(30 * (ORDERS(seen, None) - 1), max(first("order")(seen, None) or 0, 1)) if ORDERS(seen, None) else None,
    "orders_active_share": lambda seen, window: minus(1, per(last("order")(seen, None), max(first("order")(seen, None) or 0, 1))),
    "orders_trend_week": trend(ORDERS, 7), "orders_trend_month": trend(ORDERS, 30), "orders_spend_trend": trend(SPENT, 30),
    "cycle_mean_gap": lambda seen, window: per(sum(seen.gaps), len(seen.gaps)), "cycle_gap_deviation": deviation,
    "cycle_longest_gap": lambda seen, window: max(seen.gaps, default=None),
    "cycle_last_gap": lambda seen, window: seen.gaps[-1] if seen.gaps else None,
    "cycle_earlier_gap": lambda seen, window: seen.gaps[-2] if len(seen.gaps) > 1 else None,
    "cycle_position": lambda seen, window: per(last("order")(seen, None), per(sum(seen.gaps), len(seen.gaps))),
    "cycle_overdue": lambda seen, window: minus(last("order")(seen, None), per(sum(seen.gaps), len(seen.gaps))),
    "cycle_shop_position": cycles, "cycle_supply": supply, "cycle_supply_age": supply_age,
    "cycle_supply_left": lambda seen, window: minus(supply(seen, None) / 1440, supply_age(seen, None)),
    "products_products": different("product_id", "order_item"), "products_bought_again": again("product_id", "order_item"),
    "products_categories": different("category", "order_item"), "products_top_category_share": top_share("category", "order_item"),
    "products_category_entropy": entropy("category", "order_item"), "products_brands": different("brand", "order_item"),
    "products_top_brand_share": top_share("brand", "order_item"), "products_departments": different("department", "order_item"),
    "products_department_entropy": entropy("department", "order_item"), "products_viewed": different("product_id", "product_view"),
    "products_viewed_categories": different("category", "product_view"), "products_viewed_top_share": top_share("category", "product_view"),
    "products_viewed_brand_share": top_share("brand", "product_view"), "products_viewed_entropy": entropy("category", "product_view"),
    "products_viewed_again": again("product_id", "product_view"), "products_carted": different("product_id", "cart_add"),
    "products_carted_top_share": top_share("category", "cart_add"), "products_wished": different("product_id", "favourite"),
    "products_wished_top_share": top_share("category", "favourite"),
    "products_bought_of_viewed": ratio(different("product_id", "order_item"), different("product_id", "product_view")),
    "products_favourite_category": top("category", "order_item"), "products_favourite_brand": top("brand", "order_item"),
    "products_viewed_category": top("category", "product_view"),
    "discounts_share": ratio(total("discount_cents", "order"), SPENT), "discounts_coupon_share": ratio(total("coupon_cents", "order"), SPENT),
    "discounts_coupon_order_share": share("order", lambda row: row["coupon_cents"]), "discounts_redemption_recency": last("coupon_redeemed"),
    "discounts_coupon_orders": count("order", of=lambda row: row["coupon_cents"]), "discounts_redemptions": count("coupon_redeemed"),
    "discounts_sale_order_share": share("order", lambda row: row["discount_cents"]), "discounts_full_price_share": share("order", full_price),
    "discounts_item_price": PRICE, "discounts_price_trend": lambda seen, window: per(PRICE(seen, 90), PRICE(seen, None)),
    "discounts_coupons_received": count("coupon_received"), "discounts_coupon_use": ratio(count("coupon_redeemed"), count("coupon_received")),
    "discounts_coupons_applied": count("coupon_applied"), "discounts_coupons_denied": count("coupon_denied"),
    "discounts_coupon_types": different("detail", "coupon_redeemed"), "discounts_top_coupon_share": top_share("detail", "coupon_redeemed"),
    "campaigns_received": count("campaign_received"), "campaigns_recency": last("campaign_received"),
    "campaigns_answered": different("campaign", "coupon_redeemed"),
    "campaigns_answer_share": ratio(different("campaign", "coupon_redeemed"), different("campaign", "campaign_received")),
    "campaigns_opens": count("message_opened"), "campaigns_clicks": count("message_clicked"),
    "campaigns_open_rate": ratio(count("message_opened"), count("campaign_received")),
    "campaigns_click_rate": ratio(count("message_clicked"), count("campaign_received")),
    "campaigns_clicked": different("campaign", "message_clicked"), "campaigns_pressure": trend(count("campaign_received"), 30),
    "campaigns_open_trend": trend(count("message_opened"), 30), "campaigns_unsubscribed": last("unsubscribed"),
    "campaigns_promotion_views": count("promotion_view"), "campaigns_promotion_clicks": count("promotion_click"),
    "rhythm_weekend_share": share("order", weekend), "rhythm_weekend_activity": share(ACTIVE, weekend),
    **{f"rhythm_{part}_share": share("order", hours(6 * n, 6 * n + 6)) for n, part in enumerate(("night", "morning", "afternoon", "evening"))},
    **{f"rhythm_{part}_activity": share(ACTIVE, hours(6 * n, 6 * n + 6)) for n, part in enumerate(("night", "morning", "afternoon", "evening"))},
    "activity_active_days": days(*ACTIVE), "activity_recency": last(*ACTIVE), "activity_tenure": first(*ACTIVE), "activity_sessions": count("session_start"),
    "activity_session_actions": ratio(count(*ACTIVE), count("session_start")), "activity_session_trend": trend(count("session_start"), 7),
    "activity_product_views": count("product_view"), "activity_view_recency": last("product_view"), "activity_cart_adds": count("cart_add"),
    "activity_cart_recency": last("cart_add"), "activity_cart_removals": count("cart_remove"), "activity_cart_views": count("cart_view"),
    "activity_checkouts": count("checkout"), "activity_checkout_recency": last("checkout"), "activity_order_rate": ratio(ORDERS, count("checkout")),
    "activity_cart_rate": ratio(count("cart_add"), count("product_view")), "activity_favourites": count("favourite"),
    "activity_list_views": count("list_view"), "activity_view_trend": trend(count("product_view"), 7), "activity_sign_up_recency": last("sign_up"),
    "search_count": count("search"), "search_recency": last("search"), "search_trend": trend(count("search"), 7),
    "search_terms": different("detail", "search"), "search_again": again("detail", "search"),
    **{f"interest_{level}": count(*events) for level, events in INTEREST.items()},
    **{f"interest_{level}_recency": last(*events) for level, events in INTEREST.items()},
    **{f"interest_{level}_trend": trend(count(*events), 7) for level, events in INTEREST.items()},
    "satisfaction_refunds": count("refund"), "satisfaction_refund_share": ratio(total("value_cents", "refund"), SPENT),
    "satisfaction_refund_recency": last("refund"), "satisfaction_cancellations": count("order_cancelled"),
    "satisfaction_delivery_days": mean("level", "delivered"), "satisfaction_late_deliveries": count("delivery_late"),
    "satisfaction_late_share": ratio(count("delivery_late"), count("delivered")), "satisfaction_late_days": mean("level", "delivery_late"),
    "satisfaction_stars": mean("level", "rating"), "satisfaction_low_ratings": count("rating", of=lambda row: row["level"] in (1, 2)),
    "satisfaction_reviews": count("review_written"), "satisfaction_reviews_read": count("review_read"), "satisfaction_support": count("support"),
    "satisfaction_shares": count("share"), "satisfaction_referrals": count("referral"), "satisfaction_referral_recency": last("referral"),
    "membership_tier": changed(-1, "level", "tier_changed"), "membership_tier_recency": last("tier_changed"),
    "membership_growth_value": changed(-1, "level", "attribute_set", detail="growth_value"), "membership_to_next_tier": to_next_tier,
    "membership_visits": count("member_centre"), "membership_visit_recency": last("member_centre"),
    "membership_benefits_claimed": count("benefit_claimed"), "membership_benefits_used": count("benefit_used"),
    "membership_benefit_use": ratio(count("benefit_used"), count("benefit_claimed")),
    "membership_samples": count("sample_received"), "membership_sample_recency": last("sample_received"),
    "attributes_age": changed(-1, "level", "attribute_set", detail="age"),
    **{f"touch_first_{field}": changed(0, field, *VISIT) for field in ("source", "medium", "campaign")},
    **{f"touch_last_{field}": changed(-1, field, *VISIT) for field in ("source", "medium", "campaign")},
    "touch_order_channel": changed(-1, "channel", "order"), "touch_first_paid": is_one_of("touch_first_medium", PAID),
    "touch_last_paid": is_one_of("touch_last_medium", PAID), "touch_last_owned": is_one_of("touch_last_medium", OWNED), "touch_same_source": same_source,
    "touch_sources": different("source", *VISIT), "touch_top_source_share": top_share("source", *VISIT),
    "touch_channels": different("channel", "order"), "touch_top_channel_share": top_share("channel", "order"),
    **{f"bought_{name}": bought(*goods) for name, goods in GOODS.items()},
    "layers_recent": digit(0), "layers_frequent": digit(1), "layers_spending": digit(2), "layers_rfm_group": rfm_group, "layers_layer": layer,
    "layers_cycles_since": lambda seen, window: None if (since := cycles(seen, None)) is None else math.floor(since),
}  # fmt: skip


def meaning(name: str) -> tuple[str, int | None]:
    """Feature -> its name in MEANS and its window."""
    windowed = re.fullmatch(r"(.+)_(\d+)d", name)
    return (windowed[1], int(windowed[2])) if windowed else (name, None)
