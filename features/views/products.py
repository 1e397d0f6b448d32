"""What the user buys and looks at: breadth and concentration over products, categories, brands and departments."""

from features.aggregates import again_share, entropy, key_ratio, kinds, top_key, top_share
from features.view import NEVER, Column, FeatureView

EVER = (None,)

PRODUCTS = FeatureView(
    name="products",
    windows=(90, None),
    columns=(
        Column("products", kinds("purchases", "product_id"), "different products bought", "products"),
        Column("bought_again", again_share("purchases", "product_id"), "share of products bought more than once", "share", empty=NEVER),
        Column("categories", kinds("purchases", "category"), "different categories bought", "categories"),
        Column("top_category_share", top_share("purchases", "category"), "share of purchases in the favourite category", "share", empty=NEVER),
        Column("category_entropy", entropy("purchases", "category"), "how evenly purchases spread over categories", "nats", empty=NEVER),
        Column("brands", kinds("purchases", "brand"), "different brands bought", "brands"),
        Column("top_brand_share", top_share("purchases", "brand"), "share of purchases of the favourite brand", "share", empty=NEVER),
        Column("departments", kinds("purchases", "department"), "different departments bought from", "departments"),
        Column("department_entropy", entropy("purchases", "department"), "how evenly purchases spread over departments", "nats", empty=NEVER),
        Column("viewed", kinds("views", "product_id"), "different products viewed", "products", windows=(30,)),
        Column("viewed_categories", kinds("views", "category"), "different categories viewed", "categories", windows=(30,)),
        Column("viewed_top_share", top_share("views", "category"), "share of views in the category viewed most", "share", empty=NEVER, windows=(30,)),
        Column("viewed_brand_share", top_share("views", "brand"), "share of views of the brand viewed most", "share", empty=NEVER, windows=(30,)),
        Column("viewed_entropy", entropy("views", "category"), "how evenly views spread over categories", "nats", empty=NEVER, windows=(30,)),
        Column("viewed_again", again_share("views", "product_id"), "share of viewed products looked at more than once", "share", empty=NEVER, windows=(30,)),
        Column("carted", kinds("carts", "product_id"), "different products put into the cart", "products", windows=(30,)),
        Column("carted_top_share", top_share("carts", "category"), "share of cart products in the category carted most", "share", empty=NEVER, windows=(90,)),
        Column("wished", kinds("wishes", "product_id"), "different products on the wish list", "products", windows=(90,)),
        Column("wished_top_share", top_share("wishes", "category"), "share of wishes in the category wished most", "share", empty=NEVER, windows=(90,)),
        Column("bought_of_viewed", key_ratio("purchases", "views", "product_id"), "products bought per product viewed", "ratio", empty=NEVER, windows=(90,)),
        Column("favourite_category", top_key("purchases", "category"), "category bought most", "label", empty=NEVER, windows=EVER),
        Column("favourite_brand", top_key("purchases", "brand"), "brand bought most", "label", empty=NEVER, windows=EVER),
        Column("viewed_category", top_key("views", "category"), "category viewed most", "label", empty=NEVER, windows=(30,)),
    ),
)
