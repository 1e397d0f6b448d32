"""An expansion for people: whether it finds what was hidden, what it costs to reach further, and what it looks at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from training.evaluate import Interval
from training.lookalike.afterwards import sentences as sentences_afterwards
from training.lookalike.contrast_page import sentences
from training.lookalike.expand import Expansion
from training.lookalike.methods import MEMBERS
from training.lookalike.proof import Proof
from training.lookalike.recall import hidden_of
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
    parts = (
        *(_head(made, text), _proof(made.proof), _sizes(made.proof), _afterwards(made), _reach(made), _contrast(made)),
        *(_looks_at(made), _left_out(made), _limits(made.proof)),
    )
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
        f"{IN_WORDS[ours]}. Recall: the share of the hidden who are in the best 1, 5, 10, 20 % of them; 95 % intervals over the splits. At most: were all of "
        "these hidden ones, which a part smaller than the hidden cannot surpass."
    )
    order = sorted(proof.recall, key=lambda method: -(proof.recall[method]["10"]["value"] or 0.0))
    rows = [[f"**{IN_WORDS[method]}**" if method == ours else IN_WORDS[method], *(_cell(proof.recall[method][share]) for share in SHOWN)] for method in order]
    rows.append(["at random", *(f"{float(share) / 100:.2f}" for share in SHOWN)])
    rows.append(["at most", *(f"{min(1.0, float(share) / 100 * looked_among(proof) / proof.hidden):.2f}" for share in SHOWN)])
    yield table(["method", *(f"recall at {share} %" for share in SHOWN)], rows)
    yield "![recall of the hidden seed](proof.png)"


def looked_among(proof: Proof) -> int:
    """Among how many the hidden are looked for, they themselves counted in."""
    return proof.hidden + (proof.drawn if proof.among == "candidates" else hidden_of(proof.negatives))


def _sizes(proof: Proof) -> Iterable[str]:
    yield "### By seed size"
    verdict = "At no size is it surely better than ours" if proof.no_worse_at_any_size else "At some size it is surely better than ours"
    yield (
        "Recall at 10 % when so many seed users are shown: ours, the best single method of that size (picked afterwards, which favours it), and the "
        f"difference on the same splits with its 95 % interval. {verdict}."
    )
    ours, rows = proof.choice.chosen, []
    for size, versus in proof.best.items():
        of = proof.curve[size]
        low, high = versus["gain"]["low"], versus["gain"]["high"]
        interval = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"
        single = f"{of[versus['method']]['value']:.2f} ({IN_WORDS[versus['method']]})"
        rows.append([f"{size:,}", f"{of[ours]['value']:.2f}", single, f"{versus['gain']['value']:+.3f}{interval}"])
    yield table(["seed users shown", f"ours ({IN_WORDS[ours]})", "best single method", "ours less the best"], rows)


def _afterwards(made: Expansion) -> Iterable[str]:
    yield "## What the look-alikes did afterwards"
    if made.afterwards is None:
        yield "Not known: the log ends at the seed's date. `encore lookalike outcomes` tells it of a wave."
        return
    yield f"The tenth of the candidates who were most alike on {made.seed.as_of}, among whom no seed user is."
    yield "\n".join(f"- {line}" for line in sentences_afterwards(made.afterwards))


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
    reasons: dict[str, list[str]] = {}
    for name, why in made.bundle.about["left_out"].items():
        reasons.setdefault(why, []).append(f"`{name}`")
    yield "## What it may not look at"
    yield "\n".join(f"- {why[:1].upper()}{why[1:]}: {', '.join(names)}." for why, names in reasons.items()) or "Nothing: no feature defines the seed."


def _limits(proof: Proof) -> Iterable[str]:
    yield "## When not to use it"
    lines = ["As a probability, unless you give a base rate (`--base-rate`): a seed does not tell how many like it there are.", "For setting prices."]
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
    most = min(1.0, 0.1 * looked_among(proof) / proof.hidden)
    if most < 1:
        left.axvline(most, color=INK, linewidth=1, linestyle="--")
    left.set(title="Recall of the hidden at 10 %", xlabel=f"share of the hidden found; dotted: at random{', dashed: at most' if most < 1 else ''}")
    left.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    methods = [method for method in next(iter(proof.curve.values())) if method in ("ensemble", *MEMBERS)]
    for method, (colour, style) in zip(methods, ((MODEL, "-"), *BASELINES), strict=False):
        sizes = list(proof.curve)
        right.plot(sizes, [proof.curve[size][method]["value"] for size in sizes], color=colour, linestyle=style, marker="o", label=IN_WORDS[method])
    right.axhline(0.1, color=INK, linewidth=1, linestyle=":")
    right.set(title="By number of seed users shown", xlabel="seed users", xscale="log")
    right.set_ylim(bottom=0)
    right.set_xticks(list(proof.curve), [str(size) for size in proof.curve], rotation=45)
    right.minorticks_off()
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.legend(loc="lower right")
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
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    top.xaxis.set_major_formatter(StrMethodFormatter("{x:g} %"))
    return figure
