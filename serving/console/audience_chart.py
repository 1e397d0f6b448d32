"""The scores of a pool as columns, those between the two handles in colour."""

from __future__ import annotations

from markupsafe import Markup

from serving.audiences.ranking import Ranking

COLUMNS, HEIGHT = 50, 150


def chart(found: Ranking, by: str, low: float, high: float, top: float, label: str) -> Markup:
    """Over percentiles: how high the scores of each fiftieth are. Over probabilities: how many users have each. low, high: the handles."""
    tall = by_percentile(found) if by == "percentile" else by_probability(found, top)
    highest, width = max(tall, default=0.0) or 1.0, top / COLUMNS
    bars = []
    for place, value in enumerate(tall):
        start, end = place * width, (place + 1) * width
        inside = max(start, min(low, end)), min(end, max(high, start))
        for left, right, look in ((start, inside[0], "other"), (*inside, "main"), (inside[1], end, "other")):
            if right > left and value > 0:
                bars.append(_column(left / top, right / top, value / highest, look, left == start, right == end))
    ground = Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(HEIGHT - 0.5)
    return Markup('<svg class="scores" role="img" width="100%" height="{}"><title>{}</title>{}{}</svg>').format(HEIGHT, label, ground, Markup("").join(bars))


def _column(left: float, right: float, share: float, look: str, begins: bool, ends: bool) -> Markup:
    """A column or a piece of one, with a little air at its own ends."""
    air = 0.0012
    left, right = left + air * begins, right - air * ends
    tall = max(1.5, (HEIGHT - 4) * share)
    return Markup('<rect class="fill {}" x="{}%" y="{}" width="{}%" height="{}"/>').format(
        look, f"{100 * left:.3f}", f"{HEIGHT - tall:.1f}", f"{max(0.02, 100 * (right - left)):.3f}", f"{tall:.1f}"
    )


def by_percentile(found: Ranking) -> list[float]:
    """The mean score of each fiftieth of the percentiles, lowest first; of scores that are no probabilities, what they lie above the least."""
    least = min(0.0, float(found.score[-1])) if len(found) else 0.0
    ends = [found.down_to_percentile(100 * place / COLUMNS) for place in range(COLUMNS)] + [0]
    return [float(found.sums[more] - found.sums[fewer]) / (more - fewer) - least if more > fewer else 0.0 for more, fewer in zip(ends, ends[1:], strict=False)]


def by_probability(found: Ranking, top: float) -> list[float]:
    """How many have a probability in each fiftieth of the dial."""
    ends = [found.down_to(top * place / COLUMNS) for place in range(COLUMNS)] + [0]
    return [float(more - fewer) for more, fewer in zip(ends, ends[1:], strict=False)]
