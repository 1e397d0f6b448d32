"""What the people of a simulated shop leave behind: events and a catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from features.sources.batch import canonical_events

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

DEPARTMENTS = ("care", "kitchen", "garden", "paper")
PRODUCTS_EACH, CATEGORIES_EACH, BRANDS = 30, 3, 10
FULL_SIZE, SAMPLE = "care-full-size", "care-sample"
CANCELLED, REFUNDED, RATED = 0.03, 0.04, 0.3  # shares of orders, of orders, of deliveries
REDEEMS = (0.3, 0.65)  # chance that an order redeems an offer that its user holds: so much, and so much times the sensitivity
TIER_CENTS = (10_000, 30_000, 80_000)  # spend that lifts a user to rank 1, 2, 3
BROWSING = {"page_view": 0.35, "product_view": 0.38, "search": 0.10, "favourite": 0.05, "cart_add": 0.08, "checkout": 0.02, "member_centre": 0.02}
WITH_PRODUCT = ("product_view", "favourite", "cart_add")
CHANNELS = np.array(["search", "social", "email", "direct"])
DAY = 86_400


def all_events(
    rng: np.random.Generator, truth: pd.DataFrame, campaigns: pd.DataFrame, ordered: Flags, browsed: Ints, start: date, zone: str, currency: str
) -> pa.Table:
    """All events of EVENT_SCHEMA; `ordered` and `browsed` are users x days."""
    days = ordered.shape[1]
    orders, lines = _orders(rng, truth, campaigns, ordered, start)
    frames = [
        _arrivals(rng, truth),
        _browsing(rng, truth, browsed),
        _before_orders(lines),
        orders.assign(event="order"),
        lines.assign(event="order_item"),
        orders[orders["redeemed"]].assign(event="coupon_redeemed", order_id=None, value_cents=0, quantity=0, discount_cents=0),
        _after_orders(rng, orders),
        _tiers(orders),
        _messages(rng, truth, campaigns, start),
        _held_out(truth, campaigns, start),
        _samples(truth, days),
    ]
    rows = pd.concat([_plain(frame) for frame in frames], ignore_index=True)
    rows = rows[(rows["second"] < days * DAY) & (rows["second"] >= 0)]
    # Numbered in the order in which they happen, so that equal seeds give equal ids.
    rows = rows.sort_values(["second", "user", "event"], kind="stable").reset_index(drop=True)
    local = pd.Timestamp(start) + pd.to_timedelta(rows["second"], unit="s")
    return canonical_events(
        rows.assign(
            user_id=truth.index.to_numpy()[rows["user"]],
            event_id="event-" + rows.index.astype("string"),
            occurred_at=local.dt.tz_localize(zone, ambiguous=np.ones(len(rows), bool), nonexistent="shift_forward").dt.tz_convert("UTC").dt.as_unit("us"),
            currency=pd.Series(currency, rows.index).where(rows["event"].isin(["order", "order_item", "refund"])),
        )
    )


def catalogue() -> pd.DataFrame:
    """The products with category, brand, department and price in cents; the popular ones of a department come first."""
    rng = np.random.default_rng(7)  # every simulated shop sells the same
    names = np.repeat(DEPARTMENTS, PRODUCTS_EACH)
    number = np.tile(np.arange(PRODUCTS_EACH), len(DEPARTMENTS))
    table = pd.DataFrame(
        {
            "product_id": [f"{name}-{n:02d}" for name, n in zip(names, number, strict=True)],
            "category": [f"{name}-{n % CATEGORIES_EACH}" for name, n in zip(names, number, strict=True)],
            "brand": [f"brand-{n}" for n in rng.integers(0, BRANDS, len(names))],
            "department": names,
            "price_cents": np.round(np.exp(rng.normal(2.6, 0.6, len(names))) * 100).astype(int),
        }
    )
    new = pd.DataFrame({"product_id": [FULL_SIZE, SAMPLE], "category": "care-new", "brand": "brand-0", "department": "care", "price_cents": [2900, 0]})
    return pd.concat([table, new], ignore_index=True)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    text = ("event", "order_id", "product_id", "campaign", "channel", "detail")
    amounts = ("quantity", "value_cents", "discount_cents", "coupon_cents", "level")
    types = {**dict.fromkeys(text, "string"), **dict.fromkeys(amounts, "Int64")}
    return frame.reindex(columns=["user", "second", *types]).astype(types)


def _arrivals(rng: np.random.Generator, truth: pd.DataFrame) -> pd.DataFrame:
    """Everybody's first page, with the channel; most register, and most of those state their age."""
    user = np.arange(len(truth))
    second = truth["arrival"].to_numpy() * DAY + rng.integers(0, DAY - 600, len(truth))
    channel = CHANNELS[rng.choice(len(CHANNELS), len(truth), p=[0.4, 0.3, 0.1, 0.2])]
    registers = rng.random(len(truth)) < 0.7
    landing = pd.DataFrame({"user": user, "second": second, "event": "page_view", "channel": channel})
    sign_up = pd.DataFrame({"user": user, "second": second + 120, "event": "sign_up", "channel": channel})[registers]
    age = pd.DataFrame({"user": user, "second": second + 150, "event": "attribute_set", "detail": "age", "level": truth["age"].to_numpy()})
    return pd.concat([landing, sign_up, age[registers & (rng.random(len(truth)) < 0.8)]], ignore_index=True)


def _browsing(rng: np.random.Generator, truth: pd.DataFrame, browsed: Ints) -> pd.DataFrame:
    user, day = (np.repeat(where, browsed[browsed > 0]) for where in np.nonzero(browsed))
    event = np.array(list(BROWSING))[rng.choice(len(BROWSING), len(user), p=list(BROWSING.values()))]
    product_id = catalogue()["product_id"].iloc[_choose(rng, truth, user)].reset_index(drop=True).where(np.isin(event, WITH_PRODUCT))
    return pd.DataFrame({"user": user, "second": day * DAY + _second_of_day(rng, len(user)), "event": event, "product_id": product_id})


def _orders(rng: np.random.Generator, truth: pd.DataFrame, campaigns: pd.DataFrame, ordered: Flags, start: date) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Orders, with the columns cancelled and redeemed, and their lines."""
    user, day = np.nonzero(ordered)
    sensitivity = truth["sensitivity"].to_numpy()[user]
    orders = pd.DataFrame({"user": user, "second": day * DAY + _second_of_day(rng, len(user))})
    orders["order_id"] = "order-" + orders.index.astype("string")
    orders["cancelled"] = rng.random(len(user)) < CANCELLED
    offered = _offers(campaigns, truth, start, user, day)
    orders["redeemed"] = offered.notna().to_numpy() & (rng.random(len(user)) < REDEEMS[0] + REDEEMS[1] * sensitivity)
    orders["campaign"] = offered.where(orders["redeemed"])
    on_sale = rng.random(len(user)) < 0.1 + 0.6 * sensitivity
    orders["off"] = np.where(on_sale, rng.uniform(0.05, 0.3, len(user)), 0)
    lines = _lines(rng, truth, orders, ordered.shape[1])
    sums = lines.groupby("order_id")[["quantity", "value_cents", "discount_cents", "coupon_cents"]].sum()
    return orders.drop(columns=["off"]).merge(sums, left_on="order_id", right_index=True, validate="1:1"), lines


def _lines(rng: np.random.Generator, truth: pd.DataFrame, orders: pd.DataFrame, days: int) -> pd.DataFrame:
    products = catalogue()
    row = np.repeat(np.arange(len(orders)), 1 + rng.poisson(1.0, len(orders)))
    chosen = _choose(rng, truth, orders["user"].to_numpy()[row])
    # The full size is on sale soon after the samples went out; likeness decides who buys it.
    user, day = orders["user"].to_numpy(), orders["second"].to_numpy() // DAY
    sampled = truth["sampled"].to_numpy()[user]
    appeal = truth["likeness"].to_numpy()[user] * np.where(sampled, 0.5, 0.1) * (day >= _sample_day(days) + 7)
    buys = np.flatnonzero(rng.random(len(orders)) < appeal)
    row, chosen = np.concatenate([row, buys]), np.concatenate([chosen, np.full(len(buys), products.index[products["product_id"] == FULL_SIZE][0])])
    quantity = 1 + (rng.random(len(row)) < 0.15).astype(int)
    full = products["price_cents"].to_numpy()[chosen] * quantity
    discount = np.round(full * orders["off"].to_numpy()[row]).astype(int)
    coupon = np.where(orders["redeemed"].to_numpy()[row], (full - discount) // 5, 0)
    amounts = {"quantity": quantity, "value_cents": full - discount - coupon, "discount_cents": discount, "coupon_cents": coupon}
    lines = pd.DataFrame({"row": row, "product_id": products["product_id"].to_numpy()[chosen], **amounts})
    lines = lines.groupby(["row", "product_id"], as_index=False).sum()
    return lines.join(orders[["user", "second", "order_id"]], on="row").drop(columns="row")


def receipts(truth: pd.DataFrame, campaigns: pd.DataFrame, start: date) -> Iterator[tuple[str, int, int, float, Ints]]:
    """Campaign, its day, the days it is valid, its effect and who received it (rows of `truth`)."""
    treated = campaigns[campaigns["treated"].astype(bool)]
    for name in treated["campaign"].unique():
        rows = treated[treated["campaign"] == name]
        first = rows.iloc[0]
        who = np.asarray(truth.index.get_indexer(pd.Index(rows["user_id"])), dtype=np.int64)
        yield str(name), (first["start"] - start).days, int(first["valid_days"]), float(first["effect"]), who


def _offers(campaigns: pd.DataFrame, truth: pd.DataFrame, start: date, user: Ints, day: Ints) -> pd.Series:
    """The campaign whose offer a user holds on a day; campaigns do not overlap."""
    offers = pd.Series(None, index=range(len(user)), dtype="string")
    for name, first, valid, _, who in receipts(truth, campaigns, start):
        offers[np.isin(user, who) & (day >= first) & (day < first + valid)] = name
    return offers


def _before_orders(lines: pd.DataFrame) -> pd.DataFrame:
    carts = lines[["user", "second", "product_id"]].assign(event="cart_add", second=lines["second"] - 300)
    checkouts = lines.drop_duplicates("order_id")[["user", "second"]].assign(event="checkout", second=lambda rows: rows["second"] - 60)
    return pd.concat([carts, checkouts], ignore_index=True)


def _after_orders(rng: np.random.Generator, orders: pd.DataFrame) -> pd.DataFrame:
    """Cancellations within two days; deliveries, ratings that suffer from slow ones, refunds."""
    base = orders[["user", "second", "order_id", "value_cents"]]
    cancelled = base[orders["cancelled"]].drop(columns="value_cents").assign(event="order_cancelled")
    cancelled["second"] += rng.integers(600, 2 * DAY, len(cancelled))
    kept = base[~orders["cancelled"]]
    took = 1 + rng.poisson(2.5, len(kept))
    delivered = kept.drop(columns="value_cents").assign(event="delivered", level=took, second=kept["second"] + took * DAY)
    stars = np.clip(np.round(5.2 - 0.35 * took + rng.normal(0, 0.8, len(kept))), 1, 5).astype(int)
    rated = delivered.assign(event="rating", level=stars, second=delivered["second"] + DAY)[rng.random(len(kept)) < RATED]
    share = rng.uniform(0.2, 1.0, len(kept))
    refund = kept.assign(event="refund", value_cents=(kept["value_cents"] * share).astype("int64"), second=delivered["second"] + 5 * DAY)
    return pd.concat([cancelled, delivered, rated, refund[rng.random(len(kept)) < REFUNDED]], ignore_index=True)


def _tiers(orders: pd.DataFrame) -> pd.DataFrame:
    valid = orders[~orders["cancelled"]].sort_values(["user", "second"], kind="stable")
    rank = pd.Series(np.searchsorted(TIER_CENTS, valid.groupby("user")["value_cents"].cumsum(), side="right"), valid.index)
    rises = rank > rank.groupby(valid["user"]).shift(fill_value=0)
    return valid.loc[rises, ["user", "second"]].assign(event="tier_changed", level=rank[rises], second=valid.loc[rises, "second"] + 1)


def _messages(rng: np.random.Generator, truth: pd.DataFrame, campaigns: pd.DataFrame, start: date) -> pd.DataFrame:
    """Receipt at seven in the morning for the treated; those sensitive to discounts open and click more, those who left never."""
    treated = campaigns[campaigns["treated"].astype(bool)]
    user = truth.index.get_indexer(pd.Index(treated["user_id"]))
    day = (pd.to_datetime(treated["start"]) - pd.Timestamp(start)).dt.days.to_numpy()
    received = pd.DataFrame({"user": user, "second": day * DAY + 7 * 3600, "event": "campaign_received", "campaign": treated["campaign"].to_numpy()})
    received["level"], received["channel"] = treated["valid_days"].to_numpy(), "email"
    sensitivity = truth["sensitivity"].to_numpy()[user]
    opens = (rng.random(len(user)) < 0.2 + 0.5 * sensitivity) & (truth["alive_until"].to_numpy()[user] > day)
    clicks = opens & (rng.random(len(user)) < 0.2 + 0.4 * sensitivity)
    opened = received.drop(columns="level").assign(event="message_opened", second=received["second"] + rng.integers(60, DAY, len(user)))
    clicked = opened.assign(event="message_clicked", second=opened["second"] + 20)
    return pd.concat([received, opened[opens], clicked[clicks]], ignore_index=True)


def _held_out(truth: pd.DataFrame, campaigns: pd.DataFrame, start: date) -> pd.DataFrame:
    """Who was drawn for a campaign and by the second lot did not get it."""
    kept = campaigns[~campaigns["treated"].astype(bool)]
    second = (pd.to_datetime(kept["start"]) - pd.Timestamp(start)).dt.days.to_numpy() * DAY + 7 * 3600
    user = truth.index.get_indexer(pd.Index(kept["user_id"]))
    return pd.DataFrame({"user": user, "second": second, "event": "held_out", "campaign": kept["campaign"].to_numpy()})


def _samples(truth: pd.DataFrame, days: int) -> pd.DataFrame:
    user = np.flatnonzero(truth["sampled"].to_numpy())
    second = _sample_day(days) * DAY + 10 * 3600
    return pd.DataFrame({"user": user, "second": second, "event": "sample_received", "product_id": SAMPLE, "campaign": "sampling-1"})


def _sample_day(days: int) -> int:
    return days * 2 // 5


def _choose(rng: np.random.Generator, truth: pd.DataFrame, user: Ints) -> Ints:
    """Rows of the catalogue: a department by the user's taste, within it the popular products more often."""
    reach = truth[[f"taste_{name}" for name in DEPARTMENTS]].to_numpy().cumsum(axis=1)
    department = np.minimum((rng.random(len(user))[:, None] > reach[user]).sum(axis=1), len(DEPARTMENTS) - 1)
    popularity = 1 / np.arange(1, PRODUCTS_EACH + 1)
    chosen: Ints = department * PRODUCTS_EACH + rng.choice(PRODUCTS_EACH, len(user), p=popularity / popularity.sum())
    return chosen


def _second_of_day(rng: np.random.Generator, size: int) -> Ints:
    """More in the evening than at night, and late enough for the cart that comes before an order."""
    return np.clip(rng.normal(16.5, 4.0, size) * 3600, 600, DAY - 600).astype(np.int64)
