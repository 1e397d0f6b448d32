"""Pre-flight: what a task needs of the data, what the data have, and what to do about the difference. Nothing is fitted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np

from features.errors import NoUsableData
from features.events import day_number
from features.store import SnapshotStore
from features.tiles import Tiles
from training.evidence import auc_alone
from training.examples import ENOUGH_POSITIVES, LEAST_POSITIVES
from training.gates import LARGEST_SINGLE_AUC
from training.prepare import Prepared, first_day, prepare
from training.split import LEAST_HISTORY, TEST_CUTOFFS
from training.task import AskedTask

LONGEST_GAP = 7  # days without any order, in a shop that has some on most days
MOST_EMPTY = 0.95  # share of rows without a value from which a feature says next to nothing


class Verdict(StrEnum):
    """PASS; WARN: it can be trained, with less trust; FAIL: it will be refused."""

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One condition of a task: what was seen, what is required, whether that is met, and what to do where it is not."""

    task: str
    name: str
    seen: str
    required: str
    verdict: Verdict
    advice: str = ""


def preflight(asked: AskedTask, until: date, tiles: Tiles, store: SnapshotStore) -> list[Check]:
    """Every check of a task that can be made on what is known before `until`; the list ends where nothing more can be said."""
    try:
        checks = [*_span(asked, until, tiles), *_gaps(asked, until, tiles)]
        ready = prepare(asked, until, tiles, store)
    except NoUsableData as error:
        return [Check(asked.name, "data", "not enough to make examples", "events and a span that the task can be asked of", Verdict.FAIL, str(error))]
    checks += [_cutoffs(ready), *_outcomes(ready)]
    if len(ready.train.X):
        checks.append(_missing(ready))
    if min(ready.outcomes) > 0:
        checks.append(_leaks(ready, tiles.shop.signed_off))
    return checks


def _span(asked: AskedTask, until: date, tiles: Tiles) -> list[Check]:
    days = (until - first_day(tiles)).days
    if asked.task.seed:
        return [_check(asked, "span", f"{days} days", f"{LEAST_HISTORY} days of history", days >= LEAST_HISTORY, advice="Ingest a longer history.")]
    # A training cutoff with some history, its window, and a test window after it; three windows let the test be repeated.
    least, wanted = LEAST_HISTORY + 2 * asked.horizon, LEAST_HISTORY + 3 * asked.horizon
    advice = f"Ingest a longer history, or ask about fewer days: [horizons] {asked.name} = {max(1, asked.horizon // 2)} in encore.toml."
    if asked.task.extrapolates and days < least:
        needed = f"{least} days for a learned model"
        return [_check(asked, "span", f"{days} days", needed, True, False, "BG/NBD x Gamma-Gamma will extrapolate from shorter windows, labelled so.")]
    return [
        _check(
            asked, "span", f"{days} days", f"{least} days ({LEAST_HISTORY} of history and two horizons), better {wanted}", days >= least, days >= wanted, advice
        )
    ]


def _gaps(asked: AskedTask, until: date, tiles: Tiles) -> list[Check]:
    days = np.unique(tiles.before(until).days("orders")["day"])
    widths = np.diff(np.append(days, day_number(until)))
    longest, usual = int(widths.max(initial=1)) - 1, float(np.median(widths)) if len(widths) else 1.0
    fine = longest <= max(LONGEST_GAP, 5 * usual)
    since = int(days[int(np.argmax(widths))]) if len(days) else 0
    seen = f"{longest} days without an order" + ("" if fine else f", from {np.datetime64(since, 'D') + 1}")
    return [
        _check(
            asked, "gaps", seen, f"at most {max(LONGEST_GAP, round(5 * usual))} days", True, fine, "A file may be missing: ingest it, late data are welcome."
        )
    ]


def _cutoffs(ready: Prepared) -> Check:
    train, test = len(ready.split.train), len(ready.split.test)
    advice = "The result will be graded provisional until the log is longer."
    return _check(
        ready.asked, "test cutoffs", f"{test} (and {train} to train on)", f"{TEST_CUTOFFS}, three of them apart", True, not ready.split.provisional, advice
    )


def _outcomes(ready: Prepared) -> list[Check]:
    unit = "offers" if ready.asked.task.trigger else "customers"
    advice = {
        True: f"Under {LEAST_POSITIVES} nothing is trained. Collect more data, or ask about more days ([horizons] in encore.toml).",
        False: f"Under {ENOUGH_POSITIVES} a simple model is fitted, its intervals are wide, and it is graded indicative.",
    }
    return [
        _check(
            ready.asked, name, f"{count:,} {unit}", f"{LEAST_POSITIVES}, better {ENOUGH_POSITIVES}",
            count >= LEAST_POSITIVES, count >= ENOUGH_POSITIVES, advice[count < LEAST_POSITIVES],
        )
        for name, count in zip(("positives", "negatives"), ready.outcomes, strict=True)
    ]  # fmt: skip


def _missing(ready: Prepared) -> Check:
    empty = np.isnan(ready.train.X).mean(axis=0) >= MOST_EMPTY
    names = [name for name, is_empty in zip(ready.train.names, empty, strict=True) if is_empty]
    seen = f"{len(names)} of {len(empty)} features have no value for {MOST_EMPTY:.0%} of the rows"
    advice = f"Look at what should feed them: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}."
    return _check(ready.asked, "missing values", seen, "at most half of the features", True, len(names) <= len(empty) / 2, advice)


def _leaks(ready: Prepared, signed_off: Collection[str]) -> Check:
    alone = auc_alone(ready.train)
    suspects = [name for name, area in alone.items() if area > LARGEST_SINGLE_AUC and name not in signed_off]
    best = next(iter(alone))
    seen = ", ".join(f"{name} {alone[name]:.3f}" for name in suspects[:5] or [best])
    advice = f'`encore features describe {best}` says how it is made; if it is honest: signed_off = ["{best}"] in encore.toml.'
    return _check(ready.asked, "leaks", f"AUC of one feature alone: {seen}", f"at most {LARGEST_SINGLE_AUC}", not suspects, advice=advice)


def _check(asked: AskedTask, name: str, seen: str, required: str, possible: bool, good: bool = True, advice: str = "") -> Check:
    verdict = Verdict.FAIL if not possible else Verdict.PASS if good else Verdict.WARN
    return Check(asked.name, name, seen, required, verdict, "" if verdict is Verdict.PASS else advice)
