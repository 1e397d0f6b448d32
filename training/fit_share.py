"""Fitting the beta-binomial share: how the customers of a shop differ, from what is known of each before the cutoff."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import betaln, digamma

from features.errors import NoUsableData
from training.blend import Matrix, Vector
from training.btyd import least
from training.examples import Examples
from training.models import fit_platt
from training.share import Share, counts_of

PRECISIONS = (0.5, 3.0, 30.0)  # a + b of the starts: from customers who always or never do to customers who are all alike


def fit_share(buyers: Matrix, rows: Examples, columns: tuple[str, ...]) -> Share:
    """Beta(a, b) of everybody who ever bought, and Platt's line on the examples.

    Args:
        buyers: customers x columns: orders, share of them at full price.

    Raises:
        NoUsableData: no order, or all of one kind.
    """
    a, b = fit_beta(*counts_of(buyers))
    made = Share(a, b, (1.0, 0.0), tuple(float(value) for value in np.median(np.nan_to_num(buyers), axis=0)))
    return replace(made, platt=fit_platt(made.raw(rows.of(columns)), rows.y))


def fit_beta(yes: Vector, orders: Vector) -> tuple[float, float]:
    """a and b of the chances over customers, by maximum likelihood; customers in any order.

    A customer with one order adds to the mean alone; how customers differ is learned from those with more (Kleinman 1973,
    "Proportions with extraneous variance: single and independent samples", JASA 68). Where they are all alike, the likelihood
    rises for ever as a + b does; it stops at the bound of `btyd`, and everybody has the shop's share.

    Args:
        yes: of a customer's orders, those with a discount. orders: all of them.

    Raises:
        NoUsableData: no order, or all of one kind.
    """
    if not 0 < yes.sum() < orders.sum():
        raise NoUsableData(
            f"A share of orders with a discount needs some with and some without; of {orders.sum():.0f} orders {yes.sum():.0f} have one. "
            "If the shop does give discounts, see that its orders say so (discount, coupon)."
        )
    patterns, count = np.unique(np.column_stack([yes, orders])[orders > 0], axis=0, return_counts=True)
    mean = yes.sum() / orders.sum()
    found = least(lambda logs: _loss(logs, patterns[:, 0], patterns[:, 1], count.astype(np.float64)), [(mean * s, (1 - mean) * s) for s in PRECISIONS])
    return found[0], found[1]


def _loss(logs: Vector, yes: Vector, orders: Vector, count: Vector) -> tuple[float, Vector]:
    """Negative log-likelihood per customer, but for a constant, and its gradient by the logs of a and b."""
    a, b = np.exp(logs)
    value = (count * (betaln(a + yes, b + orders - yes) - betaln(a, b))).sum()
    both = digamma(a + b) - digamma(a + b + orders)
    slopes = (digamma(a + yes) - digamma(a) + both, digamma(b + orders - yes) - digamma(b) + both)
    gradient = np.array([(count * slope).sum() for slope in slopes]) * np.array([a, b])
    return -float(value) / count.sum(), -gradient / count.sum()
