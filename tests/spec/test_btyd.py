"""BG/NBD and Gamma-Gamma against another implementation, against their own stories told slowly, and against what was published."""

from __future__ import annotations

import base64
import os
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import hyp2f1

from features.errors import NoUsableData
from features.events import EventLog, day_number
from features.shopfile import Shop
from features.tiles import open_tiles
from training.btyd import BgNbd, GammaGamma, Vector, fit_bgnbd, fit_gamma_gamma
from training.buying import history_of
from training.shop_report import order_days

MODEL, SPEND = BgNbd(r=0.5, alpha=20.0, a=0.8, b=2.5), GammaGamma(p=6.25, q=3.74, v=15.44)
# frequency, recency, age, customers, mean value
SHOP = np.array(
    [
        (0, 0, 30, 40, 0), (0, 0, 80, 50, 0), (0, 0, 150, 60, 0), (1, 5, 40, 6, 30), (1, 5, 150, 9, 20), (1, 60, 140, 5, 12), (2, 20, 150, 8, 45),
        (2, 70, 80, 3, 25), (3, 25, 30, 2, 20), (4, 40, 150, 6, 60), (5, 30, 140, 4, 18), (8, 120, 130, 1, 33), (12, 140, 150, 1, 28),
    ]
).T  # fmt: skip

# --- lifetimes 0.11.3, an independent implementation --------------------------------------------------------------------
# Made with `pip install lifetimes==0.11.3` (which is no longer maintained, hence the literals), MODEL's, SPEND's and SHOP's
# numbers as above, and: BetaGeoFitter().fit(x, tx, T, weights=customers, tol=1e-8).params_; with params_ set to MODEL's,
# conditional_probability_alive(x, tx, T) and conditional_expected_number_of_purchases_up_to_time(h, x, tx, T);
# GammaGammaFitter().fit(x, value, q_constraint=True, tol=1e-8).params_ on one row per customer with x > 0; with params_ set to
# SPEND's, conditional_expected_average_profit(x, value); summary_data_from_transaction_data(DAYS, "user_id", "day", "value_cents",
# observation_period_end="2024-01-10").


def test_scores_are_those_of_lifetimes() -> None:
    x, tx, T, h = np.array([(0, 0, 10, 30), (0, 0, 200, 30), (1, 3, 90, 90), (4, 80, 85, 7), (20, 100, 300, 365)]).T
    alive = [1.0, 1.0, 0.2300471588007496, 0.8466203188461763, 4.9772498218619214e-08]
    orders = [0.43116591941632026, 0.06656705077714155, 0.24112544998668042, 0.24903725396580248, 8.553604991923819e-07]
    assert MODEL.p_alive(x, tx, T) == pytest.approx(alive, rel=1e-12)
    assert MODEL.expected_orders(x, tx, T, h) == pytest.approx(orders, rel=1e-9)
    assert float(BgNbd(0.5, 20.0, 1.7, 2.5).expected_orders(4, 80, 85, 90)) == pytest.approx(1.89592716899915, rel=1e-9)
    values = [35.21897810218978, 45.49499443826474, 48.80847308031774, 21.22683142100618]
    assert SPEND.expected_value([0, 1, 5, 5], [0, 50, 50, 20]) == pytest.approx(values, rel=1e-12)


def test_fits_are_those_of_lifetimes() -> None:
    x, tx, T, customers, value = SHOP
    found = fit_bgnbd(x, tx, T, weights=customers)
    assert (found.r, found.alpha, found.a, found.b) == pytest.approx((0.0918983, 4.517285, 6.248505, 11.814914), rel=1e-4)
    spend = fit_gamma_gamma(np.repeat(x, customers), np.repeat(value, customers))
    assert (spend.p, spend.q, spend.v) == pytest.approx((16.306381, 5.303063, 8.383905), rel=1e-4)


def known(days: pd.DataFrame, cutoff: int) -> pd.DataFrame:
    """What is asked of each user, from order days (by user and day) as `shop_report.order_days` makes them: the history by
    `history_of`, and what a repeat order day was worth in cents."""
    past = days[days["day"] < cutoff].groupby("user_id")
    first, last, count = past["day"].min(), past["day"].max(), past.size()
    gap = ((last - first) / (count - 1).where(count > 1)).to_numpy(np.float64)
    x, tx, T = history_of(np.column_stack([cutoff - last, cutoff - first, gap]).astype(np.float64))
    worth = (past["cents"].sum() - past["cents"].first()).to_numpy() / np.maximum(x, 1)
    return pd.DataFrame({"frequency": x, "recency": tx, "age": T, "mean_value": worth}, index=first.index)


def test_histories_are_those_of_lifetimes(make_log: Callable[..., EventLog], shop: Shop, tmp_path: Path) -> None:
    # Two orders of `a` on the 4th are one order day; `d` comes on the day of the cutoff, which is not history yet.
    placed = [("a", 4, 200), ("a", 1, 1000), ("a", 4, 300), ("a", 9, 900), ("d", 11, 100), ("c", 10, 700), ("b", 2, 400), ("b", 10, 500)]
    orders = [
        {"user_id": user, "event": "order", "occurred_at": f"2024-01-{day:02d} 10:00", "order_id": str(number), "value_cents": value}
        for number, (user, day, value) in enumerate(placed)
    ]
    cutoff = date(2024, 1, 11)
    found = known(order_days(open_tiles(make_log(orders), shop, tmp_path).before(cutoff)), day_number(cutoff))
    assert found.reset_index().to_numpy().tolist() == [["a", 2, 8, 9, 700.0], ["b", 1, 8, 8, 500.0], ["c", 0, 0, 0, 0.0]]


# --- the stories, told slowly -------------------------------------------------------------------------------------------


def story(x: int, tx: float, T: float, h: float, draws: int = 1_000_000) -> tuple[float, float, float]:
    """P(alive), P(an order within h) and expected orders within h by drawing customers and weighting them by their histories."""
    random = np.random.default_rng(0)
    rate, p = random.gamma(MODEL.r, 1 / MODEL.alpha, draws), random.beta(MODEL.a, MODEL.b, draws)
    stayed = rate**x * (1 - p) ** x * np.exp(-rate * T)
    left = rate**x * (1 - p) ** (x - 1) * p * np.exp(-rate * tx) if x else np.zeros(draws)
    orders = np.minimum(random.poisson(rate * h), random.geometric(np.maximum(p, 1e-12)))  # no more after the one that was the last
    total = (stayed + left).sum()
    return stayed.sum() / total, stayed @ (orders > 0) / total, stayed @ orders / total


@pytest.mark.parametrize("history", [(0, 0, 10, 30), (1, 3, 90, 90), (2, 40, 60, 200), (5, 80, 85, 7)])
def test_scores_are_what_the_story_says(history: tuple[int, float, float, float]) -> None:
    x, tx, T, h = history
    ours = (MODEL.p_alive(x, tx, T), MODEL.p_order(x, tx, T, h), MODEL.expected_orders(x, tx, T, h))
    assert [float(value) for value in ours] == pytest.approx(story(x, tx, T, h), rel=0.02)


def test_the_expected_value_is_what_the_story_says() -> None:
    random = np.random.default_rng(0)
    rate = random.gamma(SPEND.q, 1 / SPEND.v, 1_000_000)
    assert float(SPEND.expected_value(0, 0)) == pytest.approx((SPEND.p / rate).mean(), rel=0.01)
    weight = rate ** (SPEND.p * 3) * np.exp(-rate * 3 * 20.0)  # three orders of 20 on average
    assert float(SPEND.expected_value(3, 20)) == pytest.approx((weight @ (SPEND.p / rate)) / weight.sum(), rel=0.01)


def simulated_histories(model: BgNbd, T: Vector, seed: int) -> tuple[Vector, Vector, Vector]:
    """Customers who do what the model says, one order after the other."""
    random = np.random.default_rng(seed)
    rate, p = random.gamma(model.r, 1 / model.alpha, len(T)), random.beta(model.a, model.b, len(T))
    x, tx, alive = np.zeros(len(T)), np.zeros(len(T)), np.ones(len(T), dtype=bool)
    while alive.any():
        order = tx + random.exponential(1 / np.maximum(rate, 1e-300))
        alive &= order <= T
        x, tx = x + alive, np.where(alive, order, tx)
        alive &= random.random(len(T)) >= p
    return x, tx, T


def test_the_parameters_of_a_simulated_shop_are_found_again() -> None:
    told = BgNbd(r=0.8, alpha=15.0, a=0.9, b=3.0)
    found = fit_bgnbd(*simulated_histories(told, np.random.default_rng(1).uniform(50, 400, 20_000), seed=2))
    assert (found.r, found.alpha, found.a, found.b) == pytest.approx((told.r, told.alpha, told.a, told.b), rel=0.1)


def test_the_spending_of_a_simulated_shop_is_found_again() -> None:
    random = np.random.default_rng(3)
    x = random.integers(1, 9, 20_000)
    mean = random.gamma(SPEND.p * x) / x / random.gamma(SPEND.q, 1 / SPEND.v, len(x))
    found = fit_gamma_gamma(np.append(x, [0, 5]), 100 * np.append(mean, [7, 0]))  # in cents; the last two say nothing
    assert (found.p, found.q, found.v / 100) == pytest.approx((SPEND.p, SPEND.q, SPEND.v), rel=0.1)


# --- what holds for everybody -------------------------------------------------------------------------------------------

positive = st.floats(0.02, 50)
models = st.builds(BgNbd, r=positive, alpha=st.floats(5, 200), a=positive, b=positive)
# At most one order day a day.
pasts = st.tuples(st.integers(1, 60), st.integers(0, 400), st.integers(0, 300)).map(lambda past: (past[0], past[0] + past[1], sum(past)))
anybody = st.one_of(pasts, st.integers(0, 700).map(lambda age: (0, 0, age)))
horizons = st.floats(0.5, 365)


@given(models, anybody, horizons)
def test_probabilities_are_probabilities_and_orders_at_least_as_many(model: BgNbd, past: tuple[int, int, int], h: float) -> None:
    alive, order, orders = (float(value) for value in (model.p_alive(*past), model.p_order(*past, h), model.expected_orders(*past, h)))
    assert 0 <= order <= alive <= 1
    assert order <= orders * (1 + 1e-9)  # Markov
    assert orders <= h * (model.r + past[0]) / (model.alpha + past[2]) * (1 + 1e-9)  # what those who never leave would order
    assert past[0] > 0 or alive == 1


@given(models, anybody)
def test_a_longer_horizon_brings_more(model: BgNbd, past: tuple[int, int, int]) -> None:
    h = np.array([0, 1, 7, 30, 90, 365])
    assert (np.diff(model.p_order(*past, h)) >= 0).all()
    assert (np.diff(model.expected_orders(*past, h)) >= 0).all()
    assert float(model.p_order(*past, 0)) == float(model.expected_orders(*past, 0)) == 0


@given(models, pasts)
def test_silence_makes_alive_less_likely(model: BgNbd, past: tuple[int, int, int]) -> None:
    x, tx, T = past
    assert (np.diff(model.p_alive(x, tx, T + np.arange(0, 365, 30))) <= 0).all()


@given(models, anybody, horizons)
def test_days_and_weeks_say_the_same(model: BgNbd, past: tuple[int, int, int], h: float) -> None:
    x, tx, T = past
    weeks = BgNbd(model.r, model.alpha / 7, model.a, model.b)
    assert float(weeks.p_order(x, tx / 7, T / 7, h / 7)) == pytest.approx(float(model.p_order(x, tx, T, h)), rel=1e-9)
    assert float(weeks.expected_orders(x, tx / 7, T / 7, h / 7)) == pytest.approx(float(model.expected_orders(x, tx, T, h)), rel=1e-9)


@given(st.floats(0.1, 5), st.floats(5, 100), st.floats(0.2, 5).filter(lambda a: abs(a - 1) > 0.05), st.floats(1, 5), anybody, horizons)
def test_expected_orders_are_equation_10(r: float, alpha: float, a: float, b: float, past: tuple[int, int, int], h: float) -> None:
    x, tx, T = past
    model = BgNbd(r, alpha, a, b)
    series = hyp2f1(r + x, b + x, a + b + x - 1, h / (alpha + T + h)) * ((alpha + T) / (alpha + T + h)) ** (r + x)
    published = (a + b + x - 1) / (a - 1) * (1 - series) * float(model.p_alive(x, tx, T))
    assert float(model.expected_orders(x, tx, T, h)) == pytest.approx(published, rel=1e-6, abs=1e-12)


def test_nothing_breaks_where_equation_10_does() -> None:
    around = [float(BgNbd(0.5, 20.0, a, 2.5).expected_orders(4, 80, 85, 90)) for a in (1 - 1e-6, 1.0, 1 + 1e-6)]
    assert around == pytest.approx([around[1]] * 3, rel=1e-5)
    assert float(BgNbd(0.5, 20.0, 0.4, 0.6).expected_orders(0, 0, 85, 90)) > 0  # a + b = 1
    assert MODEL.expected_orders([0, 5_000], [0, 700], [700, 700], 30).tolist() == pytest.approx([0.0207, 205], rel=0.01)
    assert MODEL.expected_orders([], [], [], 30).tolist() == []


def test_order_and_unit_of_the_rows_do_not_matter_to_the_fit() -> None:
    x, tx, T, customers, _ = SHOP
    found = fit_bgnbd(x, tx, T, weights=customers)
    mixed = np.random.default_rng(0).permutation(np.repeat(np.arange(len(x)), customers))
    assert fit_bgnbd(x[mixed], tx[mixed], T[mixed]) == found
    weeks = fit_bgnbd(x, tx / 7, T / 7, weights=customers)
    assert (weeks.r, weeks.alpha * 7, weeks.a, weeks.b) == pytest.approx((found.r, found.alpha, found.a, found.b), rel=1e-4)


def test_a_penalty_pulls_towards_one_and_the_mean_age() -> None:
    x, tx, T, customers, _ = SHOP
    pulled = fit_bgnbd(x, tx, T, weights=customers, penalty=1e6)
    assert (pulled.r, pulled.alpha, pulled.a, pulled.b) == pytest.approx((1, np.average(T, weights=customers), 1, 1), rel=1e-2)


@pytest.mark.parametrize("penalty", [0.0, 0.125])
@pytest.mark.parametrize("rows", [[(1, 5, 9)], [(0, 0, 9), (1, 9, 9)], [(30, 400, 400)], [(0, 0, 0), (3, 1, 300), (3, 299, 300)]])
def test_a_handful_of_customers_still_gives_scores(rows: list[tuple[int, int, int]], penalty: float) -> None:
    x, tx, T = np.array(rows).T
    model = fit_bgnbd(x, tx, T, penalty=penalty)
    assert ((model.p_order(x, tx, T, 30) >= 0) & (model.p_order(x, tx, T, 30) <= 1)).all()
    assert (model.expected_orders(x, tx, T, 30) <= 31).all()


def test_one_repeat_buyer_in_a_million_is_enough() -> None:
    model = fit_bgnbd([0, 1], [0, 40], [90, 90], weights=[1e6, 1])
    assert float(model.p_order(0, 0, 90, 90)) == pytest.approx(1e-6, rel=0.5)


def test_what_cannot_be_fitted_is_refused_with_counts() -> None:
    with pytest.raises(NoUsableData, match="of 3 customers none ordered on a second day"):
        fit_bgnbd([0, 0, 0], [0, 0, 0], [5, 6, 7])
    with pytest.raises(NoUsableData, match="there are none"):
        fit_bgnbd([], [], [])
    with pytest.raises(ValueError, match=r"1 of 2 rows break '0 <= recency <= age'; 1 of 2 rows break 'recency 0 exactly"):
        fit_bgnbd([1, 0], [9, 3], [5, 6])
    with pytest.raises(NoUsableData, match="of 4 customers 3 came back and 1 of them spent something"):
        fit_gamma_gamma([0, 1, 2, 2], [9, 0, 0, 9])


# --- what was published -------------------------------------------------------------------------------------------------

# Which of the 23,570 customers are the tenth that the papers use, as steps from id to id: it was drawn in an order that the
# data set no longer shows, and no rule on the ids gives it back.
TENTH = (
    "c-kG7*>c1>4nvEJR*KYScapkys^<T{a?taXl-;%@-~hCS{HNReBcjb`Qta-DbMy49$+tF%_t|Rn-"
    "(ZgzOL@z`g=e!n*4mfUIko&Aere|u>6oqg!w=1IE|<cAx0HBeQzxHNwajF_%puNYN~*rMtQ39dqB7aAxN0jkGb!!f%FNj$u{>=rvFz7{!rB@$a{MjPLo*fObmqO}N@7~<9-"
    "irMB>LsmslIhe=P0oVr)asPte$;7&st+Wwd$*kebLFi);(#Bk^=8ODw0xREWC`nX#VJ>RE>h4t53d0gR)v3FOMOkyK-"
    "548fmNLF>cya!gwD1msWiCxO7cBY0Q_WHHu?BrK2^@a@~@XR@*o6xXJcsEvC2RdRI%@us69=+c<69XIHH=5^k)6!^QUeBT{)t<Pi*6I<xEDI$(z+&&;EhMu!sg{3H&TjZ1km@4R$CONFws-"
    "dPiSPNnB~cdoB)#li4nO5P>g56iE-t;L*)lR)_?9C1Ua^m#^$+iRC5r9w}8)|oqGFJM6R==p<FYnGlyDaxxvZ&7FZq_$#P!@Z&Zyo(>s*7N+ykzL-gdgi6#(%(<xTDj(-S<lzhF@3oVcv*Xqe{*d-"
    "RZAu;VT=<GQd#<1sgcI9aHzRf>$hTM`@+f=nVZbl@JzkMX}=4%erv2Z22n0?KegTcA`@ag2y9>(4l_N2ZYyd2+egK+hgY7X%tz@brZK~nQl^*D(iBTO!EsBLp$)t!@6^(Y_Q?Qas{bbU4_R2&)Hi?u"
    ";CzqiFFk8d86UA#z^jf-ZKhUhO;X6xEIGj3TR<NooO=hO*=U-|Kn!8bxB|q*lLyK1eKwc;136P`d9<Bv1C(9r-hSq|jz2nL^H5rrd_3y14qjn{;r(8pzXOkwI-"
    "NT_$ttPj!Z}YXmia`LTo({32as%?jk7p>?UsoXrFElpq11-PzYp~BpN~Xs>y!O=r<@&aMCZ^Rx*^tKd+?kw@zEqLd{1ER)mywi_-qef0};VC?8&$t+0Ia{C3yWNAVZoA?%(9-"
    "F0Lu10N_+>Zz;#oUMYU`K`%6gcW`Ya1e9y*ip&yr(FP=KI2VmO*9G4V#~5BF9^y59#1xt(h#iY<;8$15U9KXCcSpXL#o%eLXjQ0d?ow^hLojiIx&^LsP}%R9?u0FBm5U3dBrsizrgkc4GWwFWyTP?F"
    "KU>Hk^^{hwrSr>vHgF?PbG^kz6x&p7GKG8wy8Vy4iT|K&QPY#yzJ1!$^alhHJTMlR%Sby)6s_Z%pd0+qJ8KWSt?e^LK|}T=d`;wCc++4F`gRD?ej-"
    "{;k<ozxOxJ_vJJw8T&fToEVQu7gc95g3M<}OQc}3Q$!Xx>Fs4t=Ob}8Ba=0y&@_VmEdwU8F{b-K2`Em!KfXsltDN`pRkaxb4+<e!;!5{3)*SrGcr_FNegXhIRo5~F~#g-e3LfgSX-"
    "v8}j!pmPMnX@H<-ego65)(k(kdPPvrDtI*pCx_Snv-"
    "*vttEM9#a5I~4nQE)mfd;Gy;p8uwK)h8st<SM#!_{xfekLaH!jL)=KHM;C!96S2(PJS}=1}Xm0tOe+j@~d2D6t|Se$tNGgq!<YS?BfQ$VP9g+1QwpjT`TRIl&i1)IqPw7=9qQbW9Gc6ez8cCZlvv{s"
    "lw1VC<nP11)zPg9QujzBD5;`}r}!7lq4L056r@16j}f0HPK5+X40?A8A~wE^oDK`i`h)Iob)Od3fNHp<~NPK%fI`Pb59?O+tk3i8I$X5WTkP$cM)li7K)Gyysq`6^wRN&fTU4_N7Y0aQHaJXrL=x3q"
    "B>Zu)a)4_h5)MP#Qi?LZ|nv5V;{43m+@!C!i|q{{s?XToM"
)


@pytest.fixture(scope="module")
def cdnow() -> pd.DataFrame:
    """The published tenth of the CDNOW cohort after 39 weeks."""
    folder = os.environ.get("ENCORE_DATA")
    if not folder:
        pytest.skip("ENCORE_DATA names no folder with cdnow/orders.parquet")
    orders = pd.read_parquet(Path(folder, "cdnow", "orders.parquet"))
    ids = np.cumsum(np.frombuffer(zlib.decompress(base64.b85decode(TENTH)), np.uint8), dtype=np.int64)
    orders = orders[orders["customer_id"].astype(int).isin(ids)]
    day = (orders["order_ts"] - pd.Timestamp("1970-01-01")).dt.days
    lines = pd.DataFrame({"user_id": orders["customer_id"], "day": day, "cents": (100 * orders["amount"]).round().astype("int64")})
    return known(lines.groupby(["user_id", "day"], as_index=False)["cents"].sum(), day_number(date(1997, 10, 1)))


def test_bgnbd_has_the_published_parameters_on_cdnow(cdnow: pd.DataFrame) -> None:
    assert len(cdnow) == 2357
    found = fit_bgnbd(cdnow["frequency"], cdnow["recency"] / 7, cdnow["age"] / 7)
    assert (found.r, found.alpha, found.a, found.b) == pytest.approx((0.243, 4.414, 0.793, 2.426), abs=5e-4)  # Fader, Hardie, Lee 2005


def test_gamma_gamma_has_the_published_parameters_on_cdnow(cdnow: pd.DataFrame) -> None:
    assert (cdnow["frequency"] > 0).sum() == 946
    found = fit_gamma_gamma(cdnow["frequency"], cdnow["mean_value"] / 100)
    assert (found.p, found.q, found.v) == pytest.approx((6.25, 3.74, 15.44), abs=5e-3)  # Fader, Hardie 2013
