"""Is the reported effect of a campaign the truth? Seeded campaigns on a simulated shop, Complete Journey and Hillstrom, as Markdown.

    python bench/effect.py --data DIR --work DIR [--campaigns 1500]

DIR of --data holds hillstrom/campaign_experiment.parquet; --work keeps the workspaces between runs. Everything goes through the functions that
the report uses: the lot of `serving.audiences.holdout`, the outcomes and covariates of `serving.campaigns.outcomes`, the
estimates of `serving.campaigns.effect`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from models_shops import open_shop

from features.shop import SimulatedShop, campaign_lift, order_probability, redemption_probability, simulate
from features.snapshot import Snapshot
from features.tiles import Tiles
from features.workspace import Workspace, open_workspace
from serving.audiences.holdout import groups
from serving.campaigns.effect import Estimate, Mask, Vector, adjusted_effect, plain_effect, sample_ratio
from serving.campaigns.enrol import expected_chance
from serving.campaigns.outcomes import covariates, outcomes_of
from serving.campaigns.plan import CONTROL, TREATMENT, Plan, checked
from serving.campaigns.store import Member
from serving.tombstones import marks_of
from training.bundle import Bundle
from training.examples import make_examples
from training.fit import core_of
from training.models import Recipe
from training.pack import make_bundle
from training.prepare import first_day
from training.task import AskedTask
from training.tasks import TASKS

USERS, DAYS, SEED = 3_000, 400, 1
PLANTED, VALID = "campaign-10", 21  # multiplies the order rate of who receives it by 1 + 2.5 x sensitivity, for 21 days
CJ_CUTOFF, CJ_HORIZON, CJ_HOLDOUT = date(2017, 10, 21), 30, 0.2  # day 294 of 2017
POINTS, PERCENT = 0.03, 0.05
EMAILS = {"men's e-mail": "Mens E-Mail", "women's e-mail": "Womens E-Mail"}
SIMULATED = f"""
name = "Simulated"
zone = "UTC"
currency = "EUR"
attributes = ["age"]

[[sources]]
kind = "simulated"
users = {USERS}
days = {DAYS}
seed = {SEED}
"""


@dataclass(frozen=True)
class Seen:
    """What repeated campaigns gave. coverage: share of intervals with the truth; rejected: share that excludes 0; bias, spread: of the
    estimates; error: mean standard error."""

    coverage: float
    rejected: float
    bias: float
    spread: float
    error: float


Draw = Callable[[np.random.Generator, Mask], Vector]  # a lot -> outcomes


def repeat(users: np.ndarray, shares: Mapping[str, float], known: Vector, draw: Draw, truth: float, campaigns: int, what: str) -> dict[str, Seen]:
    """Run seeded campaigns: each has its own lot (by its salt) and its own outcomes (by its seed)."""
    names, marks = tuple(shares), marks_of([bytes(user) for user in users])
    found: dict[str, list[Estimate]] = {"adjusted": [], "plain": []}
    for seed in range(campaigns):
        treated = groups(users, f"{what}-{seed}", shares, marks) == names.index(TREATMENT)
        y = draw(np.random.default_rng(seed), treated)
        found["adjusted"].append(adjusted_effect(y, treated, known))
        found["plain"].append(plain_effect(y, treated))
    return {name: summed_up(estimates, truth) for name, estimates in found.items()}


def summed_up(estimates: list[Estimate], truth: float) -> Seen:
    values = np.array([one.value for one in estimates])
    inside = [one.low <= truth <= one.high for one in estimates]
    rejected = [not one.low <= 0 <= one.high for one in estimates]
    error = float(np.mean([one.error for one in estimates]))
    return Seen(float(np.mean(inside)), float(np.mean(rejected)), float(values.mean() - truth), float(values.std(ddof=1)), error)


def row(name: str, truth: float, seen: Mapping[str, Seen], null: Mapping[str, Seen], factor: float, unit: str) -> str:
    """One line: the adjusted estimate, the plain one's coverage beside it, and how many times the sample the adjustment is worth."""
    ours, plain = seen["adjusted"], seen["plain"]
    rejects = [f"{null[how].rejected:.1%}" for how in ("adjusted", "plain")]
    cells = [name, f"{factor * truth:.3g} {unit}", f"{ours.coverage:.1%}", f"{plain.coverage:.1%}", *rejects]
    cells += [f"{factor * ours.bias:+.3f}", f"{factor * ours.spread:.3f}", f"{factor * ours.error:.3f}", f"{(plain.spread / ours.spread) ** 2:.2f}x"]
    return f"| {' | '.join(cells)} |"


HEAD = [
    "| campaigns | truth | covers the truth | plain | A/A rejects | plain | bias | spread of the estimates | mean standard error | worth of the sample |",
    "|" + "---|" * 10,
]


def model_before(tiles: Tiles, workspace: Workspace, cutoff: date, horizon: int, trees: int = 200) -> tuple[Bundle, AskedTask, Snapshot]:
    """The repeat-order model that could have been made on that day: no outcome window of its training ends after it."""
    asked = AskedTask(TASKS["repeat_order"], horizon, horizon)
    cutoffs = [cutoff - timedelta(days=horizon + 28 * back) for back in range(4)]
    examples = make_examples(asked, cutoffs, first_day(tiles), tiles, workspace.snapshots)
    bundle = make_bundle(asked, examples, tiles, examples.names, core_of(asked, Recipe(trees=trees)))
    return bundle, asked, workspace.snapshots.get(tiles, cutoff)


def entered(bundle: Bundle, asked: AskedTask, snapshot: Snapshot, plan: Plan, users: pd.Index, lot: np.ndarray) -> list[Member]:
    """Members with the score that a release of that day would give them."""
    chance = pd.Series(bundle.scores(snapshot.matrix(bundle.features)), index=snapshot.user_ids)
    chance[~asked.eligible(snapshot.frame).to_numpy(dtype=bool)] = np.nan
    mine = chance.reindex(users).to_numpy()
    expected = expected_chance(mine, bundle.about, plan)
    day = snapshot.as_of
    said = zip(users, lot, mine, expected, strict=True)
    return [Member(str(user), group, none(one), none(goal), None, "bench", day, day, plan.ends(day)) for user, group, one, goal in said]


def none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


# --- the simulated shop ---------------------------------------------------------------------------------------------


def simulated(work: Path, campaigns: int) -> list[str]:
    shop = simulate(users=USERS, days=DAYS, seed=SEED)
    workspace = open_workspace(work / "simulated", {})
    workspace.root.mkdir(parents=True, exist_ok=True)
    workspace.shop_file.write_text(SIMULATED)
    log = workspace.log(workspace.shop())
    log.append(shop.batch)
    tiles = workspace.tiles(workspace.shop())
    drawn = shop.campaigns[shop.campaigns["campaign"] == PLANTED]
    start = drawn["start"].iloc[0]
    bundle, asked, snapshot = model_before(tiles, workspace, start, VALID)
    plan = checked(Plan(name=PLANTED, starts=start, horizon=VALID, task="repeat_order", shares={TREATMENT: 0.5, CONTROL: 0.5}))
    users = pd.Index(sorted(drawn["user_id"]))
    outcomes = outcomes_of(tiles, plan, entered(bundle, asked, snapshot, plan, users, np.full(len(users), TREATMENT)))
    known = covariates(outcomes)
    alone = order_probability(shop, start, VALID).reindex(users).to_numpy()
    lift = campaign_lift(shop, PLANTED).reindex(users).to_numpy()
    ids = np.array([user.encode() for user in users])
    lines = [
        f"## Planted effects on the simulated shop: {campaigns:,} campaigns",
        "",
        f"{len(users):,} users of the shop's {PLANTED}, as they were on its day. Whether somebody orders within {VALID} days is drawn with the exact "
        "probability of the simulation, with or without receipt; the lot is the salted hash; the score is the model that could have been trained that day. "
        "The truth is the mean of what receipt adds to each member's probability.",
        "",
        *HEAD,
    ]

    def with_effect(rng: np.random.Generator, treated: Mask) -> Vector:
        return (rng.random(len(users)) < alone + lift * treated).astype(float)

    def without(rng: np.random.Generator, treated: Mask) -> Vector:
        return (rng.random(len(users)) < alone).astype(float)

    for control in (0.1, 0.2, 0.5):
        shares = {TREATMENT: 1 - control, CONTROL: control}
        effect = repeat(ids, shares, known, with_effect, float(lift.mean()), campaigns, "planted")
        null = repeat(ids, shares, known, without, 0.0, campaigns, "null")
        lines.append(row(f"hold-out {control:.0%}", float(lift.mean()), effect, null, 100, "points"))
    return [*lines, "", *through_the_log(shop, tiles)]


def through_the_log(shop: SimulatedShop, tiles: Tiles) -> list[str]:
    """Each campaign of the shop, read from its events: counts and effect beside what the simulation knows."""
    lines = [
        "## The shop's own campaigns, read from the log",
        "",
        "Counts are exact; expected are sums of the simulation's exact probabilities, and z says by how many standard deviations what happened differs.",
        "",
        "| campaign | entered | sent: log, truth | orders of control: actual, expected, z | redeemed: actual, expected, z | effect, points (95 %) | truth |",
        "|" + "---|" * 7,
    ]
    for name, drawn in shop.campaigns.groupby("campaign"):
        start = drawn["start"].iloc[0]
        if start + timedelta(days=VALID) > tiles.log.complete_until:
            lines.append(f"| {name} | {len(drawn):,} | - | - | - | refused: its outcome window is not over | - |")
            continue
        plan = checked(Plan(name=str(name), starts=start, horizon=VALID, shares={TREATMENT: 0.5, CONTROL: 0.5}))
        lot = np.where(drawn["treated"], TREATMENT, CONTROL)
        members = [Member(str(user), group, None, None, None, None, None, start, plan.ends(start)) for user, group in zip(drawn["user_id"], lot, strict=True)]
        outcomes = outcomes_of(tiles, plan, members)
        alone = order_probability(shop, start, VALID).reindex(outcomes.users).to_numpy()[~outcomes.treated]
        redeems = redemption_probability(shop, str(name)).to_numpy()
        effect = adjusted_effect(outcomes.converted, outcomes.treated, covariates(outcomes))
        redeemed = int((outcomes.messages["redeemed"] > 0)[outcomes.treated].sum())
        lines.append(
            f"| {name} | {len(outcomes):,} | {int((outcomes.messages['sent'] > 0).sum()):,}, {int(drawn['treated'].sum()):,} | "
            f"{beside(outcomes.converted[~outcomes.treated].sum(), alone)} | {beside(redeemed, redeems)} | "
            f"{100 * effect.value:+.2f} ({100 * effect.low:+.2f} to {100 * effect.high:+.2f}) | {100 * campaign_lift(shop, str(name)).mean():+.2f} |"
        )
    return lines


def beside(actual: float, chance: Vector) -> str:
    spread = float(np.sqrt((chance * (1 - chance)).sum()))
    return f"{int(actual):,}, {chance.sum():,.1f}, {(actual - chance.sum()) / spread:+.2f}"


# --- Complete Journey -----------------------------------------------------------------------------------------------


def complete_journey(data: Path, work: Path, campaigns: int) -> list[str]:
    workspace = open_shop("complete_journey", data, work)
    tiles = workspace.tiles(workspace.shop())
    bundle, asked, snapshot = model_before(tiles, workspace, CJ_CUTOFF, CJ_HORIZON)
    users = snapshot.user_ids[asked.eligible(snapshot.frame).to_numpy(dtype=bool)]
    plan = checked(Plan(name="cj", starts=CJ_CUTOFF, horizon=CJ_HORIZON, task="repeat_order"))
    outcomes = outcomes_of(tiles, plan, entered(bundle, asked, snapshot, plan, users, np.full(len(users), TREATMENT)))
    known, ids = covariates(outcomes), np.array([str(user).encode() for user in outcomes.users])
    shares = {TREATMENT: 1 - CJ_HOLDOUT, CONTROL: CJ_HOLDOUT}
    bought, spend = outcomes.converted, outcomes.spend
    moves = POINTS / float(1 - bought.mean())  # chance that a treated one who would not have bought does
    draws: dict[str, tuple[Draw, Draw, float, float, str]] = {
        f"conversion, +{100 * POINTS:.0f} points": (
            lambda rng, treated: np.maximum(bought, treated & (rng.random(len(bought)) < moves)),
            lambda rng, treated: bought,
            POINTS,
            100,
            "points",
        ),
        f"spend, +{PERCENT:.0%}": (lambda rng, treated: spend * (1 + PERCENT * treated), lambda rng, treated: spend, PERCENT * float(spend.mean()), 1, "USD"),
    }
    lines = [
        f"## Injected effects on Complete Journey: {campaigns:,} lots",
        "",
        f"{len(users):,} households with two orders or more, cutoff {CJ_CUTOFF} (day 294), {CJ_HORIZON} days, hold-out {CJ_HOLDOUT:.0%}; {bought.mean():.1%} "
        f"order and spend {spend.mean():.2f} USD on average. The goal was 1.35x (stretch 1.5x) for conversion and 2.8x (stretch 3.3x) for spend.",
        "",
        *HEAD,
    ]
    for name, (draw, null_draw, truth, factor, unit) in draws.items():
        seen, null = repeat(ids, shares, known, draw, truth, campaigns, name), repeat(ids, shares, known, null_draw, 0.0, campaigns, f"null {name}")
        lines.append(row(name, truth, seen, null, factor, unit))
    return lines


# --- Hillstrom ------------------------------------------------------------------------------------------------------


def hillstrom(data: Path) -> list[str]:
    customers = pd.read_parquet(data / "hillstrom" / "campaign_experiment.parquet")
    lines = [
        "## Hillstrom's e-mail experiment",
        "",
        "64,000 customers, a third of them sent the men's e-mail, a third the women's, a third none; two weeks. Adjusted for what was known before: recency, "
        "history, what was bought, whether new, the place, the channel. p is of the sizes of the groups.",
        "",
        "| e-mail | outcome | without | adjusted (95 %) | plain (95 %) | worth | groups, p |",
        "|" + "---|" * 7,
    ]
    for name, segment in EMAILS.items():
        some = customers[customers["segment"].isin([segment, "No E-Mail"])]
        treated = (some["segment"] == segment).to_numpy()
        kinds = pd.get_dummies(some[["zip_code", "channel"]])
        known = np.column_stack([some[["recency", "mens", "womens", "newbie"]], np.log1p(some["history"]), kinds]).astype(float)
        ratio = sample_ratio({TREATMENT: int(treated.sum()), CONTROL: int((~treated).sum())}, {TREATMENT: 0.5, CONTROL: 0.5})
        for outcome, factor, unit in (("visit", 100, "points"), ("conversion", 100, "points"), ("spend", 1, "USD")):
            y = some[outcome].to_numpy(float)
            adjusted, plain = adjusted_effect(y, treated, known), plain_effect(y, treated)
            said = [f"{factor * one.value:+.3f} ({factor * one.low:+.3f} to {factor * one.high:+.3f}) {unit}" for one in (adjusted, plain)]
            cells = [name, outcome, f"{factor * y[~treated].mean():.3f}", *said, f"{(plain.error / adjusted.error) ** 2:.3f}x", f"{ratio['p']:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--campaigns", type=int, default=1_500)
    given = parser.parse_args()
    lines = ["# Is the reported effect of a campaign the truth?", "", "Made by `bench/effect.py`, which says how.", ""]
    for part in (simulated(given.work, given.campaigns), complete_journey(given.data, given.work, given.campaigns), hillstrom(given.data)):
        lines += [*part, ""]
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
