"""The score of somebody from events that come with the request: a new visitor's visit, a user's whole history, or what a user of the release
did since its date, which is added to the history that the release keeps.

The vector is made by the features' own code, loaded when it is first needed or in the background: the process that answers everything else
starts without it. Its loops run as Python, not compiled (see `features.compiled`).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from pydantic_core import to_json

from features.errors import EncoreError, NoRelease, UnknownName
from serving.arrow import arrow_without_pandas
from serving.current import Current
from serving.event_schemas import EventsRequest
from serving.facts import ShopFacts
from serving.schemas import sendable
from serving.scorer import Scorer, Status, is_valid_id
from serving.vector import VectorScore, nothing_said, score_vector

if TYPE_CHECKING:
    from features.histories import History
    from features.requests import OneUser, Vector

POSTED, STORED, NONE = "posted", "stored", "none"
SUPPRESSED = -1  # instead of a row


class NoFacts(NoRelease):
    """The release in service cannot make vectors of events."""


class UnusableEvents(EncoreError):
    """Events of which no vector can be made."""


class PostedEvents:
    """Scores posted events with whatever release is in service."""

    def __init__(self, current: Current) -> None:
        self._current, self._lock = current, threading.Lock()
        self._scorer: Scorer | None = None
        self._tasks: dict[str, OneUser] = {}

    def warm(self) -> None:
        """Load what makes vectors, and lay out the features of every prediction in service, before anybody waits for it."""
        scorer = self._current.loaded
        for task in scorer.release.bundles if scorer and scorer.release.facts else ():
            try:
                self._one_user(scorer, task)  # type: ignore[arg-type]
            except EncoreError:
                return  # whoever asks is told

    def warm_in_background(self) -> None:
        """Warm in a thread, and keep the collector from walking through what was loaded: it would, every few requests, for milliseconds."""

        def warm() -> None:
            self.warm()
            gc.freeze()

        threading.Thread(target=warm, name="events-warm", daemon=True).start()

    def score(self, task: str, request: EventsRequest) -> bytes:
        """The score of a request's events, as the JSON of an `EventsBody`.

        Raises:
            NoRelease: there is nothing to answer from. NoFacts: the release came without what this needs. UnknownName: it has no model
            of that task. UnusableEvents: no event counts, amounts are in a currency that is not the shop's, the id is none, or a date is
            asked for at which the kept history had not ended.
        """
        scorer = self._current.scorer
        if task not in scorer.release.bundles:
            raise UnknownName("prediction", task, scorer.release.bundles)
        one_user = self._one_user(scorer, task)
        as_of = request.as_of or tomorrow(one_user.shop.zone)
        if foreign := [place for place, event in enumerate(request.events) if event.currency not in (None, one_user.shop.currency)]:
            raise UnusableEvents(f"events.{foreign[0]} is in another currency than the shop's {one_user.shop.currency}; convert its amounts first.")
        row = None if request.user_id is None else _row(scorer, request.user_id)
        if row == SUPPRESSED:
            return _answer(request, as_of, nothing_said(scorer, task, Status.SUPPRESSED), None, None)
        past = None if row is None or request.complete_history else _past(scorer, row, as_of)
        found = one_user.vector(_distinct(request), as_of, past)
        if found is None:
            raise UnusableEvents(f"None of the {len(request.events)} event(s) happened and was known before midnight of as_of in {one_user.shop.zone}.")
        was_asked = None if past is None else bool(scorer.release.scores[task].score[row] == scorer.release.scores[task].score[row])  # or NaN
        said = score_vector(scorer, task, found.values, reasons=request.reasons, eligible=was_asked, strict=False)
        return _answer(request, as_of, said, found, scorer.release.manifest["as_of"] if past else None, scorer.release.bundles[task].features)

    def _one_user(self, scorer: Scorer, task: str) -> OneUser:
        with self._lock:
            if scorer is not self._scorer:
                self._scorer, self._tasks = scorer, {}
            if task not in self._tasks:
                names = dict.fromkeys((*scorer.release.bundles[task].features, *scorer.deciding[task]))
                self._tasks[task] = maker(scorer.release.facts, tuple(names))
            return self._tasks[task]


def _row(scorer: Scorer, user_id: str) -> int | None:
    """The user's row in the release, SUPPRESSED where nothing may be said of them, None for somebody unknown.

    Raises:
        UnusableEvents: nobody can have that id.
    """
    if not is_valid_id(user_id):
        raise UnusableEvents("user_id is no id that a user can have.")
    row = scorer.row(user_id)
    return SUPPRESSED if row is None and scorer.absence(user_id) is Status.SUPPRESSED else row


def _past(scorer: Scorer, row: int, as_of: date) -> History:
    """What the release keeps of a user.

    Raises:
        UnusableEvents: it keeps nothing, or all of it is later than the date.
    """
    histories, until = scorer.release.histories, date.fromisoformat(scorer.release.manifest["as_of"])
    if histories is None:
        raise UnusableEvents(
            "The release knows this user, and came without the histories that posted events could be added to: they would be scored as a "
            "newcomer's. Post everything the user ever did, with complete_history: true."
        )
    if as_of < until:
        raise UnusableEvents(
            f"The release knows this user up to {until}, and as_of is before that. Ask for {until} or later, or post everything the user ever did, with "
            "complete_history: true."
        )
    return histories.of(row)


def maker(facts: ShopFacts | None, names: Sequence[str]) -> OneUser:
    """What makes vectors of the named features.

    Raises:
        NoFacts: the release has no facts of its shop, or another version of Encore made its vectors.
    """
    from features import compiled

    compiled.interpret()
    arrow_without_pandas()
    from features.requests import CODE, OneUser

    if facts is None:
        raise NoFacts("The release in service was published without the facts that events need. Publish again: encore publish")
    if facts.code != CODE:
        raise NoFacts("Another version of Encore made the vectors of the release in service. Publish again with this one: encore publish")
    return OneUser(facts.shop, facts.kinds, facts.norms, facts.products, names)


def _answer(request: EventsRequest, as_of: date, said: VectorScore, found: Vector | None, stored_until: str | None, features: Sequence[str] = ()) -> bytes:
    used, stored, unresolved = (found.used, found.stored, found.unresolved) if found else (0, 0, 0)
    told = {name: value for name, value in vars(said).items() if name != "missing"}
    told |= {"user_id": request.user_id and sendable(request.user_id), "as_of": as_of, "stage": found and found.stage}
    told |= {"history": STORED if stored_until else POSTED if found else NONE, "stored_until": stored_until}
    told |= {"used": used, "stored": stored, "ignored": len(request.events) - used - stored, "unresolved": unresolved}
    told["vector"] = {name: found.values[name] for name in features} if request.vector and found else None
    return to_json(told, inf_nan_mode="null")


def tomorrow(zone: str, now: datetime | None = None) -> date:
    """The day whose midnight comes next in the shop's zone: what happens today counts, as it will in a snapshot of that date."""
    return (now or datetime.now(UTC)).astimezone(ZoneInfo(zone)).date() + timedelta(days=1)


def _distinct(request: EventsRequest) -> list[dict[str, Any]]:
    """The events, each id once."""
    found: dict[Any, dict[str, Any]] = {}
    for place, event in enumerate(request.events):
        found.setdefault(place if event.event_id is None else event.event_id, vars(event))
    return list(found.values())
