"""Pictures: each is a figure of its own, says what it shows, and is the same to the byte when drawn again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from features.errors import NoUsableData
from training import plots
from training.evaluate import Floats, Interval

RANDOM = np.random.default_rng(0)
P = RANDOM.beta(1, 4, 300)
Y = (RANDOM.random(300) < P).astype(int)
SCORES = {"model": P, "recency": np.round(P + RANDOM.normal(0, 0.2, 300), 1), "RFM": P**2}
PROBABILITIES = {"model": P, "RFM": P**2}
RESULTS: dict[str, dict[date, Interval]] = {
    "model": {date(2024, 3, 1): {"value": 0.8, "low": 0.7, "high": 0.9}, date(2024, 2, 1): {"value": 0.7, "low": None, "high": None}},
    "recency": {date(2024, 2, 1): {"value": 0.6, "low": 0.5, "high": 0.7}},
}
CURVES = {
    "roc": lambda: plots.roc(Y, SCORES),
    "precision_recall": lambda: plots.precision_recall(Y, SCORES),
    "reliability": lambda: plots.reliability(Y, PROBABILITIES),
    "gains_curve": lambda: plots.gains_curve(Y, SCORES),
    "lift_curve": lambda: plots.lift_curve(Y, SCORES),
}
PLOTS: dict[str, Callable[[], Figure]] = {
    **CURVES,
    "score_distribution": lambda: plots.score_distribution(Y, P),
    "importance": lambda: plots.importance({"orders_30": 0.4, "other": -0.2}, {"orders_30": "orders placed in the last 30 days"}),
    "stability": lambda: plots.stability(RESULTS, "auc"),
}


def main_axes(figure: Figure) -> Axes:
    return figure.axes[0]


def line(figure: Figure, name: str) -> tuple[Floats, Floats]:
    """The points of the line whose legend begins with `name`."""
    found = next(each for each in main_axes(figure).get_lines() if str(each.get_label()).startswith(name))
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


@pytest.mark.parametrize("name", PLOTS)
def test_a_picture_drawn_again_is_the_same_file(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / "first.png", tmp_path / "second.png"):
        figure = PLOTS[name]()
        assert isinstance(figure, Figure)
        plots.save(figure, path)
    first = (tmp_path / "first.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert first == (tmp_path / "second.png").read_bytes()
    assert b"Software" not in first
    assert b"tIME" not in first


@pytest.mark.parametrize("name", PLOTS)
def test_a_picture_has_a_title_and_says_what_its_axes_are(name: str) -> None:
    figure = PLOTS[name]()
    assert figure.get_suptitle()
    assert any(axes.get_xlabel() for axes in figure.axes)
    assert all(axes.get_ylabel() for axes in figure.axes) or name == "importance"


@pytest.mark.parametrize("name", CURVES)
def test_the_model_comes_first_in_the_legend_and_chance_after_the_baselines(name: str) -> None:
    legend = main_axes(CURVES[name]()).get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[0].startswith("model")
    assert texts[-1].startswith(("random", "perfectly"))


def test_the_roc_goes_through_the_points_one_can_count() -> None:
    figure = plots.roc([1, 0, 1, 0], {"model": [0.9, 0.8, 0.7, 0.1]})
    x, y = line(figure, "model (AUC 0.750)")
    assert x.tolist() == [0, 0, 0.5, 0.5, 1]
    assert y.tolist() == [0, 0.5, 0.5, 1, 1]


def test_a_precision_of_a_handful_of_rows_is_not_drawn() -> None:
    recall, precision = line(plots.precision_recall([1, 0] * 30, {"model": np.linspace(1, 0, 60)}), "model")
    assert recall.min() == pytest.approx(10 / 30)
    assert precision[0] == pytest.approx(0.5)


def test_features_are_called_by_their_meaning_largest_first() -> None:
    labels = [label.get_text() for label in main_axes(plots.importance({"a": 0.1, "b": -0.5, "c": 0.2}, {"b": "orders placed"}, top=2)).get_yticklabels()]
    assert labels == ["orders placed", "c"]


def test_stability_runs_in_the_order_of_time_whatever_order_it_is_given() -> None:
    figure = plots.stability(RESULTS, "auc")
    assert [label.get_text() for label in main_axes(figure).get_xticklabels()] == ["2024-02-01", "2024-03-01"]
    assert line(figure, "model (mean 0.750)")[1].tolist() == [0.7, 0.8]


@pytest.mark.parametrize("name", ["roc", "precision_recall", "gains_curve"])
@pytest.mark.parametrize("outcome", [0, 1])
def test_a_curve_of_only_one_outcome_is_refused(name: str, outcome: int) -> None:
    with pytest.raises(NoUsableData, match="positive"):
        getattr(plots, name)([outcome] * 3, {"model": [0.1, 0.2, 0.3]})


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    from matplotlib import rcParams

    before = dict(rcParams)
    plots.roc(Y, SCORES)
    assert dict(rcParams) == before
