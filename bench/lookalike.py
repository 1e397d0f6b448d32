"""Measures look-alike expansion on real and planted seeds and its speed, and writes bench/LOOKALIKE.md.

    python bench/lookalike.py --data DIR [--only SECTION ...] [--out FILE] [--work DIR] [--users 2_000_000] [--shown 5_000]

DIR is the folder of the real data sets (Complete Journey comes from its package). Sections: journey, planted, speed. What a
section measured is kept in a JSON beside --out, so that one can be run again alone. --users and --shown are the sizes of speed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lookalike_journey as journeys
import lookalike_planted
from lookalike_tables import curve_table, gain_line, mean_table, speed_table
from measure import run
from models_shops import open_shop

from features.files import read_json, write_json
from training.lookalike.methods import members

OUT = Path(__file__).with_name("LOOKALIKE.md")
DRAWS, SHOPS, SIZES = range(10), range(10), (30, 50, 100, 200)
HEAD = """# Look-alike expansion: what it finds, and what it takes

`python bench/lookalike.py --data DIR` on a shared, noisy machine of 2 cores. Intervals are 95 %, t over the repetitions named; gains are
paired, in the same repetitions. Settings (strength of the logistic, size of the trees, what the unlabelled weigh, categories) were
chosen on draws 100 to 105 of the hidden seeds, on brands at day 214 with 60 days and on shops 100 to 102; none of them is reported here.
The ensemble is what is served: the mean of the standardised log-odds of `logistic` and `bagging`. `lightgbm` takes the unlabelled for
negative; categories are counts of purchases, in a year, in those that most households had bought, as a seed's model has them, without
those to which belongs what defines the seed; `rfm` is the sum of the fifths of recency, frequency and spend, `rfm_logistic` a logistic
of the three, fitted to the seed.
"""


def journey(data: Path, work: Path) -> dict[str, Any]:
    """Everything on Complete Journey, as Markdown."""
    workspace = open_shop("complete_journey", data, work)
    shop = journeys.Journey(workspace.tiles(workspace.shop()), workspace.snapshots)
    plain = replace(shop, counted=False)
    parts = []
    for title, people_of, goal in (("coupon redeemers", journeys.redeemers, 0.43), ("heavy buyers of cosmetics", journeys.cosmetics, 0.50)):
        people = people_of(shop)
        found = journeys.hidden_recall(people, DRAWS)
        bare = journeys.hidden_recall(people_of(plain), DRAWS)
        parts.append(
            f"## Hidden {title}: {journeys.SHOWN} of {int(people.seed.sum())} shown, {len(people):,} households, {len(DRAWS)} draws\n\n"
            f"Goal: recall at 10 % of {goal}.\n\n"
            + mean_table(journeys.summary(found), ("recall at 10 %",), {"without categories": journeys.summary(bare)})
            + gain_line(journeys.gains(found, 0), "recall at 10 %")
        )
        curve = {size: journeys.summary(journeys.hidden_recall(people, DRAWS, size, members)) for size in SIZES}
        parts.append(f"By number of seed users shown:\n\n{curve_table(curve)}")
    found, bare = journeys.brands(shop, journeys.TEST_DAY, 91), journeys.brands(plain, journeys.TEST_DAY, 91)
    parts.append(
        "## Later buyers of 14 brands: buyers before day 274 as the seed, the others' first purchase within 91 days; t over brands\n\n"
        "Goal: AUC .675, lift 2.2.\n\n"
        + mean_table(journeys.summary(found), ("AUC", "lift at 10 %"), {"without categories": journeys.summary(bare)})
        + gain_line(journeys.gains(found, 0), "AUC")
        + gain_line(journeys.gains(found, 1), "lift at 10 %")
    )
    found = journeys.categories(shop, journeys.ADOPTION_DAY)
    parts.append(
        f"## Adopters of {len(found['ensemble'])} categories: first purchase in days 245 to 304 as the seed, features of day 245, "
        "the next 60 days as the truth; t over categories\n\n"
        + mean_table(journeys.summary(found), ("AUC", "lift at 10 %"), {})
        + gain_line(journeys.gains(found, 0), "AUC")
        + gain_line(journeys.gains(found, 1), "lift at 10 %")
    )
    return {"text": "\n\n".join(parts) + "\n"}


def planted() -> dict[str, Any]:
    return {"text": lookalike_planted.section(SHOPS)}


def speed(users: int, shown: int) -> dict[str, Any]:
    """Each piece of work in a process of its own, in turn."""
    found = {name: run("lookalike_jobs.py", name, "--users", str(users), "--shown", str(shown)) for name in ("knn", "logistic", "ensemble")}
    return {"text": speed_table({name: vars(spent) for name, spent in found.items()}, users, shown)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=("journey", "planted", "speed"), default=("journey", "planted", "speed"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path, help="folder for logs and snapshots, to be used again")
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--shown", type=int, default=5_000)
    asked = parser.parse_args()
    kept = asked.out.with_suffix(".json")
    results: dict[str, Any] = dict(read_json(kept)) if kept.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        work = asked.work or Path(folder)
        sections = {"journey": lambda: journey(asked.data, work), "planted": planted, "speed": lambda: speed(asked.users, asked.shown)}
        for name in asked.only:
            results[name] = sections[name]() | {"measured": time.strftime("%Y-%m-%d")}
            write_json(kept, results)
            texts = [f"{results[section]['text']}\nMeasured {results[section]['measured']}.\n" for section in sections if section in results]
            asked.out.write_text("\n".join([HEAD, *texts]), encoding="utf-8")


if __name__ == "__main__":
    main()
