"""A contrast for people: Markdown with a picture, and the folder that holds it all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from features.files import write_bytes
from training.lookalike.contrast import Contrast, Row, differs, strongest
from training.lookalike.contrast_words import amount
from training.lookalike.seed_report import headlines
from training.plots import INK, MODEL, NEGATIVE, STYLE, save

MOST_SAID, MOST_DRAWN, MOST_ROWS = 10, 15, 30
COLUMNS = (0.45, 1.0)  # where the two values end, in the picture's right part
WORTH_SAYING = 0.05  # difference of the shares with a value; report.json has all


def write_contrast(found: Contrast, folder: Path) -> None:
    """Write report.json, report.md and contrast.png; the same contrast gives the same bytes."""
    write_bytes(folder / "report.json", json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    save(contrast_plot(found), folder / "contrast.png")
    write_bytes(folder / "report.md", contrast_page(found).encode())


def contrast_page(found: Contrast) -> str:
    """The contrast as Markdown; its picture lies beside it."""
    parts = (_head, _seed, _said, _features, _missing, _labels, _cut, _left_out, _how)
    return "\n\n".join(block for part in parts for block in part(found)) + "\n"


def sentences(found: Contrast, most: int = MOST_SAID) -> list[str]:
    """The strongest differences that are more than chance, one line each."""
    return [f"{row['words']} ({row['direction']})" for row in strongest(found) if differs(row)][:most]


@rc_context(STYLE)
def contrast_plot(found: Contrast) -> Figure:
    """Effect with its 95 % interval of the features that tell most, with the two values beside each."""
    rows = [row for row in strongest(found) if differs(row)][:MOST_DRAWN]
    figure = Figure(figsize=(8, 1.9 + 0.38 * max(len(rows), 1)), layout="constrained")
    axes, aside = figure.subplots(1, 2, width_ratios=(3, 1.5), sharey=True)
    figure.suptitle(f"What tells {_the(found, 0)} from {_the(found, 1)}", x=0.02, ha="left", fontsize=12, fontweight="bold")
    axes.set_title(f"{_group(found, 0)} and {_group(found, 1)}, as of {found['as_of']}", loc="left", fontsize=9, color="#595959")
    for place, row in enumerate(rows):
        axes.barh(place, row["effect"]["value"], color=MODEL if row["direction"] == "higher" else NEGATIVE, height=0.62, alpha=0.85)
        axes.hlines(place, row["effect"]["low"], row["effect"]["high"], color=INK, linewidth=1.6)
        for x, value in zip(COLUMNS, _shown(row), strict=True):
            aside.text(x, place, amount(value, row["unit"], found["currency"], named=False), va="center", ha="right", fontsize=8.5)
    for x, name in zip(COLUMNS, found["groups"], strict=True):
        aside.text(x, -0.9, name.replace(" ", "\n"), va="center", ha="right", fontsize=8.5, fontweight="bold")
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(rows)), [fill(row["meaning"].removeprefix("1 if "), 42) for row in rows], fontsize=8.5)
    reach = max((max(abs(row["effect"]["low"]), abs(row["effect"]["high"])) for row in rows), default=1.0)
    axes.set(xlim=(-1.04 * reach, 1.04 * reach), ylim=(len(rows) - 0.4, -1.3))
    axes.set_xlabel(f"lower \N{LEFTWARDS ARROW} {found['groups'][0]} \N{RIGHTWARDS ARROW} higher\neffect (rank-biserial) with 95 % interval")
    axes.grid(visible=False, axis="y")
    aside.set_axis_off()
    if not rows:
        axes.text(0.5, 0.5, "no difference is more than chance", transform=axes.transAxes, ha="center", color=INK)
    return figure


def _the(found: Contrast, side: int) -> str:
    name = found["groups"][side]
    return f"the {name}" if name in ("seed", "others") else f"those who {name.replace('converted', 'did')}".replace("who not did", "who did not")


def _group(found: Contrast, side: int) -> str:
    name = found["groups"][side]
    return f"{found['sizes'][side]:,} {'in the seed' if name == 'seed' else name}"


def _shown(row: Row) -> Sequence[float | None]:
    """The values that the words tell."""
    values: Sequence[float | None] = row["medians"] if row["words"].endswith("(median)") else row["means"]
    return values


def _head(found: Contrast) -> Iterable[str]:
    title = f"{found['seed']}: " if "seed" in found else ""
    yield f"# {title}what tells {_the(found, 0)} from {_the(found, 1)}"
    drawn = "" if found["compared"] == found["sizes"] else f" Of the larger group {max(found['compared']):,} drawn by lot are compared."
    said = f"{_group(found, 0)} and {_group(found, 1)}, by what was known of them before {found['as_of']}.{drawn}"
    yield (f"Seed: {found['from']}. " if found.get("from") else "") + said


def _seed(found: Contrast) -> Iterable[str]:
    if "seed_report" in found:
        yield "## The seed"
        yield "\n".join(f"- {line}" for line in headlines(found["seed_report"]))


def _said(found: Contrast) -> Iterable[str]:
    yield "## In words"
    told = sentences(found)
    yield "\n".join(f"- {line}" for line in told) if told else "No feature differs by more than chance: nothing known of these users tells the groups apart."
    yield "![Contrast](contrast.png)"


def _features(found: Contrast) -> Iterable[str]:
    rows = [row for row in strongest(found) if differs(row)]
    all_of = [row for row in found["features"] if row["p"] is not None]
    yield "## Features"
    more = "Of the windows of one feature the strongest is shown; `report.json` has all."
    yield f"{sum(map(differs, all_of)):,} of {len(all_of):,} features differ by more than chance. {more}"
    if rows:
        head = ["feature", *found["groups"], "effect [95 %]", "direction", "p corrected"]
        yield _table(head, [_feature_row(row, found["currency"]) for row in rows[:MOST_ROWS]])


def _feature_row(row: Row, currency: str) -> list[str]:
    values = [amount(value, row["unit"], currency) + (" (median)" if row["words"].endswith("(median)") else "") for value in _shown(row)]
    return [row["meaning"].removeprefix("1 if "), *values, _effect(row["effect"]), row["direction"], _p(row["q"])]


def _missing(found: Contrast) -> Iterable[str]:
    rows = [row for row in found["features"] if row["missing"] and differs(row["missing"]) and not row["defines"]]
    rows = [row for row in rows if abs(row["missing"]["effect"]["value"]) >= WORTH_SAYING]
    alike: dict[tuple[float, ...], list[Row]] = {}  # features of one history have a value for the same users
    for row in sorted(rows, key=lambda row: (-abs(row["missing"]["effect"]["value"]), row["feature"])):
        alike.setdefault(tuple(row["missing_shares"]), []).append(row)
    if alike:
        yield "## Who has a value at all"
        yield "A user without such a history has no value. Share of users with one:"
        cells = [_missing_row(rows) for rows in alike.values()][:MOST_ROWS]
        yield _table(["feature", *found["groups"], "difference [95 %]", "p corrected"], cells)


def _missing_row(rows: Sequence[Row]) -> list[str]:
    first = rows[0]
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    shares = [f"{1 - share:.1%}" for share in first["missing_shares"]]
    return [first["meaning"] + more, *shares, _effect(first["missing"]["effect"]), _p(first["missing"]["q"])]


def _labels(found: Contrast) -> Iterable[str]:
    rows = [row for row in found["labels"] if differs(row)]
    if rows:
        yield "## Layers and favourites"
        yield _table(["", "how strongly (Cramér's V)", "p corrected"], [[row["words"], f"{row['cramers_v']:.2f}", _p(row["q"])] for row in rows])


def _cut(found: Contrast) -> Iterable[str]:
    if "cut" not in found:
        return
    told = found["cut"]
    names = [factor["factor"] for factor in told["factors"]]
    yield f"## {found['groups'][0].capitalize()} by {names[0]} and {names[1]}"
    yield f"Of {told['users']:,} users {_group(found, 0)}; the rate in each cell with its 95 % interval:"
    cells = [[*cell["levels"], f"{cell['users']:,}", f"{cell['converted']:,}", _rate(cell["rate"])] for cell in told["cells"]]
    yield _table([*names, "users", found["groups"][0], "rate"], cells)
    lines = [
        [f"{names[1 - one['factor']]}: {one['within']}", " against ".join(one["between"]), _effect(one["effect"]), one["test"], _p(one["q"])]
        for one in told["differences"]
    ]
    yield (
        _table(["within", "difference between", "difference of rates [95 %]", "test", "p corrected"], lines) if lines else "Too few users in the cells to test."
    )


def _left_out(found: Contrast) -> Iterable[str]:
    rows = [row for row in found["features"] if row["defines"]]
    if rows:
        yield "## Not a likeness: features that define the seed"
        yield "They are left out above and of every model of this seed."
        by_reason: dict[str, list[str]] = {}
        for row in sorted(rows, key=lambda row: row["feature"]):
            by_reason.setdefault(row["defines"], []).append(row["feature"])
        yield "\n".join(f"- {', '.join(f'`{name}`' for name in names)}: {reason}." for reason, names in sorted(by_reason.items()))


def _how(found: Contrast) -> Iterable[str]:
    yield "## How it is measured"
    yield (
        "Values are means of those who have one, medians where a few large values hide the direction. Effect: the rank-biserial correlation, "
        "twice the chance that a user of the first group has the larger value "
        "(ties half) less one: 0 is no difference, 1 and -1 complete separation; about .1 is small, .3 medium, .5 large. For shares it is the "
        "difference. Intervals: DeLong; for shares Newcombe. Tests: Mann-Whitney; chi-square, or Fisher's where cells are small. The p-values of all "
        f"{found['tests']:,} tests are corrected together (Benjamini-Hochberg): of what is called different, one in twenty is expected to be chance. "
        "A difference tells who they are, not what would change them."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)])


def _effect(effect: Mapping[str, Any]) -> str:
    return f"{effect['value']:+.2f} [{effect['low']:+.2f}, {effect['high']:+.2f}]"


def _rate(rate: Mapping[str, Any]) -> str:
    return "-" if rate["value"] is None else f"{rate['value']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"


def _p(q: float | None) -> str:
    return "-" if q is None else "< .001" if q < 0.001 else f"{q:.3f}".removeprefix("0")
