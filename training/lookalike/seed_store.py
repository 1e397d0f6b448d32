"""Seeds on disk: a manifest without ids, and a Parquet file of ids beside it, until they expire.

`seeds/NAME/manifest.json` names its file of ids by the seed's digest. A seed is made in one step or not at all; a user who is
erased from it changes its digest, and the manifest keeps the earlier ones, so that a model still finds the seed it was made of.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import NoUsableData, UnknownName
from features.files import exclusive, new_directory, parquet_bytes, read_json, sha256_of, write_bytes, write_json
from features.identity import tombstone
from features.logs import log
from training.lookalike.seed import Seed, SeedRefused, seed_digest

KEPT_DAYS = 365  # how long a seed is kept where nobody says
AUDIENCES = "audiences"  # in a seed's folder: one file for each date
RETIRED = ".retired"  # in the seeds' folder: the forgotten seeds whose models still have an alias, by name
ROLES = ("user", "negative", "excluded")
COMMAND, SERVICE = "command line", "service"


@contextmanager
def changing(root: Path) -> Iterator[None]:
    """Hold the lock of the seeds; what a killed process left of its own, which has ids in it, is deleted first."""
    with exclusive(root / ".lock", "A change of the seeds", wait=True):
        for left in (*root.glob(".new-*"), *root.glob(".gone-*")):
            shutil.rmtree(left)
        yield


def save_seed(root: Path, seed: Seed, made_by: str = COMMAND) -> Path:
    """Keep a seed in `root`; the same one again changes nothing, and belongs to whom it belonged to.

    Raises:
        SeedRefused: another seed has its name. One of the service takes the place of one of the service: there a name is one request.
    """
    folder = root / seed.name
    with changing(root):
        before = manifests(root).get(seed.name)
        if before and before["digest"] != seed.digest and SERVICE == made_by == maker_of(before):
            _delete(root, seed.name)
        elif before and before["digest"] != seed.digest:
            advice = f"Choose another name, or delete that one first: encore lookalike forget {seed.name}"
            raise SeedRefused(seed.name, [f"there is another seed of this name already, as of {before['as_of']}. {advice}"])
        with new_directory(folder) as new:
            _write(new, seed, (), made_by)
    return folder


def read_seed(root: Path, name: str, today: date, tombstones: Collection[str] = ()) -> Seed:
    """A seed as it was kept, without those who have to stay out since.

    Raises:
        UnknownName: no such seed. NoUsableData: it has expired or was changed on disk.
    """
    folder = root / name
    if name not in seed_names(root):
        raise UnknownName("seed", name, seed_names(root))
    manifest = read_json(folder / "manifest.json")
    expires = date.fromisoformat(manifest["expires"]) if manifest["expires"] else None
    if expires is not None and today >= expires:
        raise NoUsableData(f"The seed '{name}' expired on {expires}; its ids may no longer be used. Make it again: encore lookalike seed")
    if sha256_of(folder / manifest["file"]) != manifest["sha256"]:
        raise NoUsableData(f"The seed '{name}' was changed on disk after it was made. Delete it and make it again: encore lookalike forget {name}")
    table = pq.read_table(folder / manifest["file"])
    ids = {role: _of_role(table, role) for role in ROLES}
    out = {*tombstones}
    users, negatives, excluded = (tuple(user for user in ids[role] if tombstone(user) not in out) if out else ids[role] for role in ROLES)
    return Seed(name, date.fromisoformat(manifest["as_of"]), users, negatives, manifest["how"], manifest["digest"], excluded, expires)


def seed_names(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob("*/manifest.json") if not path.parent.name.startswith("."))


def manifests(root: Path) -> dict[str, Mapping[str, Any]]:
    """Name -> what is known of each seed without its ids."""
    return {name: read_json(root / name / "manifest.json") for name in seed_names(root)}


def delete_seed(root: Path, name: str) -> None:
    """Delete a seed with its ids, its audiences and their exports; `retire.retire` takes its model out of service.

    Raises:
        UnknownName: no such seed.
    """
    with changing(root):
        _delete(root, name)


def _delete(root: Path, name: str) -> None:
    if name not in seed_names(root):
        raise UnknownName("seed", name, seed_names(root))
    for path in exports_of(root, name):
        path.unlink()
    if (root.parent / "reports" / f"lookalike-{name}").exists():  # it was expanded, so a model may be in service
        manifest = read_json(root / name / "manifest.json")
        write_json(root / RETIRED / f"{name}.json", {"name": name, "digests": [manifest["digest"], *manifest["formerly"]]})
    shutil.rmtree((root / name).rename(root / f".gone-{name}"))  # whole until it is out of sight


def exports_of(root: Path, name: str) -> list[Path]:
    """The files of members that were written of a seed's audiences."""
    return sorted((root.parent / "exports").glob(f"lookalike-{name}.*"))


def drop_expired(root: Path, today: date) -> list[str]:
    """Delete the seeds whose time is over; returns their names."""
    if not root.exists():
        return []
    with changing(root):
        over = [name for name, manifest in manifests(root).items() if manifest["expires"] and date.fromisoformat(manifest["expires"]) <= today]
        for name in over:
            _delete(root, name)
    return over


def erase_buried(root: Path, tombstones: Collection[str]) -> dict[str, int]:
    """Erase users who were deleted from the shop, known by their tombstones, from every seed; name -> how many.

    A crash between the new file and the old one's end leaves the old one to the next call.
    """
    erased: dict[str, int] = {}
    out = {*tombstones}
    if not out or not root.exists():
        return erased
    with changing(root):
        for name in seed_names(root):
            folder = root / name
            manifest = read_json(folder / "manifest.json")
            if sha256_of(folder / manifest["file"]) != manifest["sha256"]:  # it holds up neither the others nor who wants to be forgotten
                advice = f"nobody can be erased from it: encore lookalike forget {name}"
                log.error("seed was changed on disk", extra={"facts": {"seed": name, "do": advice}})
                continue
            table = pq.read_table(folder / manifest["file"])
            gone = [tombstone(user) in out for user in table["user_id"].to_pylist()]
            if any(gone):
                kept = table.filter(pa.array([not one for one in gone]))
                lists = [_of_role(kept, role) for role in ROLES]
                seed = Seed(name, date.fromisoformat(manifest["as_of"]), lists[0], lists[1], manifest["how"], "", lists[2], _date(manifest["expires"]))
                _write(folder, replace(seed, digest=seed_digest(seed)), (*manifest["formerly"], manifest["digest"]), maker_of(manifest))
                erased[name] = sum(gone)
            for file in (folder / AUDIENCES).glob("*.parquet"):
                _erase_from_audience(file, out)
            for file in exports_of(root, name):
                _erase_from_export(file, out)
            for path in folder.glob("ids-*.parquet"):
                if path.name != read_json(folder / "manifest.json")["file"]:
                    path.unlink()
    return erased


def _erase_from_audience(file: Path, out: set[str]) -> None:
    table = pq.read_table(file)
    kept = table.filter(pa.array([tombstone(user) not in out for user in table["user_id"].to_pylist()], pa.bool_()))
    if kept.num_rows < table.num_rows:
        write_bytes(file, parquet_bytes(kept))


def _erase_from_export(file: Path, out: set[str]) -> None:
    """A user's row out of a file that was written for somebody else to take; one that is no table of ours is deleted."""
    if file.suffix == ".parquet":
        return _erase_from_audience(file, out)
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
    if not rows or rows[0][:1] != ["user_id"]:
        return file.unlink()
    gone = [{tombstone(row[0]), tombstone(row[0].removeprefix("'"))} & out for row in rows]  # a risky id was written with a quote before it
    if any(gone):
        text = io.StringIO(newline="")
        csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(row for row, is_gone in zip(rows, gone, strict=True) if not is_gone)
        write_bytes(file, text.getvalue().encode())
    return None


def maker_of(manifest: Mapping[str, Any]) -> str:
    """COMMAND or SERVICE: whose request made the seed, and who may delete it."""
    return str(manifest.get("made_by", COMMAND))


def _write(folder: Path, seed: Seed, formerly: tuple[str, ...], made_by: str) -> None:
    rows = [(user, role) for role, users in zip(ROLES, (seed.users, seed.negatives, seed.excluded), strict=True) for user in users]
    content = parquet_bytes(pa.table({"user_id": pa.array([user for user, _ in rows], pa.string()), "role": pa.array([role for _, role in rows], pa.string())}))
    file = f"ids-{seed.digest[:16]}.parquet"
    write_bytes(folder / file, content)
    facts = {"name": seed.name, "as_of": seed.as_of.isoformat(), "expires": seed.expires.isoformat() if seed.expires else None, "how": seed.how}
    sizes = {"users": len(seed.users), "negatives": len(seed.negatives), "excluded": len(seed.excluded)}
    named = {"digest": seed.digest, "formerly": list(formerly), "file": file, "sha256": sha256_of(folder / file)}
    write_json(folder / "manifest.json", {**facts, **sizes, **named, "made_by": made_by})


def _of_role(table: pa.Table, role: str) -> tuple[str, ...]:
    roles = table["role"].to_pylist()
    return tuple(user for user, mine in zip(table["user_id"].to_pylist(), roles, strict=True) if mine == role)


def _date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None
