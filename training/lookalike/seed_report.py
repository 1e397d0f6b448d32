"""What can be said of a seed before any model: how much of it was found, whether it differs at all, what it overlaps with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from features.snapshot import Snapshot
from training.blend import CLIP
from training.lookalike.contrast_tests import drawn
from training.lookalike.match import NO_ADDRESSES
from training.lookalike.rules import Mask
from training.lookalike.seed import FEW, LEAST, Seed, candidates_of, mask_of, rest_of

Report = dict[str, Any]
RANDOM_SEEDS, FOLDS, RIDGE = 199, 5, 100.0
MOST_SEED, MOST_REST = 4_000, 12_000  # rows that coherence is measured on
COHERENT = 0.05
LOW_MATCH, LARGE = 0.8, 0.5


def seed_report(seed: Seed, snapshot: Snapshot, names: Sequence[str], others: Mapping[str, Collection[str]] | None = None) -> Report:
    """Size, match rate, coherence, overlap, and what to be warned of, as JSON.

    Args:
        names: features that coherence may use: not those that define the seed.
        others: name -> members of other seeds and audiences.
    """
    rest, candidates = rest_of(seed, snapshot), candidates_of(seed, snapshot)
    report: Report = {
        "seed": seed.name,
        "as_of": seed.as_of.isoformat(),
        "digest": seed.digest,
        "from": seed.how.get("words", ""),
        "users": len(seed.users),
        "negatives": len(seed.negatives),
        "excluded": len(seed.excluded),
        "population": snapshot.table.num_rows,
        "candidates": int(candidates.sum()),
        "candidate_filter": seed.how.get("candidates"),
        "counts": dict(seed.how.get("counts", {})),
        "on_receipt_day": seed.how.get("on_receipt_day", 0),
        "match_rate": None if seed.how.get("kind") == "rule" else match_rate(seed.how.get("counts", {})),
        "coherence": coherence(snapshot, mask_of(seed.users, snapshot), rest, names),
        "overlaps": [overlap(name, seed.users, members) for name, members in sorted((others or {}).items())],
    }
    return report | {"warnings": warnings_of(report)}


def match_rate(counts: Mapping[str, int]) -> float | None:
    """Of the different ids that were given, those that are users of the snapshot."""
    given = different_ids(counts)
    missed = sum(counts.get(name, 0) for name in ("unknown", "later", "deleted", "suppressed"))
    return None if given <= 0 else 1 - missed / given


def different_ids(counts: Mapping[str, int]) -> int:
    return counts.get("given", 0) - counts.get("blank", 0) - counts.get("duplicates", 0)


def overlap(name: str, users: Collection[str], members: Collection[str]) -> Report:
    """How much two groups have in common: users, as a share of each, and of both together (Jaccard)."""
    mine, theirs = {*users}, {*members}
    both = len(mine & theirs)
    return {
        "with": name,
        "members": len(theirs),
        "users": both,
        "of_seed": both / len(mine) if mine else 0.0,
        "of_other": both / len(theirs) if theirs else 0.0,
        "jaccard": both / len(mine | theirs) if mine or theirs else 0.0,
    }


def coherence(snapshot: Snapshot, seed: Mask, rest: Mask, names: Sequence[str]) -> Report:
    """Does the seed differ from the rest at all? A cross-validated AUC, against random seeds of the same size.

    A strongly regularised linear discriminant (ridge regression of the membership; Hastie, Tibshirani, Friedman 2009, The
    Elements of Statistical Learning, section 4.3) on standardised, clipped features in 5 folds; its mean AUC over the folds.
    The p-value is the share of 199 random seeds that are told apart at least as well, this one counted in (Phipson, Smyth 2010,
    "Permutation p-values should never be zero"). Draws are fixed: the same seed gives the same numbers.
    """
    rng = np.random.default_rng(20_261_122)
    mine, others = np.flatnonzero(seed), np.flatnonzero(rest)
    if len(mine) < LEAST or len(others) < LEAST or not names:
        return {"auc": None, "random_auc": None, "random_high": None, "p": None, "is_coherent": None, "seed_rows": len(mine), "rest_rows": len(others)}
    mine, others = drawn(mine, MOST_SEED), drawn(others, MOST_REST)
    rows = np.concatenate([mine, others])
    X = standardised(np.column_stack([snapshot.table[name].to_numpy(zero_copy_only=False)[rows] for name in names]))
    Y = np.zeros((len(rows), RANDOM_SEEDS + 1))
    Y[: len(mine), 0] = 1
    for column in range(1, RANDOM_SEEDS + 1):
        Y[rng.permutation(len(rows))[: len(mine)], column] = 1
    with threadpool_limits(1):  # the same sums on every machine
        aucs = _folded_aucs(X, Y, rng.permutation(len(rows)) % FOLDS)
    p = (1 + int((aucs[1:] >= aucs[0]).sum())) / (RANDOM_SEEDS + 1)
    return {
        "auc": float(aucs[0]),
        "random_auc": float(aucs[1:].mean()),
        "random_high": float(np.quantile(aucs[1:], 0.95)),
        "p": p,
        "is_coherent": p < COHERENT,
        "seed_rows": len(mine),
        "rest_rows": len(others),
    }


def standardised(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Median for no value, sign-log, mean 0 and deviation 1, clipped; beside each column with gaps, whether it has a value."""
    is_known = ~np.isnan(rows)
    median = np.array([np.median(column[known]) if known.any() else 0.0 for column, known in zip(rows.T, is_known.T, strict=True)])
    filled = np.where(is_known, rows, median)
    columns = np.column_stack([np.sign(filled) * np.log1p(np.abs(filled)), is_known[:, ~is_known.all(axis=0)].astype(np.float64)])
    spread = columns.std(axis=0)
    return np.asarray(np.clip((columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0), -CLIP, CLIP))


def _folded_aucs(X: npt.NDArray[np.float64], Y: npt.NDArray[np.float64], fold: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
    """Mean over folds of the AUC of each column of Y: all share X, so that one factorisation a fold serves them all."""
    total, measured = np.zeros(Y.shape[1]), np.zeros(Y.shape[1])
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        centre = X[train].mean(axis=0)
        A, B = X[train] - centre, X[test] - centre
        factor = cho_factor(A.T @ A + RIDGE * np.eye(X.shape[1]))
        scores = B @ cho_solve(factor, A.T @ (Y[train] - Y[train].mean(axis=0)))
        ranks, positives = rankdata(scores, axis=0), Y[test].sum(axis=0)
        negatives = test.sum() - positives
        both = (positives > 0) & (negatives > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            aucs = ((ranks * Y[test]).sum(axis=0) - positives * (positives + 1) / 2) / (positives * negatives)
        total += np.where(both, aucs, 0.0)
        measured += both
    return np.where(measured > 0, total / np.maximum(measured, 1), 0.5)


def warnings_of(report: Mapping[str, Any]) -> list[str]:
    """What the user should know before building on the seed, each with what to do."""
    users, rate, counts, found = report["users"], report["match_rate"], report["counts"], report["coherence"]
    lines = []
    if users < FEW:
        lines.append(f"Only {users} users: below {FEW} an expansion wobbles from seed to seed. Add users, or take its proof's interval seriously.")
    if rate is not None and rate < LOW_MATCH:
        missed = ", ".join(f"{counts[name]:,} {words}" for name, words in MISSED.items() if counts.get(name))
        lines.append(f"{rate:.0%} of the given ids were found ({missed}). Who was not found may differ from who was: check the ids and the date.")
    if counts.get("addresses_unknown"):
        lines.append(f"{counts['addresses_unknown']:,} addresses or hashes match nobody. {NO_ADDRESSES}.")
    if found["is_coherent"] is False:
        lines.append(
            f"The seed is not coherent: it is told from the others with an AUC of {found['auc']:.2f}, and {found['p']:.0%} of random seeds of its size do as "
            "well. Nothing in the features says what its users have in common; a look-alike would be little better than chance."
        )
    if counts.get("pointed"):
        lines.append(
            f"{counts['pointed']:,} ids are written as 123.0, as a spreadsheet or a table with gaps writes a number; they were matched without the point. "
            "Leading zeros, if the shop's ids have any, were lost on that way."
        )
    if report.get("on_receipt_day"):
        lines.append(
            f"{report['on_receipt_day']:,} receivers bought on the day of receipt and not later: before or after they had the sample is not known. They are "
            "neither in the seed nor negatives, and no candidates."
        )
    if users > LARGE * report["population"]:
        lines.append(f"The seed is {users / report['population']:.0%} of everybody: little is left to find. A narrower seed says more.")
    if 0 < report["negatives"] < LEAST:
        lines.append(f"Only {report['negatives']} explicit negatives: below {LEAST} they say next to nothing, and everybody else serves as the comparison.")
    return lines


MISSED = {"unknown": "unknown", "later": "known only on or after the date", "deleted": "deleted", "suppressed": "suppressed"}


def headlines(report: Mapping[str, Any]) -> list[str]:
    """The report in lines for a terminal."""
    counts, found, rate = report["counts"], report["coherence"], report["match_rate"]
    shown = {"duplicates": "duplicates", "linked": "linked to another id", "by_hash": "matched by hash", "blank": "empty", **MISSED}
    told = ", ".join(f"{counts[name]:,} {words}" for name, words in shown.items() if counts.get(name))
    lines = [f"seed {report['seed']} as of {report['as_of']}: {report['users']:,} users from {report['from']}"]
    if rate is not None:
        lines.append(f"found {rate:.1%} of {different_ids(counts):,} different ids" + (f" ({told})" if told else ""))
    filtered = f" by '{report['candidate_filter']}'" if report["candidate_filter"] else ""
    apart = f"{report['negatives']:,} explicit negatives, {report['excluded']:,} excluded"
    lines.append(f"{report['candidates']:,} candidates of {report['population']:,} users{filtered}; {apart}")
    if found["auc"] is not None:
        lines.append(
            f"coherence: AUC {found['auc']:.3f} against the others; random seeds of this size {found['random_auc']:.3f}, 95 % of them below "
            f"{found['random_high']:.3f} (p = {found['p']:.3f}): {'coherent' if found['is_coherent'] else 'NOT coherent'}"
        )
    lines += [
        f"overlap with {one['with']}: {one['users']:,} users, {one['of_seed']:.0%} of the seed, {one['of_other']:.0%} of it" for one in report["overlaps"]
    ]
    return [*lines, *(f"warning: {line}" for line in report["warnings"])]
