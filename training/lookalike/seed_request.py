"""A wish for a seed, as a command or a request states it, and how it becomes one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from features.bought import with_most_bought
from features.errors import NoUsableData, UnknownName, unknown_name
from features.events import day_of
from features.logs import log
from features.snapshot import Snapshot
from features.store import SnapshotStore
from features.tiles import Tiles
from features.workspace import Workspace
from training.lookalike.defining import defining_features
from training.lookalike.match import matched
from training.lookalike.rules import column_of
from training.lookalike.seed import Origin, Seed, SeedRefused, make_seed
from training.lookalike.seed_report import seed_report
from training.lookalike.seed_sources import Given, Receipts, first_day_of, from_list, from_receipts, from_rule, receipts_given, receipts_of
from training.lookalike.seed_store import COMMAND, KEPT_DAYS, drop_expired, erase_buried, manifests, read_seed, save_seed

WITHIN = 60  # days to buy, where nobody says


@dataclass(frozen=True)
class SeedRequest:
    """What a seed is to be made of: one of a list, a rule or a campaign; a list or campaign with something to buy is a sampling.

    name: of the seed. listed: ids, addresses or hashes; with `bought`, `bought_categories`, `within` or `received` they are
    receivers. received: the day on which all of them did. within: days to buy from receipt on. as_of: the seed's date; where None
    the day of the first receipt, for others as far as the log is complete. negatives, excluded: lists of ids. defined_by: features
    that the list was chosen by elsewhere. candidates: rule of who may become a look-alike. kept_days: until the ids are deleted.
    made_by: whose request it is, and who may delete it.
    """

    name: str
    listed: Given | None = None
    rule: str | None = None
    campaign: str | None = None
    bought: tuple[str, ...] = ()
    bought_categories: tuple[str, ...] = ()
    within: int | None = None
    received: date | None = None
    as_of: date | None = None
    negatives: Given | None = None
    excluded: Given | None = None
    defined_by: tuple[str, ...] = ()
    candidates: str | None = None
    kept_days: int = KEPT_DAYS
    made_by: str = COMMAND

    @property
    def is_sampling(self) -> bool:
        return self.campaign is not None or bool(self.bought or self.bought_categories or self.within or self.received)


def make_requested(
    workspace: Workspace, request: SeedRequest, today: date, audiences: Mapping[str, Collection[str]] | None = None
) -> tuple[Seed, dict[str, Any]]:
    """Make and keep a seed; also its report.

    Raises:
        SeedRefused: with all that is wrong. LabelWindowOpen: the days to buy are not over. UnknownName: no such campaign.
    """
    shop = workspace.shop()
    tiles = workspace.tiles(shop)
    seed, snapshot = requested(request, tiles, workspace.snapshots, today)
    root = seeds_folder(workspace)
    clean(workspace, tiles, today)
    others = _others(root, seed.name, today)
    defining = defining_features(seed, snapshot.feature_names, snapshot, tiles)
    left = [name for name in snapshot.feature_names if name not in defining]
    report = seed_report(seed, snapshot, left, {**{f"seed {name}": users for name, users in others.items()}, **(audiences or {})})
    save_seed(root, seed, request.made_by)
    return seed, report


def _others(root: Path, name: str, today: date) -> dict[str, tuple[str, ...]]:
    """The users of the other seeds; one that cannot be read, or was deleted meanwhile, holds nobody up."""
    found = {}
    for other in [one for one in manifests(root) if one != name]:
        try:
            found[other] = read_seed(root, other, today).users
        except (NoUsableData, UnknownName) as error:
            log.warning("seed left out of the overlaps", extra={"facts": {"seed": other, "reason": str(error)}})
    return found


def requested(request: SeedRequest, tiles: Tiles, store: SnapshotStore, today: date) -> tuple[Seed, Snapshot]:
    """The seed that was asked for, not kept yet, and the snapshot of its date."""
    problems = _wrong(request, tiles)
    if problems:
        raise SeedRefused(request.name, problems)
    receipts = receipts_of(request.campaign, tiles) if request.campaign else None
    first = (
        day_of(int(receipts.first.min())) if receipts else first_day_of(request.listed, request.received) if request.listed and request.is_sampling else None
    )
    if first and first > tiles.log.complete_until:
        raise SeedRefused(request.name, [_of_the_future("first receipt", first, tiles.log.complete_until)])
    if first and request.as_of and request.as_of > first:
        raise SeedRefused(request.name, [_too_late(request.as_of, first)])
    as_of = request.as_of or first or tiles.log.complete_until
    snapshot = with_most_bought(store.get(tiles, as_of), tiles, " ".join([request.rule or "", request.candidates or "", *request.defined_by]))
    origin = _origin(request, receipts, snapshot, tiles)
    if request.negatives is not None:
        origin = replace(origin, negatives=matched(request.negatives.ids, snapshot, tiles))
    if request.excluded is not None:
        more = matched(request.excluded.ids, snapshot, tiles)
        origin = replace(origin, excluded=replace(more, users=tuple(sorted({*more.users, *origin.excluded.users}))))
    if request.defined_by:
        origin = _declared(origin, request.defined_by, snapshot)
    return make_seed(request.name, origin, snapshot, request.candidates, today + timedelta(days=request.kept_days)), snapshot


def _declared(origin: Origin, names: Sequence[str], snapshot: Snapshot) -> Origin:
    """With the features by which a list was chosen elsewhere, which only its maker knows."""
    columns = [column_of(name, snapshot) for name in names]
    wrong = [unknown_name("feature", name, snapshot.feature_names) for name, column in zip(names, columns, strict=True) if column is None]
    how = {**origin.how, "columns": [*origin.how["columns"], *(column for column in columns if column)]}
    return replace(origin, how=how, problems=(*origin.problems, *(f"defined by: {problem}" for problem in wrong)))


def _origin(request: SeedRequest, receipts: Receipts | None, snapshot: Snapshot, tiles: Tiles) -> Origin:
    if request.rule is not None:
        return from_rule(request.rule, snapshot)
    if request.listed is not None and not request.is_sampling:
        return from_list(request.listed, snapshot, tiles)
    if receipts is None and request.listed is not None:
        receipts = receipts_given(request.listed, request.received, tiles, snapshot)
    if receipts is None or receipts.first.empty:
        raise NoUsableData(f"None of the receivers of the seed '{request.name}' is a user known before {snapshot.as_of}. Check the ids and the date.")
    return from_receipts(receipts, snapshot, tiles, request.within or WITHIN, request.bought, request.bought_categories)


def _wrong(request: SeedRequest, tiles: Tiles) -> list[str]:
    """What can be said against a request before any data is read."""
    problems, until = [], tiles.log.complete_until
    given = [name for name, value in (("a list", request.listed), ("a rule", request.rule), ("a campaign", request.campaign)) if value is not None]
    if len(given) != 1:
        problems.append(
            f"say one thing that the seed is made of: a list (--file), a rule (--rule) or a campaign (--campaign); given: {' and '.join(given) or 'nothing'}"
        )
    if request.rule is not None and request.is_sampling:
        problems.append("a rule says who is in the seed by itself; --bought, --within and --received go with a campaign or a list of receivers")
    for what, moment in (("date", request.as_of), ("day of receipt", request.received)):
        if moment is not None and moment > until:
            problems.append(_of_the_future(what, moment, until))
    if request.as_of and request.received and request.as_of > request.received:
        problems.append(_too_late(request.as_of, request.received))
    if request.within is not None and not 1 <= request.within <= 365:
        problems.append(f"{request.within} days to buy; it must be 1 to 365")
    if request.kept_days < 1:
        problems.append(f"ids kept for {request.kept_days} days; it must be at least 1")
    return problems


def _of_the_future(what: str, moment: date, until: date) -> str:
    return f"its {what} is {moment}, but the log is complete only until {until}: a seed of the future. Give a date up to {until}, or ingest the missing days"


def _too_late(as_of: date, receipt: date) -> str:
    return f"its date {as_of} is after the receipt on {receipt}: it would see what it is to foretell. Leave --as-of out"


def seeds_folder(workspace: Workspace) -> Path:
    """Where the seeds of a workspace lie."""
    return workspace.root / "seeds"


def clean(workspace: Workspace, tiles: Tiles, today: date) -> None:
    """Delete seeds whose time is over, and from the others the users who were deleted since."""
    root = seeds_folder(workspace)
    drop_expired(root, today)
    erase_buried(root, [mark for mark, kind in tiles.log.manifest["tombstones"].items() if kind == "deleted"])


def open_seed(workspace: Workspace, tiles: Tiles, name: str, today: date) -> Seed:
    """A kept seed without those who must stay out.

    Raises:
        UnknownName: no such seed. NoUsableData: it has expired.
    """
    return read_seed(seeds_folder(workspace), name, today, tiles.log.manifest["tombstones"])
