"""Seeds: from a list, a rule, a sampling campaign; what is refused and why; kept, erased and forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import encore
from features.errors import InvalidTable, LabelWindowOpen, NoUsableData, UnknownName
from features.events import EventLog
from features.shop import SimulatedShop
from features.shopfile import Shop
from features.snapshot import Snapshot
from features.store import SnapshotStore
from features.tiles import Tiles, open_tiles
from features.workspace import Workspace, open_workspace
from training.lookalike.match import form_of, matched
from training.lookalike.rules import conditions_of, holds
from training.lookalike.seed import Seed, SeedRefused, candidates_of, named_now, seed_digest
from training.lookalike.seed_report import coherence, headlines, overlap, seed_report
from training.lookalike.seed_request import SeedRequest, make_requested, open_seed, requested
from training.lookalike.seed_sources import Given, campaigns_in, read_list
from training.lookalike.seed_store import delete_seed, drop_expired, erase_buried, manifests, read_seed, save_seed, seed_names
from training.lookalike.suggest import suggest_seed

MakeLog = Callable[..., EventLog]
TODAY = date(2026, 11, 22)
AS_OF = date(2024, 3, 1)
RECEIPT, WITHIN = date(2024, 2, 1), 10


def order(user: str, day: str, product: str = "soap", cents: int = 1000) -> list[dict[str, Any]]:
    name = f"{user}-{day}-{product}"
    base = {"user_id": user, "occurred_at": f"2024-{day} 10:00", "order_id": name, "value_cents": cents}
    return [{**base, "event": "order"}, {**base, "event": "order_item", "product_id": product, "quantity": 1}]


def sample(user: str, day: str = "02-01") -> dict[str, Any]:
    return {"user_id": user, "event": "sample_received", "campaign": "try", "product_id": "mini", "occurred_at": f"2024-{day} 09:00"}


def names(count: int, first: int = 0) -> list[str]:
    return [f"u{number:03d}" for number in range(first, first + count)]


# A hundred users with one order each. The first fifty received a sample on February 1st. Of these u000 to u034 bought the full
# size five days later, u035 on the last of the ten days that count, u036 a day too late, u037 before the sample came, u038 took
# the order back, u039 bought something else.
FIFTY = [event for user in names(100) for event in order(user, "01-10")]
FIFTY += [sample(user) for user in names(50)]
FIFTY += [event for user in names(35) for event in order(user, "02-06", "big")]
FIFTY += [
    *order("u035", "02-10", "big"),
    *order("u036", "02-11", "big"),
    *order("u037", "01-20", "big"),
    *order("u038", "02-05", "big"),
    *order("u039", "02-05"),
]
FIFTY += [{"user_id": "u038", "event": "order_cancelled", "order_id": "u038-02-05-big", "occurred_at": "2024-02-05 12:00"}]
FIFTY += order("new", "02-20")
PRODUCTS = [{"product_id": name, "category": group} for name, group in (("soap", "old"), ("big", "launch"), ("mini", "launch"))]


class Made:
    """A log with its tiles and snapshots."""

    def __init__(self, log: EventLog, shop: Shop, folder: Path) -> None:
        self.log, self.store, self.tiles = log, SnapshotStore(folder / "snapshots"), open_tiles(log, shop, folder / "tiles")
        self.shop, self.folder = shop, folder

    def at(self, as_of: date) -> Snapshot:
        return self.store.get(self.tiles, as_of, 1)

    def seed(self, **asked: Any) -> Seed:
        return requested(SeedRequest(**{"name": "test", **asked}), self.tiles, self.store, TODAY)[0]

    def refused(self, **asked: Any) -> list[str]:
        with pytest.raises(SeedRefused) as caught:
            self.seed(**asked)
        return caught.value.problems

    def fresh(self) -> Tiles:
        return open_tiles(self.log, self.shop, self.folder / "tiles")


@pytest.fixture(scope="module")
def make(make_log: MakeLog, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    def made(events: Sequence[dict[str, Any]], until: date = AS_OF) -> Made:
        return Made(make_log(events, PRODUCTS, complete_until=until), shop, tmp_path_factory.mktemp("seeds"))

    return made


@pytest.fixture(scope="module")
def fifty(make: Callable[..., Made]) -> Made:
    """Nobody may change it."""
    return make(FIFTY)


@pytest.fixture(scope="module")
def place(simulated: SimulatedShop, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = open_workspace(tmp_path_factory.mktemp("shop") / "workspace", {})
    workspace.root.mkdir()
    workspace.shop_file.write_text('name = "Shop"\nzone = "UTC"\ncurrency = "EUR"\nattributes = ["age"]\n')
    workspace.log(workspace.shop()).append(simulated.batch)
    return workspace


def listed(ids: Sequence[str], days: tuple[int, ...] | None = None) -> Given:
    return Given(tuple(ids), days)


# --- lists ----------------------------------------------------------------------------------------------------------


def test_of_a_list_each_known_user_counts_once_and_the_others_are_told_apart(make: Callable[..., Made]) -> None:
    linked = {"user_id": "u001", "anonymous_id": "browser-1", "event": "identified", "occurred_at": "2024-01-12 10:00"}
    shop = make([*FIFTY, linked, *order("dora", "01-05"), *order("sam", "01-05")])
    shop.log.bury(["dora"], "deleted")
    shop.log.bury(["sam"], "suppressed")
    tiles = shop.fresh()
    ids = [*names(31), " u000", "u001", "browser-1", "", "dora", "sam", "new", "nobody", "nobody else"]
    found = matched(ids, shop.store.get(tiles, date(2024, 2, 15), 1), tiles)
    assert found.users == tuple(names(31))
    # u000 and u001 are given twice, and the browser is u001 once more.
    assert found.counts == {
        "given": 40, "blank": 1, "duplicates": 3, "linked": 1, "by_hash": 0, "pointed": 0, "deleted": 1, "suppressed": 1, "later": 1, "unknown": 2,
        "addresses_unknown": 0, "matched": 31,
    }  # fmt: skip
    assert (found.unknown, found.rows) == (("nobody", "nobody else"), (39, 40))
    assert sum(found.counts[name] for name in ("blank", "duplicates", "deleted", "suppressed", "later", "unknown", "matched")) == found.counts["given"]


def test_a_visitor_who_was_recognised_later_stands_for_what_was_known_at_the_date(make: Callable[..., Made]) -> None:
    view = {"anonymous_id": "browser-1", "event": "product_view", "occurred_at": "2024-01-03 10:00"}
    recognised = {"user_id": "zoe", "anonymous_id": "browser-1", "event": "identified", "occurred_at": "2024-02-20 10:00"}
    shop = make([*FIFTY, view, recognised])
    before, after = shop.at(date(2024, 2, 10)), shop.at(AS_OF)
    assert matched(["browser-1"], before, shop.tiles).users == ("browser-1",)
    assert matched(["zoe"], before, shop.tiles).users == ()
    assert matched(["browser-1", "zoe"], after, shop.tiles).users == ("zoe",)


def test_a_visitor_of_the_seed_who_was_recognised_later_is_no_look_alike_of_himself(make: Callable[..., Made]) -> None:
    views = [{"anonymous_id": f"browser-{n}", "event": "product_view", "occurred_at": "2024-01-03 10:00"} for n in range(30)]
    recognised = {"user_id": "zoe", "anonymous_id": "browser-1", "event": "identified", "occurred_at": "2024-02-20 10:00"}
    shop = make([*FIFTY, *views, recognised])
    seed = shop.seed(listed=listed([f"browser-{n}" for n in range(30)]), as_of=date(2024, 2, 10))
    assert len(seed.users) == 30
    at = shop.at(AS_OF)
    assert "zoe" in {*at.user_ids}
    assert {*at.user_ids[candidates_of(named_now(seed, shop.tiles), at)]} == {*names(100), "new"}


def test_hashes_and_addresses_find_ids_that_are_hashes_or_addresses(make: Callable[..., Made]) -> None:
    hashed = sha256(b"ann@shop.test").hexdigest()
    shop = make([*FIFTY, *order(hashed, "01-05"), *order("Ben@Shop.test", "01-05"), *order("plain", "01-05")])
    at = shop.at(AS_OF)

    def users(*ids: str) -> tuple[str, ...]:
        return matched(ids, at, shop.tiles).users

    assert users("  Ann@SHOP.test ") == users(hashed.upper()) == (hashed,)
    assert users(sha256(b"ben@shop.test").hexdigest()) == users("ben@shop.test") == ("Ben@Shop.test",)
    assert users(sha256(b"plain").hexdigest()) == ("plain",)
    missed = matched([sha256(b"who@shop.test").hexdigest(), hashed], at, shop.tiles)
    assert (missed.counts["unknown"], missed.counts["matched"]) == (1, 1)
    assert matched([hashed.upper(), sha256(b"plain").hexdigest()], at, shop.tiles).counts["by_hash"] == 2


def test_a_deleted_user_is_not_found_by_hash_either(make: Callable[..., Made]) -> None:
    shop = make([*FIFTY, *order("dora", "01-05")])
    shop.log.bury(["dora"], "deleted")
    tiles = shop.fresh()
    found = matched([sha256(b"dora").hexdigest(), "dora"], shop.store.get(tiles, AS_OF, 1), tiles)
    assert found.users == ()
    assert found.counts["deleted"] == 2


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("user_id\na\nb\n", ["a", "b"]),
        ("\ufeffuser_id,segment\n007,x\n 8 ,y\n", ["007", "8"]),
        ("age;Customer ID\n3;a\n4;b\n", ["a", "b"]),
        ("name\tuserid\nx\ta\n", ["a"]),
        ("segment,email_sha256\nx,AB\n", ["AB"]),
        ("a\nb\n", ["a", "b"]),
        ('user_id,name\n"a,1","x"\n', ["a,1"]),
        ("custmer_id,colour\na,red\n", ["a"]),
        ("user_id,name\na,Zoe\u2028Zola\n\u00fc\x85b,x\n", ["a", "\u00fc\x85b"]),  # only line ends end a line
        ('note,user_id\r\n"two\r\nlines",a\r\n,b\r\n', ["a", "b"]),
    ],
)
def test_the_column_of_ids_is_found_in_any_usual_file(text: str, ids: list[str], tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    assert list(read_list(tmp_path / "list.csv").ids) == ids


def test_parquet_ids_are_texts_and_dates_become_days(tmp_path: Path) -> None:
    rows = pd.DataFrame({"id": [1.0, 2.0, None], "received": ["2024-02-01", "2024-02-02", "2024-02-02"]})
    rows.to_parquet(tmp_path / "list.parquet")
    given_ids = read_list(tmp_path / "list.parquet")
    assert given_ids.ids == ("1", "2", "")
    assert given_ids.days == (19754, 19755, 19755)


def test_a_date_that_nobody_asked_for_may_look_as_it_likes(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("user_id,date\na,31.12.2024\n")
    assert read_list(tmp_path / "list.csv", dated=False) == Given(("a",), None, "column 'user_id' of list.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("user_id\n", "no value"),
        ("user_id,name,user_id\na,x,b\n", "2 columns are called 'user_id'"),
        ("id,date,date\na,2024-02-01,2024-02-02\n", "2 columns"),
        ("colour,size\nred,3\n", "--column"),
        ("user_id,date\na,soon\n", "2026-06-01"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_that_is_no_list_is_refused_with_what_to_give(text: str | bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidTable, match=says):
        read_list(tmp_path / "list.csv")


def test_a_column_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("household,colour\n1,red\n")
    with pytest.raises(UnknownName, match="Did you mean 'household'"):
        read_list(tmp_path / "list.csv", "houshold")
    with pytest.raises(InvalidTable, match="No such file"):
        read_list(tmp_path / "missing.csv")


# --- rules ----------------------------------------------------------------------------------------------------------


def rows_of(rule: str, snapshot: Snapshot) -> set[str]:
    conditions, problems = conditions_of(rule, snapshot)
    assert not problems
    return {*snapshot.user_ids[holds(conditions, snapshot)]}


def test_a_rule_is_read_as_it_is_written(fifty: Made) -> None:
    at = fifty.at(AS_OF)
    buyers_twice = {*names(38), "u039"}  # u038's second order was cancelled
    assert rows_of("orders_count >= 2", at) == rows_of("orders_count > 1", at) == rows_of("orders_count = 2 and stage is repeat", at) == buyers_twice
    assert rows_of("orders_count != 2", at) == {*at.user_ids} - buyers_twice
    assert rows_of("orders_count<2 AND membership_samples >= 1", at) == {"u038", *names(10, 40)}
    assert rows_of("membership_sample_recency is unknown", at) == {*names(50, 50), "new"}
    assert rows_of("membership_sample_recency is not unknown", at) == rows_of("membership_sample_recency is known", at) == {*names(50)}
    # A feature without a value fulfils no comparison, not even "is not".
    assert rows_of("membership_sample_recency != 3", at) == {*names(50)}
    assert rows_of("group is champion or regular", at) == rows_of("champions", at) | rows_of("regular", at)


def test_loyal_is_every_loyal_layer(place: Workspace) -> None:
    tiles = place.tiles(place.shop())
    at = place.snapshots.get(tiles, tiles.log.complete_until, 1)
    layers = at.frame["layers_layer"]
    assert rows_of("loyal", at) == {*layers.index[layers.isin(["loyal", "loyal full-price"])]}
    assert rows_of("super users", at) == rows_of("layer is super user", at) == {*layers.index[layers == "super user"]} != set()
    assert rows_of('layer is "new, high value" or lapsed', at) == {*layers.index[layers.isin(["new, high value", "lapsed"])]}
    assert rows_of("age >= 40", at) == {*at.frame.index[at.frame["attributes_age"] >= 40]}


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("order_count >= 2", "Did you mean 'orders_count'"),
        ("orders_count >= many", "is a number"),
        ("orders_count >= inf", "finite"),
        ("layer >= 3", "holds words"),
        ("stage is secnd", "Did you mean 'second'"),
        ("chmpions", "Did you mean 'champion'"),
        ("", "Unknown segment"),
        ("__import__('os').system('true')", "Unknown segment"),
    ],
)
def test_a_rule_that_cannot_be_read_says_what_is_near(rule: str, says: str, fifty: Made) -> None:
    problems = conditions_of(rule, fifty.at(AS_OF))[1]
    assert len(problems) == 1
    assert says in problems[0]


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from(["orders_count", "layer", "is", "not", "and", "or", ">=", "3", "champion", '"', "("]), max_size=8).map(" ".join),
    )
)
def test_any_text_is_a_rule_or_a_list_of_problems(fifty: Made, rule: str) -> None:
    at = fifty.at(AS_OF)
    conditions, problems = conditions_of(rule, at)
    assert conditions or problems
    assert holds(conditions, at).shape == (at.table.num_rows,)


# --- a past sampling campaign ---------------------------------------------------------------------------------------


def test_receivers_who_bought_in_time_are_the_seed_and_the_others_the_negatives(fifty: Made) -> None:
    seed = fifty.seed(campaign="try", bought=("big",), within=WITHIN)
    assert seed.as_of == RECEIPT
    assert seed.users == tuple(names(36))
    assert seed.negatives == tuple(names(14, 36))
    assert seed.how["receivers"] == 50
    assert fifty.seed(campaign="try", bought_categories=("launch",), within=WITHIN).users == seed.users
    assert fifty.seed(campaign="try", within=WITHIN).users == tuple(sorted([*names(36), "u039"]))  # anything at all


def test_a_list_of_receivers_gives_the_same_seed_as_the_campaign(fifty: Made) -> None:
    by_log = fifty.seed(campaign="try", bought=("big",), within=WITHIN)
    asked = {"bought": ("big",), "within": WITHIN}
    one_day = fifty.seed(listed=listed(names(50)), received=RECEIPT, **asked)
    dated = fifty.seed(listed=listed([*names(50), "nobody"], (19754,) * 51), **asked)
    assert (one_day.users, one_day.negatives, one_day.as_of) == (by_log.users, by_log.negatives, by_log.as_of)
    assert (dated.users, dated.negatives) == (by_log.users, by_log.negatives)
    assert dated.how["counts"]["unknown"] == 1
    # Each receiver has days of their own: who got it on the 2nd may buy until the 11th.
    later = fifty.seed(listed=listed(names(50), (19754,) * 36 + (19755,) * 14), **asked)
    assert later.users == tuple(names(37))
    # u035 bought a day before its own sample came, u036 a day after its own ten days, though others still had time.
    own = fifty.seed(listed=listed(names(50), (19754,) * 35 + (19764, 19754) + (19764,) * 13), **asked)
    assert own.users == tuple(names(35))


def test_who_bought_on_the_day_of_receipt_alone_is_neither_in_the_seed_nor_a_negative(make: Callable[..., Made]) -> None:
    same_day = [*order("u036", "02-01", "big"), *order("u037", "02-01", "big"), *order("u037", "02-04", "big")]
    shop = make([*FIFTY, *same_day])
    seed = shop.seed(campaign="try", bought=("big",), within=WITHIN, excluded=listed(["u090"]))
    assert seed.users == (*names(36), "u037"), "u037 bought again after it"
    assert "u036" not in seed.negatives
    assert seed.excluded == ("u036", "u090")
    report = seed_report(seed, shop.at(RECEIPT), ["orders_count"])
    assert any(line.startswith("1 receivers bought on the day of receipt") for line in report["warnings"])


def test_who_is_listed_twice_received_it_on_the_first_of_the_days(fifty: Made) -> None:
    late = 19754 + 7  # u000 to u034 bought on the sixth of February, five days after the first receipt and before the second
    given_twice = listed([*names(50), " u000 "], (*(19754,) * 50, late))
    for asked in (given_twice, listed([*given_twice.ids][::-1], (given_twice.days or ())[::-1])):
        assert fifty.seed(listed=asked, bought=("big",), within=WITHIN).users == tuple(names(36))


def test_ids_that_a_spreadsheet_wrote_as_numbers_are_found_where_all_look_so(make: Callable[..., Made]) -> None:
    shop = make([event for number in range(1, 101) for event in order(str(number), "01-10")])
    at = shop.at(AS_OF)
    found = matched([f"{number}.0" for number in range(1, 41)], at, shop.tiles)
    assert (found.counts["matched"], found.counts["pointed"], found.counts["unknown"]) == (40, 40, 0)
    assert matched(["1.0", "2.0", "x"], at, shop.tiles).users == (), "one that does not look so: nothing is guessed"
    report = seed_report(shop.seed(listed=listed([f"{number}.0" for number in range(1, 41)])), at, ["orders_count"])
    assert any("written as 123.0" in line for line in report["warnings"])
    named = make([event for name in ("1.0", *names(40)) for event in order(name, "01-10")])
    assert matched(["1.0"], named.at(AS_OF), named.tiles).users == ("1.0",)


def test_a_receipt_in_the_future_is_refused(fifty: Made) -> None:
    assert "complete only until 2024-03-01: a seed of the future" in fifty.refused(listed=listed(names(50), (20_500,) * 50), within=WITHIN)[0]


def test_the_days_to_buy_must_be_over(fifty: Made) -> None:
    with pytest.raises(LabelWindowOpen, match="2024-03-02"):
        fifty.seed(campaign="try", bought=("big",), within=30)
    assert fifty.seed(campaign="try", bought=("big",), within=29).users == tuple(names(37))


def test_nobody_is_looked_at_after_the_first_receipt(fifty: Made) -> None:
    days = tuple(19754 + number % 3 for number in range(50))  # from February 1st on
    for asked in ({"campaign": "try"}, {"listed": listed(names(50), days)}):
        assert "after the receipt on 2024-02-01" in fifty.refused(**asked, as_of=date(2024, 2, 2), within=WITHIN)[0]
        assert fifty.seed(**asked, as_of=date(2024, 1, 31), within=WITHIN).as_of == date(2024, 1, 31)


def test_a_sampling_says_what_it_lacks(fifty: Made) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'try'"):
        fifty.seed(campaign="tri")
    assert campaigns_in(fifty.tiles) == ["try"]
    with pytest.raises(NoUsableData, match="--received"):
        fifty.seed(listed=listed(names(50)), bought=("big",))
    problems = fifty.refused(campaign="try", bought=("bag",), bought_categories=("lunch",), within=WITHIN)
    assert "Did you mean 'big'" in problems[0]
    assert "Did you mean 'launch'" in problems[1]
    assert len(problems) == 2


def test_the_converted_of_the_simulated_shop_resemble_what_was_planted(place: Workspace, simulated: SimulatedShop) -> None:
    seed, snapshot = requested(
        SeedRequest("s", campaign="sampling-1", bought=("care-full-size",), within=90), place.tiles(place.shop()), place.snapshots, TODAY
    )
    likeness = simulated.truth["likeness"]
    assert seed.as_of == simulated.start + timedelta(days=160)
    assert {*seed.users} | {*seed.negatives} | {*seed.excluded} == {*simulated.truth.index[simulated.truth["sampled"]]} & {*snapshot.user_ids}
    assert likeness[list(seed.users)].mean() > likeness[list(seed.negatives)].mean() + 0.1


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_seed_from_the_future_is_refused(fifty: Made) -> None:
    assert "complete only until 2024-03-01" in fifty.refused(listed=listed(names(50)), as_of=date(2024, 3, 2))[0]
    assert "complete only until" in fifty.refused(listed=listed(names(50)), received=date(2025, 1, 1))[0]
    assert "after the receipt" in fifty.refused(listed=listed(names(50)), received=RECEIPT, as_of=date(2024, 2, 2))[0]


def test_a_rule_may_speak_of_the_goods_that_users_bought(fifty: Made) -> None:
    """An order that was cancelled does not count; a name that is nearly one is said."""
    made = fifty.seed(rule="bought_category_launch_365d >= 1", candidates="bought_category_old_365d >= 1")
    assert made.users == tuple(names(38))
    assert made.how["candidate_columns"] == ["bought_category_old_365d"]
    (problem,) = fifty.refused(rule="bought_category_lunch_365d >= 1")
    assert "Did you mean 'bought_category_launch_365d'" in problem


def test_a_seed_that_is_everybody_is_refused(fifty: Made) -> None:
    (problem,) = fifty.refused(rule="orders_count >= 1")
    assert problem.startswith("the seed is everybody: all 101 users")


def test_unknown_ids_are_told_by_share_rows_and_form_and_named_only_in_the_examples(fifty: Made) -> None:
    with pytest.raises(SeedRefused) as caught:
        fifty.seed(listed=listed(["x1", "", "secret-2", "x3", *names(1)]), negatives=listed(["u000"]))
    told = caught.value
    assert told.problems[0].startswith("1 user(s) are both in the seed and among the negatives")
    assert "3 of 4 different ids (75%) are unknown to the log, such as those in rows 1, 3, 4 of the list; its own have the form a999" in told.problems[1]
    assert "1 users are in the seed, at least 30 are needed" in told.problems[2]
    assert not [one for one in ("x1", "secret", "u000", "u001") if one in str(told)], "the text goes into logs and over HTTP"
    assert told.examples == ["Unknown are such as 'x1', 'secret-2', 'x3'; the log has such as 'new', 'u000', 'u001'.", "In both lists: 'u000'."]
    assert fifty.refused(listed=listed(["x"]))[1].startswith("nobody matched")


def test_the_form_of_an_id_does_not_tell_it() -> None:
    assert (form_of("dog-123"), form_of("Zo\u00eb_7"), form_of("a" * 3)) == ("aaa-999", "Aaa_9", "aaa")


def test_addresses_that_match_nobody_are_explained_and_not_shown(fifty: Made) -> None:
    with pytest.raises(SeedRefused) as caught:
        fifty.seed(listed=listed(["ann@shop.test", "x" * 64]))
    assert "'a***@shop.test'" in caught.value.examples[0]
    assert "ann@" not in str([caught.value, caught.value.examples])
    assert "Shopify" in caught.value.problems[0]
    seed = fifty.seed(listed=listed([*names(40), "ann@shop.test"]))
    assert any("1 addresses or hashes match nobody" in line for line in seed_report(seed, fifty.at(AS_OF), ["orders_count"])["warnings"])


def test_thirty_are_enough_and_twenty_nine_are_not(fifty: Made) -> None:
    assert len(fifty.seed(listed=listed(names(30))).users) == 30
    (problem,) = fifty.refused(listed=listed([*names(29), "u000"]))
    assert "29 users" in problem
    assert "1 duplicates" in problem


def test_a_candidate_filter_that_leaves_nobody_is_refused(fifty: Made) -> None:
    (problem,) = fifty.refused(listed=listed(names(50)), candidates="orders_count >= 99")
    assert "'orders_count >= 99' leaves 0 candidate(s) of 101 users" in problem
    seed = fifty.seed(listed=listed(names(40)), candidates="membership_samples < 1", excluded=listed(names(5, 95)))
    at = fifty.at(AS_OF)
    assert {*at.user_ids[candidates_of(seed, at)]} == {*names(45, 50), "new"}


def test_all_problems_are_told_together(fifty: Made) -> None:
    problems = fifty.refused(name="My seed", listed=listed(["x1", *names(3)]), negatives=listed(names(2)), candidates="ordrs_count > 1")
    assert [problem.split(" ")[0] for problem in problems] == ["the", "2", "candidate", "3"]
    asked = fifty.refused(listed=listed(names(40)), rule="loyal", within=400, kept_days=0, as_of=date(2030, 1, 1))
    assert len(asked) == 4 + 1  # two things at once, a rule with days to buy, the future, no days, no keeping


def test_excluded_users_and_negatives_leave_the_seed(fifty: Made) -> None:
    seed = fifty.seed(listed=listed(names(40)), negatives=listed([*names(10, 60), "nobody"]), excluded=listed(names(5)))
    assert seed.users == tuple(names(35, 5))
    assert seed.negatives == tuple(names(10, 60))
    assert seed.how["in_seed_and_excluded"] == 5
    at = fifty.at(AS_OF)
    assert not {*at.user_ids[candidates_of(seed, at)]} & {*seed.users, *seed.negatives, *seed.excluded}


# --- kept -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.permutations(names(40)), st.lists(st.sampled_from(names(40)), max_size=10))
def test_order_and_repetition_of_a_list_change_nothing(fifty: Made, ids: list[str], more: list[str]) -> None:
    assert fifty.seed(listed=listed([*ids, *more])).digest == fifty.seed(listed=listed(names(40))).digest


def test_a_seed_is_read_as_it_was_kept_and_its_manifest_names_nobody(fifty: Made, tmp_path: Path) -> None:
    seed = fifty.seed(listed=listed(names(40)), negatives=listed(names(10, 60)), excluded=listed(names(3, 90)))
    folder = save_seed(tmp_path, seed)
    found = read_seed(tmp_path, "test", TODAY)
    assert replace(found, how=seed.how) == seed
    assert seed_digest(found) == seed.digest  # after a journey through JSON
    assert "u0" not in (folder / "manifest.json").read_text()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    save_seed(tmp_path, seed)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_another_seed_of_the_same_name_is_refused_until_the_first_is_forgotten(fifty: Made, tmp_path: Path) -> None:
    save_seed(tmp_path, fifty.seed(listed=listed(names(40))))
    other = fifty.seed(listed=listed(names(41)))
    with pytest.raises(SeedRefused, match="encore lookalike forget test"):
        save_seed(tmp_path, other)
    delete_seed(tmp_path, "test")
    assert not [*tmp_path.rglob("*.parquet")]
    save_seed(tmp_path, other)
    with pytest.raises(UnknownName, match="Did you mean 'test'"):
        delete_seed(tmp_path, "tset")


def test_an_expired_seed_is_not_read_and_is_deleted(fifty: Made, tmp_path: Path) -> None:
    seed = fifty.seed(listed=listed(names(40)), kept_days=10)
    save_seed(tmp_path, seed)
    assert read_seed(tmp_path, "test", TODAY + timedelta(days=9)).users == seed.users
    with pytest.raises(NoUsableData, match="expired on 2026-12-02"):
        read_seed(tmp_path, "test", TODAY + timedelta(days=10))
    assert drop_expired(tmp_path, TODAY + timedelta(days=9)) == []
    assert drop_expired(tmp_path, TODAY + timedelta(days=10)) == ["test"]
    assert seed_names(tmp_path) == []


def test_a_deleted_user_leaves_every_seed_and_every_file(fifty: Made, tmp_path: Path) -> None:
    for name, first in (("one", 0), ("two", 3), ("three", 10)):
        save_seed(tmp_path, fifty.seed(name=name, listed=listed(names(40, first)), negatives=listed(names(20, 70))))
    tombstones = [sha256(user.encode()).hexdigest() for user in ("u003", "u075")]
    old = manifests(tmp_path)
    assert "u003" not in read_seed(tmp_path, "one", TODAY, tombstones).users  # even before it is erased
    assert erase_buried(tmp_path, tombstones) == {"one": 2, "three": 1, "two": 2}
    assert erase_buried(tmp_path, tombstones) == {}
    for name in seed_names(tmp_path):
        seed = read_seed(tmp_path, name, TODAY)
        assert seed.digest == seed_digest(seed) != old[name]["digest"]
        assert manifests(tmp_path)[name]["formerly"] == [old[name]["digest"]]
        assert len([*(tmp_path / name).glob("*.parquet")]) == 1
        assert not {"u003", "u075"} & {*pd.read_parquet(next((tmp_path / name).glob("*.parquet")))["user_id"]}
    assert len(read_seed(tmp_path, "one", TODAY).users) == 39


def test_what_a_killed_process_left_behind_is_deleted_and_holds_nobody_up(fifty: Made, tmp_path: Path) -> None:
    save_seed(tmp_path, fifty.seed(listed=listed(names(40))))
    for left in (".gone-test", ".new-x1"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "ids-0.parquet").write_bytes(b"u001")
    delete_seed(tmp_path, "test")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    (tmp_path / ".gone-test").mkdir()
    assert drop_expired(tmp_path, TODAY) == []
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_ids_changed_on_disk_are_noticed(fifty: Made, tmp_path: Path) -> None:
    folder = save_seed(tmp_path, fifty.seed(listed=listed(names(40))))
    path = next(folder.glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(NoUsableData, match="changed on disk"):
        read_seed(tmp_path, "test", TODAY)


# --- the report -----------------------------------------------------------------------------------------------------


def test_coherence_finds_a_planted_seed_and_not_a_random_one(place: Workspace) -> None:
    tiles = place.tiles(place.shop())
    at = place.snapshots.get(tiles, tiles.log.complete_until, 1)
    rng = np.random.default_rng(3)
    names_used = [name for name in at.feature_names if name.startswith(("products", "activity", "rhythm"))]
    spent = np.nan_to_num(at.frame["orders_revenue"].to_numpy()) + rng.normal(0, 3000, at.table.num_rows)
    planted = np.zeros(at.table.num_rows, bool)
    planted[np.argsort(-spent)[:100]] = True
    found = coherence(at, planted, ~planted, names_used)
    assert found["is_coherent"]
    assert found["auc"] > 0.75 > found["random_high"]
    assert found["p"] == 1 / 200
    assert coherence(at, planted, ~planted, names_used) == found  # no draw of its own
    p_values = []
    for _ in range(12):
        random = np.zeros(at.table.num_rows, bool)
        random[rng.permutation(at.table.num_rows)[:60]] = True
        p_values.append(coherence(at, random, ~random, names_used)["p"])
    assert sum(p < 0.05 for p in p_values) <= 3  # less than one is expected; four or more have a chance of .003
    assert 0.25 < np.mean(p_values) < 0.75


def test_the_report_tells_size_match_rate_overlap_and_warns(fifty: Made) -> None:
    at = fifty.at(AS_OF)
    seed = fifty.seed(listed=listed([*names(40), "u000", *(f"x{number}" for number in range(20))]), negatives=listed(names(7, 60)))
    report = seed_report(seed, at, at.feature_names, {"seed other": names(10, 35)})
    assert (report["users"], report["negatives"], report["population"], report["candidates"]) == (40, 7, 101, 54)
    assert report["match_rate"] == pytest.approx(40 / 60)
    assert report["overlaps"] == [overlap("seed other", names(40), names(10, 35))]
    assert report["overlaps"][0] | {"with": ""} == {"with": "", "members": 10, "users": 5, "of_seed": 0.125, "of_other": 0.5, "jaccard": pytest.approx(5 / 45)}
    assert [warning.split(" ")[:2] for warning in report["warnings"]] == [["Only", "40"], ["67%", "of"], ["Only", "7"]]
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert not any("u0" in line for line in headlines(report))


def test_an_incoherent_and_a_huge_seed_are_warned_of(make: Callable[..., Made]) -> None:
    shop = make([event for user in names(300) for event in order(user, f"01-{1 + hash_of(user) % 28:02d}", cents=1000 + hash_of(user) % 500)])
    drawn = [user for user in names(300) if hash_of(user + " by lot") % 5]
    seed = shop.seed(listed=listed(drawn))
    report = seed_report(seed, shop.at(AS_OF), shop.at(AS_OF).feature_names)
    assert report["coherence"]["is_coherent"] is False
    assert [warning.split(" ")[3:5] for warning in report["warnings"]] == [["not", "coherent:"], [f"{len(drawn) / 3:.0f}%", "of"]]


def hash_of(text: str) -> int:
    return int(sha256(text.encode()).hexdigest(), 16)


# --- what to choose -------------------------------------------------------------------------------------------------


def every(days: int, users: int = 220, cents: int = 1000, product: str = "soap") -> list[dict[str, Any]]:
    first = date(2023, 1, 2)
    dates = [first + timedelta(days=days * number) for number in range(3)]
    return [
        {**event, "occurred_at": f"{day} 10:00", "order_id": f"{user}-{day}"}
        for user in names(users)
        for day in dates
        for event in order(user, "01-01", product, cents)
    ]


def test_frequent_goods_are_seeded_by_a_sample_and_rare_ones_by_the_best_customers(make: Callable[..., Made]) -> None:
    # Everybody came back after 90 days, so the cycle is a third of that; or after 210 days.
    often, rarely, few = make(every(90)), make(every(210)), make(every(90, users=50))
    suggested = {name: suggest_seed(shop.tiles, shop.at(AS_OF)) for name, shop in (("often", often), ("rarely", rarely), ("few", few))}
    assert [suggested[name]["seed"] for name in ("often", "rarely", "few")] == ["sampling", "super users", "loyal"]
    assert suggested["often"]["numbers"]["cycle_days"] == pytest.approx(30)
    assert "about every 30 days (220 repurchasers): frequent" in suggested["often"]["why"][0]
    assert "10.00 EUR on average, and a buyer has placed 3.0" in suggested["often"]["why"][1]
    assert "receivers.csv" in suggested["often"]["next"]
    assert "about every 70 days (220 repurchasers): rare" in suggested["rarely"]["why"][0]
    assert "not known yet (50 users came back" in suggested["few"]["why"][0]
    assert '--rule "super users"' in suggested["rarely"]["next"]


def test_a_dear_product_in_a_shop_of_frequent_goods_is_for_the_best_customers(make: Callable[..., Made]) -> None:
    shop = make(
        [*every(90), *(event for user in names(40) for event in order(user, "01-05", "big", 5000)), *(sample(user) for user in names(120))], date(2024, 6, 1)
    )
    dear = suggest_seed(shop.tiles, shop.at(AS_OF), product="big")
    assert dear["seed"] == "loyal"
    assert "is 50.00 EUR, 5.0 times what the shop usually gets for a piece: high-priced" in dear["why"][2]
    cheap = suggest_seed(shop.tiles, shop.at(AS_OF), product="soap")
    assert cheap["seed"] == "sampling"
    assert cheap["next"] == "encore lookalike seed NAME --campaign try --bought soap --within 60"
    with pytest.raises(SeedRefused, match="Did you mean 'soap'"):
        suggest_seed(shop.tiles, shop.at(AS_OF), product="saop")


# --- the commands ---------------------------------------------------------------------------------------------------


def run(*words: str) -> str:
    result = CliRunner().invoke(encore.app, ["lookalike", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_two_commands_lead_from_a_list_of_receivers_to_a_contrast(place: Workspace, simulated: SimulatedShop, tmp_path: Path) -> None:
    receivers = simulated.truth.index[simulated.truth["sampled"]]
    (tmp_path / "receivers.csv").write_text("customer\n" + "\n".join(receivers) + "\n")
    where, day = ["-w", str(place.root)], str(simulated.start + timedelta(days=160))
    bought = ["--received", day, "--bought", "care-full-size", "--within", "90"]
    told = run("seed", "tried", "--file", str(tmp_path / "receivers.csv"), *bought, *where)
    by_log = run("seed", "by-log", "--campaign", "sampling-1", "--bought", "care-full-size", "--within", "90", *where)
    assert "explicit negatives" in told
    assert "overlap with seed tried" in by_log
    tiles = place.tiles(place.shop())
    assert open_seed(place, tiles, "tried", TODAY).users == open_seed(place, tiles, "by-log", TODAY).users
    assert "tried" in run("seeds", *where)
    told = run("contrast", "tried", "--by", "age", "--by", "orders_count", "--out", str(tmp_path / "out"), *where)
    assert "(higher)" in told
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.md", "report.json", "contrast.png"}
    page = (tmp_path / "out" / "report.md").read_text()
    assert "## Converted by age and orders_count" in page
    assert "membership_samples" in page.split("Not a likeness")[1]
    assert not any(user in page for user in receivers)
    assert "seed: " in run("suggest", *where)
    run("forget", "tried", *where)
    assert seed_names(place.root / "seeds") == ["by-log"]
    run("forget", "by-log", *where)


def test_forgetting_a_user_reaches_the_seeds_at_the_next_command(make: Callable[..., Made], tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "workspace", {})
    workspace.root.mkdir()
    workspace.shop_file.write_text('name = "Shop"\nzone = "UTC"\ncurrency = "EUR"\nattributes = ["age"]\n')
    shop = make(FIFTY)
    (workspace.root / "log").symlink_to(shop.log.directory)
    for name in ("first", "second"):
        make_requested(workspace, SeedRequest(name, listed=listed(names(40, int(name == "second")))), TODAY)
    shop.log.bury(["u005"], "deleted")
    seed, report = make_requested(workspace, SeedRequest("third", listed=listed(names(40))), TODAY)
    assert len(seed.users) == 39
    assert report["counts"]["deleted"] == 1
    stored = [pd.read_parquet(path)["user_id"] for path in (workspace.root / "seeds").rglob("*.parquet")]
    assert len(stored) == 3
    assert not any((ids == "u005").any() for ids in stored)
    next((workspace.root / "seeds" / "first").glob("*.parquet")).write_bytes(b"torn")
    report = make_requested(workspace, SeedRequest("third", listed=listed(names(40))), TODAY)[1]
    assert [one["with"] for one in report["overlaps"]] == ["seed second"]
