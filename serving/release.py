"""Release: bundles, the latest snapshot, everybody's scores and labels, and whom to say nothing of, as one immutable, hashed directory.

Publishing writes a new directory, has a child process load and check it, and only then moves the pointer (see `serving.pointer`).
Whatever fails on the way leaves what is served as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.errors import EncoreError, ReleaseRefused, SnapshotRefused
from features.files import digest_of, exclusive, new_directory, sha256_of, sha256_of_bytes, write_bytes, write_json
from features.histories import Histories
from features.vocabulary import LONGEST_ID
from serving import tombstones as tombs
from serving.arrow import codes, dictionary, id_array, numbers, read_arrow, whole_numbers, write_arrow
from serving.everybody import Scores, score_everybody, stage_codes
from serving.facts import FACTS, ShopFacts, read_facts, write_facts
from serving.histories import HISTORIES, digest_of_histories, read_histories, write_histories
from serving.tombstones import NOBODY, Withheld
from serving.verified import is_checked, read_manifest, verify_files
from training.bundle import Bundle, load_bundle, save_bundle

if TYPE_CHECKING:
    from features.snapshot import Snapshot

FORMAT = 5
SNAPSHOT = "snapshot.arrow"
LABEL = "label."  # before the name of a column with words for people
OUT, STAYS, ENTERED, LEFT = range(4)  # of a look-alike's audience, at its last refresh
AHEAD = timedelta(days=1)  # clocks and zones differ by less; what is further ahead was made by a wrong clock


@dataclass(frozen=True)
class Release:
    """What a service answers from. Arrays are memory-mapped: worker processes share their pages.

    users: user ids as UTF-8 bytes, sorted. stages: positions in STAGES. vectors: users x features. labels: words for people by
    name, such as the layer, null where there is none. marks: see `tombstones.marks_of`. members: task of a look-alike with an
    audience -> OUT, STAYS, ENTERED or LEFT for each user. histories: of the users, to which posted events are added. withheld: whom
    it does not speak of.
    """

    id: str
    manifest: Mapping[str, Any]
    users: npt.NDArray[np.bytes_]
    stages: npt.NDArray[np.int8]
    vectors: npt.NDArray[np.float64]
    features: tuple[str, ...]
    bundles: Mapping[str, Bundle]
    scores: Mapping[str, Scores]
    labels: Mapping[str, pa.DictionaryArray]
    marks: npt.NDArray[np.uint64]
    members: Mapping[str, npt.NDArray[np.int8]] = field(default_factory=dict)
    facts: ShopFacts | None = None
    histories: Histories | None = None
    withheld: Withheld = NOBODY

    @property
    def currency(self) -> str:
        """The shop's: amounts of features, and predictions of spend, are in its minor units (see `features.money`)."""
        return str(self.manifest["currency"])

    def withholding(self, tombstones: Mapping[str, str]) -> Release:
        """The same release, silent about these users as well."""
        return replace(self, withheld=tombs.withheld(tombs.joined(self.withheld.tombstones, tombstones), self.users, self.marks))


def write_release(
    root: Path,
    snapshot: Snapshot,
    models: Mapping[str, tuple[Bundle, npt.NDArray[np.bool_], Mapping[str, Any]]],
    about: Mapping[str, Any],
    members: Mapping[str, npt.NDArray[np.int8]] | None = None,
    facts: ShopFacts | None = None,
    tombstones: Mapping[str, str] | None = None,
    pages: Mapping[str, bytes] | None = None,
    histories: Histories | None = None,
) -> str:
    """Write a release directory and return its id; the same content has the same id and is written once.

    Args:
        models: task -> bundle, who is eligible, and what the registry says of the version.
        about: facts that do not change the content, such as the moment of scoring. members: see `Release`.
        tombstones: who was suppressed or deleted by then; the snapshot is made without them, and its recipe names them.
        pages: name of a file of the folder `pages` -> its content: what the console shows beside scores.
        histories: of the snapshot's users, in their order.

    Raises:
        SnapshotRefused: its columns are not what its manifest says. ReleaseRefused: an id that cannot be asked for.
    """
    _check_columns(snapshot)
    # Eligibility is code: a task that asks other people is another release, though its model is the same.
    parts = {task: [bundle.digest, sha256_of_bytes(eligible.tobytes()), version] for task, (bundle, eligible, version) in models.items()}
    parts |= {f"members of {task}": [sha256_of_bytes(kinds.tobytes())] for task, kinds in (members or {}).items()}
    parts |= {"facts": [facts.digest]} if facts else {}
    parts |= {"histories": [digest_of_histories(histories)]} if histories else {}
    parts |= {f"pages/{name}": [sha256_of_bytes(content)] for name, content in (pages or {}).items()}
    content = digest_of([FORMAT, snapshot.manifest["recipe"], snapshot.manifest["as_of"], parts])
    release_id = f"{snapshot.as_of}-{content[:12]}"
    with exclusive(root / ".writing", "The writing of a release", wait=True):
        sweep(root)
        if _is_whole(root / release_id):
            return release_id
        with new_directory(root / release_id) as new:
            write_json(new / tombs.FILE, tombs.described(tombstones or {}))
            if facts:
                write_facts(facts, new)
            if histories:
                write_histories(histories, new)
            for task, kinds in (members or {}).items():
                (new / "members").mkdir(exist_ok=True)
                write_arrow(new / "members" / f"{task}.arrow", {"kind": pa.array(kinds, pa.int8())})
            for name, told in (pages or {}).items():
                write_bytes(new / "pages" / name, told)
            _fill(new, snapshot, models, {**about, "id": release_id})
    return release_id


def _fill(
    new: Path,
    snapshot: Snapshot,
    models: Mapping[str, tuple[Bundle, npt.NDArray[np.bool_], Mapping[str, Any]]],
    about: Mapping[str, Any],
) -> None:
    from serving.audiences.suggested import PAGE, suggestions_page  # they know releases
    from serving.bands import bands_of

    write_arrow(new / SNAPSHOT, _snapshot_columns(snapshot))
    tasks = {}
    for task, (bundle, eligible, version) in models.items():
        save_bundle(bundle, new / "bundles" / task)
        scores = score_everybody(bundle, snapshot, eligible)
        (new / "scores").mkdir(exist_ok=True)
        write_arrow(new / "scores" / f"{task}.arrow", {name: pa.array(values) for name, values in scores.columns().items()})
        write_json(new / "pages" / f"bands.{task}.json", bands_of(bundle, snapshot, scores))
        tasks[task] = {**version, "bundle": bundle.digest, "eligible": int(eligible.sum())}
    manifest = {
        "format": FORMAT,
        **{name: snapshot.manifest[name] for name in ("as_of", "complete_until", "zone", "currency", "recipe")},
        "features": snapshot.feature_names,
        "users": snapshot.table.num_rows,
        "tasks": tasks,
        **about,
    }
    write_json(new / "pages" / PAGE, suggestions_page(_open(new, {**manifest, "files": _files(new)}).withholding(_tombstones(new))))
    files = {name: sha256_of(new / name) for name in _files(new)}
    write_json(new / "release.json", {**manifest, "files": files, "sizes": {name: (new / name).stat().st_size for name in files}})


def _files(directory: Path) -> list[str]:
    return [str(file.relative_to(directory)) for file in sorted(directory.rglob("*")) if file.is_file()]


def _tombstones(directory: Path) -> dict[str, str]:
    """Those that lie in a release or beside it."""
    return tombs.joined(tombs.read_tombstones(directory), tombs.read_tombstones(directory.parent))


def _is_whole(directory: Path) -> bool:
    """Whether a release stands there already; a damaged one is moved out of the way, to be written anew."""
    if not directory.exists():
        return False
    try:
        load_release(directory)
    except EncoreError:
        directory.rename(directory.with_name(f".new-damaged-{directory.name}"))
        sweep(directory.parent)
        return False
    return True


def load_release(directory: Path, *, anew: bool = False) -> Release:
    """Open a release, silent about the users whose tombstones lie in it or beside it.

    Every file is held against its hash first, unless it lies as it did when this was done before.

    Args:
        anew: hold the files against their hashes in any case.

    Raises:
        ReleaseRefused: something is missing, torn, changed, a link, from the future, or of another format.
    """
    try:
        manifest = read_manifest(directory)
        if manifest["format"] != FORMAT:
            raise ReleaseRefused(f"Release {directory.name} has format {manifest['format']}; this version of Encore reads format {FORMAT}. Publish anew.")
        if manifest["id"] != directory.name:
            raise ReleaseRefused(f"Release {directory.name} says that it is {manifest['id']}.")
        _check_clock(manifest)
        if anew or not is_checked(directory):
            verify_files(directory, manifest, [SNAPSHOT, tombs.FILE, *(name for task in manifest["tasks"] for name in _files_of(task))])
        return _open(directory, manifest).withholding(_tombstones(directory))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise ReleaseRefused(f"Release {directory.name} cannot be read: {type(error).__name__}: {error}") from None


def _open(directory: Path, manifest: Mapping[str, Any]) -> Release:
    columns = read_arrow(directory / SNAPSHOT)
    features = tuple(manifest["features"])
    bundles = {task: load_bundle(directory / "bundles" / task, facts["bundle"]) for task, facts in manifest["tasks"].items()}
    scores = {task: Scores.of({name: numbers(values) for name, values in read_arrow(directory / "scores" / f"{task}.arrow").items()}) for task in bundles}
    members = {task: codes(read_arrow(directory / name)["kind"]) for task in bundles if (name := f"members/{task}.arrow") in manifest["files"]}
    histories = read_histories(directory) if HISTORIES in manifest["files"] else None
    lengths = {len(columns["vector"]), *map(len, members.values()), *(len(values) for task in scores.values() for values in task.columns().values())}
    lengths |= {histories.users} if histories else set()
    if lengths != {manifest["users"]} or columns["vector"].type.list_size != len(features):
        raise ReleaseRefused(f"Release {directory.name}: its vectors, its histories, its scores and its manifest do not speak of the same users and features.")
    return Release(
        id=manifest["id"],
        manifest=manifest,
        users=id_array(columns["user_id"]),
        stages=codes(columns["stage"]),
        vectors=numbers(columns["vector"].flatten()).reshape(-1, len(features)),
        features=features,
        bundles=bundles,
        scores=scores,
        labels={name.removeprefix(LABEL): values for name, values in columns.items() if name.startswith(LABEL)},
        marks=whole_numbers(columns["mark"]),
        members=members,
        facts=read_facts(directory) if FACTS in manifest["files"] else None,
        histories=histories,
    )


def check_release(directory: Path) -> Release:
    """Load a release, by its hashes, and make sure that it scores here as it did in training.

    Raises:
        ReleaseRefused, BundleRefused: it does not.
    """
    release = load_release(directory, anew=True)
    for task, bundle in release.bundles.items():
        bundle.check_golden_rows()
        scores = release.scores[task].score
        some = np.flatnonzero(~np.isnan(scores))[:50]
        again = bundle.scores(release.vectors[some][:, bundle.align(release.features)])
        if not np.array_equal(again, scores[some]):
            raise ReleaseRefused(f"Release {release.id}: stored scores of '{task}' are not what its model gives.")
    return release


def sweep(root: Path) -> None:
    """Remove what a crash left half written. Only who holds the lock `.writing` may: what is found could be the work of another."""
    for leftover in root.glob(".new-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def sweep_if_idle(root: Path) -> None:
    """Sweep unless a release is being written there or the folder cannot be written."""
    if not root.is_dir():
        return
    with suppress(EncoreError, OSError), exclusive(root / ".writing", "The writing of a release"):
        sweep(root)


def _check_clock(manifest: Mapping[str, Any]) -> None:
    scored_at = datetime.fromisoformat(manifest["scored_at"])
    if scored_at > datetime.now(UTC) + AHEAD:
        raise ReleaseRefused(f"Release {manifest['id']} is from the future: scored at {scored_at}, and it is {datetime.now(UTC):%Y-%m-%d %H:%M} UTC here.")
    if date.fromisoformat(manifest["as_of"]) > (scored_at + AHEAD).date():
        raise ReleaseRefused(f"Release {manifest['id']} describes users as of {manifest['as_of']}, which was still to come when it was scored at {scored_at}.")


def _check_columns(snapshot: Snapshot) -> None:
    kinds = {field.name: str(field.type) for field in snapshot.table.schema}
    expected = {"user_id": "string", "stage": "string"} | dict.fromkeys(snapshot.feature_names, "double") | dict.fromkeys(snapshot.label_names, "string")
    problems = [f"'{name}' is {kinds.get(name, 'missing')}, not {kind}" for name, kind in expected.items() if kinds.get(name) != kind]
    if problems:
        raise SnapshotRefused(f"Snapshot as of {snapshot.as_of} has {len(problems)} column(s) of another kind: {'; '.join(problems[:10])}. Run: encore build")


def _snapshot_columns(snapshot: Snapshot) -> dict[str, pa.Array]:
    names = snapshot.feature_names
    ids = [str(user).encode() for user in snapshot.user_ids]
    width = max(1, max(len(name) for name in ids))
    if width > LONGEST_ID:
        raise ReleaseRefused(f"A user id has {width} bytes; ids may have at most {LONGEST_ID}.")
    return {
        "user_id": pa.array([name.ljust(width, b"\0") for name in ids], pa.binary(width)),
        "mark": pa.array(tombs.marks_of(ids)),
        "stage": pa.array(stage_codes(snapshot), pa.int8()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(snapshot.matrix(names).ravel()), max(1, len(names))),
        **{f"{LABEL}{name}": dictionary(snapshot.table[name]) for name in snapshot.label_names},
    }


def _files_of(task: str) -> Sequence[str]:
    return f"bundles/{task}/bundle.json", f"scores/{task}.arrow"
