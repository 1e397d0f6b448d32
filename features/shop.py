"""A simulated shop with planted truth: what tests and notebooks work on when the right answer must be known.

Each user has an order rate, and an interest that is cold or warm and turns by chance from day to day. Warm users
browse more and order more, so behaviour predicts orders. Users leave for good with a constant daily chance. As all
of this is a Markov chain, the probability of an order is known exactly and not only the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.errors import UnknownName
from features.shop_events import CANCELLED, DEPARTMENTS, REDEEMS, all_events, catalogue, receipts
from features.sources.batch import Batch, canonical_products

Floats = npt.NDArray[np.float64]

WARMTH = np.array([0.35, 4.0])  # what cold and warm interest multiply browsing and ordering by
TURN = np.array([[0.97, 0.03], [0.15, 0.85]])  # daily chances from cold, warm to cold, warm
WEEKDAY = np.array([0.90, 0.90, 0.90, 0.95, 1.10, 1.25, 1.00])  # from Monday
CAMPAIGN_EVERY, VALID_DAYS = 35, 21
EFFECTS = (2.5, 1.2, 0.0)  # in turn; the third campaign is a placebo


@dataclass(frozen=True)
class SimulatedShop:
    """What a shop would see, and what only the simulation knows.

    batch: all events, as a source hands them over.
    truth: one row per user_id: arrival and alive_until (days since the start; not alive on the latter), order_rate and
        browsing (per day), dropout (daily chance to leave), sensitivity (0..1 to discounts), likeness (0..1 to those who
        buy the full size), age, sampled, taste_... per department.
    campaigns: one row per campaign and user drawn: campaign, start, valid_days, effect, user_id, treated. Receipt
        multiplies a user's order rate during the validity by 1 + effect x sensitivity.
    interest: users x days, 0 cold or 1 warm, in the order of `truth`.
    """

    batch: Batch
    truth: pd.DataFrame
    campaigns: pd.DataFrame
    interest: npt.NDArray[np.int8]
    start: date


def simulate(users: int = 2000, days: int = 400, seed: int = 0, start: date = date(2024, 1, 1), zone: str = "UTC", currency: str = "EUR") -> SimulatedShop:
    """Play a shop from `start` for `days` days; the same arguments give the same events to the byte."""
    rng = np.random.default_rng(seed)
    truth = _people(rng, users, days)
    interest = _interest(rng, users, days)
    campaigns = _campaigns(rng, truth, days, start)
    calendar = np.arange(days)
    alive = (calendar >= truth["arrival"].to_numpy()[:, None]) & (calendar < truth["alive_until"].to_numpy()[:, None])
    rate = WARMTH[interest] * alive
    chance = -np.expm1(-truth["order_rate"].to_numpy()[:, None] * rate * _weekday(start, calendar) * _boost(truth, campaigns, days, start))
    ordered = rng.random((users, days)) < chance
    browsed = rng.poisson(truth["browsing"].to_numpy()[:, None] * rate)
    events = all_events(rng, truth, campaigns, ordered, browsed, start, zone, currency)
    batch = Batch("simulated", events, complete_until=start + timedelta(days=days), products=canonical_products(catalogue()))
    return SimulatedShop(batch, truth, campaigns, interest, start)


def order_probability(shop: SimulatedShop, as_of: date, horizon: int) -> pd.Series:
    """Chance of at least one valid order in `as_of <= t < as_of + horizon`, given the latent state on the day before.

    Exact without campaigns: what campaigns of those days add is not in it. Users who arrive at `as_of` or later have
    no value; those who had left have 0.
    """
    return _chance(shop, as_of, horizon, np.zeros(len(shop.truth)), 1 - CANCELLED)


def campaign_lift(shop: SimulatedShop, campaign: str) -> pd.Series:
    """What receipt adds to the chance of a valid order during the validity, per user drawn for the campaign.

    Raises:
        UnknownName: no such campaign.
    """
    drawn = _drawn(shop, campaign)
    start, days, effect = drawn[["start", "valid_days", "effect"]].iloc[0]
    treated = _chance(shop, start, days, effect * shop.truth["sensitivity"].to_numpy(), 1 - CANCELLED)
    return (treated - order_probability(shop, start, days)).reindex(drawn["user_id"])


def redemption_probability(shop: SimulatedShop, campaign: str) -> pd.Series:
    """Chance that a coupon of the campaign is redeemed, per user who received it, given the latent state on the day before.

    Raises:
        UnknownName: no such campaign.
    """
    drawn = _drawn(shop, campaign)
    start, days, effect = drawn[["start", "valid_days", "effect"]].iloc[0]
    sensitivity = shop.truth["sensitivity"].to_numpy()
    redeems = _chance(shop, start, days, effect * sensitivity, REDEEMS[0] + REDEEMS[1] * sensitivity[:, None])
    return redeems.reindex(drawn.loc[drawn["treated"], "user_id"])


def _drawn(shop: SimulatedShop, campaign: str) -> pd.DataFrame:
    drawn = shop.campaigns[shop.campaigns["campaign"] == campaign]
    if drawn.empty:
        raise UnknownName("campaign", campaign, shop.campaigns["campaign"].unique())
    return drawn


def _chance(shop: SimulatedShop, as_of: date, horizon: int, effect: Floats, counts: Floats | float) -> pd.Series:
    """Backwards over the days of the window: the chance of no order that counts from each of the two interests, then one minus.

    Args:
        effect: what an offer adds to a user's order rate, as a share of it. counts: chance that an order counts, per user or for all.
    """
    today = (as_of - shop.start).days
    if not 1 <= today <= shop.interest.shape[1]:
        raise ValueError(f"as_of {as_of} is not within the {shop.interest.shape[1]} days after {shop.start}")
    truth = shop.truth
    stays = 1 - truth["dropout"].to_numpy()[:, None]
    none = np.ones((len(truth), 2))
    for day in range(today + horizon - 1, today - 1, -1):
        rate = truth["order_rate"].to_numpy() * (1 + effect) * _weekday(shop.start, np.array([day]))
        quiet = 1 + np.expm1(-rate[:, None] * WARMTH) * counts
        none = 1 - stays + stays * ((quiet * none) @ TURN.T)
    chance = 1 - none[np.arange(len(truth)), shop.interest[:, today - 1]]
    alive = (truth["alive_until"] > today - 1).to_numpy()
    return pd.Series(chance * alive, truth.index, name="probability")[truth["arrival"] < today]


def _people(rng: np.random.Generator, users: int, days: int) -> pd.DataFrame:
    arrival = np.where(rng.random(users) < 0.3, rng.integers(0, max(days // 10, 1), users), rng.integers(0, max(days * 9 // 10, 1), users))
    dropout = 1 / rng.uniform(80, 900, users)
    age = np.clip(rng.normal(42, 14, users), 18, 80).astype(int)
    order_rate = rng.gamma(0.9, 0.026, users) * np.exp((42 - age) / 60)
    sensitivity = rng.beta(1.2, 1.8, users)
    loyalty = np.log(order_rate + 1e-4)
    liking = 1.2 * (age - 42) / 14 + (loyalty - loyalty.mean()) / loyalty.std() - 2.5 * (sensitivity - 0.4)
    taste = rng.dirichlet([0.6] * len(DEPARTMENTS), users)
    return pd.DataFrame(
        {
            "arrival": arrival,
            "alive_until": arrival + rng.geometric(dropout),
            "order_rate": order_rate,
            "browsing": rng.gamma(2.0, 0.25, users) * (0.5 + np.minimum(order_rate, 0.1) * 20),
            "dropout": dropout,
            "sensitivity": sensitivity,
            "likeness": 1 / (1 + np.exp(-liking)),
            "age": age,
            "sampled": (arrival < days * 2 // 5) & (rng.random(users) < 0.3),
            **{f"taste_{name}": taste[:, number] for number, name in enumerate(DEPARTMENTS)},
        },
        index=pd.Index([f"user-{number:06d}" for number in range(users)], name="user_id"),
    )


def _interest(rng: np.random.Generator, users: int, days: int) -> npt.NDArray[np.int8]:
    states = np.zeros((users, days), np.int8)
    draws = rng.random((days, users))
    states[:, 0] = draws[0] < TURN[0, 1] / (TURN[0, 1] + TURN[1, 0])
    for day in range(1, days):
        states[:, day] = draws[day] < TURN[states[:, day - 1], 1]
    return states


def _campaigns(rng: np.random.Generator, truth: pd.DataFrame, days: int, start: date) -> pd.DataFrame:
    """Half of the users present are drawn for each campaign, half of those drawn receive it."""
    frames = []
    for number, day in enumerate(range(CAMPAIGN_EVERY, days, CAMPAIGN_EVERY)):
        present = truth.index[truth["arrival"] < day]
        drawn = present[rng.random(len(present)) < 0.5]
        frames.append(
            pd.DataFrame(
                {
                    "campaign": f"campaign-{number + 1:02d}",
                    "start": start + timedelta(days=day),
                    "valid_days": VALID_DAYS,
                    "effect": EFFECTS[number % len(EFFECTS)],
                    "user_id": drawn,
                    "treated": rng.random(len(drawn)) < 0.5,
                }
            )
        )
    columns = ["campaign", "start", "valid_days", "effect", "user_id", "treated"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def _boost(truth: pd.DataFrame, campaigns: pd.DataFrame, days: int, start: date) -> Floats:
    """Users x days: what the campaigns received multiply the order rate by."""
    boost = np.ones((len(truth), days))
    for _, first, valid, effect, who in receipts(truth, campaigns, start):
        boost[who, first : first + valid] *= 1 + effect * truth["sensitivity"].to_numpy()[who, None]
    return boost


def _weekday(start: date, days: npt.NDArray[np.int_]) -> Floats:
    return WEEKDAY[(start.weekday() + days) % 7]
