"""Charts as SVG, drawn on the server: they need no script, print sharp, take their colours from the page's style and follow its width.

Across, everything is in percent of the width; down, in pixels: so texts keep their size on a phone. Curves lie in an inner picture that is
stretched. Nothing has a style of its own, which the content security policy would not let through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

TOP, BOTTOM = 10, 26  # pixels above and below the plot, for texts
NARROW, WIDE, LONG = 42, 74, 6  # pixels at the left for the texts of an axis; those of more characters need more
Point = tuple[float, float]
Show = Callable[[float], str]


@dataclass(frozen=True)
class Line:
    """A curve: its name, its points, its look (`main`, `other`, `third`, `reference`), and low and high of a ribbon around it."""

    name: str
    points: Sequence[Point]
    look: str = "main"
    ribbon: Sequence[tuple[float, float, float]] = ()
    dots: bool = False


@dataclass(frozen=True)
class Dots:
    """Values with intervals, one in each place: value, low, high, or None where there is none."""

    name: str
    values: Sequence[tuple[float, float | None, float | None] | None]
    look: str = "main"


@dataclass
class Plot:
    """A frame with axes, to be drawn into. across, down: the ends of the axes."""

    label: str
    across: tuple[float, float]
    down: tuple[float, float]
    height: int = 260
    parts: list[Markup] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)  # of the axis at the left: where, and what

    def x(self, value: float) -> str:
        low, high = self.across
        return f"{100 * (value - low) / ((high - low) or 1):.3f}"

    def y(self, value: float) -> str:
        low, high = self.down
        inner = self.height - TOP - BOTTOM
        return f"{TOP + inner * (1 - (value - low) / ((high - low) or 1)):.2f}"

    def grid(self, ticks: Sequence[float], show: Show) -> None:
        for tick in ticks:
            at = self.y(tick)
            self.add('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>', at)
            self.texts.append((f"{float(at) + 4:.2f}", show(tick)))

    def bottom(self, ticks: Sequence[tuple[float, str]]) -> None:
        for value, text in ticks:
            at = float(self.x(value))
            anchor = "start" if at < 6 else "end" if at > 94 else "middle"
            self.add('<text class="tick" x="{}%" y="{}" text-anchor="{}">{}</text>', f"{at:.2f}", self.height - 6, anchor, text)

    def curve(self, line: Line) -> None:
        inner = []
        if line.ribbon:
            there = [f"{self.x(x)} {self.y(high)}" for x, _, high in line.ribbon]
            back = [f"{self.x(x)} {self.y(low)}" for x, low, _ in reversed(line.ribbon)]
            inner.append(Markup('<path class="ribbon {}" d="M{}Z"/>').format(line.look, "L".join([*there, *back])))
        if line.points and not line.dots:
            path = "L".join(f"{self.x(x)} {self.y(y)}" for x, y in line.points)
            inner.append(Markup('<path class="line {}" vector-effect="non-scaling-stroke" d="M{}"/>').format(line.look, path))
        if inner:
            self.add('<svg width="100%" height="{0}" viewBox="0 0 100 {0}" preserveAspectRatio="none">{1}</svg>', self.height, Markup("").join(inner))
        if line.dots:
            for x, y in line.points:
                self.add('<circle class="dot {}" r="4" cx="{}%" cy="{}"/>', line.look, self.x(x), self.y(y))

    def dot(self, x: float, value: float, low: float | None, high: float | None, look: str, told: str = "") -> None:
        at = self.x(x)
        if low is not None and high is not None:
            self.add('<line class="whisker {}" x1="{}%" x2="{}%" y1="{}" y2="{}"/>', look, at, at, self.y(low), self.y(high))
        self.add('<circle class="dot {}" r="5" cx="{}%" cy="{}"><title>{}</title></circle>', look, at, self.y(value), told)

    def mark(self, x: float, text: str) -> None:
        """A vertical line with a word at its head."""
        at = float(self.x(x))
        self.add('<line class="mark" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/>', f"{at:.2f}", TOP - 6, self.height - BOTTOM)
        anchor = "end" if at > 60 else "start"
        self.add('<text class="tick mark" x="{}%" y="{}" dx="{}" text-anchor="{}">{}</text>', f"{at:.2f}", TOP + 2, -5 if at > 60 else 5, anchor, text)

    def add(self, markup: str, *values: object) -> None:
        self.parts.append(Markup(markup).format(*values))  # noqa: S704 - a literal; the values are escaped

    def drawn(self) -> Markup:
        left = WIDE if max((len(text) for _, text in self.texts), default=0) > LONG else NARROW
        axis = Markup("").join(Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(left - 8, at, text) for at, text in self.texts)
        sides = Markup('<svg width="{0}" height="{1}">{2}</svg><svg width="100%" height="{1}">{3}</svg>').format(
            left, self.height, axis, Markup("").join(self.parts)
        )
        return Markup('<div class="chart" role="img" aria-label="{}">{}</div>').format(self.label, sides)


def curves(label: str, lines: Sequence[Line], show_x: Show, show_y: Show, *, top: float | None = None, bottom: float = 0.0, end: float | None = None,
           marks: Sequence[tuple[float, str]] = (), height: int = 260) -> Markup:  # fmt: skip
    """Curves over a number."""
    points = [point for line in lines for point in line.points]
    if not points:
        return Markup("")
    right = end if end is not None else max(x for x, _ in points)
    left = min(x for x, _ in points)
    ticks = nice(bottom, top if top is not None else max(y for _, y in points))
    plot = Plot(label, (left, right), (ticks[0], ticks[-1]), height)
    plot.grid(ticks, show_y)
    plot.bottom([(tick, show_x(tick)) for tick in nice(left, right, 5) if left <= tick <= right])
    for at, text in marks:
        if left <= at <= right:
            plot.mark(at, text)
    for line in lines:
        plot.curve(line)
    return plot.drawn()


def intervals(label: str, groups: Sequence[Dots], places: Sequence[str], show_y: Show, *, top: float | None = None, bottom: float | None = None,
              height: int = 260) -> Markup:  # fmt: skip
    """Values with intervals, several side by side in each place."""
    known = [value for group in groups for value in group.values if value is not None]
    if not known:
        return Markup("")
    highest = max(high if high is not None else value for value, _, high in known)
    lowest = min(low if low is not None else value for value, low, _ in known)
    ticks = nice(lowest if bottom is None else bottom, highest if top is None else top)
    plot = Plot(label, (-0.5, len(places) - 0.5), (ticks[0], ticks[-1]), height)
    plot.grid(ticks, show_y)
    every = -(-len(places) // (8 if max(map(len, places)) <= 3 else 5))  # a phone has room for so many
    plot.bottom([(place, text) for place, text in enumerate(places) if place % every == 0])
    for number, group in enumerate(groups):
        shift = (number - (len(groups) - 1) / 2) * min(0.22, 0.7 / len(groups))
        for place, value in enumerate(group.values):
            if value is not None:
                plot.dot(place + shift, *value, group.look, f"{group.name}, {places[place]}: {show_y(value[0])}")
    return plot.drawn()


def columns(label: str, shares: Sequence[float], highest: float, look: str = "main", height: int = 48) -> Markup:
    """A small histogram: one column for each share."""
    width = 100 / max(1, len(shares))
    bars = [
        Markup('<rect class="fill {}" x="{}%" y="{}" width="{}%" height="{}"/>').format(
            look, f"{place * width + 0.08 * width:.3f}", f"{height - tall:.1f}", f"{0.84 * width:.3f}", f"{tall:.1f}"
        )
        for place, share in enumerate(shares)
        if (tall := (height - 2) * share / highest if highest else 0.0) > 0
    ]
    ground = Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(height - 0.5)
    return Markup('<svg class="columns" role="img" width="100%" height="{}"><title>{}</title>{}{}</svg>').format(height, label, ground, Markup("").join(bars))


def bar(share: float | None, look: str = "main") -> Markup:
    """A bar as long as a share of its cell; the number stands beside it, so it tells a screen reader nothing."""
    wide = 0.0 if share is None or math.isnan(share) else 100 * max(0.0, min(1.0, share))
    return Markup('<svg class="bar" aria-hidden="true" width="100%" height="10"><rect class="fill {}" width="{}%" height="10" rx="2"/></svg>').format(
        look, f"{wide:.2f}"
    )


def swing(share: float) -> Markup:
    """A bar to the right of the middle for what raises, to the left for what lowers. share: -1 to 1."""
    wide = 50 * min(1.0, abs(share))
    start, look = (50.0, "main") if share >= 0 else (50 - wide, "second")
    return Markup(
        '<svg class="bar" aria-hidden="true" width="100%" height="12"><rect class="fill {}" x="{}%" width="{}%" height="12" rx="2"/>'
        '<line class="axis" x1="50%" x2="50%" y1="0" y2="12"/></svg>'
    ).format(look, f"{start:.2f}", f"{wide:.2f}")


def nice(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers that span low to high."""
    span = high - low if high > low else abs(high) or 1.0
    raw = span / wanted
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * times for times in (1, 2, 2.5, 5, 10) if size * times >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 12) for number in range(first, max(last, first + 1) + 1)]


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Names beside their looks."""
    items = Markup("").join(Markup('<li><span class="key {}"></span>{}</li>').format(look, escape(name)) for name, look in entries)
    return Markup('<ul class="legend">{}</ul>').format(items)


def bars(label: str, counts: Sequence[int], first: int, last: int, height: int = 160) -> Markup:
    """A histogram whose bars from the `first` to the `last` are chosen; a script may choose others by their classes."""
    most, width = max(counts, default=0) or 1, 100 / max(1, len(counts))
    drawn = Markup("").join(
        Markup('<rect class="fill {}" x="{}%" y="{}" width="{}%" height="{}"/>').format(
            "main" if first <= place <= last else "other",
            f"{place * width:.3f}",
            f"{height - (height - 2) * count / most:.1f}",
            f"{0.86 * width:.3f}",
            f"{(height - 2) * count / most:.1f}",
        )
        for place, count in enumerate(counts)
    )
    return Markup('<svg class="columns" role="img" width="100%" height="{}"><title>{}</title>{}</svg>').format(height, label, drawn)
