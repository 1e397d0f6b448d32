"""The simulated shop holds what its docstring promises."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.admission import check_events
from features.errors import UnknownName
from features.shop import campaign_lift, order_probability, simulate
from features.shopfile import Shop, read_shop
from features.sources import SOURCES, read_source
from features.vocabulary import EVENTS


@pytest.fixture(scope="module")
def events(simulated) -> pd.DataFrame:
    table = simulated.batch.events.to_pandas()
    return table.assign(day=(table["occurred_at"].dt.tz_localize(None) - pd.Timestamp(simulated.start)).dt.days)


@pytest.fixture(scope="module")
def orders(events) -> pd.DataFrame:
    cancelled = events.loc[events["event"] == "order_cancelled", "order_id"]
    return events[(events["event"] == "order") & ~events["order_id"].isin(cancelled)]


def bought(orders: pd.DataFrame, users: pd.Index, first: int, days: int) -> np.ndarray:
    return users.isin(orders.loc[orders["day"].between(first, first + days - 1), "user_id"])


def test_equal_seeds_give_equal_shops_and_other_seeds_others():
    first, again, other = (simulate(50, 100, seed) for seed in (3, 3, 4))
    assert first.batch.events.equals(again.batch.events)
    assert first.campaigns.equals(again.campaigns)
    assert not first.batch.events.equals(other.batch.events)


def test_its_events_are_canonical_and_inside_its_days(simulated, events):
    check_events(simulated.batch.events, "simulated", "EUR")
    assert events["event_id"].is_unique
    assert events["day"].between(0, 399).all()
    missing = set(EVENTS) - set(events["event"])
    # What trackers and shop systems bring beyond it.
    assert missing == {
        "session_start", "list_view", "promotion_view", "promotion_click", "review_read", "support", "cart_remove", "cart_view", "payment_info",
        "delivery_late", "review_written", "share", "referral", "unsubscribed", "coupon_received", "coupon_applied", "coupon_denied",
        "benefit_claimed", "benefit_used", "identified",
    }  # fmt: skip


def test_an_order_is_the_sum_of_its_lines(events):
    amounts = ["quantity", "value_cents", "discount_cents", "coupon_cents"]
    lines = events[events["event"] == "order_item"].groupby("order_id")[amounts].sum()
    orders = events[events["event"] == "order"].set_index("order_id")[amounts]
    pd.testing.assert_frame_equal(lines.sort_index(), orders.sort_index())


def test_some_never_buy_some_buy_once_and_many_come_back(simulated, orders):
    counts = orders.groupby("user_id").size().reindex(simulated.truth.index, fill_value=0)
    assert 0.15 < (counts == 0).mean() < 0.5
    assert 0.08 < (counts == 1).mean() < 0.3
    assert (counts >= 2).mean() > 0.3


def test_the_known_probability_is_calibrated_and_ranks(simulated, orders):
    # Before the first campaign: nothing but the latent state is at work.
    day, horizon = 20, 15
    chance = order_probability(simulated, simulated.start + timedelta(days=day), horizon)
    outcome = bought(orders, chance.index, day, horizon)
    expected = chance.sum()
    assert abs(outcome.sum() - expected) < 4 * np.sqrt((chance * (1 - chance)).sum())
    assert chance[outcome].mean() > 2 * chance[~outcome].mean()


def test_those_who_have_left_have_no_chance_and_those_to_come_no_value(simulated):
    chance = order_probability(simulated, simulated.start + timedelta(days=200), 30)
    truth = simulated.truth
    assert chance.index.equals(truth.index[truth["arrival"] < 200])
    assert (chance[truth["alive_until"].reindex(chance.index) < 200] == 0).all()


def test_browsing_precedes_orders(events, simulated):
    views = events[(events["event"] == "product_view") & events["day"].between(185, 199)].groupby("user_id").size()
    chance = order_probability(simulated, simulated.start + timedelta(days=200), 14)
    assert np.corrcoef(views.reindex(chance.index, fill_value=0), chance)[0, 1] > 0.4


def test_receipt_raises_orders_by_what_was_planted_and_the_placebo_does_not(simulated, orders):
    gains = {}
    for effect in (2.5, 0.0):
        rows = simulated.campaigns[simulated.campaigns["effect"] == effect]
        parts = [(group, (group["start"].iloc[0] - simulated.start).days) for _, group in rows.groupby("campaign")]
        bought_by = pd.concat([pd.Series(bought(orders, pd.Index(group["user_id"]), day, 21), group.index) for group, day in parts])
        gains[effect] = bought_by[rows["treated"]].mean() - bought_by[~rows["treated"]].mean()
    planted = simulated.campaigns.loc[simulated.campaigns["effect"] == 2.5, "campaign"].unique()
    lift = np.mean([campaign_lift(simulated, name).mean() for name in planted])
    assert gains[2.5] == pytest.approx(lift, abs=0.04)
    assert abs(gains[0.0]) < 0.04
    assert (campaign_lift(simulated, "campaign-03") == 0).all()


def test_halves_are_random(simulated):
    campaigns, truth = simulated.campaigns, simulated.truth
    assert campaigns["treated"].mean() == pytest.approx(0.5, abs=0.02)
    sensitivity = truth["sensitivity"].reindex(campaigns["user_id"]).to_numpy()
    assert sensitivity[campaigns["treated"]].mean() == pytest.approx(sensitivity[~campaigns["treated"]].mean(), abs=0.02)


def test_only_the_treated_receive_and_only_receivers_redeem_with_an_order(simulated, events):
    keys = ["user_id", "campaign"]
    received = events[events["event"] == "campaign_received"]
    treated = simulated.campaigns[simulated.campaigns["treated"]]
    assert set(received[keys].itertuples(index=False, name=None)) == set(treated[keys].itertuples(index=False, name=None))
    redeemed = events[events["event"] == "coupon_redeemed"]
    assert set(redeemed[keys].itertuples(index=False, name=None)) <= set(received[keys].itertuples(index=False, name=None))
    with_order = redeemed.merge(events[(events["event"] == "order") & (events["coupon_cents"] > 0)], on=["user_id", "occurred_at", "campaign"])
    assert len(with_order) == len(redeemed)


def test_likeness_tells_which_sample_receivers_buy_the_full_size(simulated, events):
    full = events.loc[(events["product_id"] == "care-full-size") & (events["event"] == "order_item"), "user_id"].unique()
    truth = simulated.truth[simulated.truth["sampled"]]
    buyers = truth.index.isin(full)
    assert 30 < buyers.sum() < len(truth) / 2
    assert truth.loc[buyers, "likeness"].mean() > truth.loc[~buyers, "likeness"].mean() + 0.1


def test_tiers_rise_with_what_was_spent(events):
    rises = events[events["event"] == "tier_changed"].sort_values(["user_id", "occurred_at"])
    assert set(rises["level"]) == {1, 2, 3}
    assert (rises.groupby("user_id")["level"].diff().dropna() > 0).all()


def test_an_unknown_campaign_or_source_is_named_with_its_nearest(simulated):
    with pytest.raises(UnknownName, match="Did you mean 'campaign-01'"):
        campaign_lift(simulated, "campain-01")
    with pytest.raises(UnknownName, match="Did you mean 'simulated'"):
        read_source({"kind": "simulatd"}, Shop("x", "UTC", "EUR"))


def test_the_source_follows_the_shop_file():
    batch = read_source({"kind": "simulated", "users": 20, "days": 60, "seed": 1}, Shop("x", "Asia/Tokyo", "JPY"))
    assert set(batch.events["currency"].to_pylist()) == {None, "JPY"}
    assert batch.complete_until == simulate(20, 60).batch.complete_until
    assert {"complete_journey", "shopify", "simulated", "table", "woocommerce"} <= set(SOURCES)


HERE = Path(__file__).parents[2]
SHOP_FILES = sorted(path for path in [*HERE.glob("examples/*.toml"), *HERE.glob("features/sources/*.toml")] if "mapping" not in path.stem)


@pytest.mark.parametrize("path", SHOP_FILES, ids=lambda path: path.stem)
def test_the_shop_files_that_come_along_are_valid(path, tmp_path):
    (tmp_path / "rates.csv").write_text("date,currency,rate\n")  # which some of them name
    (tmp_path / "encore.toml").write_text(path.read_text())
    assert all(source["kind"] in SOURCES for source in read_shop(tmp_path / "encore.toml").sources)
