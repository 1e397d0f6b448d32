"""An expansion for people: whether it finds what was hidden, what it costs to reach further, and what it looks at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from training.evaluate import Interval
from training.lookalike.contrast_page import sentences
from training.lookalike.expand import Expansion
from training.lookalike.proof import Proof
from training.lookalike.seed_report import headlines
from training.plots import BASELINES, INK, MODEL, REFERENCE, STYLE

IN_WORDS = {
    "ensemble": "logistic and bagged trees", "rank_mean": "mean of their ranks", "logistic": "logistic", "bagging": "bagged trees",
    "lightgbm": "trees against all others", "rfm_logistic": "RFM logistic", "rfm": "RFM rule", "spend": "spend rule", "centroid": "centroid",
    "knn": "nearest neighbours",
}  # fmt: skip
SHOWN = ("1", "5", "10", "20")  # per cent of the candidates
MOST_FEATURES = 10


def expansion_page(made: Expansion, text: str) -> str:
    """The page as Markdown; `proof.png`, `reach.png` and `contrast.png` lie beside it.

    Args:
        text: what the gate says.
    """
    parts = (_head(made, text), _proof(made.proof), _reach(made), _contrast(made), _looks_at(made), _left_out(made), _limits(made.proof))
    return "\n\n".join(block for part in parts for block in part) + "\n"


def _head(made: Expansion, text: str) -> Iterable[str]:
    yield f"# Look-alikes of '{made.seed.name}'"
    yield "\n".join(f"- {line}" for line in headlines(made.contrast["seed_report"]))
    yield f"```\n{text}\n```"


def _proof(proof: Proof) -> Iterable[str]:
    ours = proof.choice.chosen
    among = f"{proof.drawn:,} candidates"
    if proof.among != "candidates":
        among = f"hidden ones of the {proof.negatives:,} explicit negatives; every share below is a share of these, and not of the candidates"
    yield "## Proof"
    yield (
        f"{proof.hidden} of {proof.seed} seed users were hidden, {proof.splits} times over, and looked for among {among}. Served: "
        f"{IN_WORDS[ours]}. Recall: the share of the hidden who are in the best 1, 5, 10, 20 % of them; 95 % intervals over the splits."
    )
    order = sorted(proof.recall, key=lambda method: -(proof.recall[method]["10"]["value"] or 0.0))
    rows = [[f"**{IN_WORDS[method]}**" if method == ours else IN_WORDS[method], *(_cell(proof.recall[method][share]) for share in SHOWN)] for method in order]
    rows.append(["at random", *(f"{float(share) / 100:.2f}" for share in SHOWN)])
    yield table(["method", *(f"recall at {share} %" for share in SHOWN)], rows)
    yield "![recall of the hidden seed](proof.png)"


def _reach(made: Expansion) -> Iterable[str]:
    yield "## Reach"
    count, as_of = len(made.ranking.users), made.ranking.as_of
    yield f"Of {count:,} candidates as of {as_of}. Similarity: the share of the seed that is at most so alike; 50 is the typical seed user."
    rows = [[f"{point['size']:,}", f"{point['top_percent']:.1f} %", f"{point['similarity']:.0f}"] for point in made.ranking.reach]
    yield table(["users", "best per cent", "similarity of the last one"], rows)
    yield "![reach](reach.png)"


def _contrast(made: Expansion) -> Iterable[str]:
    yield "## What tells the seed from the others"
    yield "\n".join(f"- {line}" for line in sentences(made.contrast)) or "Nothing more than chance."
    yield "![contrast](contrast.png)"


def _looks_at(made: Expansion) -> Iterable[str]:
    yield "## What the model looks at"
    rows = [[made.bundle.about["features"][name]["meaning"], f"`{name}`", f"{share:.3f}"] for name, share in list(made.importance.items())[:MOST_FEATURES]]
    yield table(["feature", "name", "mean share of the score"], rows)


def _left_out(made: Expansion) -> Iterable[str]:
    out: Mapping[str, str] = made.bundle.about["left_out"]
    yield "## What it may not look at"
    yield "\n".join(f"- `{name}`: {why}" for name, why in out.items()) or "Nothing: no feature defines the seed."


def _limits(proof: Proof) -> Iterable[str]:
    yield "## When not to use it"
    lines = ["As a probability: a seed does not tell how many like it there are.", "For setting prices."]
    if not proof.better_than_rules:
        lines.insert(0, "As better than a rule: the intervals do not exclude that spend, RFM or the centroid find as many.")
    yield "\n".join(f"- {line}" for line in lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(measured: Interval) -> str:
    low, high = measured["low"], measured["high"]
    return f"{measured['value']:.2f}" + ("" if low is None or high is None else f" [{max(low, 0):.2f}, {min(high, 1):.2f}]")


@rc_context(STYLE)
def proof_plot(proof: Proof) -> Figure:
    """Recall at 10 % of every method with its interval; beside it, by how many seed users were shown."""
    figure = Figure(figsize=(9.5, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    order = sorted(proof.recall, key=lambda method: proof.recall[method]["10"]["value"] or 0.0)
    for place, method in enumerate(order):
        measured, colour = proof.recall[method]["10"], MODEL if method == proof.choice.chosen else REFERENCE
        if measured["low"] is not None:
            left.hlines(place, measured["low"], measured["high"], color=colour, linewidth=2)
        left.plot(measured["value"], place, "o", color=colour)
    left.axvline(0.1, color=INK, linewidth=1, linestyle=":")
    left.set_yticks(range(len(order)), [IN_WORDS[method] for method in order])
    left.set(title="Recall of the hidden at 10 %", xlabel="share of the hidden found; dotted: at random")
    left.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    methods = list(next(iter(proof.curve.values())))
    for method, (colour, style) in zip(methods, ((MODEL, "-"), *BASELINES), strict=False):
        sizes = list(proof.curve)
        right.plot(sizes, [proof.curve[size][method]["value"] for size in sizes], color=colour, linestyle=style, marker="o", label=IN_WORDS[method])
    right.set(title="By number of seed users shown", xlabel="seed users", xscale="log")
    right.set_xticks(list(proof.curve), [str(size) for size in proof.curve], rotation=45)
    right.minorticks_off()
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.legend()
    return figure


@rc_context(STYLE)
def reach_plot(made: Expansion) -> Figure:
    """How alike the last user of an audience is, by its size."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([point["size"] for point in made.ranking.reach], [point["similarity"] for point in made.ranking.reach], color=MODEL, marker="o")
    axes.set(
        title="Reach", xlabel=f"users, of {len(made.ranking.users):,} candidates", ylabel="similarity of the last user (0 to 100)", xscale="log", ylim=(0, 100)
    )
    each = 100 / len(made.ranking.users)
    top = axes.secondary_xaxis("top", functions=(lambda size: np.asarray(size) * each, lambda percent: np.asarray(percent) / each))
    top.set_xlabel("per cent of the candidates")
    return figure
