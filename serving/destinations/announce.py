"""What happened that other systems want to know of: users whose band, expected order or audience changed, and runs that failed.

Nothing is kept where nobody listens (no ENCORE_EVENTS_URL).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import EncoreError
from features.exit_codes import exit_code
from features.logs import log
from features.workspace import Workspace, open_workspace
from serving.destinations.outbox import BAND_CROSSED, MEMBER_ADDED, MEMBER_REMOVED, ORDER_DUE, RUN_FAILED, Event, account, emit, emit_all
from serving.destinations.standings import ABSENT, IN, POINTS, Standings, changes, of_audience, of_release, only, points_of
from serving.destinations.told import audience_rule, members
from serving.ledger import Ledger
from serving.pointer import current_id
from serving.release import Release, load_release
from serving.score_texts import BANDS

DUE_WITHIN = 7  # days until the likely day of the next order
NEXT_ORDER, LIKELY = "next_order", "median_days"  # the prediction, and its detail: days until the order has come with probability 1/2
SILENT = (2, 4)  # exit codes of a mistyped command and of work that another process does


def note_release(workspace: Workspace, ledger: Ledger, before: str | None, now: str) -> int:
    """Keep what changed for users from one release to the next; returns the number of new events. It stops nothing: what goes wrong is logged."""
    try:
        if account() is None or before in (None, now):
            return 0
        old, new = (load_release(workspace.releases / name) for name in (str(before), now))
        day = date.fromisoformat(new.manifest["as_of"])
        found = [*band_crossings(old, new), *orders_due(old, new), *audience_changes(ledger, old, new)]
        with ledger.connection() as connection:
            number = emit_all(connection, found, day)
    except EncoreError as error:
        log.warning("events not kept", extra={"facts": {"reason": str(error)}})
        return 0
    log.info("events kept", extra={"facts": {"events": number, "day": day}})
    return number


@contextmanager
def announced_release(workspace: Workspace) -> Iterator[None]:
    """Keep what the block's publication changed for users."""
    before = _served(workspace)
    yield
    if now := _served(workspace):
        with closing(Ledger(workspace.ledger_url)) as ledger:
            note_release(workspace, ledger, before, now)


def _served(workspace: Workspace) -> str | None:
    try:
        return current_id(workspace.releases)
    except EncoreError:
        return None


def band_crossings(old: Release, new: Release) -> Iterator[Event]:
    """Users who had a band in both releases, and another one now: one event each, with all their predictions."""
    tasks = [task for task in new.bundles if task in old.bundles]
    told = of_release(new, tasks)
    for block in changes(_bands(of_release(old, tasks)), _bands(told)):
        for place, user in enumerate(block.users.tolist()):
            crossed = [
                {
                    "model": task,
                    "from": BANDS[block.old[task][place]],
                    "to": BANDS[block.new[task][place]],
                    "score": points_of(int(told.codes[task][block.rows[place]])),
                }
                for task in tasks
                if ABSENT not in (block.old[task][place], block.new[task][place]) and block.old[task][place] != block.new[task][place]
            ]
            if crossed:
                yield BAND_CROSSED, user.decode(), {"crossings": crossed}


def orders_due(old: Release, new: Release) -> Iterator[Event]:
    """Users whose next order is likely to come within a week and was not, in the release before."""
    if not all(NEXT_ORDER in one.scores and LIKELY in one.scores[NEXT_ORDER].details for one in (old, new)):
        return
    for block in changes(_due(old), _due(new)):
        for place in np.flatnonzero(block.new[NEXT_ORDER] == IN).tolist():
            days = float(new.scores[NEXT_ORDER].details[LIKELY][block.rows[place]])
            yield ORDER_DUE, block.users[place].decode(), {"expected_in_days": round(days, 1)}


def audience_changes(ledger: Ledger, old: Release, new: Release) -> Iterator[Event]:
    """Who entered and who left the live audiences: one event each a user, with the names of all. Users held out of one are in none."""
    entered: dict[str, list[str]] = {}
    left: dict[str, list[str]] = {}
    for saved in ledger.audiences():
        if saved.kind != "live":
            continue
        try:
            before, now = (of_audience(one, saved.name, members(one, ledger, audience_rule(saved))) for one in (old, new))
        except EncoreError as error:
            log.warning("audience not compared", extra={"facts": {"audience": saved.name, "reason": str(error)}})
            continue
        for block in changes(before, now):
            for user, code in zip(block.users.tolist(), block.new[saved.name].tolist(), strict=True):
                (entered if code == IN else left).setdefault(user.decode(), []).append(saved.name)
    for type_, found in ((MEMBER_ADDED, entered), (MEMBER_REMOVED, left)):
        for user in sorted(found):
            yield type_, user, {"audiences": sorted(found[user])}


def note_failure(arguments: Sequence[str], error: BaseException, environment: Mapping[str, str] = os.environ) -> None:
    """Keep that a command failed: which, and with what kind of error; its text may hold what is nobody's business. It raises nothing."""
    code = exit_code(error) if isinstance(error, EncoreError) else 1
    if not environment.get("ENCORE_EVENTS_URL") or code in SILENT or not arguments:
        return
    try:
        at = next((place for place, word in enumerate(arguments) if word in ("--workspace", "-w")), None)
        folder = Path(arguments[at + 1]) if at is not None and at + 1 < len(arguments) else None
        place = open_workspace(folder, environment)
        data: dict[str, Any] = {"command": arguments[0], "exit_code": code, "kind": type(error).__name__}
        with closing(Ledger(place.ledger_url)) as ledger, ledger.connection() as connection:
            emit(connection, RUN_FAILED, arguments[0], data, datetime.now(UTC).date())
    except Exception as other:  # noqa: BLE001 - the first error is the one to be told
        log.warning("failure not kept as an event", extra={"facts": {"reason": type(other).__name__}})


def _bands(told: Standings) -> Standings:
    return Standings(told.users, {task: np.where(codes >= 0, codes // POINTS, ABSENT).astype(np.int16) for task, codes in told.codes.items()})


def _due(release: Release) -> Standings:
    days = release.scores[NEXT_ORDER].details[LIKELY]
    with np.errstate(invalid="ignore"):
        codes = np.where(days <= DUE_WITHIN, IN, ABSENT).astype(np.int16)
    return Standings(release.users, {NEXT_ORDER: only(codes, release)})
