"""What the user buys and looks at: breadth and concentration over categories, brands and departments."""

from __future__ import annotations

import ibis
from ibis import Table

from features.tiles import History, in_window
from features.view import NEVER, Column, FeatureView

MILLIONTH = 1_000_000


def spread(history: History, window: int | None) -> Table:
    """Per user: number of distinct products, categories, brands, departments; top share and entropy of categories."""
    rows = in_window(history.user_products, window)
    rows = rows.group_by("user_id", "product_id").aggregate(n=rows.purchases.sum().cast("int64"))
    bought = rows.filter(rows.n > 0).left_join(history.products, "product_id")
    users = bought.group_by("user_id").aggregate(products=bought.count(), again=(bought.n > 1).cast("int64").sum())
    users = users.mutate(bought_again=users.again.cast("float64") / users.products)
    for level, plural in (("category", "categories"), ("brand", "brands"), ("department", "departments")):
        users = users.left_join(_shares(bought, level, plural), "user_id").drop("user_id_right")
    return users


def _shares(bought: Table, level: str, plural: str) -> Table:
    known = bought.filter(bought[level].notnull())
    counts = known.group_by("user_id", level).aggregate(n=known.n.sum().cast("int64"))
    # n log n in integer millionths: a sum of floats would change with the number of threads.
    information = (counts.n.cast("float64").ln() * counts.n * MILLIONTH).round().cast("int64")
    sums = counts.group_by("user_id").aggregate(
        kinds=counts.count(), total=counts.n.sum().cast("int64"), top=counts.n.max(), info=information.sum().cast("int64")
    )
    total = sums.total.cast("float64")
    return sums.select(
        "user_id",
        **{
            plural: sums.kinds,
            f"top_{level}_share": sums.top / total,
            f"{level}_entropy": ibis.greatest(total.ln() - sums["info"].cast("float64") / (total * MILLIONTH), 0.0),
        },
    )


def _column(name: str, meaning: str, unit: str, empty: float | None = 0) -> Column:
    return Column(name, None, meaning, unit, empty=empty, needs=("order_item",), accumulates=empty == 0)


PRODUCTS = FeatureView(
    name="products",
    windows=(90, None),
    columns=(
        _column("products", "different products bought", "products"),
        _column("bought_again", "share of products bought more than once", "share", NEVER),
        _column("categories", "different categories bought", "categories"),
        _column("top_category_share", "share of purchases in the favourite category", "share", NEVER),
        _column("category_entropy", "how evenly purchases spread over categories", "nats", NEVER),
        _column("brands", "different brands bought", "brands"),
        _column("top_brand_share", "share of purchases of the favourite brand", "share", NEVER),
        _column("departments", "different departments bought from", "departments"),
        _column("department_entropy", "how evenly purchases spread over departments", "nats", NEVER),
    ),
    rows=spread,
)
