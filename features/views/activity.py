"""What the user does in the shop besides buying."""

from features.aggregates import days_since, days_since_first, days_with, ratio, sum_of, trend
from features.view import NEVER, Column, FeatureView

ACTIVITY = FeatureView(
    name="activity",
    windows=(1, 7, 30, 90),
    columns=(
        Column("active_days", days_with("actions"), "days with activity besides buying", "days", windows=(7, 30, 90)),
        Column("recency", days_since("actions"), "days since the last activity", "days", empty=NEVER, windows=(None,)),
        Column("tenure", days_since_first("actions"), "days since the first activity", "days", empty=NEVER, windows=(None,)),
        Column("sessions", sum_of("sessions"), "visits", "visits"),
        Column("session_actions", ratio("actions", "sessions"), "actions per visit", "actions", empty=NEVER, windows=(30,)),
        Column("session_trend", trend("sessions", recent=7), "visits of the last week against the usual rate", "ratio", empty=NEVER, windows=(30,)),
        Column("product_views", sum_of("product_views"), "product pages viewed", "views"),
        Column("view_recency", days_since("product_views"), "days since a product was viewed", "days", empty=NEVER, windows=(None,)),
        Column("cart_adds", sum_of("cart_adds"), "products put into the cart", "products"),
        Column("cart_recency", days_since("cart_adds"), "days since a product was put into the cart", "days", empty=NEVER, windows=(None,)),
        Column("cart_removals", sum_of("cart_removals"), "products taken out of the cart", "products", windows=(30,)),
        Column("cart_views", sum_of("cart_views"), "times the cart was opened", "views", windows=(7, 30)),
        Column("checkouts", sum_of("checkouts"), "checkouts started", "checkouts"),
        Column("checkout_recency", days_since("checkouts"), "days since a checkout was started", "days", empty=NEVER, windows=(None,)),
        Column("order_rate", ratio("orders", "checkouts"), "orders per checkout started", "share", empty=NEVER, windows=(90,)),
        Column("cart_rate", ratio("cart_adds", "product_views"), "products put into the cart per product viewed", "share", empty=NEVER, windows=(90,)),
        Column("favourites", sum_of("favourites"), "products put on the wish list", "products", windows=(30, 90)),
        Column("list_views", sum_of("list_views"), "lists of products seen", "views", windows=(30,)),
        Column("view_trend", trend("product_views", recent=7), "product views of the last week against the usual rate", "ratio", empty=NEVER, windows=(30,)),
        Column("sign_up_recency", days_since("sign_ups"), "days since registration", "days", empty=NEVER, windows=(None,)),
    ),
)
