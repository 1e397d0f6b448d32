"""Leak guard: the features that define a seed, which must not describe it, each with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from features.aggregates import ChangePart, GapPart, KeyPart
from features.bought import features_bought
from features.snapshot import Snapshot, catalogue
from features.tiles import Tiles
from features.view import Derived, Feature
from features.vocabulary import EVENTS
from training.lookalike.contrast_tests import auc_of, drawn
from training.lookalike.seed import Seed, mask_of, rest_of

TELLS_ALONE = 0.95  # AUC of a single feature above which it is the seed's definition until proven otherwise
# What a campaign, its coupons and its samples leave behind: they were sent to chosen users, and say who was chosen.
CAMPAIGN_COLUMNS = frozenset(
    {"campaigns", "held_outs", "received", "kept_out", "redeemed", "clicked", "opens", "clicks", "unsubscriptions", "samples", "redemptions"}
    | {"coupons_received", "coupons_applied", "coupons_denied", "coupon_types", "coupon_orders", "coupon_cents", "touch_campaign"}
)
OF_GOODS = " of "  # in the name of what is counted of single goods: purchases of category COSMETICS
# A layer looks at more than it declares: what a shop may lack is not among the inputs of `views.layers`.
BEHIND_LAYERS = ("activity_active_days_90d", "discounts_full_price_share")


def defining_features(seed: Seed, names: Sequence[str], snapshot: Snapshot, tiles: Tiles) -> dict[str, str]:
    """Of the named features those that define the seed -> why, in words.

    Those that its rule or candidate filter speaks of; every feature made of the same tile columns; of a seed from a campaign all
    that campaigns leave behind; and any that alone tells the seed from the rest with an AUC above .95, and where it is made
    of one tile column, the others that are made of that one alone.
    """
    known = {feature.name: feature for feature in [*catalogue(tiles.shop, tiles.log.kinds), *features_bought(names, tiles)]}
    columns = {name: tile_columns(name, known, tiles.shop.interest) for name in known}
    reasons: dict[str, str] = {}
    for asked in (*seed.how.get("columns", ()), *seed.how.get("candidate_columns", ())):
        is_rule = asked in seed.how.get("columns", ())
        what = f"the {'seed' if is_rule else 'candidate filter'} is defined by {asked}"
        if asked in names:
            reasons.setdefault(asked, what)
        _add(reasons, names, columns, _narrowest(columns.get(asked, frozenset({"orders"} if asked == "stage" else ()))), what)
    if seed.how.get("kind") in ("campaign", "receivers"):
        _add(reasons, names, columns, CAMPAIGN_COLUMNS, "the seed comes from a campaign, and campaigns are sent to chosen users", whole=True)
    for name, auc in telling(seed, [name for name in names if name not in reasons], snapshot).items():
        reasons[name] = f"alone it tells the seed from the rest with an AUC of {auc:.3f}, above {TELLS_ALONE}: a definition, not a likeness"
        if len(columns.get(name, ())) == 1:
            alike = [one for one in names if columns.get(one) == columns[name]]
            _add(reasons, alike, columns, columns[name], f"{name} defines the seed")
    return {name: reasons[name] for name in names if name in reasons}


def _narrowest(columns: frozenset[str]) -> frozenset[str]:
    """Of the columns of a feature those of single goods, if it counts such: who is chosen by one category may be described by others."""
    return frozenset(column for column in columns if OF_GOODS in column) or columns


def _add(reasons: dict[str, str], names: Sequence[str], columns: Mapping[str, frozenset[str]], out: Iterable[str], why: str, whole: bool = False) -> None:
    for name in names:
        if shared := columns.get(name, frozenset()) & {*out}:
            told = f"{why}" if whole else f"{why}, and this is made of the same counts ({', '.join(sorted(shared))})"
            reasons.setdefault(name, told)


def telling(seed: Seed, names: Sequence[str], snapshot: Snapshot) -> dict[str, float]:
    """Features that alone tell the seed from the rest, no value being the lowest or the highest -> the AUC, of whichever direction."""
    mine, rest = (drawn(np.flatnonzero(mask)) for mask in (mask_of(seed.users, snapshot), rest_of(seed, snapshot)))
    found = {}
    for name in names if len(mine) and len(rest) else ():
        values = snapshot.table[name].to_numpy(zero_copy_only=False)
        sides = [auc_of(_filled(values[mine], end), _filled(values[rest], end)) for end in (-np.inf, np.inf)]
        auc = max(max(side, 1 - side) for side in sides)
        if auc > TELLS_ALONE:
            found[name] = auc
    return found


def _filled(values: npt.NDArray[np.float64], end: float) -> npt.NDArray[np.float64]:
    return np.where(np.isnan(values), end, values)


def tile_columns(name: str, known: Mapping[str, Feature], interest: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """The tile columns that a feature is made of in the end; gaps are made of orders, an interest level of what it adds up, and what
    counts single goods of these too."""
    feature = known[name]
    if isinstance(feature.column.source, Derived):
        inputs = (*feature.column.source.inputs, *(BEHIND_LAYERS if name == "layers_layer" else ()))
        return frozenset(column for one in inputs if one in known for column in tile_columns(one, known, interest))
    named = ("orders" if isinstance(part, GapPart) else part.name if isinstance(part, ChangePart) else part.column for part in feature.parts)
    of_goods = {f"{part.column}{OF_GOODS}{part.dimension} {part.value}" for part in feature.parts if isinstance(part, KeyPart) and part.value is not None}
    return frozenset(column for one in named for column in ([EVENTS[event][0] for event in interest[one]] if one in interest else [one])) | of_goods
