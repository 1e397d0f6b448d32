"""Deletion: everything that is held about some users, with a receipt.

First they are put on the list, so that from that second on nobody says anything of them, and what is erased below cannot come back: not
with new data, a rebuild, a rollback or a backup. Then every place is freed of them in turn. What is being deleted is noted in
`privacy/pending/` until it is done: whatever is killed on the way, the same command, the next deletion or the next worker ends it.
"""

from __future__ import annotations

import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.errors import EncoreError
from features.files import digest_of, exclusive, read_json, write_json
from features.logs import step
from features.tombstones import DELETED, write_tombstones
from features.workspace import Workspace
from serving.ledger import Ledger
from serving.privacy import audit
from serving.privacy.databases import erase_from_ledger, erase_from_sqlite, rename_releases
from serving.privacy.formats import SQLITE, erase, format_of
from serving.privacy.models import first_seen, trained_with
from serving.privacy.needles import Needles
from serving.privacy.people import people_of
from serving.privacy.register import suppress
from serving.privacy.releases import erase_from_releases, former_ids
from serving.privacy.search import PENDING, files_of, search
from serving.runs import MANIFEST, without_users

RECEIPTS = "privacy/receipts"
OF_THEIR_OWN = {"log", "releases", "scores", "seeds", "privacy"}  # folders that have a step of their own
LOCKS = (".retrain.lock", ".lookalike.lock", ".publish.lock")  # whoever holds one may still write what it has read before
NOT_REACHED = (
    "backups, and copies that were taken out of this workspace: after one is restored, the next command erases again whom the list names",
    "systems that were sent scores or audiences: delete there too",
    "models' weights: they hold no row and no id; see `models` for when they age out",
)

Found = dict[str, int]
Told = Mapping[str, Any]  # what `privacy/pending/` has of a deletion


class NotErased(EncoreError):
    """Something of a user is left where Encore cannot take it out."""


def delete(workspace: Workspace, ledger: Ledger, given: Collection[str], reason: str, who: str | None = None) -> dict[str, Any]:
    """Erase users everywhere, by ids or hashes, with all ids that are theirs; returns the receipt, which is kept in `privacy/receipts/`.

    To delete somebody again changes nothing and gives a receipt that says so. It waits for a retrain or a publication that is running.

    Raises:
        LedgerUnavailable: it cannot be reached; they are silent in the service already. Run again.
    """
    with exclusive(workspace.root / ".privacy.lock", "A deletion", wait=True):
        mine = _begin(workspace, ledger, given, reason, who) if given else None
        receipts = finish_pending(workspace, ledger)
    return receipts[mine] if mine else {"receipts": sorted(receipts)}


def finish_pending(workspace: Workspace, ledger: Ledger) -> dict[str, dict[str, Any]]:
    """End every deletion that was begun; the caller holds the lock `.privacy.lock`. Returns request -> receipt."""
    receipts = {}
    for note in sorted((workspace.root / PENDING).glob("*.json")):
        with _alone(workspace):
            receipts[note.stem] = _finish(workspace, ledger, note)
    return receipts


def _begin(workspace: Workspace, ledger: Ledger, given: Collection[str], reason: str, who: str | None) -> str:
    """Note what is to be deleted, and silence it."""
    log = workspace.log(workspace.shop())
    people = people_of(log, given)
    for note in (workspace.root / PENDING).glob("*.json"):  # the same again, after it was killed
        if people.marks <= {*read_json(note)["marks"]}:
            return note.stem
    request = f"{datetime.now(UTC):%Y-%m-%d}-{uuid.uuid4().hex[:8]}"
    since = first_seen(log, people.names)
    told = {"request": request, "began_at": _now(), "reason": reason, "who": who or audit.whoami(), "given": people.given, "unknown": people.unknown}
    known_since = {"known_since": since.isoformat() if since else None, "models": trained_with(workspace, since)}
    note = workspace.root / PENDING / f"{request}.json"
    write_json(note, {**told, **known_since, "names": sorted(people.names), "marks": sorted(people.marks), "found": {}})
    note.parent.chmod(0o700)
    write_tombstones(workspace.releases, dict.fromkeys(people.marks, DELETED))
    return request


def _finish(workspace: Workspace, ledger: Ledger, note: Path) -> dict[str, Any]:
    told = dict(read_json(note))
    needles = Needles(told["names"])
    told["begun"] = told.get("begun", 0) + 1
    write_json(note, told)
    write_tombstones(workspace.releases, dict.fromkeys(told["marks"], DELETED))
    for place, take_out in PLACES.items():
        with step(f"delete: {place}") as counted:
            for what, rows in take_out(workspace, ledger, needles, told).items():
                told["found"][what] = told["found"].get(what, 0) + rows
                counted[what] = rows
        write_json(note, told)
    with step("delete: search for what is left") as counted:
        left = search(workspace, needles)
        counted |= {"files": sum(left.formats.values()), "left": len(left.places)}
    receipt = _receipt(workspace, ledger, told, left.places, dict(sorted(left.formats.items())), left.unreadable)
    note.unlink()
    return receipt


def _receipt(
    workspace: Workspace, ledger: Ledger, told: Mapping[str, Any], left: Mapping[str, int], formats: Mapping[str, int], unreadable: list[str]
) -> dict[str, Any]:
    """What was found and erased, without an id, and its place in the audit log."""
    path = workspace.root / RECEIPTS / f"{told['request']}.json"
    sent_to = sorted(str(export["name"]) for export in workspace.shop().exports)
    body = {
        **{
            name: told[name] for name in ("request", "began_at", "reason", "who", "given", "unknown", "known_since", "models", "begun")
        },  # begun more than once: a place's count may miss what was killed
        "done_at": _now(),
        "hashes": told["marks"],
        "erased": told["found"],
        "left": left,
        "searched": formats,
        "searched_as_bytes_only": unreadable,
        "not_reached": [*NOT_REACHED, *_sources_outside(workspace), *([f"exports of this shop go to: {', '.join(sent_to)}"] if sent_to else [])],
    }
    with ledger.connection() as connection:
        facts = {"request": told["request"], "hashes": len(told["marks"]), "rows": sum(told["found"].values()), "left": len(left), "receipt": digest_of(body)}
        link = audit.record(connection, "users deleted", facts, told["who"])
    receipt = {**body, "audit": vars(link)}
    write_json(path, receipt)
    return receipt


# --- places ---------------------------------------------------------------------------------------------------------


def _log(workspace: Workspace, ledger: Ledger, needles: Needles, told: Told) -> Found:
    return {"event log, rows": workspace.log(workspace.shop()).bury_marks(dict.fromkeys(told["marks"], DELETED), needles.names)}


def _register(workspace: Workspace, ledger: Ledger, needles: Needles, told: Told) -> Found:
    return {"hashes new on the list": suppress(workspace, ledger, told["marks"], DELETED, told["reason"], who=told["who"])}


def _derived(workspace: Workspace, ledger: Ledger, needles: Needles, told: Told) -> Found:
    return {"snapshots dropped, with all tiles: they are made anew": workspace.drop_derived()} if needles.names else {}


def _releases(workspace: Workspace, ledger: Ledger, needles: Needles, told: Told) -> Found:
    erased = erase_from_releases(workspace.releases, needles.names)
    return {"releases written anew": len(erased), "releases, rows": sum(erased.values())}


def _runs(workspace: Workspace, ledger: Ledger, needles: Needles, told: Told) -> Found:
    gone, rows, dropped = pa.array(sorted(needles.names), pa.string()), 0, 0
    for folder in sorted(path for path in (workspace.root / "scores").glob("[0-9]*") if path.is_dir()):
        if (folder / MANIFEST).exists():
            rows += without_users(folder, lambda users: pc.is_in(users.cast(pa.string()), gone))
            for leftover in folder.glob(".*"):  # of a process that was killed
                leftover.unlink()
        elif needles.names:  # one that was never finished is begun again
            with exclusive(folder.parent / f".{folder.name}.lock", "This score run", wait=True):
                dropped += len(list(folder.iterdir()))
                shutil.rmtree(folder)
    return {"score runs, rows": rows, "score runs, parts of unfinished ones": dropped}


def _seeds(workspace: Workspace, ledger: Ledger, needles: Needles, told: Told) -> Found:
    root = workspace.root / "seeds"
    if not root.exists():
        return {}
    from training.lookalike.seed_store import erase_buried

    return {"seeds, ids": sum(erase_buried(root, told["marks"]).values())}


def _files(workspace: Workspace, ledger: Ledger, needles: Needles, told: Told) -> Found:
    """Every other file: exports, quarantine, reports, logs, artifacts of MLflow, raw data that lie in the workspace."""
    found: Counter[str] = Counter()
    databases = {url.removeprefix("sqlite:///") for url in (workspace.ledger_url, workspace.mlflow_uri)}
    with ExitStack() as stack:
        for lock in sorted(workspace.exports.rglob(".*.lock")):  # of deliveries: one that runs writes to its files
            stack.enter_context(exclusive(lock, "An export", wait=True))
        for path in files_of(workspace.root) if needles.names else ():
            folder, *inner = path.relative_to(workspace.root).parts
            if folder in OF_THEIR_OWN or str(path) in databases or path.name.endswith(".lock"):
                continue
            hits = erase_from_sqlite(path, needles) if _is_sqlite(path) else erase(path, needles)
            found[f"files in {folder}, rows" if inner else "files of the workspace, rows"] += hits
    return {place: rows for place, rows in found.items() if rows}


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return format_of(file.read(16), path.name) == SQLITE


def _ledger(workspace: Workspace, ledger: Ledger, needles: Needles, told: Told) -> Found:
    rename_releases(ledger, former_ids(workspace.releases))
    return {f"ledger, {table}": rows for table, rows in erase_from_ledger(ledger, needles).items()}


PLACES: dict[str, Callable[[Workspace, Ledger, Needles, Told], Found]] = {
    "event log": _log,
    "list": _register,
    "tiles and snapshots": _derived,
    "releases": _releases,
    "score runs": _runs,
    "seeds": _seeds,
    "files": _files,
    "ledger": _ledger,
}


def _sources_outside(workspace: Workspace) -> list[str]:
    """Sources of encore.toml that lie elsewhere: their owners delete there, and here nothing of theirs comes in again."""
    outside = []
    for source in workspace.shop().sources:
        path = source.get("path")
        if path and not (workspace.root / str(path)).resolve().is_relative_to(workspace.root):
            outside.append(f"source of kind {source['kind']} outside the workspace: {Path(str(path)).name}")
    return outside


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    with ExitStack() as stack:
        for lock in LOCKS:
            stack.enter_context(exclusive(workspace.root / lock, "Work on this workspace", wait=True))
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
