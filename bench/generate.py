"""A synthetic shop: the rows of its event log, user range by user range, so that memory stays small at any size.

What is skewed in shops is skewed here: users by a lognormal activity, products, terms and campaigns by popularity, days
by the week, hours by the evening; users arrive all year long. Every canonical event occurs. Orders have 1 to 4 lines,
one in 25 is cancelled later (rows with sign -1), and some facts become known a day or more after they happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.events import day_number
from features.shopfile import Shop
from features.vocabulary import EVENTS, LOG_SCHEMA, PRODUCT_SCHEMA

Array = npt.NDArray[Any]
START, DAYS = date(2024, 1, 1), 400
END = START + timedelta(days=DAYS)
EVENTS_PER_USER, CHUNK_USERS = 50, 20_000
VISITS = 4.95  # per user on average; with what follows from them and the messages it makes EVENTS_PER_USER
DAY, HOUR, SECOND = 86_400_000_000, 3_600_000_000, 1_000_000
EMPTY = np.iinfo(np.int64).min
CODES = {name: code for code, name in enumerate(EVENTS)}
SHOP = Shop(
    "bench", "UTC", "EUR", attributes=("age", "income", "growth_value"), tiers=(0, 1_000, 5_000, 20_000), daily_use={"category 007": 0.05, "category 011": 0.1}
)  # fmt: skip

PER_VISIT = {  # how many of each on an average visit
    "session_start": None, "page_view": 0.7, "list_view": 0.8, "product_view": 2.0, "search": 0.45, "promotion_view": 0.15, "promotion_click": 0.04,
    "favourite": 0.12, "review_read": 0.12, "support": 0.015, "cart_add": 0.35, "cart_remove": 0.05, "cart_view": 0.15, "checkout": 0.06,
    "member_centre": 0.05, "benefit_claimed": 0.015, "benefit_used": 0.01, "share": 0.01, "coupon_denied": 0.008, "referral": 0.008,
}  # fmt: skip
WITH_PRODUCT = ("product_view", "favourite", "cart_add", "cart_remove", "review_read", "share")
PER_MONTH = {"campaign_received": 0.8, "coupon_received": 0.15, "sample_received": 0.05, "tier_changed": 0.04, "unsubscribed": 0.006}
ORDER_SHARE = 0.12  # of visits
WORDS = {
    "product_id": [f"p{number:05d}" for number in range(20_000)],
    "campaign": [f"campaign {number:03d}" for number in range(120)],
    "channel": ["app", "phone", "store", "web"],
    "source": ["baidu", "bing", "direct", "facebook", "google", "instagram", "newsletter", "partner", "tiktok", "wechat", "xiaohongshu", "youtube"],
    "medium": ["affiliate", "cpc", "display", "email", "none", "organic", "referral", "social"],
    "detail": [*(f"term {number:04d}" for number in range(5_000)), "fixed", "gift", "percent", "shipping", "age", "growth_value", "income"],
    "currency": ["EUR"],
}
COUPON, ATTRIBUTE = 5_000, {"age": 5_004, "growth_value": 5_005, "income": 5_006}
NUMBERS = ("quantity", "value_cents", "discount_cents", "coupon_cents", "level")
HOURS = np.array([1, 0.6, 0.4, 0.3, 0.3, 0.5, 1, 2, 3, 3.5, 4, 4.5, 5, 4.5, 4, 4, 4.5, 5, 6, 7, 8, 8, 6, 3])
WEEK = np.array([0.75, 0.7, 0.7, 0.75, 0.85, 1.0, 0.95])  # chance that a day is kept, Monday first


@dataclass
class World:
    """What all users share: products by category and popularity, prices."""

    category: Array
    reach: Array  # cumulative popularity of the products, which are numbered by category
    edges: Array  # category -> first of its products, and one more
    price: Array

    @classmethod
    def made(cls, seed: int) -> World:
        rng = np.random.default_rng([seed, 0])
        category = np.sort(rng.integers(0, 120, len(WORDS["product_id"])))
        popularity = 1.0 / rng.permutation(np.arange(10, len(category) + 10)) ** 0.9
        price = np.exp(rng.normal(7.2, 0.8, len(category))).astype(np.int64) + 50
        return cls(category, np.concatenate([[0], np.cumsum(popularity)]), np.searchsorted(category, np.arange(121)), price)

    def products(self) -> pa.Table:
        rng = np.random.default_rng([len(self.category), 1])
        brand = rng.integers(0, 600, len(self.category))
        names = {"product_id": WORDS["product_id"], "category": [f"category {code:03d}" for code in self.category]}
        names |= {"brand": [f"brand {code:03d}" for code in brand], "department": [f"department {code % 12:02d}" for code in self.category]}
        return pa.table({name: pa.array(names[name], pa.string()) for name in PRODUCT_SCHEMA.names}, schema=PRODUCT_SCHEMA)

    def draw(self, rng: np.random.Generator, category: Array) -> Array:
        """A product for each: mostly of the given category, by popularity."""
        free = rng.random(len(category)) < 0.3
        low = np.where(free, 0.0, self.reach[self.edges[category]])
        high = np.where(free, self.reach[-1], self.reach[self.edges[category + 1]])
        return np.clip(np.searchsorted(self.reach, low + (high - low) * rng.random(len(category)), side="right") - 1, 0, len(self.category) - 1)


@dataclass
class Facts:
    """Columns that grow: codes of texts (-1 for none), numbers (EMPTY for none)."""

    parts: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, event: str, user: Array, moment: Array, known: Array, **fields: Array | int) -> None:
        """Facts of one kind; `order` numbers the order, `off` is when it is cancelled (EMPTY for never)."""
        rows = {"event": CODES[event], "user": user, "moment": moment, "known": known, **fields}
        for name in ("event", "user", "moment", "known", "order", "off", *WORDS, *NUMBERS):
            value = rows.get(name, -1 if name in WORDS or name == "order" else EMPTY)
            self.parts.setdefault(name, []).append(np.broadcast_to(np.asarray(value, np.int64), len(user)))

    def columns(self) -> dict[str, Array]:
        return {name: np.concatenate(arrays) for name, arrays in self.parts.items()}


def users_of(world: World, seed: int, chunk: int, users: int) -> pa.Table:
    """All rows of a range of users, as LOG_SCHEMA in the log's order."""
    rng, facts = np.random.default_rng([seed, 2, chunk]), Facts()
    arrival = np.where(rng.random(users) < 0.45, 0, rng.random(users) * DAYS)
    everybody = np.arange(users)
    _declared(rng, facts, everybody, arrival)
    _messages(rng, facts, everybody, arrival)
    activity = np.exp(rng.normal(-0.72, 1.2, users))
    visit = np.repeat(everybody, rng.poisson(VISITS * activity))
    _visits(rng, facts, world, visit, arrival[visit], rng.integers(0, 120, users), chunk)
    return _as_log(facts.columns(), chunk, users)


def _moments(rng: np.random.Generator, arrival: Array, fading: float) -> Array:
    def day() -> Array:
        return np.floor(arrival + (DAYS - arrival) * rng.random(len(arrival)) ** fading).astype(np.int64)

    days = day()
    days = np.where(rng.random(len(days)) < WEEK[(days + START.weekday()) % 7], days, day())
    hour = np.searchsorted(np.cumsum(HOURS) / HOURS.sum(), rng.random(len(days)))
    return (day_number(START) + days) * DAY + hour * HOUR + rng.integers(0, 3_600, len(days)) * SECOND


def _soon(rng: np.random.Generator, moment: Array) -> Array:
    """Most systems know within a minute; one row in 50 comes with a later file."""
    late = np.where(rng.random(len(moment)) < 0.02, rng.integers(4 * HOUR, 60 * HOUR, len(moment)), 0)
    return moment + rng.integers(0, 60, len(moment)) * SECOND + late


def _declared(rng: np.random.Generator, facts: Facts, users: Array, arrival: Array) -> None:
    for event, share in (("sign_up", 0.6), ("identified", 0.2)):
        mine = users[rng.random(len(users)) < share]
        moment = ((day_number(START) + arrival[mine]) * DAY).astype(np.int64)
        facts.add(event, mine, moment, _soon(rng, moment))
    for name, mean, most in (("age", 0.6, 90), ("income", 0.3, 200), ("growth_value", 1.2, 25_000)):
        mine = np.repeat(users, rng.poisson(mean, len(users)))
        moment = _moments(rng, arrival[mine], 1.0)
        facts.add("attribute_set", mine, moment, _soon(rng, moment), detail=ATTRIBUTE[name], level=rng.integers(1, most, len(mine)))


def _messages(rng: np.random.Generator, facts: Facts, users: Array, arrival: Array) -> None:
    for event, rate in PER_MONTH.items():
        mine = np.repeat(users, rng.poisson(rate * (DAYS - arrival) / 30))
        moment, fields = _moments(rng, arrival[mine], 1.0), {}
        if event == "campaign_received":
            campaign = (moment // DAY - day_number(START)) * 118 // DAYS + rng.integers(0, 2, len(mine))
            fields = {"campaign": campaign, "level": 14}
            for answer, share in (("message_opened", 0.35), ("message_clicked", 0.08)):
                some = rng.random(len(mine)) < share
                opened = moment[some] + rng.integers(HOUR // 10, 60 * HOUR, int(some.sum()))
                facts.add(answer, mine[some], opened, _soon(rng, opened), campaign=campaign[some])
        elif event == "coupon_received":
            fields = {"detail": COUPON + rng.integers(0, 4, len(mine)), "level": 30}
        elif event == "tier_changed":
            fields = {"level": rng.integers(0, 4, len(mine))}
        facts.add(event, mine, moment, _soon(rng, moment), **fields)


def _visits(rng: np.random.Generator, facts: Facts, world: World, user: Array, arrival: Array, favourite: Array, chunk: int) -> None:
    moment = _moments(rng, arrival, 1.4)
    source = np.minimum(rng.geometric(0.25, len(user)) - 1, len(WORDS["source"]) - 1)
    medium = (source * 5 + rng.integers(0, 2, len(user))) % len(WORDS["medium"])
    campaign = np.where(rng.random(len(user)) < 0.2, (moment // DAY - day_number(START)) * 118 // DAYS, -1)
    for event, rate in PER_VISIT.items():
        visit = np.arange(len(user)) if rate is None else np.repeat(np.arange(len(user)), rng.poisson(rate, len(user)))
        at = moment[visit] if rate is None else moment[visit] + rng.integers(1, 1_800, len(visit)) * SECOND
        fields: dict[str, Array | int] = {}
        if event in ("session_start", "page_view"):
            tagged = (rng.random(len(visit)) < 0.3) | (event == "session_start")
            fields = {name: np.where(tagged, code[visit], -1) for name, code in (("source", source), ("medium", medium), ("campaign", campaign))}
        elif event in WITH_PRODUCT:
            fields = {"product_id": world.draw(rng, favourite[user[visit]])}
        elif event == "search":
            fields = {"detail": np.minimum(rng.zipf(1.3, len(visit)) - 1, 4_999)}
        facts.add(event, user[visit], at, _soon(rng, at), **fields)
    bought = np.flatnonzero(rng.random(len(user)) < ORDER_SHARE * np.exp(rng.normal(-0.125, 0.5, len(user))))
    _orders(rng, facts, world, user[bought], moment[bought] + 1_800 * SECOND, favourite, chunk)


def _orders(rng: np.random.Generator, facts: Facts, world: World, user: Array, moment: Array, favourite: Array, chunk: int) -> None:
    number = chunk * 10_000_000 + np.arange(len(user))
    known, lines = _soon(rng, moment), np.minimum(rng.geometric(0.55, len(user)), 4)
    line = np.repeat(np.arange(len(user)), lines)
    product, quantity = world.draw(rng, favourite[user[line]]), 1 + rng.poisson(0.3, len(line))
    total = np.bincount(line, world.price[product] * quantity, len(user)).astype(np.int64)
    discount = np.where(rng.random(len(user)) < 0.3, total * rng.integers(5, 30, len(user)) // 100, 0)
    has_coupon = rng.random(len(user)) < 0.22
    coupon = np.where(has_coupon, total * rng.integers(3, 15, len(user)) // 100, 0)
    off = np.where(rng.random(len(user)) < 0.04, known + rng.integers(HOUR, 120 * HOUR, len(user)), EMPTY)
    amounts = {"value_cents": total - discount - coupon, "discount_cents": discount, "coupon_cents": coupon, "currency": 0}
    items = np.bincount(line, quantity, len(user)).astype(np.int64)
    facts.add("order", user, moment, known, order=number, off=off, channel=rng.integers(0, 4, len(user)), quantity=items, **amounts)
    of_line = {"product_id": product, "quantity": quantity, "value_cents": world.price[product] * quantity, "currency": 0}
    facts.add("order_item", user[line], moment[line], known[line], order=number[line], off=off[line], **of_line)
    for event, minutes in (("checkout", -6), ("payment_info", -3)):
        facts.add(event, user, moment + minutes * 60 * SECOND, _soon(rng, moment))
    kind, ad = COUPON + rng.integers(0, 4, len(user)), (moment // DAY - day_number(START)) * 118 // DAYS
    facts.add("coupon_applied", user[has_coupon], moment[has_coupon], known[has_coupon], detail=kind[has_coupon])
    answered = {"order": number, "detail": kind, "campaign": np.where(rng.random(len(user)) < 0.5, ad, -1)}
    facts.add("coupon_redeemed", user[has_coupon], moment[has_coupon], known[has_coupon], **{name: column[has_coupon] for name, column in answered.items()})
    gone = off != EMPTY
    facts.add("order_cancelled", user[gone], off[gone], off[gone], order=number[gone])
    took = rng.integers(1, 7, len(user))
    for event, share, days, level in (
        ("delivered", 0.95, took, took), ("delivery_late", 0.12, took, took // 2 + 1), ("rating", 0.15, took + 2, np.minimum(rng.integers(1, 9, len(user)), 5)),
        ("review_written", 0.06, took + 3, EMPTY), ("refund", 0.04, took + 4, EMPTY),
    ):  # fmt: skip
        some = ~gone & (rng.random(len(user)) < share)
        at = (moment + days * DAY)[some]
        fields = {"value_cents": total[some] // 2, "currency": 0} if event == "refund" else {"level": np.broadcast_to(level, len(user))[some]}
        facts.add(event, user[some], at, _soon(rng, at), order=number[some], **fields)


def _as_log(rows: dict[str, Array], chunk: int, users: int) -> pa.Table:
    rank = np.empty(len(rows["user"]), np.int64)
    rank[np.argsort((rows["user"] << 46) + (rows["moment"] - day_number(START) * DAY), kind="stable")] = np.arange(len(rank))
    taken = np.flatnonzero(rows["off"] != EMPTY)
    rows = {name: np.concatenate([column, column[taken]]) for name, column in {**rows, "rank": rank, "sign": np.ones(len(rank), np.int64)}.items()}
    rows["sign"][len(rank) :], rows["known"][len(rank) :] = -1, rows["off"][len(rank) :]
    day, known_day = rows["moment"] // DAY, rows["known"] // DAY
    kept = np.flatnonzero((day < day_number(END)) & (known_day < day_number(END)))
    first = day_number(START)
    order = kept[np.argsort(((((rows["user"] << 10) | (day - first)) << 10 | (known_day - first)) << 25 | rows["rank"])[kept], kind="stable")]
    rows = {name: column[order] for name, column in {**rows, "day": day, "known_day": known_day, "hour": rows["moment"] % DAY // HOUR}.items()}
    number = pa.array(chunk * 100_000_000 + rows["rank"]).cast(pa.string())
    user = _words([f"u{chunk * CHUNK_USERS + code:08d}" for code in range(users)], rows["user"])
    columns: dict[str, pa.Array] = {name: _words(words, rows[name]) for name, words in WORDS.items()}
    columns |= {name: pa.array(rows[name], mask=rows[name] == EMPTY) for name in NUMBERS}
    columns |= {"user_id": user, "given_id": user, "event": _words(list(EVENTS), rows["event"])}
    columns["event_id"] = pc.binary_join_element_wise("e", pc.utf8_lpad(number, 13, "0"), "")
    columns["order_id"] = pc.binary_join_element_wise("o", pa.array(rows["order"], mask=rows["order"] < 0).cast(pa.string()), "")
    columns |= {name: pa.array(rows[short]).cast(LOG_SCHEMA.field(name).type) for name, short in (("occurred_at", "moment"), ("known_at", "known"))}
    columns |= {name: pa.array(rows[name], pa.int32()) for name in ("sign", "day", "known_day", "hour")}
    return pa.table([columns[name] for name in LOG_SCHEMA.names], schema=LOG_SCHEMA)


def _words(words: list[str], codes: Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32(), mask=codes < 0), pa.array(words, pa.string())).cast(pa.string())
