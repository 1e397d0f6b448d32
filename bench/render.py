"""Turns the results of behaviour.py into BEHAVIOUR.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

Results = Mapping[str, Any]
HEAD = """# Behaviour vectors: what they cost

`python bench/behaviour.py --peers --large` on {cores} cores, {memory:.0f} GiB, Python {python}; a shared, noisy machine. Each piece of work
ran in a process of its own, those of one table in turn; seconds are the quickest of the runs that are named, CPU seconds the fewest,
memory the most. The clock runs for the work itself: libraries and compiled loops were loaded by a shop of 100 users first, in ours and in
every peer. Ratios of CPU seconds are shown beside those of seconds because they suffer less from what else the machine does.

The shop is made up (`bench/generate.py`, seed 7): about 50 events per user over 400 days in all {kinds} canonical kinds, lognormal
activity, popular products, weekly and daily rhythm, users arriving all year, 4 % of orders cancelled later. One cutoff is the first of the
last month, twelve are the firsts of the last twelve months. "From raw Parquet" starts at the parts of the event log with no tiles on disk
and ends with the snapshots on disk, synced.
"""
SCAN = """The plain scan: DuckDB reads the same files, keeps the 365 days before the cutoff, and aggregates each of the 18 columns that
features need (`max` of texts and moments, `sum` of numbers) without any grouping, so that every column has to be decoded.
Most of it is decoding texts: a scan of the nine columns of numbers alone is shown too.
"""
OTHERS = """The same features from the same files to Parquet. Before anything was timed every number was held against ours for
{users:,} users: {words},
no difference beyond rounding. The features they leave out are layers and RFM groups, which need quantiles over the shop
first. Bars: DuckDB at twelve cutoffs 10x, pandas 4x, PySpark 20x, featuretools 200x.

DuckDB and PySpark run one wide query per cutoff (`bench/peers/sql.py`; PySpark keeps the events that count in memory);
pandas works on columns that were read as categories. featuretools has no shares, entropies or gaps: it makes counts by
kind of event, sums, means, numbers of different values and times since, in windows of 30, 90 and 365 days.
"""


def page(results: Results) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    sections = [HEAD.format(cores=os.cpu_count(), memory=memory, python=platform.python_version(), kinds=41)]
    sections += [make(results) for name, make in (("main", _main), ("stages", _stages), ("agreement", _peers), ("large", _large)) if name in results]
    return "\n".join(sections)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows]) + "\n"


def _spent(name: str, spent: Results, base: Results | None, runs: int) -> list[str]:
    facts, rows = spent["facts"], f"{spent['facts']['rows'] / spent['seconds']:,.0f}"
    ratio = ["", ""] if base is None else [_over(spent, base, key) for key in ("seconds", "cpu")]
    numbers = [str(runs), f"{spent['seconds']:.2f}", f"{spent['cpu']:.2f}", f"{spent['memory_mb']:,.0f}", str(facts.get("features", ""))]
    return [name, *numbers, rows, *ratio]


def _over(spent: Results, base: Results, key: str) -> str:
    return f"{spent[key] / base[key]:.2f}x"


def _rows(section: Results, base: str) -> str:
    """A table of the works of a section, each over the one that is the base."""
    found = section["best"]
    head = ["", "runs", "seconds", "CPU seconds", "peak MB", "features", "rows/s", f"over {base}", "the same in CPU seconds"]
    return _table(head, [_spent(name, spent, found[base], len(section[name])) for name, spent in found.items()]) + _when(section)


def _when(section: Results) -> str:
    return f"\nMeasured {section['measured']}, code {section['code']}.\n"


def _main(results: Results) -> str:
    section = results["main"]
    found = section["best"]
    one, twelve, scan = found["one cutoff"], found["twelve cutoffs"], found["scan"]
    bars = [
        ["one cutoff over the scan", "8x", one, scan],
        ["twelve cutoffs over the scan", "22x", twelve, scan],
        ["twelve cutoffs over one", "3x", twelve, one],
        ["a day's refresh over a full recompute", "0.1x", found["refresh"], found["recompute"]],
    ]
    rows = [[name, f"at most {bar}", _over(above, below, "seconds"), _over(above, below, "cpu")] for name, bar, above, below in bars]
    day, all_days = (found[name]["facts"] for name in ("refresh", "recompute"))
    rows.append(["a day's tiles over all tiles", "", _over(day, all_days, "tiles"), _over(day, all_days, "tiles_cpu")])
    shown = [_apart(name, found[key]["facts"]) for name, key in (("one cutoff",) * 2, ("twelve cutoffs",) * 2, ("a day's refresh", "refresh"))]
    return "\n".join([
        f"## {section['events']:,} events\n", SCAN, _rows(section, "scan"), _table(["ratio", "bar", "seconds", "CPU seconds"], rows),
        "Tiles and snapshots apart:\n", _table(["", "tiles, s", "tiles to snapshots, s", "rows/s from tiles", "tiles, MB", "snapshots, MB"], shown),
    ])  # fmt: skip


def _apart(name: str, facts: Results) -> list[str]:
    seconds = [f"{facts['tiles']:.2f}", f"{facts['snapshots']:.2f}", f"{facts['rows'] / facts['snapshots']:,.0f}"]
    return [name, *seconds, f"{facts['tiles_mb']:,.0f}", f"{facts['written_mb']:,.0f}"]


def _stages(results: Results) -> str:
    section = results["stages"]
    parts = ["## Where the time goes\n", "On one thread, CPU seconds of each function itself, the largest twelve (calls in brackets).\n"]
    tables = {count: list(stages.items())[:12] for count, stages in section["cutoffs"].items()}
    rows = [[cell for name, (seconds, calls) in pair for cell in (f"`{name}` ({calls})", f"{seconds:.2f}")] for pair in zip(*tables.values(), strict=False)]
    head = [cell for count in tables for cell in (f"{count} cutoff{'s' if count != '1' else ''}", "CPU seconds")]
    return "\n".join([*parts, _table(head, rows), _when(section)])


def _peers(results: Results) -> str:
    agreed = results["agreement"]
    words = ", ".join(f"{title} on {agreed[name]['features']} of the features" for name, title in (("duck", "DuckDB"), ("frames", "pandas")))
    parts = ["## Other tools\n", OTHERS.format(users=agreed["duck"]["users"], words=words)]
    for name, title in (("peers, one cutoff", "One cutoff"), ("peers, twelve cutoffs", "Twelve cutoffs"), ("peers, 1 M events", "One cutoff, 1 M events")):
        if name in results:
            parts.append(f"### {title}\n\n{_rows(results[name], 'Encore')}")
    return "\n".join(parts)


def _large(results: Results) -> str:
    section = results["large"]
    one = next(iter(section["best"].values()))
    rows = f"{one['facts']['rows']:,} rows in twelve snapshots, {one['facts']['written_mb'] / 1024:.1f} GB written."
    bar = "Bar: under 3 GB as it comes, and complete within 1.5 GB."
    return "\n".join(["## 100 million events, twelve cutoffs\n", f"{bar} {rows}\n", _rows(section, "as it comes")])
