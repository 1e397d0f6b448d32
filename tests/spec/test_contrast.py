"""The contrast: numbers against slow oracles, planted differences found, null ones not, words, the leak guard, the cut."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, fisher_exact, mannwhitneyu

from features.bought import with_most_bought
from features.errors import NoUsableData, UnknownName
from features.events import EventLog
from features.shop import simulate
from features.shopfile import Shop
from features.snapshot import Snapshot
from features.store import SnapshotStore
from features.tiles import Tiles, open_tiles
from training.lookalike.contrast import Contrast, contrast, contrast_seed, differs, strongest
from training.lookalike.contrast_page import contrast_page, contrast_plot, sentences, write_contrast
from training.lookalike.contrast_tests import association, auc_of, corrected, cramers_v, rank_difference, share_difference
from training.lookalike.contrast_words import amount
from training.lookalike.cut import cut
from training.lookalike.defining import defining_features
from training.lookalike.seed import Seed

AS_OF = date(2024, 3, 1)
NAMES = ("seed", "others")


def snapshot_of(columns: Mapping[str, Sequence[float | str | None]], units: Mapping[str, str] | None = None) -> Snapshot:
    """A snapshot of users u000, u001, ...; columns of texts are labels."""
    labels = [name for name, values in columns.items() if any(isinstance(value, str) for value in values)]
    size = len(next(iter(columns.values())))
    table = pa.table(
        {
            "user_id": [f"u{number:03d}" for number in range(size)],
            "stage": ["first"] * size,
            **{name: pa.array(values, pa.string()) if name in labels else pa.array(np.array(values, float)) for name, values in columns.items()},
        }
    )
    shared = {"family": "shop", "window_days": None, "looks_back_days": 0, "without_history": None, "actionable": False}
    described = [{"name": name, "meaning": name.replace("_", " "), "unit": (units or {}).get(name, "count"), **shared} for name in columns]
    features = [entry for entry in described if entry["name"] not in labels]
    manifest = {"as_of": AS_OF.isoformat(), "currency": "EUR", "features": features, "labels": [one for one in described if one["name"] in labels]}
    return Snapshot(table, manifest)


def first(size: int, of: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.arange(of) < size


def row_of(found: Contrast, name: str) -> dict[str, Any]:
    return next(row for row in found["features"] if row["feature"] == name)


# --- numbers --------------------------------------------------------------------------------------------------------

numbers = st.lists(st.integers(0, 6).map(float), min_size=2, max_size=30)


@settings(deadline=None)
@given(numbers, numbers)
def test_the_effect_is_the_share_of_pairs_won_less_that_lost(one: list[float], two: list[float]) -> None:
    won, lost = (sum(compare(a, b) for a, b in product(one, two)) / (len(one) * len(two)) for compare in (lambda a, b: a > b, lambda a, b: a < b))
    found = rank_difference(np.array(one), np.array(two))
    assert found["effect"]["value"] == pytest.approx(won - lost)
    assert auc_of(np.array(one), np.array(two)) == pytest.approx((1 + won - lost) / 2)
    assert -1 <= found["effect"]["low"] <= found["effect"]["value"] <= found["effect"]["high"] <= 1
    if len({*one, *two}) > 1:
        assert found["p"] == pytest.approx(mannwhitneyu(one, two, method="asymptotic", use_continuity=False).pvalue)
    else:
        assert found["p"] == 1
    turned = rank_difference(np.array(two), np.array(one))
    assert turned["effect"]["value"] == pytest.approx(-found["effect"]["value"])
    assert turned["p"] == pytest.approx(found["p"])


def test_the_interval_of_an_effect_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(5)
    truth = 0.5204998778130465  # 2 P(X > Y) - 1 = erf(d / 2) for normals d = 1 apart
    held = [rank_difference(rng.normal(1, 1, 60), rng.normal(0, 1, 150))["effect"] for _ in range(600)]
    assert 0.925 < np.mean([one["low"] <= truth <= one["high"] for one in held]) < 0.975


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_shares_are_compared_as_scipy_does(size: int, other: int, data: st.DataObject) -> None:
    did, other_did = data.draw(st.integers(0, size)), data.draw(st.integers(0, other))
    found = share_difference(did, size, other_did, other)
    table = np.array([[did, size - did], [other_did, other - other_did]])
    assert found["effect"]["value"] == pytest.approx(did / size - other_did / other)
    assert found["effect"]["low"] <= found["effect"]["value"] <= found["effect"]["high"]
    if min(table.sum(axis=0)) == 0:
        assert found["p"] == 1
    elif chi2_contingency(table, correction=False).expected_freq.min() < 5:
        assert (found["test"], found["p"]) == ("Fisher", pytest.approx(fisher_exact(table)[1]))
    else:
        assert (found["test"], found["p"]) == ("chi-square", pytest.approx(chi2_contingency(table, correction=False).pvalue))


def test_newcombes_interval_is_that_of_his_example() -> None:
    # 56 of 70 against 48 of 80: .0524 to .3339 (Newcombe 1998, table II, method 10).
    effect = share_difference(56, 70, 48, 80)["effect"]
    assert (effect["value"], effect["low"], effect["high"]) == (pytest.approx(0.2), pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


def test_p_values_are_corrected_for_their_number() -> None:
    # Each times 4 over its rank, and no larger than the next.
    assert corrected([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert corrected([]) == []


def test_cramers_v_is_one_where_one_says_the_other_and_zero_where_nothing_does() -> None:
    assert cramers_v(np.diag([5.0, 9.0])) == pytest.approx(1)
    assert cramers_v(np.array([[10.0, 20, 0], [20, 40, 0]])) == pytest.approx(0)
    assert association(np.array([[3.0, 4.0]])) == (1.0, "chi-square")


# --- planted and null differences -----------------------------------------------------------------------------------


def test_a_feature_in_the_head() -> None:
    # Twenty of the seed bought in 3 and 4 categories, eighty others in 1 and 2: no pair is lost.
    at = snapshot_of({"categories": [3, 4] * 10 + [1, 2] * 40, "same": [7] * 100, "known": [1.0] * 20 + [1.0, None] * 40}, {"categories": "categories"})
    found = contrast(at, first(20, 100), ~first(20, 100), NAMES)
    row = row_of(found, "categories")
    assert (row["means"], row["medians"], row["effect"]["value"], row["direction"]) == ([3.5, 1.5], [3.5, 1.5], 1.0, "higher")
    assert row["q"] < 1e-9
    assert row["words"] == "categories: 3.5 categories, others 1.5"
    same, known = row_of(found, "same"), row_of(found, "known")
    assert (same["effect"]["value"], same["p"], same["direction"], same["missing"]) == (0.0, 1.0, "same", None)
    assert known["missing_shares"] == [0.0, 0.5]
    assert known["missing"]["effect"]["value"] == 0.5
    assert known["missing"]["words"] == "has a value for 'known': 100 %, others 50 %"
    assert differs(known["missing"])
    assert not differs(known)
    assert found["features"][0]["feature"] == "categories"
    assert found["tests"] == 4


def test_a_label_is_told_by_the_word_that_differs_most() -> None:
    at = snapshot_of({"layer": ["loyal"] * 15 + ["lapsed"] * 5 + ["loyal"] * 20 + ["lapsed"] * 50 + [None] * 10})
    (row,) = contrast(at, first(20, 100), ~first(20, 100), NAMES)["labels"]
    assert row["words"] == "layer is 'loyal': 75 %, others 25 %"
    assert [one["value"] for one in row["values"]] == ["lapsed", "loyal", "none"]
    assert differs(row)


def test_where_a_few_large_values_turn_the_mean_the_median_is_told() -> None:
    at = snapshot_of({"spent": [500.0] * 20 + [300.0] * 79 + [9_000_000.0]}, {"spent": "cents"})
    row = row_of(contrast(at, first(20, 100), ~first(20, 100), NAMES), "spent")
    assert row["direction"] == "higher"
    assert row["means"][0] < row["means"][1]
    assert row["words"] == "spent: 5.00 EUR, others 3.00 EUR (median)"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (123_456.0, "cents", "1,235 EUR"), (2_950.0, "cents", "29.50 EUR"), (0.285, "share", "28 %"), (0.0412, "share", "4.1 %"), (1.0, "flag", "100 %"),
        (3.14159, "categories", "3.1 categories"), (0.123, "ratio", "0.12"), (1234.5, "days", "1,234 days"), (None, "days", "-"),
    ],
)  # fmt: skip
def test_values_are_written_as_people_read_them(value: float | None, unit: str, text: str) -> None:
    assert amount(value, unit, "EUR") == text


def test_planted_differences_are_found_and_null_ones_rarely() -> None:
    """Of 40 features 10 differ by two fifths of a deviation. In 30 shops the share of false ones among those called different is
    at most 5 % of 30 / 40 in expectation, and most of the planted ones are found; where nothing is planted, one shop in
    twenty has any false one."""
    rng = np.random.default_rng(8)
    false_shares, found_shares, any_false = [], [], []
    for _ in range(30):
        X = rng.normal(size=(400, 40))
        null = contrast(snapshot_of({f"f{number}": X[:, number] for number in range(40)}), first(120, 400), ~first(120, 400), NAMES)
        any_false.append(any(differs(row) for row in null["features"]))
        X[:120, :10] += 0.4
        planted = contrast(snapshot_of({f"f{number}": X[:, number] for number in range(40)}), first(120, 400), ~first(120, 400), NAMES)
        told = [int(row["feature"][1:]) for row in planted["features"] if differs(row)]
        false_shares.append(np.mean([number >= 10 for number in told]) if told else 0.0)
        found_shares.append(np.mean([number in told for number in range(10)]))
        assert all(row["direction"] == "higher" for row in planted["features"] if row["feature"] in {f"f{number}" for number in told if number < 10})
    assert np.mean(false_shares) < 0.06
    assert np.mean(found_shares) > 0.7
    assert sum(any_false) <= 6  # one or two are expected; seven or more have a chance of .003


def test_a_random_half_of_a_shop_is_told_from_the_other_half_by_nothing(snapshot: Snapshot) -> None:
    rng = np.random.default_rng(2)
    any_false = 0
    for _ in range(6):
        half = rng.random(snapshot.table.num_rows) < 0.5
        found = contrast(snapshot, half, ~half, NAMES)
        missing = [row["missing"] for row in found["features"] if row["missing"]]
        any_false += any(differs(row) for row in (*found["features"], *found["labels"], *missing))
    assert any_false <= 2  # 1 in 20 each at most, as the tests of a shop go together; three or more have a chance of .002


# --- a shop ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiles(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Tiles:
    """Of a shop smaller than the shared one."""
    folder = tmp_path_factory.mktemp("contrast")
    log = EventLog(folder / "log", "UTC", "EUR")
    log.append(simulate(users=700, days=300, seed=3).batch)
    return open_tiles(log, shop, folder / "tiles")


@pytest.fixture(scope="module")
def snapshot(tiles: Tiles, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return SnapshotStore(tmp_path_factory.mktemp("snapshots")).get(tiles, tiles.log.complete_until, 1)


def seed_where(snapshot: Snapshot, chosen: pd.Series[bool], **how: Any) -> Seed:
    users = tuple(sorted(snapshot.frame.index[chosen]))
    return Seed("test", snapshot.as_of, users, (), {"kind": "list", "words": "a test", "columns": [], **how}, "digest")


def drawn(snapshot: Snapshot) -> pd.Series[bool]:
    """A fifth of the users by lot."""
    return pd.Series(np.random.default_rng(1).random(len(snapshot.frame)) < 0.2, snapshot.frame.index)


def test_what_defines_a_seed_is_said_feature_by_feature(snapshot: Snapshot, tiles: Tiles) -> None:
    rule = seed_where(snapshot, snapshot.frame["search_count_90d"] >= 3, kind="rule", columns=["search_count_90d"])
    reasons = defining_features(rule, snapshot.feature_names, snapshot, tiles)
    assert reasons["search_count_90d"] == "the seed is defined by search_count_90d"
    for name in ("search_count_1d", "search_recency", "search_trend_30d"):
        assert "made of the same counts (searches)" in reasons[name]
    # The interest level that adds searches up is made of them too; amounts are not.
    assert "interest_weak_90d" in reasons
    assert not {"orders_revenue", "orders_count", "attributes_age"} & {*reasons}
    assert list(reasons) == [name for name in snapshot.feature_names if name in reasons]


def test_who_is_chosen_by_one_category_may_be_described_by_the_others(snapshot: Snapshot, tiles: Tiles) -> None:
    """But who is chosen by purchases of anything is described by those of no category."""
    wide = with_most_bought(snapshot, tiles)
    chosen, *others = [name for name in wide.feature_names if name.startswith("bought_")]
    assert len(others) > 5
    seed = seed_where(wide, wide.frame[chosen] > 0, kind="rule", columns=[chosen])
    assert list(defining_features(seed, wide.feature_names, wide, tiles)) == [chosen]
    everything = seed_where(wide, drawn(wide), kind="rule", columns=["products_products"])
    reasons = defining_features(everything, wide.feature_names, wide, tiles)
    assert all("made of the same counts (purchases)" in reasons[name] for name in (chosen, *others))
    assert "orders_revenue" not in reasons


def test_a_layer_is_defined_by_all_that_it_looks_at(snapshot: Snapshot, tiles: Tiles) -> None:
    seed = seed_where(snapshot, snapshot.frame["layers_layer"] == "super user", kind="rule", columns=["layers_layer"])
    reasons = defining_features(seed, snapshot.feature_names, snapshot, tiles)
    for name in ("orders_count_90d", "orders_revenue", "cycle_mean_gap", "activity_active_days_30d", "discounts_full_price_share"):
        assert name in reasons, name
    assert "search_count_90d" not in reasons


def test_a_seed_from_a_campaign_leaves_campaigns_and_coupons_out(snapshot: Snapshot, tiles: Tiles) -> None:
    seed = seed_where(snapshot, drawn(snapshot), kind="campaign")
    reasons = defining_features(seed, snapshot.feature_names, snapshot, tiles)
    for name in ("campaigns_received_90d", "campaigns_open_rate_90d", "discounts_redemptions_365d", "discounts_coupon_share", "membership_samples"):
        assert "campaign" in reasons[name]
    assert not {"discounts_share", "orders_basket_value", "membership_visits_30d"} & {*reasons}


def test_a_single_feature_that_tells_the_seed_is_its_definition(snapshot: Snapshot, tiles: Tiles) -> None:
    """The list is of those who redeemed a coupon, and nobody says so: days since one exist for them alone."""
    seed = seed_where(snapshot, snapshot.frame["discounts_redemption_recency"].notna())
    reasons = defining_features(seed, snapshot.feature_names, snapshot, tiles)
    assert "AUC of 1.000" in reasons["discounts_redemption_recency"]
    assert "AUC" in reasons["discounts_redemptions_365d"]
    assert "made of the same counts (redemptions)" in reasons["discounts_redemptions_30d"]
    assert "orders_revenue" not in reasons
    assert defining_features(seed_where(snapshot, drawn(snapshot)), snapshot.feature_names, snapshot, tiles) == {}


def test_the_folder_is_the_same_to_the_byte_and_names_nobody(snapshot: Snapshot, tiles: Tiles, tmp_path: Path) -> None:
    seed = seed_where(snapshot, snapshot.frame["discounts_redemption_recency"].notna())
    defining = defining_features(seed, snapshot.feature_names, snapshot, tiles)
    found = contrast_seed(seed, snapshot, defining)
    for folder in ("one", "two"):
        write_contrast(contrast_seed(seed, snapshot, defining), tmp_path / folder)
    written = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert written["contrast.png"].startswith(b"\x89PNG")
    assert json.loads(written["report.json"]) == json.loads(json.dumps(found))
    page = written["report.md"].decode()
    assert "user-0" not in page
    assert all(f"`{name}`" in page for name in defining)
    # What defines the seed is in none of the sentences, in no bar and in no table.
    told = {row["feature"] for row in strongest(found)}
    assert not told & {*defining}
    assert all(f"- {line}\n" in page for line in sentences(found))
    assert 1 <= len(sentences(found)) <= 10
    assert f"{found['tests']:,} tests" in page


def test_of_the_windows_of_a_feature_the_one_that_tells_most_is_shown(snapshot: Snapshot) -> None:
    half = (snapshot.frame["orders_revenue"] > snapshot.frame["orders_revenue"].median()).to_numpy()
    found = contrast(snapshot, half, ~half, NAMES)
    shown = {row["kind"]: row for row in strongest(found)}
    effects = {row["feature"]: row["effect"]["value"] for row in found["features"] if row["kind"] == "orders_revenue"}
    assert len(effects) == 5
    assert shown["orders_revenue"]["feature"] == "orders_revenue" == max(effects, key=lambda name: effects[name])


def test_nothing_to_tell_is_said_and_drawn() -> None:
    at = snapshot_of({"same": [1.0] * 100})
    found = contrast(at, first(40, 100), ~first(40, 100), NAMES)
    assert sentences(found) == []
    assert "No feature differs by more than chance" in contrast_page(found)
    assert any("no difference" in text.get_text() for text in contrast_plot(found).axes[0].texts)


def test_a_contrast_needs_thirty_on_the_other_side(snapshot: Snapshot) -> None:
    few = tuple(snapshot.user_ids[:29])
    seed = Seed("test", snapshot.as_of, tuple(snapshot.user_ids[40:90]), few, {"kind": "campaign"}, "digest")
    with pytest.raises(NoUsableData, match=r"29 explicit negatives.*--against rest"):
        contrast_seed(seed, snapshot, {}, "not converted")
    assert contrast_seed(seed, snapshot, {})["against"] == "rest"


# --- the cut --------------------------------------------------------------------------------------------------------


def test_a_cut_in_the_head() -> None:
    """Of 40 with many orders in level 1 half converted, of the other 120 a tenth."""
    orders, level = [1] * 80 + [5] * 80, (["one"] * 40 + ["two"] * 40) * 2
    did = np.zeros(160, bool)
    did[[0, 10, 20, 30, 40, 50, 60, 70]] = True
    did[80:100] = True  # many orders, level one: 20 of 40
    did[[120, 130, 140, 150]] = True
    found = cut(snapshot_of({"orders": orders, "level": level}), did, ~did, "orders", "level")
    rates = {tuple(cell["levels"]): (cell["users"], cell["converted"], cell["rate"]["value"]) for cell in found["cells"]}
    assert rates == {
        ("up to 3", "one"): (40, 4, 0.1), ("up to 3", "two"): (40, 4, 0.1), ("over 3", "one"): (40, 20, 0.5), ("over 3", "two"): (40, 4, 0.1),
    }  # fmt: skip
    told = {(one["within"], *one["between"]): (one["effect"]["value"], one["q"] < 0.05) for one in found["differences"]}
    assert told == {
        ("one", "up to 3", "over 3"): (pytest.approx(-0.4), True), ("two", "up to 3", "over 3"): (0.0, False),
        ("up to 3", "one", "two"): (0.0, False), ("over 3", "one", "two"): (pytest.approx(0.4), True),
    }  # fmt: skip
    assert [factor["rates"][0]["rate"]["value"] for factor in found["factors"]] == [0.1, pytest.approx(0.3)]
    assert (found["users"], found["converted"]) == (160, 32)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 5)), st.sampled_from("abcdefg"), st.booleans()), min_size=2, max_size=80))
def test_the_cells_of_a_cut_hold_everybody_once(rows: list[tuple[int | None, str, bool]]) -> None:
    at = snapshot_of({"number": [row[0] for row in rows] + [1], "word": [row[1] for row in rows] + ["a"]})
    did = np.array([row[2] for row in rows] + [True])
    found = cut(at, did, ~did, "number", "word")
    assert sum(cell["users"] for cell in found["cells"]) == len(rows) + 1
    assert sum(cell["converted"] for cell in found["cells"]) == did.sum()
    for factor in found["factors"]:
        assert sum(level["users"] for level in factor["rates"]) == len(rows) + 1
    assert all(one["q"] is not None for one in found["differences"])


def test_a_median_that_is_the_largest_value_still_splits() -> None:
    at = snapshot_of({"number": [0, 1, 1, 1] * 10, "word": ["a", "b"] * 20})
    did = np.arange(40) % 2 == 0
    assert cut(at, did, ~did, "number", "word")["factors"][0]["levels"] == ["up to 0", "over 0"]


def test_an_unknown_factor_is_answered_with_the_nearest() -> None:
    at = snapshot_of({"orders": [1, 2]})
    with pytest.raises(UnknownName, match="Did you mean 'orders'"):
        cut(at, first(1, 2), ~first(1, 2), "ordrs", "orders")
