"""Buy till you die: BG/NBD says whether and how often a customer orders again, Gamma-Gamma what an order is worth.

A customer is three numbers at a cutoff, in any one unit of time: x (`frequency`), the days with an order after the first
one; tx (`recency`), the time from the first to the last order; T (`age`), the time from the first order to the cutoff.

BG/NBD (Fader, Hardie, Lee 2005, "Counting your customers the easy way", Marketing Science 24(2)): while alive a customer
orders as a Poisson process whose rate is Gamma(r, alpha) over customers; after each repeat order the customer leaves for
good with a probability that is Beta(a, b) over customers. P(alive) must never rank churn: whoever ordered once has 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.errors import NoUsableData

Vector = npt.NDArray[np.float64]
Loss = Callable[[Vector], tuple[float, Vector]]  # log-parameters -> value and gradient

BOX = 10.0  # bound of the log-parameters, in scaled units: where the likelihood is flat, they stop here
NODES = 64  # of the quadrature over the probability of leaving: nine digits while h is under 70 (alpha + T), three at 600
BGNBD_STARTS = ((0.3, 0.5, 2.0), (1.0, 1.0, 1.0), (3.0, 0.1, 3.0))  # r, a, b; alpha follows from the mean rate
GAMMA_STARTS = ((1.0, 1.0), (5.0, 3.0))  # p, q - 1; v follows from the mean value


@dataclass(frozen=True)
class BgNbd:
    """Fitted BG/NBD. alpha is in the unit of time of the data it was fitted on, and so must be everything it is asked about.

    The methods take one value per customer, or anything that numpy broadcasts to it.
    """

    r: float
    alpha: float
    a: float
    b: float

    def p_alive(self, x: npt.ArrayLike, tx: npt.ArrayLike, T: npt.ArrayLike) -> Vector:
        """Probability that the customer has not left (Fader, Hardie, Lee 2008, "Computing P(alive) using the BG/NBD model")."""
        from scipy.special import expit

        x, tx, T = _columns(x, tx, T)
        return np.asarray(expit(-_log_odds_of_having_left(x, tx, T, self.r, self.alpha, self.a, self.b)))

    def p_order(self, x: npt.ArrayLike, tx: npt.ArrayLike, T: npt.ArrayLike, h: npt.ArrayLike) -> Vector:
        """Probability of at least one order in the time h after T.

        Whoever is alive at T cannot leave before that order, so the rate alone, Gamma(r + x, alpha + T), decides.
        """
        x, tx, T, h = _columns(x, tx, T, h)
        never = -(self.r + x) * np.log1p(h / (self.alpha + T))
        return np.asarray(self.p_alive(x, tx, T) * -np.expm1(never))

    def expected_orders(self, x: npt.ArrayLike, tx: npt.ArrayLike, T: npt.ArrayLike, h: npt.ArrayLike) -> Vector:
        """Expected number of orders in the time h after T: equation 10 of Fader, Hardie, Lee 2005.

        Its hypergeometric function has a pole at a = 1 and cancels near it. The same expectation as an integral over the
        probability p of leaving, which is Beta(a, b + x) for whoever is alive, has neither:
        P(alive) E[(1 - (1 + p h / (alpha + T))^-(r + x)) / p].
        """
        x, tx, T, h = _columns(x, tx, T, h)
        kinds, kind = np.unique(x, return_inverse=True)
        tables = np.array([_beta_quadrature(self.a, self.b + orders) for orders in kinds]).reshape(len(kinds), 2, NODES)
        expected = np.zeros(x.shape)
        for p, share in ((tables[kind, 0, node], tables[kind, 1, node]) for node in range(NODES)):
            expected += share * -np.expm1(-(self.r + x) * np.log1p(p * h / (self.alpha + T))) / p
        return np.asarray(self.p_alive(x, tx, T) * expected)


@dataclass(frozen=True)
class GammaGamma:
    """Fitted Gamma-Gamma (Fader, Hardie 2013, "The Gamma-Gamma model of monetary value"): orders of a customer are worth
    Gamma(p, nu), nu over customers is Gamma(q, v); how much an order is worth says nothing of how often one orders.

    v is in the unit of money of the data it was fitted on; q > 1, or the mean over customers would not exist.
    """

    p: float
    q: float
    v: float

    def expected_value(self, x: npt.ArrayLike, mean_value: npt.ArrayLike) -> Vector:
        """Expected value of an order of a customer whose x repeat orders were worth `mean_value` on average; x = 0: of anybody."""
        x, mean_value = _columns(x, mean_value)
        return np.asarray(self.p * (self.v + np.where(x > 0, x * mean_value, 0)) / (self.p * x + self.q - 1))


def fit_bgnbd(frequency: npt.ArrayLike, recency: npt.ArrayLike, age: npt.ArrayLike, weights: npt.ArrayLike | None = None, penalty: float = 0.0) -> BgNbd:
    """Fit by maximum likelihood. The same customers in any order give the same parameters.

    Args:
        weights: how many customers each row stands for; None is one.
        penalty: pull of the logs of r, alpha over the mean age, a and b towards 0, in log-likelihood per squared unit: 0.125
            is a normal prior with a standard deviation of 2, worth having under a hundred repeat buyers.

    Raises:
        NoUsableData: nobody came back. ValueError: arrays that are no histories.
    """
    x, tx, T, count = _patterns(frequency, recency, age, weights)
    customers, repeats = count.sum(), (count * x).sum()
    if not repeats:
        raise NoUsableData(
            f"BG/NBD needs customers who came back; of {customers:.0f} customers none ordered on a second day. "
            "Ingest a longer history or choose a later cutoff."
        )
    unit = (count * T).sum() / customers
    tx, T = tx / unit, T / unit
    starts = [(r, r * customers / repeats, a, b) for r, a, b in BGNBD_STARTS]
    r, alpha, a, b = least(lambda logs: _bgnbd_loss(logs, x, tx, T, count, penalty), starts)
    return BgNbd(r, alpha * float(unit), a, b)


def fit_gamma_gamma(frequency: npt.ArrayLike, mean_value: npt.ArrayLike) -> GammaGamma:
    """Fit by maximum likelihood on the customers with repeat orders of some value; the others say nothing about it.

    Args:
        frequency: repeat order days. mean_value: mean value of those days, in any one unit.

    Raises:
        NoUsableData: fewer than two customers to learn from.
    """
    x, value = _columns(frequency, mean_value)
    used = (x > 0) & (value > 0)
    if used.sum() < 2:
        raise NoUsableData(
            f"Gamma-Gamma needs two customers with repeat orders of some value; of {len(x)} customers {(x > 0).sum()} came back and {used.sum()} of them "
            "spent something. Ingest a longer history or choose a later cutoff."
        )
    rows = np.flatnonzero(used)[np.lexsort((value[used], x[used]))]
    x, value = x[rows], value[rows]
    unit = float(value.mean())
    p, q_above_1, v = least(lambda logs: _gamma_loss(logs, x, value / unit), [(p, q, q / p) for p, q in GAMMA_STARTS])
    return GammaGamma(p, 1 + q_above_1, v * unit)


def _log_odds_of_having_left(x: Vector, tx: Vector, T: Vector, r: float, alpha: float, a: float, b: float) -> Vector:
    odds = np.log(a) - np.log(b + np.maximum(x, 1) - 1) + (r + x) * np.log1p((T - tx) / (alpha + tx))
    return np.where(x > 0, odds, -np.inf)  # nobody leaves before a repeat order


def _bgnbd_loss(logs: Vector, x: Vector, tx: Vector, T: Vector, count: Vector, penalty: float) -> tuple[float, Vector]:
    """Negative log-likelihood per customer and its gradient by the log-parameters (section 7 of Fader, Hardie, Lee 2005)."""
    from scipy.special import digamma, expit, gammaln

    r, alpha, a, b = np.exp(logs)
    odds = _log_odds_of_having_left(x, tx, T, r, alpha, a, b)
    left, log_T, log_tx = expit(odds), np.log(alpha + T), np.log(alpha + tx)
    rate = gammaln(r + x) - gammaln(r) + r * np.log(alpha) - (r + x) * log_T
    stay = gammaln(a + b) - gammaln(a + b + x) + gammaln(b + x) - gammaln(b)
    any_stay = digamma(a + b) - digamma(a + b + x)
    slopes = (
        digamma(r + x) - digamma(r) + np.log(alpha) - (1 - left) * log_T - left * log_tx,
        r / alpha - (r + x) * ((1 - left) / (alpha + T) + left / (alpha + tx)),
        any_stay + left / a,
        any_stay + digamma(b + x) - digamma(b) - left / (b + np.maximum(x, 1) - 1),
    )
    value = (count * (rate + stay + np.logaddexp(0, odds))).sum()
    gradient = np.array([(count * slope).sum() for slope in slopes]) * np.exp(logs)
    return float(penalty * (logs**2).sum() - value) / count.sum(), (2 * penalty * logs - gradient) / count.sum()


def _gamma_loss(logs: Vector, x: Vector, value: Vector) -> tuple[float, Vector]:
    """Negative log-likelihood per customer and its gradient by the logs of p, q - 1 and v (Fader, Hardie 2013)."""
    from scipy.special import digamma, gammaln

    p, q_above_1, v = np.exp(logs)
    q, total = 1 + q_above_1, x * value
    log_share = np.log(total / (total + v))
    likelihood = gammaln(p * x + q) - gammaln(p * x) - gammaln(q) + p * x * log_share - q * np.log1p(total / v) - np.log(value)
    slopes = (
        x * (digamma(p * x + q) - digamma(p * x) + log_share),
        digamma(p * x + q) - digamma(q) - np.log1p(total / v),
        q / v - (p * x + q) / (total + v),
    )
    gradient = np.array([slope.sum() for slope in slopes]) * np.array([p, q_above_1, v])
    return -float(likelihood.sum()) / len(x), -gradient / len(x)


def least(loss: Loss, starts: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The parameters of the least loss that a descent from one of the starts finds; the first of equals."""
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits  # not installed where fitted models are only asked

    bounds = [(-BOX, BOX)] * len(starts[0])
    options = {"ftol": 1e-14, "gtol": 1e-8}
    with threadpool_limits(1):  # more would wait for each other over matrices of four by four
        found = [minimize(loss, np.clip(np.log(start), -BOX, BOX), jac=True, method="L-BFGS-B", bounds=bounds, options=options) for start in starts]
    best = min(found, key=lambda result: float(result.fun))
    return tuple(float(value) for value in np.exp(best.x))


def _beta_quadrature(a: float, b: float) -> tuple[Vector, Vector]:
    """Nodes and shares of the Gauss quadrature over Beta(a, b) (Golub, Welsch 1969): the eigenvalues of Jacobi's recurrence.

    The shares add up to 1, so that unlike the usual weights they cannot overflow where b is large.
    """
    from scipy.linalg import eigh_tridiagonal

    s, n, m = a + b - 2, np.arange(1, NODES), np.arange(2, NODES)
    centre = np.append((a - b) / (a + b), (a - b) * s / ((2 * n + s) * (2 * n + s + 2)))
    first = 4 * a * b / ((a + b) ** 2 * (a + b + 1))  # the general form is 0 / 0 where a + b = 1
    square = 4 * m * (m + a - 1) * (m + b - 1) * (m + s) / ((2 * m + s) ** 2 * (2 * m + s + 1) * (2 * m + s - 1))
    nodes, vectors = eigh_tridiagonal(centre, np.sqrt(np.append(first, square)))
    return np.maximum((1 + nodes) / 2, 1e-15), vectors[0] ** 2


def _patterns(frequency: npt.ArrayLike, recency: npt.ArrayLike, age: npt.ArrayLike, weights: npt.ArrayLike | None) -> tuple[Vector, ...]:
    """Distinct x, tx and T in ascending order, and how many customers have them."""
    x, tx, T, count = _columns(frequency, recency, age, 1.0 if weights is None else weights)
    rules = {
        "finite numbers": np.isfinite([x, tx, T, count]).all(axis=0),
        "0 <= recency <= age": (tx >= 0) & (tx <= T),
        "recency 0 exactly where frequency is 0": (x >= 0) & ((x == 0) == (tx == 0)),
        "weights of at least 0": count >= 0,
    }
    if broken := [f"{(~kept).sum()} of {len(x)} rows break '{rule}'" for rule, kept in rules.items() if not kept.all()]:
        raise ValueError(f"These are no histories of customers: {'; '.join(broken)}.")
    rows = np.array([x, tx, T, count])[:, np.lexsort((count, T, tx, x))]
    if not rows.size:
        raise NoUsableData("BG/NBD needs customers; there are none before the cutoff. Ingest a longer history or choose a later cutoff.")
    starts = np.flatnonzero(np.append(True, (np.diff(rows[:3]) != 0).any(axis=0)))
    return *rows[:3, starts], np.add.reduceat(rows[3], starts)


def _columns(*values: npt.ArrayLike) -> tuple[Vector, ...]:
    return tuple(np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values)))
