"""fit_tasks: several tasks trained at once, each in a process of its own; the same bytes as one after another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from features.errors import NoUsableData, WorkerLost
from features.logs import console, log, set_up_logs
from features.store import SnapshotStore
from features.tiles import Tiles
from training.examples import share_of
from training.fit import Candidate, fit_task
from training.prepare import planned
from training.task import AskedTask

Fitted = Candidate | NoUsableData


def fit_tasks(asked: Sequence[AskedTask], until: date, tiles: Tiles, store: SnapshotStore) -> Iterator[Fitted]:
    """What `fit_task` makes of each task, in the order asked, as soon as it is there; NoUsableData where it cannot be trained.

    As many processes as there are cores, or as LOKY_MAX_CPU_COUNT says; none for a task alone.

    Raises:
        WorkerLost: a process was ended from outside.
    """
    processes = min(joblib.cpu_count(), len(asked))
    if processes == 1:
        yield from (_fit(task, until, tiles, store) for task in asked)
        return
    build_snapshots(asked, until, tiles, store)  # once, in as few passes as can be, before the processes read them
    try:
        work = (joblib.delayed(_fit_apart)(task, until, tiles, store) for task in asked)
        yield from joblib.Parallel(n_jobs=processes, return_as="generator", batch_size=1, pre_dispatch=processes)(work)
    except TerminatedWorkerError as error:
        raise WorkerLost(
            "A process that trained models was ended from outside, most often for lack of memory. What was finished before is kept. "
            "Run the same command again: it resumes. With LOKY_MAX_CPU_COUNT=1 in the environment tasks train one after another, in less memory."
        ) from error
    finally:
        get_reusable_executor().shutdown(kill_workers=True)  # idle ones would outlive a process that leaves in a hurry


def build_snapshots(asked: Sequence[AskedTask], until: date, tiles: Tiles, store: SnapshotStore) -> None:
    """Make the snapshots that the tasks need and that are not there yet, those of all tasks together."""
    cutoffs: dict[float, set[date]] = defaultdict(set)
    for task in asked:
        try:
            needed = planned(task, until, tiles)[1].cutoffs
        except NoUsableData:  # said when its turn comes
            continue
        cutoffs[1.0 if task.task.seed else share_of(tiles.users * len(needed))].update(needed)
    for share, days in sorted(cutoffs.items()):
        store.build(tiles, sorted(days), share=share)


def _fit(task: AskedTask, until: date, tiles: Tiles, store: SnapshotStore) -> Fitted:
    try:
        return fit_task(task, until, tiles, store)
    except NoUsableData as error:
        return error


def _fit_apart(task: AskedTask, until: date, tiles: Tiles, store: SnapshotStore) -> Fitted:
    if not log.handlers:  # a new process: its lines go where those of the others go, and one spinner is enough
        set_up_logs()
        console.quiet = True
    return _fit(task, until, tiles, store)
