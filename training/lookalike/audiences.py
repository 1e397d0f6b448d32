"""Audiences of a seed, kept by date: who is in it at each refresh, so that a wave's outcomes are held against those who got it.

`seeds/NAME/dial.json` says how large an audience is to be, `seeds/NAME/audiences/DATE.parquet` who was in it as of a date. Both go
when the seed goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import NoUsableData, UnknownName
from features.files import parquet_bytes, read_json, write_bytes, write_json
from features.logs import log
from features.tombstones import LIFTED, read_tombstones, tombstone
from features.workspace import Workspace
from training.blend import Vector
from training.lookalike.reach import Dial, ranked, refreshed
from training.lookalike.seed_request import seeds_folder
from training.lookalike.seed_store import AUDIENCES, changing, seed_names

DIAL = "dial.json"
KEPT_NIGHTS = 90  # days for which a refresh is kept that was written to no file


@dataclass(frozen=True)
class Audience:
    """Who is in the audience of a seed as of a date, most alike first.

    entries, exits: who came and went since the audience of `before`, the date of the one kept before; all are new where there is
    none. sent: whether it was written to a file, by `expand` or an export.
    """

    as_of: date
    users: tuple[str, ...]
    scores: Vector
    entries: tuple[str, ...]
    exits: tuple[str, ...]
    before: date | None
    sent: bool


def keep_audience(
    workspace: Workspace, name: str, as_of: date, users: npt.NDArray[np.object_], scores: Vector, size: int, *, sent: bool
) -> tuple[Audience, tuple[str, ...]]:
    """Make and keep the audience of a date; also the ranking that it was cut from.

    It stays as the last one was where users are as good as equal. The same date again is compared with the date before, so
    that repeating it changes nothing.

    Raises:
        UnknownName: the seed was deleted meanwhile.
    """
    root = seeds_folder(workspace)
    some = may_be_marketed_to(workspace, users)
    users, scores = users[some], scores[some]
    best_first = ranked(users, scores)
    of = dict(zip((str(user) for user in users), scores.tolist(), strict=True))
    with changing(root):
        if name not in seed_names(root):  # deleted meanwhile: ids that nobody would ever delete again
            raise UnknownName("seed", name, seed_names(root))
        dates = audience_dates(workspace, name)
        earlier = [one for one in dates if one < as_of]
        again = read_audience(workspace, name, as_of) if as_of in dates else None
        previous = read_audience(workspace, name, earlier[-1]) if earlier else None
        like = again or previous
        members = refreshed(best_first, size, like.users if like else ()).users
        told = {"as_of": as_of.isoformat(), "before": earlier[-1].isoformat() if earlier else "", "sent": str(sent or bool(again and again.sent))}
        table = pa.table({"user_id": pa.array(members, pa.string()), "score": pa.array([of[user] for user in members], pa.float64())}, metadata=told)
        content, path = parquet_bytes(table), _file(workspace, name, as_of)
        if not path.exists() or path.read_bytes() != content:
            write_bytes(path, content)
        _prune(workspace, name, as_of)
    return read_audience(workspace, name, as_of), best_first


def may_be_marketed_to(workspace: Workspace, users: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """Whether each user may be in an audience: not of whom the shop was told to send nothing."""
    listed = {mark for mark, kind in read_tombstones(workspace.releases).items() if kind != LIFTED}
    return np.array([tombstone(str(user)) not in listed for user in users], np.bool_) if listed else np.ones(len(users), np.bool_)


def read_audience(workspace: Workspace, name: str, as_of: date | None = None) -> Audience:
    """A kept audience; where no date is given the last one that was sent, or else the last.

    Raises:
        UnknownName: none of that date. NoUsableData: none at all.
    """
    dates = audience_dates(workspace, name)
    if not dates:
        raise NoUsableData(f"No audience was made of the seed '{name}' yet. Make one first: encore lookalike expand {name} --size N")
    if as_of is None:
        as_of = next((one for one in reversed(dates) if _is_sent(pq.read_schema(_file(workspace, name, one)))), dates[-1])
    if as_of not in dates:
        raise UnknownName(f"date of an audience of '{name}'", as_of.isoformat(), [one.isoformat() for one in dates])
    table = pq.read_table(_file(workspace, name, as_of))
    users, told = tuple(table["user_id"].to_pylist()), table.schema.metadata
    before = date.fromisoformat(told[b"before"].decode()) if told[b"before"] else None
    were: Sequence[str] = ()
    if before in dates:
        were = pq.read_table(_file(workspace, name, before), columns=["user_id"])["user_id"].to_pylist()
    old = {*were}
    entries, exits = tuple(user for user in users if user not in old), tuple(sorted(old.difference(users)))
    return Audience(as_of, users, table["score"].to_numpy(), entries, exits, before if before in dates else None, _is_sent(table.schema))


def audience_dates(workspace: Workspace, name: str) -> list[date]:
    """Dates of the kept audiences of a seed, ascending."""
    return sorted(date.fromisoformat(path.stem) for path in (seeds_folder(workspace) / name / AUDIENCES).glob("????-??-??.parquet"))


def mark_sent(workspace: Workspace, name: str, as_of: date) -> None:
    """Note that the audience of a date was written to a file by somebody else."""
    with changing(seeds_folder(workspace)):
        path = _file(workspace, name, as_of)
        if path.exists():
            table = pq.read_table(path)
            write_bytes(path, parquet_bytes(table.replace_schema_metadata({**table.schema.metadata, b"sent": b"True"})))


def keep_dial(workspace: Workspace, name: str, dial: Dial) -> None:
    """Lock the reach of a seed: every refresh turns the same dial."""
    root = seeds_folder(workspace)
    with changing(root):
        if name in seed_names(root):
            write_json(root / name / DIAL, vars(dial))


def kept_dial(workspace: Workspace, name: str) -> Dial | None:
    path = seeds_folder(workspace) / name / DIAL
    return Dial(**read_json(path)) if path.exists() else None


def locked_size(name: str, dial: Dial, alike: Vector) -> int:
    """How many users a refresh takes: as many as the dial says, or everybody where fewer are left.

    Raises:
        NoUsableData: nobody is left.
    """
    if dial.size is not None and 0 < len(alike) < dial.size:
        log.warning("fewer candidates than the audience is to have", extra={"facts": {"seed": name, "size": dial.size, "candidates": len(alike)}})
        return len(alike)
    return dial.of(alike)


def _file(workspace: Workspace, name: str, as_of: date) -> Path:
    return seeds_folder(workspace) / name / AUDIENCES / f"{as_of.isoformat()}.parquet"


def _is_sent(schema: pa.Schema) -> bool:
    return bool(schema.metadata[b"sent"] == b"True")


def _prune(workspace: Workspace, name: str, as_of: date) -> None:
    old = [one for one in audience_dates(workspace, name) if one < as_of - timedelta(days=KEPT_NIGHTS)]
    for one in old:
        path = _file(workspace, name, one)
        if not _is_sent(pq.read_schema(path)):
            path.unlink()
