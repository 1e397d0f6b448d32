"""Where the user came from, first and last: source, medium and campaign of visits, channels of orders."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.aggregates import Floats, flags, kinds, text_of, top_share
from features.norms import Norms
from features.view import NEVER, Column, Derived, FeatureView, Values

PAID = ("cpc", "ppc", "cpm", "paid", "paid_social", "paidsocial", "display", "retargeting", "affiliate")
OWNED = ("email", "e-mail", "sms", "push", "edm", "newsletter", "wechat")


def _flag(label: str, known: tuple[str, ...]) -> Derived:
    def compute(values: Values, norms: Norms) -> Floats:
        return flags(values[label], known)

    return Derived((label,), compute)


def _same(values: Values, norms: Norms) -> Floats:
    first, last = (values[name].cast(pa.string()) for name in ("touch_first_source", "touch_last_source"))
    return np.asarray(pc.fill_null(pc.equal(first, last).cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False))


TOUCH = FeatureView(
    name="touch",
    columns=(
        Column("first_source", text_of("first", "source"), "where the first visit came from", "label", empty=NEVER),
        Column("first_medium", text_of("first", "medium"), "by which way the first visit came", "label", empty=NEVER),
        Column("first_campaign", text_of("first", "touch_campaign"), "by which campaign the first visit came", "label", empty=NEVER),
        Column("last_source", text_of("last", "source"), "where the last visit came from", "label", empty=NEVER),
        Column("last_medium", text_of("last", "medium"), "by which way the last visit came", "label", empty=NEVER),
        Column("last_campaign", text_of("last", "touch_campaign"), "by which campaign the last visit came", "label", empty=NEVER),
        Column("order_channel", text_of("last", "channel"), "channel of the last order", "label", empty=NEVER),
        Column("first_paid", _flag("touch_first_medium", PAID), "1 if the first visit came by paid advertising", "flag", empty=NEVER),
        Column("last_paid", _flag("touch_last_medium", PAID), "1 if the last visit came by paid advertising", "flag", empty=NEVER, actionable=True),
        Column("last_owned", _flag("touch_last_medium", OWNED), "1 if the last visit came by the shop's own messages", "flag", empty=NEVER, actionable=True),
        Column(
            "same_source", Derived(("touch_first_source", "touch_last_source"), _same), "1 if the last visit came from where the first did", "flag", empty=NEVER
        ),
        Column("sources", kinds("visit_sources", "source"), "different sources of visits", "sources", windows=(90, None)),
        Column("top_source_share", top_share("visit_sources", "source"), "share of visits from the main source", "share", empty=NEVER, windows=(90,)),
        Column("channels", kinds("channels", "channel"), "different channels ordered through", "channels"),
        Column("top_channel_share", top_share("channels", "channel"), "share of orders through the main channel", "share", empty=NEVER),
    ),
)
