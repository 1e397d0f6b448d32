"""Score runs: everybody scored by one release, in parts of users, resumable, kept for good.

A run is a folder `scores/<id>` with `part-00000.parquet`, ... and, once all of them stand, `run.json`, which says what was scored with
what. Its id is made of what it depends on: the same release, tasks and tombstones are the same run, and its parts the same bytes.

A run that is done is never changed: not by Encore's newer versions, not by a repetition. A part of it that was lost is made again only if
the same bytes come out. What was served is judged by it later (`serving.quality`), so nothing deletes a run; only privacy erases users
from one (see `without_users`), and says so in `run.json`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import money
from features.errors import EncoreError, UnknownName
from features.files import code_digest, digest_of, exclusive, read_json, sha256_of, write_json
from serving import batch, scorer
from serving.batch import SCORE_SCHEMA, score_writer, write_scores
from serving.release import Release
from serving.scorer import Scorer
from serving.tombstones import out_of_runs

PART = 100_000  # users of a part: tens of megabytes in memory for each thread, whatever the shop
MANIFEST = "run.json"
CODE = code_digest(Path(batch.__file__), Path(scorer.__file__), Path(money.__file__))  # what shapes a row


class RunChanged(EncoreError):
    """A score run that is done lies otherwise than it was written, and cannot be made again to the bit."""


@dataclass(frozen=True)
class Run:
    """A score run: where it lies, and the predictions in it."""

    folder: Path
    tasks: tuple[str, ...]

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What a finished run says of itself; empty before."""
        found: Mapping[str, Any] = read_json(self.folder / MANIFEST) if (self.folder / MANIFEST).exists() else {}
        return found


Engine = Callable[[Scorer, Run, Sequence[int]], None]
"""Whatever writes parts of a run by `write_part`, on this machine or on others."""


def score_run(scorer: Scorer, root: Path, tasks: Sequence[str] = (), engine: Engine | None = None) -> Run:
    """Score everybody with a release, or do what is left of it; a run that is done is only checked.

    Args:
        root: folder of runs. tasks: predictions of the release, default all.

    Raises:
        UnknownName: the release has no model of a named task. Locked: the same run is being made.
        RunChanged: it was done, and lies otherwise now.
    """
    release = scorer.release
    for task in tasks:
        if task not in release.bundles:
            raise UnknownName("prediction", task, release.bundles)
    chosen = tuple(dict.fromkeys(tasks or release.bundles))  # each once: (user_id, model) is the primary key
    made_of = [release.id, chosen, scorer.scored_at, scorer.expires_at, out_of_runs(release.withheld.tombstones), PART, CODE]
    run = Run(root / f"{release.id}-{digest_of(made_of)[:8]}", chosen)
    with exclusive(root / f".{run.folder.name}.lock", "This score run"):
        for leftover in run.folder.glob(".*"):  # of a process that was killed
            leftover.unlink()
        parts = range(-(-len(release.users) // PART))
        done = run.manifest
        known = {part["file"]: part["sha256"] for part in done.get("parts", ())}
        left = [part for part in parts if not _stands(run.folder / part_name(part), known)]
        if left and done.get("erased"):
            raise RunChanged(f"Score run {run.folder.name} lost {len(left)} part(s) after users were erased from it. Restore its folder from a backup.")
        if left:
            (engine or on_this_machine)(scorer, run, left)
        if not done:
            write_json(run.folder / MANIFEST, _described(scorer, run, parts))
        for part in left if done else ():
            if not _stands(path := run.folder / part_name(part), known):
                path.unlink(missing_ok=True)
                raise RunChanged(
                    f"Score run {run.folder.name} is done, {path.name} of it was lost or changed, and scoring again gave other bytes than those that were "
                    "served. The run stays as it was described. Restore its folder from a backup."
                )
    return run


def without_users(folder: Path, is_gone: Callable[[pa.Array], pa.Array]) -> int:
    """Erase users from a run that is done, for privacy and nothing else; returns the rows erased.

    Args:
        is_gone: user ids -> whether each is to be erased.
    """
    with exclusive(folder.parent / f".{folder.name}.lock", "This score run", wait=True):
        manifest = dict(read_json(folder / MANIFEST))
        for part in manifest["parts"]:
            table = pq.read_table(folder / part["file"])
            kept = table.filter(pc.invert(is_gone(table["user_id"].combine_chunks())))
            if kept.num_rows < table.num_rows:
                with score_writer(folder / part["file"], kept.schema) as writer:
                    writer.write_table(kept)
        files = [folder / part["file"] for part in manifest["parts"]]
        told = [{"file": path.name, "rows": pq.read_metadata(path).num_rows, "sha256": sha256_of(path)} for path in files]
        rows = sum(part["rows"] for part in told)
        if erased := manifest["rows"] - rows:  # also what an erasure that was killed had not written down yet
            digest = digest_of([part["sha256"] for part in told])
            write_json(folder / MANIFEST, {**manifest, "parts": told, "rows": rows, "digest": digest, "erased": manifest.get("erased", 0) + erased})
    return int(erased)


def part_name(part: int) -> str:
    return f"part-{part:05d}.parquet"


def write_part(scorer: Scorer, run: Run, part: int) -> int:
    """Write one part of a run; returns the number of rows."""
    start = part * PART
    return write_scores(scorer, run.tasks, start, min(start + PART, len(scorer.release.users)), run.folder / part_name(part))


def on_this_machine(scorer: Scorer, run: Run, parts: Sequence[int]) -> None:
    """Write parts, as many at a time as there are cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for _ in pool.map(lambda part: write_part(scorer, run, part), parts):
            pass


def write_one_file(run: Run, path: Path) -> None:
    """Copy the parts of a finished run into one file, part after part."""
    with score_writer(path, SCORE_SCHEMA) as writer:
        for part in run.manifest["parts"]:
            file = pq.ParquetFile(run.folder / part["file"])
            for group in range(file.num_row_groups):
                writer.write_table(file.read_row_group(group).cast(SCORE_SCHEMA))


def _stands(path: Path, known: Mapping[str, str]) -> bool:
    """Whether a part needs not be written: it appeared whole, and in a run that is done it is still the same."""
    return path.exists() and (path.name not in known or sha256_of(path) == known[path.name])


def _described(scorer: Scorer, run: Run, parts: Sequence[int]) -> dict[str, Any]:
    files = [run.folder / part_name(part) for part in parts]
    told = [{"file": path.name, "rows": pq.read_metadata(path).num_rows, "sha256": sha256_of(path)} for path in files]
    manifest = scorer.release.manifest
    return {
        "id": run.folder.name,
        "release": scorer.release.id,
        "snapshot": {"as_of": manifest["as_of"], "recipe": manifest["recipe"], "sha256": manifest["files"]["snapshot.arrow"]},
        "currency": scorer.release.currency,
        "versions": {task: scorer.tasks[task]["version"] for task in run.tasks},
        "predictions": {task: known_then(scorer.release, task) for task in run.tasks},
        "scored_at": scorer.scored_at.isoformat(),
        "expires_at": scorer.expires_at.isoformat(),
        "users": len(scorer.release.users),
        "withheld": len(scorer.release.withheld.rows),
        "rows": sum(part["rows"] for part in told),
        "parts": told,
        "digest": digest_of([part["sha256"] for part in told]),
    }


def known_then(release: Release, task: str) -> dict[str, Any]:
    """What a prediction asked and what was known of its quality: the run says it itself, for its release may be gone when its horizon closes."""
    facts, bundle = release.manifest["tasks"][task], release.bundles[task]
    named = ("horizon_days", "window_days", "calibrated", "baseline", "declared", "seed", "rows", "positives", "base_rate", "last_cutoff")
    asked = {name: bundle.about[name] for name in named if bundle.about.get(name) is not None}
    return {
        "kind": bundle.kind,
        **asked,
        "bundle": bundle.digest,
        "run_id": facts["run_id"],
        "served": facts["kind"],
        "metrics": facts["metrics"].get("model", {}),
    }
