"""One suite for every model that a bundle can hold: the same to the bit on disk, alone and among others; shares that add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from features.errors import BundleRefused
from training.blend import Blend, Matrix, Vector
from training.btyd import BgNbd, GammaGamma
from training.bundle import MODELS, Bundle, Model, golden_rows, load_bundle, save_bundle
from training.buying import Buying, Returning, Worth
from training.examples import Examples
from training.fit_value import fit_value
from training.fit_waiting import fit_bands, fit_hazard
from training.hazard import Hazard
from training.lookalike.likeness import Likeness, Part
from training.models import Recipe, fit, fit_logistic, fit_trees
from training.share import Share
from training.uplift_model import Uplift, with_treatment
from training.value import Rate

EDGES = (1, 2, 4, 7, 14)
RECIPE = Recipe(trees=15, seeds=2, folds=2)
BGNBD, GAMMA_GAMMA = BgNbd(r=1 / 3, alpha=20.1, a=0.8, b=2.7), GammaGamma(p=6.25, q=3.74, v=1_544.4)
WIDTHS = {"bgnbd": 3, "bgnbd_waiting": 3, "bgnbd_gamma_gamma": 4, "rate": 1, "bands": 1, "share": 2}  # columns; 5 for the others


def rows_of(count: int, columns: int, seed: int = 0) -> Matrix:
    """Rows as they come: histories of customers in the first columns, counts, a tenth of the values missing."""
    random = np.random.default_rng(seed)
    tenure = random.integers(1, 700, count).astype(float)
    since = np.ceil(random.random(count) * tenure)
    rows = np.column_stack([since, tenure, (tenure - since) / random.integers(1, 9, count), random.gamma(3, 900, count), random.normal(size=count)])
    return np.where(random.random(rows.shape) < 0.1, np.nan, rows)[:, :columns]


@pytest.fixture(scope="module")
def made() -> dict[str, Model]:
    """A fitted model of each kind."""
    random, X = np.random.default_rng(1), rows_of(700, 5)
    came = (random.random(700) < 1 / (1 + np.exp(np.nan_to_num(X[:, 0]) / 200 - 0.5))).astype(np.int8)
    users, as_of = np.arange(700).astype(object), np.full(700, date(2024, 5, 1), dtype=object)
    names = tuple("abcde")
    spent = Examples(X, names, came, users, as_of, amount=np.where(came, np.rint(random.gamma(2, 1_500, 700)) + 1, 0.0))
    waited = replace(spent, amount=np.where(came, random.integers(0, 14, 700), np.nan), edges=EDGES)
    return {
        "blend": fit(X, came, users, RECIPE),
        "bgnbd": Buying(BGNBD, 30, (1.1, -0.2), (40.0, 200.0, 30.0)),
        "value": fit_value(spent, RECIPE),
        "rate": Rate(0.37, 12.5),
        "bgnbd_gamma_gamma": Worth(BGNBD, GAMMA_GAMMA, 90, 1.07, (40.0, 200.0, 30.0, 2_500.0)),
        "hazard": fit_hazard(waited, RECIPE),
        "bands": fit_bands(waited, "a"),
        "bgnbd_waiting": Returning(BGNBD, EDGES, 7, (40.0, 200.0, 30.0)),
        "uplift": Uplift("s", (), fit_trees(with_treatment(X, np.arange(700) % 2), came, 15, (0, 1))),
        "share": Share(2.4, 14.0, (0.9, 0.1), (3.0, 0.7)),
        "likeness": Likeness(fit_logistic(X, came), fit_trees(X, came, 15, (0, 1)), Part(-0.4, 0.8), Part(0.1, 1.3)),
        "uplift of two lines": Uplift("t", (fit_logistic(X[::2], came[::2]), fit_logistic(X[1::2], came[1::2]))),
        "uplift of one line": Uplift("x", (fit_logistic(X, came),)),
    }


ONE_MORE_COLUMN = ("hazard", "uplift")  # their trees also see the step or the arm, whose share, kept with the start, differs a little from row to row
KINDS = (*MODELS, "uplift of two lines", "uplift of one line")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bundle(made: dict[str, Model], kind: str) -> Bundle:
    columns = WIDTHS.get(kind, 5)
    bundle = Bundle(tuple("abcde"[:columns]), made[kind], {"task": "test", "kind": "any", "calibrated": True}, {}, {})
    return replace(bundle, golden=golden_rows(bundle, rows_of(20, columns, seed=2)))


def log_odds(chance: Vector) -> Vector:
    return np.asarray(np.log(chance) - np.log1p(-chance))


def mean_log_odds_of_steps(model: Hazard, rows: Matrix) -> Vector:
    curve = np.column_stack([np.ones(len(rows)), model.waiting(rows)])[:, : EDGES.index(model.within) + 2]
    return np.asarray(np.log(curve[:, :-1] / curve[:, 1:] - 1).mean(axis=1))  # the odds of a step: what it took over what it left


def of_lines_or_trees(model: Uplift, rows: Matrix) -> Vector:
    if len(model.lines) == 1:
        return model.lines[0].logits(rows)  # the effect before it is cut at -1 and 1
    treated, control = model.details(rows).values()
    return log_odds(treated) - log_odds(control)


EXPLAINED: dict[str, Callable[..., Vector]] = {
    "blend": Blend.logits,
    "bgnbd": lambda model, rows: log_odds(model.scores(rows)),
    "value": lambda model, rows: np.log(model.scores(rows)),
    "rate": lambda model, rows: np.log(model.scores(rows)),
    "bgnbd_gamma_gamma": lambda model, rows: np.log(model.scores(rows)),
    "hazard": mean_log_odds_of_steps,
    "bands": lambda model, rows: model.scores(rows),
    "bgnbd_waiting": lambda model, rows: log_odds(model.scores(rows)),
    "uplift": of_lines_or_trees,
    "share": lambda model, rows: log_odds(model.scores(rows)),
    "likeness": lambda model, rows: model.scores(rows),
}
"""What the shares of each kind add up to."""


def everything(bundle: Bundle, rows: Matrix) -> dict[str, bytes]:
    """All that a bundle says of some rows, to the bit."""
    details = {name: np.asarray(values).tobytes() for name, values in bundle.details(rows).items()}
    return {"scores": bundle.scores(rows).tobytes(), "contributions": np.ascontiguousarray(bundle.contributions(rows)).tobytes(), **details}


def test_every_kind_of_model_is_tried(made: dict[str, Model]) -> None:
    assert set(MODELS) <= set(made)
    assert all(isinstance(made[name], MODELS[name]) for name in MODELS)


def test_what_was_saved_is_loaded_to_the_bit(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "bundle")
    loaded, rows = load_bundle(tmp_path / "bundle", bundle.digest), rows_of(200, len(bundle.features), seed=3)
    assert type(loaded.model) is type(bundle.model)
    assert loaded.model == bundle.model
    assert everything(loaded, rows) == everything(bundle, rows)
    save_bundle(loaded, tmp_path / "again")
    assert {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "bundle").iterdir()
    }


def test_golden_rows_pass_as_made_and_fail_when_a_score_is_another(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "bundle")
    load_bundle(tmp_path / "bundle").check_golden_rows()
    first, *others = bundle.golden["scores"]
    with pytest.raises(BundleRefused, match="does not reproduce its golden rows"):
        replace(bundle, golden={**bundle.golden, "scores": [first * (1 + 1e-6) + 1e-12, *others]}).check_golden_rows()


def test_every_row_alone_scores_as_in_a_thousand(bundle: Bundle) -> None:
    rows = rows_of(1000, len(bundle.features), seed=4)
    whole, details = bundle.scores(rows), bundle.details(rows)
    few = range(0, 1000, 7)
    assert np.concatenate([bundle.scores(rows[[row]]) for row in few]).tobytes() == whole[few].tobytes()
    alone = [bundle.details(rows[[row]]) for row in few]
    assert all(np.concatenate([each[name] for each in alone]).tobytes() == values[few].tobytes() for name, values in details.items())


def test_every_row_alone_is_explained_as_among_others(bundle: Bundle) -> None:
    rows, few = rows_of(100, len(bundle.features), seed=5), range(0, 100, 9)
    whole = np.ascontiguousarray(bundle.contributions(rows))
    assert np.concatenate([bundle.contributions(rows[[row]]) for row in few]).tobytes() == whole[few].tobytes()


def test_the_shares_of_a_row_add_up_to_what_is_explained(bundle: Bundle, kind: str) -> None:
    rows = rows_of(400, len(bundle.features), seed=6)
    shares = bundle.contributions(rows)
    assert shares.shape == (400, len(bundle.features) + 1)
    assert np.isfinite(shares).all()
    if kind not in ONE_MORE_COLUMN:
        assert len(set(shares[:, -1])) == 1  # what everybody starts from
    assert np.abs(shares[:, :-1]).max() > 1e-3
    np.testing.assert_allclose(shares.sum(axis=1), EXPLAINED[kind.split()[0]](bundle.model, rows), rtol=0, atol=1e-8)


def test_scores_are_finite_whatever_is_missing(bundle: Bundle) -> None:
    nothing = np.full((2, len(bundle.features)), np.nan)
    assert np.isfinite(bundle.scores(nothing)).all()
    assert bundle.scores(nothing[:0]).shape == (0,)
    assert np.isfinite(bundle.contributions(nothing)).all()
