"""What the user does in the shop besides buying."""

from features.view import NEVER, Column, FeatureView, days_since, days_since_first, days_with, sum_of, trend

ACTIVITY = FeatureView(
    name="activity",
    windows=(1, 7, 30, 90),
    columns=(
        Column("active_days", days_with("actions"), "days with activity besides buying", "days", windows=(7, 30, 90)),
        Column("recency", days_since("actions"), "days since the last activity", "days", empty=NEVER, windows=(None,)),
        Column("tenure", days_since_first("actions"), "days since the first activity", "days", empty=NEVER, windows=(None,)),
        Column("product_views", sum_of("product_views"), "product pages viewed", "views"),
        Column("view_recency", days_since("product_views"), "days since a product was viewed", "days", empty=NEVER, windows=(None,)),
        Column("searches", sum_of("searches"), "searches made", "searches"),
        Column("cart_adds", sum_of("cart_adds"), "products put into the cart", "products"),
        Column("cart_recency", days_since("cart_adds"), "days since a product was put into the cart", "days", empty=NEVER, windows=(None,)),
        Column("checkouts", sum_of("checkouts"), "checkouts started", "checkouts"),
        Column("favourites", sum_of("favourites"), "products put on the wish list", "products", windows=(30, 90)),
        Column("view_trend", trend("product_views", recent=7), "product views of the last week against the usual rate", "ratio", empty=NEVER, windows=(30,)),
        Column("shares", sum_of("shares"), "products shared or friends referred", "shares", windows=(90, None)),
        Column("sign_up_recency", days_since("sign_ups"), "days since registration", "days", empty=NEVER, windows=(None,)),
    ),
)
