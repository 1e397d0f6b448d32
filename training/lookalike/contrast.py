"""Contrast: which features tell a seed from the others, or who converted from who did not, with effect, direction and p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from features.errors import NoUsableData
from features.snapshot import Snapshot
from training.lookalike.contrast_tests import association, corrected, cramers_v, drawn, rank_difference, share_difference
from training.lookalike.contrast_words import OTHER, label_words, missing_words, value_words
from training.lookalike.rules import Mask
from training.lookalike.seed import LEAST, Seed, mask_of, rest_of

Contrast = dict[str, Any]
Row = dict[str, Any]
Against = Literal["rest", "not converted"]
LEAST_KNOWN = 10  # values on each side, below which a feature is not compared
MOST_WORDS = 8  # of a label; the others count as one
FALSE_SHARE = 0.05  # expected among what is called different


def contrast_seed(seed: Seed, snapshot: Snapshot, defining: Mapping[str, str], against: Against | None = None) -> Contrast:
    """The seed against the rest, or converted receivers against those who did not convert (the default where there are such).

    Args:
        defining: feature -> why it defines the seed; it is shown, apart from the others.

    Raises:
        NoUsableData: fewer than 30 on the other side.
    """
    chosen: Against = against or ("not converted" if seed.how.get("kind") in ("campaign", "receivers") and len(seed.negatives) >= LEAST else "rest")
    others = mask_of(seed.negatives, snapshot) if chosen == "not converted" else rest_of(seed, snapshot)
    if others.sum() < LEAST:
        what = "explicit negatives" if chosen == "not converted" else "others"
        advice = "Contrast it with the rest: --against rest" if chosen == "not converted" else "Widen the candidate filter or narrow the seed"
        raise NoUsableData(f"The seed '{seed.name}' has {int(others.sum())} {what}; at least {LEAST} are needed to compare it with. {advice}.")
    names = ("converted", "not converted") if chosen == "not converted" else ("seed", "others")
    found = contrast(snapshot, mask_of(seed.users, snapshot), others, names, defining)
    return {"seed": seed.name, "digest": seed.digest, "from": seed.how.get("words", ""), "against": chosen, **found}


def contrast(snapshot: Snapshot, first: Mask, second: Mask, names: tuple[str, str], defining: Mapping[str, str] | None = None) -> Contrast:
    """Every feature and label of the snapshot, compared between two groups of its users.

    Returns JSON: as_of, names and sizes of the groups, currency; features, labels: rows sorted by strength, those that differ
    first. All p-values (`q` when corrected, see `contrast_tests.corrected`) are corrected together.
    """
    sides = [drawn(np.flatnonzero(mask)) for mask in (first, second)]
    defines = defining or {}
    features = [_feature(entry, snapshot, sides) for entry in snapshot.manifest["features"]]
    labels = [_label(entry, snapshot, sides) for entry in snapshot.manifest["labels"]]
    _correct(features, labels)
    currency = str(snapshot.manifest["currency"])
    for row in features:
        row["words"] = value_words(row, names, currency) if row["p"] is not None else None
        row["defines"] = defines.get(row["feature"])
        if row["missing"]:
            row["missing"]["words"] = missing_words(row, names)
    for row in labels:
        row["words"] = label_words(row, names)
    return {
        "as_of": snapshot.as_of.isoformat(),
        "groups": list(names),
        "sizes": [int(first.sum()), int(second.sum())],
        "compared": [len(side) for side in sides],
        "currency": currency,
        "tests": sum(row["p"] is not None for row in (*features, *labels)) + sum(row["missing"] is not None for row in features),
        "features": sorted(features, key=_strength),
        "labels": sorted(labels, key=lambda row: (row["q"] is None or row["q"] > FALSE_SHARE, -(row["cramers_v"] or 0.0), row["label"])),
    }


def differs(row: Row) -> bool:
    """Whether a difference is more than chance, by its corrected p-value."""
    return row["q"] is not None and row["q"] <= FALSE_SHARE


def strongest(found: Contrast) -> list[Row]:
    """One row of each kind of feature, in the window in which it tells most, without those that define the seed."""
    rows: dict[tuple[str, str], Row] = {}
    for row in found["features"]:
        if row["p"] is not None and not row["defines"]:
            rows.setdefault((row["family"], row["kind"]), row)
    return list(rows.values())


def _strength(row: Row) -> tuple[bool, float, str]:
    return not differs(row), -abs(row["effect"]["value"]) if row["effect"] else 0.0, row["feature"]


def _feature(entry: Mapping[str, Any], snapshot: Snapshot, sides: Sequence[npt.NDArray[np.int64]]) -> Row:
    column = snapshot.table[entry["name"]].to_numpy(zero_copy_only=False)
    values = [column[side] for side in sides]
    known = [one[~np.isnan(one)] for one in values]
    window = f"_{entry['window_days']}d" if entry["window_days"] is not None else ""
    row: Row = {
        "feature": entry["name"],
        "meaning": entry["meaning"],
        "unit": entry["unit"],
        "family": entry["family"],
        "kind": entry["name"].removesuffix(window),
        "window_days": entry["window_days"],
        "actionable": entry["actionable"],
        "means": [_mean(one) for one in known],
        "medians": [float(np.median(one)) if len(one) else None for one in known],
        "missing_shares": [1 - len(one) / len(all_of) for one, all_of in zip(known, values, strict=True)],
    }
    is_flag = all(np.isin(one, (0.0, 1.0)).all() for one in known)
    if min(len(one) for one in known) < LEAST_KNOWN:
        compared: Row = {"test": None, "effect": None, "p": None}
    elif is_flag:
        compared = share_difference(int(known[0].sum()), len(known[0]), int(known[1].sum()), len(known[1]))
    else:
        compared = rank_difference(known[0], known[1])
    row |= {"is_flag": is_flag, **compared, "q": None, "direction": _direction(compared["effect"])}
    return row | {"missing": _missing(known, values)}


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _direction(effect: Mapping[str, Any] | None) -> str | None:
    return None if effect is None else "higher" if effect["value"] > 0 else "lower" if effect["value"] < 0 else "same"


def _missing(known: Sequence[npt.NDArray[np.float64]], values: Sequence[npt.NDArray[np.float64]]) -> Row | None:
    """Whether one group has a value more often than the other; nothing where all have one, or none."""
    if sum(map(len, known)) in (0, sum(map(len, values))):
        return None
    return {**share_difference(len(known[0]), len(values[0]), len(known[1]), len(values[1])), "q": None}


def _label(entry: Mapping[str, Any], snapshot: Snapshot, sides: Sequence[npt.NDArray[np.int64]]) -> Row:
    texts = pc.fill_null(snapshot.table[entry["name"]].cast("string"), "none").to_numpy(zero_copy_only=False)
    counts = [dict(zip(*np.unique(texts[side].astype(str), return_counts=True), strict=True)) for side in sides]
    total = {str(word): sum(int(one.get(word, 0)) for one in counts) for word in {*counts[0], *counts[1]}}
    shown = sorted(total, key=lambda word: (-total[word], word))[:MOST_WORDS]
    table = np.array([[int(one.get(word, 0)) for word in shown] for one in counts], float)
    rest = np.array([len(side) for side in sides]) - table.sum(axis=1)
    table = np.column_stack([table, rest])
    p, test = association(table) if len(total) > 1 else (None, None)
    shares = [{"value": word, "shares": [float(table[side, place] / len(sides[side])) for side in (0, 1)]} for place, word in enumerate([*shown, OTHER])]
    return {
        "label": entry["name"],
        "meaning": entry["meaning"],
        "test": test,
        "cramers_v": cramers_v(table),
        "p": p,
        "q": None,
        "values": [one for one in shares if any(one["shares"])],
    }


def _correct(features: Sequence[Row], labels: Sequence[Row]) -> None:
    tested = [row for row in (*features, *(row["missing"] for row in features if row["missing"]), *labels) if row["p"] is not None]
    for row, q in zip(tested, corrected([row["p"] for row in tested]), strict=True):
        row["q"] = q
