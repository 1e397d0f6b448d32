"""Who is in the audience of a look-alike when a release is made, and that the ledger knows the audience by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from features.errors import EncoreError
from features.logs import log
from features.snapshot import Snapshot
from features.workspace import Workspace
from serving.ledger import Ledger
from serving.release import ENTERED, LEFT, OUT, STAYS
from training.bundle import Bundle
from training.lookalike.audiences import keep_audience, kept_dial, locked_size
from training.lookalike.keep import chances_of
from training.lookalike.methods import in_blocks
from training.lookalike.reach import similarity
from training.lookalike.seed import mask_of
from training.lookalike.seed_request import seeds_folder
from training.lookalike.seed_store import COMMAND, maker_of, manifests

Mask = npt.NDArray[np.bool_]
Kinds = npt.NDArray[np.int8]


def refreshed_members(workspace: Workspace, bundle: Bundle, snapshot: Snapshot, eligible: Mask) -> tuple[Kinds, dict[str, Any]] | None:
    """The audience of a look-alike refreshed for a snapshot: what becomes of each user, and its size and changes; None where it has none.

    Raises:
        UnknownName: the seed was deleted meanwhile. NoUsableData: nobody is left for it.
    """
    name = str(bundle.about["seed"]["name"])
    dial = kept_dial(workspace, name)
    if dial is None or not dial.is_turned:
        return None
    scores, of_seed = in_blocks(bundle.scores, snapshot.matrix(bundle.features)[eligible]), np.array(bundle.about["seed_scores"])
    users = snapshot.frame.index.to_numpy(dtype=object)[eligible]
    size = locked_size(name, dial, similarity(scores, of_seed))
    audience, _ = keep_audience(workspace, name, snapshot.as_of, users, scores, size, sent=False)
    kinds = np.full(len(eligible), OUT, dtype=np.int8)
    for kind, some in ((STAYS, audience.users), (ENTERED, audience.entries), (LEFT, audience.exits)):
        kinds[mask_of(some, snapshot)] = kind
    chances = chances_of(scores, dial.base_rate, bundle.about["bands"]) if "bands" in bundle.about else None
    return kinds, {
        "size": len(audience.users),
        "entries": len(audience.entries),
        "exits": len(audience.exits),
        "as_of": audience.as_of.isoformat(),
        "before": audience.before.isoformat() if audience.before else None,
        "expected": None if chances is None else float(chances[np.isin(users.astype(str), audience.users)].sum()),
    }


def tell_ledger(workspace: Workspace, with_audience: Iterable[str], gone: Iterable[str]) -> None:
    """Make the audiences of look-alikes of the command line known by name, as those of the service are, and forget those of deleted
    seeds. A release does not fail for it.

    Args:
        with_audience, gone: tasks of look-alikes.
    """
    known = {f"lookalike-{name}": name for name, manifest in manifests(seeds_folder(workspace)).items() if maker_of(manifest) == COMMAND}
    new = [task for task in with_audience if task in known]
    old = [*gone]
    if not (new or old):
        return
    ledger = Ledger(workspace.ledger_url)
    for task in new + old:
        try:
            if task in known:
                ledger.keep_audience(known[task], rule_of(task))
            else:
                ledger.drop_audience(task.removeprefix("lookalike-"), task)
        except EncoreError as error:
            log.warning("audience is not known by its name", extra={"facts": {"audience": task, "reason": str(error)}})


def rule_of(task: str) -> Mapping[str, Any]:
    """The rule of a look-alike's audience, as the ledger keeps it."""
    return {"task": task, "members": True}
