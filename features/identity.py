"""Who is who: anonymous visitors who turn out to be known users, and users who have to stay out.

A link says that one id belongs to another user from a moment on. Before it the two are different users, since nobody
knew better: joining them in hindsight would tell a model who is going to log in. An id is linked once, to the first
user that is known for it, and a link that would close a circle is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from features.tombstones import DELETED
from features.tombstones import tombstone as tombstone

LINK_SCHEMA = pa.schema(
    [
        pa.field("from_id", pa.string(), nullable=False),
        pa.field("to_id", pa.string(), nullable=False),
        pa.field("known_at", pa.timestamp("us", "UTC"), nullable=False),
    ]
)


def links_in(events: pa.Table) -> pa.Table:
    """What the rows with both ids say, as LINK_SCHEMA."""
    both = pc.and_(pc.is_valid(events["user_id"]), pc.is_valid(events["anonymous_id"]))
    rows = events.filter(pc.and_(both, pc.fill_null(pc.not_equal(events["user_id"], events["anonymous_id"]), False)))
    if not rows.num_rows:
        return LINK_SCHEMA.empty_table()
    first = rows.group_by(["anonymous_id", "user_id"]).aggregate([("known_at", "min")])
    return pa.table([first["anonymous_id"], first["user_id"], first["known_at_min"]], schema=LINK_SCHEMA)


def stated_links(known: pa.Table, found: pa.Table) -> pa.Table:
    """All links that were ever stated, each with its earliest moment, those that do not count included: a link that
    arrives later may be older and change which of them do."""
    rows = pa.concat_tables([known, found]).group_by(["from_id", "to_id"]).aggregate([("known_at", "min")])
    table = pa.table([rows["from_id"], rows["to_id"], rows["known_at_min"]], schema=LINK_SCHEMA)
    return table.sort_by([("from_id", "ascending"), ("to_id", "ascending")])


def valid_links(stated: pa.Table) -> pa.Table:
    """The links that count: one per id, the earliest, and no circles. The order of arrival does not matter."""
    kept: dict[str, Mapping[str, object]] = {}
    for row in sorted(stated.to_pylist(), key=lambda row: (row["known_at"], row["from_id"], row["to_id"])):
        if row["from_id"] not in kept and not _leads_to(kept, row["to_id"], row["from_id"]):
            kept[row["from_id"]] = row
    return pa.Table.from_pylist([kept[name] for name in sorted(kept)], schema=LINK_SCHEMA)


def _leads_to(links: Mapping[str, Mapping[str, object]], start: str, target: str) -> bool:
    while start in links:
        start = str(links[start]["to_id"])
        if start == target:
            return True
    return start == target


def moved_ids(before: pa.Table, after: pa.Table) -> set[str]:
    """The ids whose events belong to somebody else by the new links, be it through another id."""
    if before.equals(after):
        return set()
    old, new = ({(row["from_id"], row["to_id"], row["known_at"]) for row in links.to_pylist()} for links in (before, after))
    found = {name for name, *_ in old ^ new}
    while more := {name for name, target, _ in old | new if target in found} - found:
        found |= more
    return found


def owner_at(links: Mapping[str, Mapping[str, Any]], name: str, moment: pd.Timestamp) -> str:
    """The user that an id belonged to by what was known at a moment; `links` by from_id."""
    while name in links and links[name]["known_at"] <= moment:
        name = links[name]["to_id"]
    return name


def owners(links: pa.Table, ids: Iterable[str]) -> pd.DataFrame:
    """Who an id's events belong to and when: given_id, owner, owned_from, owned_until (NaT for ever) per linked id."""
    by_id = {row["from_id"]: row for row in links.to_pylist()}
    rows = []
    for given in dict.fromkeys(ids):
        owner, since = given, pd.NaT
        while owner in by_id:
            link = by_id[owner]
            until = max(link["known_at"], since) if since is not pd.NaT else link["known_at"]
            rows.append((given, owner, since, until))
            owner, since = link["to_id"], until
        if since is not pd.NaT:
            rows.append((given, owner, since, pd.NaT))
    frame = pd.DataFrame(rows, columns=["given_id", "owner", "owned_from", "owned_until"])
    for name in ("owned_from", "owned_until"):
        frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
    return frame


def current_ids(links: pa.Table) -> dict[str, str]:
    """Linked id -> the user it belongs to by all that is known now."""
    direct = dict(zip(links["from_id"].to_pylist(), links["to_id"].to_pylist(), strict=True))
    found = {}
    for name in direct:
        end = direct[name]
        while end in direct:
            end = direct[end]
        found[name] = end
    return found


def same_people(owners: Mapping[str, str], stated: pa.Table, ids: Iterable[str]) -> set[str]:
    """All ids of the people whom some ids belong to: the users, and every visitor that turned out to be them.

    Args:
        owners: see `current_ids`. stated: see `stated_links`; a visitor whom two users share belongs to the first of them alone.
    """
    people = {owners.get(name, name) for name in ids}
    mine = {visitor for visitor, owner in owners.items() if owner in people}
    said = {row["from_id"] for row in stated.to_pylist() if row["to_id"] in people and row["from_id"] not in owners}
    return {*ids, *people, *mine, *said}


def without_tombstones(events: pa.Table, tombstones: Mapping[str, str]) -> tuple[pa.Table, int]:
    """Leave out the events of deleted users, by either id; also returns how many."""
    gone = {digest for digest, kind in tombstones.items() if kind == DELETED}
    if not gone:
        return events, 0
    out = pa.chunked_array([pa.array([False] * events.num_rows)]) if not events.num_rows else None
    for column in ("user_id", "anonymous_id"):
        names = pc.unique(events[column]).drop_null().to_pylist()
        buried = pa.array([name for name in names if tombstone(name) in gone], pa.string())
        mine = pc.is_in(events[column], buried)
        out = mine if out is None else pc.or_(out, mine)
    kept = events.filter(pc.invert(out))
    return kept, events.num_rows - kept.num_rows
