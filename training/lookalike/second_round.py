"""The second round: what a wave's outcomes say of the first model, and the seed that is made of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from features.errors import NoUsableData
from features.tiles import Tiles
from features.workspace import Workspace
from training.evaluate import evaluate
from training.intervals import share
from training.kinds import SEED
from training.lookalike.audiences import read_audience
from training.lookalike.expand import Ranking
from training.lookalike.match import matched
from training.lookalike.reach import ranked
from training.lookalike.seed import Seed
from training.lookalike.seed_request import SeedRequest, make_requested
from training.lookalike.seed_sources import Given

LEAST_OF_EACH = 5  # of those who did and did not, before an AUC means anything


def wave_of(workspace: Workspace, tiles: Tiles, name: str, converted: Collection[str], of_date: date | None = None) -> dict[str, Any]:
    """What became of an audience of a seed: who did and who did not, and whether the model had ranked the former higher.

    Who converted is found as a seed's users are: by id, address or hash, and a visitor who was recognised since by the new id.

    Raises:
        NoUsableData: no audience was made of the seed, or none of its users converted. UnknownName: none of that date.
    """
    audience = read_audience(workspace, name, of_date)
    users, scores, as_of = list(audience.users), audience.scores, audience.as_of
    given = {text for text in (one.strip() for one in converted) if text}
    of = {text: text for text in given} | dict(matched(sorted(given), workspace.snapshots.get(tiles, as_of), tiles).of)
    did = np.isin(np.array(users, dtype=object), np.array(sorted(of.values()), dtype=object))
    if not did.any():
        raise NoUsableData(
            f"None of the {len(given):,} ids given was in the audience of {len(users):,} users as of {as_of}. Give the ids of those in it who converted, as "
            "the file of the audience has them; --of DATE names an earlier audience."
        )
    reached = set(users)
    enough = min(int(did.sum()), int((~did).sum())) >= LEAST_OF_EACH
    auc = evaluate(did.astype(np.int8), scores, np.array(users, dtype=object), seed=SEED, calibrated=False)["auc"] if enough else None
    return {
        "as_of": as_of.isoformat(),
        "users": users,
        "did": did,
        "not_in_audience": len([user for user in of.values() if user not in reached]),
        "rate": share(int(did.sum()), len(did)),
        "auc": auc,
    }


def second_seed(workspace: Workspace, first: Seed, wave: dict[str, Any], name: str, today: date) -> Seed:
    """The first seed with those who converted, against those who did not, as all were before the wave."""
    users, did = np.array(wave["users"], dtype=object), wave["did"]
    seed = Given((*first.users, *users[did]), words=f"the seed {first.name} and {int(did.sum())} who converted")
    negatives = Given((*first.negatives, *users[~did]), words=f"{int((~did).sum())} who were reached and did not")
    columns = tuple(first.how.get("columns", ()))
    request = SeedRequest(
        name, listed=seed, as_of=date.fromisoformat(wave["as_of"]), negatives=negatives, defined_by=columns, candidates=first.how["candidates"]
    )
    if first.excluded:
        request = replace(request, excluded=Given(first.excluded, words="excluded before"))
    return make_requested(workspace, request, today)[0]


def changes(before: Ranking, after: Ranking, size: int) -> dict[str, Any]:
    """What the round changed: rank correlation of the two models on the candidates of both, and who enters and leaves the best `size`."""
    places = {str(user): place for place, user in enumerate(before.users)}
    both = [(places[str(user)], place) for place, user in enumerate(after.users) if str(user) in places]
    old, new = (np.array(column, dtype=int) for column in zip(*both, strict=True))
    best = [ranked(one.users[rows], one.scores[rows])[:size] for one, rows in ((before, old), (after, new))]
    return {
        "candidates": len(both),
        "rank_correlation": float(spearmanr(before.scores[old], after.scores[new]).statistic),
        "size": len(best[1]),
        "stay": len({*best[0]} & {*best[1]}),
        "enter": len({*best[1]} - {*best[0]}),
    }
