"""The canonical event names, and the columns that every event row has.

A source translates its own names to these. Each name becomes one counting column of the day tiles.
"""

from __future__ import annotations

import pyarrow as pa

# canonical name -> (tile column that counts it, what it is)
EVENTS: dict[str, tuple[str, str]] = {
    "session_start": ("sessions", "a visit began, as the source divides visits"),
    "page_view": ("page_views", "a landing or content page was opened"),
    "list_view": ("list_views", "a list of products was seen"),
    "product_view": ("product_views", "a product page was opened"),
    "search": ("searches", "a search was made"),
    "promotion_view": ("promotion_views", "a promotion was seen in the shop"),
    "promotion_click": ("promotion_clicks", "a promotion in the shop was clicked"),
    "favourite": ("favourites", "a product was added to a wish list"),
    "review_read": ("reviews_read", "reviews were read"),
    "support": ("support_contacts", "support was contacted"),
    "cart_add": ("cart_adds", "a product was put into the cart"),
    "cart_remove": ("cart_removals", "a product was taken out of the cart"),
    "cart_view": ("cart_views", "the cart was opened"),
    "checkout": ("checkouts", "a checkout was started"),
    "payment_info": ("payment_infos", "payment details were entered"),
    "order": ("orders", "an order was paid; value is the total in cents"),
    "order_item": ("lines", "one product of an order; order_id ties it to the order"),
    "order_cancelled": ("cancellations", "an order was cancelled; from then on it counts as never placed"),
    "refund": ("refunds", "money went back; value is the amount in cents"),
    "delivered": ("deliveries", "a parcel arrived; level is the days it took"),
    "delivery_late": ("late_deliveries", "a parcel arrived later than promised; level is the days it was late"),
    "rating": ("ratings", "a rating was given; level is the stars"),
    "review_written": ("reviews_written", "a review was written"),
    "share": ("shares", "a product was shared"),
    "referral": ("referrals", "a friend came by the user's invitation"),
    "campaign_received": ("campaigns", "a campaign with an offer was sent; level is the days the offer is valid"),
    "held_out": ("held_outs", "a lot kept the user out of a campaign on purpose, to measure what it adds; campaign names it"),
    "message_opened": ("opens", "a message was opened"),
    "message_clicked": ("clicks", "a message was clicked"),
    "unsubscribed": ("unsubscriptions", "messages were declined from now on"),
    "coupon_received": ("coupons_received", "a coupon was given; detail is its type, level the days it is valid"),
    "coupon_applied": ("coupons_applied", "a coupon was entered at checkout"),
    "coupon_denied": ("coupons_denied", "a coupon was entered and not accepted"),
    "coupon_redeemed": ("redemptions", "a coupon was redeemed; detail is its type"),
    "sample_received": ("samples", "a product sample was received"),
    "member_centre": ("member_visits", "the member centre was visited"),
    "benefit_claimed": ("benefits_claimed", "a member benefit was claimed"),
    "benefit_used": ("benefits_used", "a member benefit was used"),
    "sign_up": ("sign_ups", "the user registered"),
    "identified": ("identifications", "an anonymous visitor turned out to be a known user: the row has both ids"),
    "tier_changed": ("tier_changes", "the membership level changed; level is the new rank"),
    "attribute_set": ("attribute_changes", "a declared attribute changed; detail names it, level is its value"),
}

# Events that do not count as activity in the shop: what happens to a user, and buying, which has features of its own.
NO_ACTIVITY = (
    "order",
    "order_item",
    "order_cancelled",
    "refund",
    "coupon_received",
    "coupon_redeemed",
    "delivered",
    "delivery_late",
    "referral",
    "campaign_received",
    "held_out",
    "unsubscribed",
    "sample_received",
    "identified",
    "tier_changed",
    "attribute_set",
)

# What a source hands over. Money is in the shop's minor units (cents), times are UTC. A row has a user_id, an
# anonymous_id or both; both together say that the anonymous visitor is that user.
EVENT_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),  # the source's own key: the same id is the same event
        pa.field("user_id", pa.string()),
        pa.field("anonymous_id", pa.string()),
        pa.field("event", pa.string(), nullable=False),
        pa.field("occurred_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("known_at", pa.timestamp("us", "UTC"), nullable=False),  # when the shop's systems had it
        pa.field("order_id", pa.string()),
        pa.field("product_id", pa.string()),
        pa.field("quantity", pa.int64()),
        pa.field("value_cents", pa.int64()),
        pa.field("discount_cents", pa.int64()),  # price reductions that everybody gets
        pa.field("coupon_cents", pa.int64()),  # reductions by coupon
        pa.field("currency", pa.string()),
        pa.field("campaign", pa.string()),
        pa.field("channel", pa.string()),
        pa.field("source", pa.string()),  # where a visit came from: google, newsletter, wechat
        pa.field("medium", pa.string()),  # by which way: cpc, email, referral
        pa.field("detail", pa.string()),
        pa.field("level", pa.int64()),
    ]
)

# What the log holds: every row belongs to a user, has the calendar of the shop's own zone (all cutoffs are midnights
# there, so whole days suffice), and counts `sign` times: -1 takes back what an earlier row said.
LOG_SCHEMA = pa.schema(
    [
        *[EVENT_SCHEMA.field(name) for name in EVENT_SCHEMA.names if name not in ("user_id", "anonymous_id")],
        pa.field("user_id", pa.string(), nullable=False),  # whose it is, by what was known at known_at
        pa.field("given_id", pa.string(), nullable=False),  # the id that the source gave
        pa.field("sign", pa.int32(), nullable=False),
        pa.field("day", pa.int32(), nullable=False),  # days since 1970-01-01
        pa.field("known_day", pa.int32(), nullable=False),
        pa.field("hour", pa.int32(), nullable=False),
    ]
)

CALENDAR = ("day", "known_day", "hour")  # what the log computes from the moments

PRODUCT_SCHEMA = pa.schema(
    [
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("category", pa.string()),
        pa.field("brand", pa.string()),
        pa.field("department", pa.string()),
    ]
)

# By what an event can be told apart from others of its kind, in goals of the shop's own; the last three are its product's.
NUMBERS = ("quantity", "value_cents", "level")
PROPERTIES = ("product_id", "campaign", "channel", "source", "medium", "detail", *NUMBERS, "category", "brand", "department")

STAGES = ("first", "second", "repeat")  # the order that a user may place next: none so far, one, two or more
LONGEST_ID = 256  # bytes of UTF-8 of a user id
