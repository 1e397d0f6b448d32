"""What the user looks for."""

from features.aggregates import again_share, days_since, kinds, sum_of, trend
from features.view import NEVER, Column, FeatureView

SEARCH = FeatureView(
    name="search",
    windows=(30, 90),
    columns=(
        Column("count", sum_of("searches"), "searches made", "searches", windows=(1, 7, 30, 90)),
        Column("recency", days_since("searches"), "days since the last search", "days", empty=NEVER, windows=(None,)),
        Column("trend", trend("searches", recent=7), "searches of the last week against the usual rate", "ratio", empty=NEVER, windows=(30,)),
        Column("terms", kinds("terms", "detail"), "different terms searched for", "terms"),
        Column("again", again_share("terms", "detail"), "share of terms searched for more than once", "share", empty=NEVER),
    ),
)
