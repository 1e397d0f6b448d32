"""The score of somebody from events that come with the request: all that they ever did, be it a new visitor's visit or a user's history.

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
from serving.scorer import Scorer, Status, is_valid_id
from serving.vector import score_vector

if TYPE_CHECKING:
    from features.requests import OneUser

POSTED = "posted"


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
            of that task. UnusableEvents: no event counts, amounts are in a currency that is not the shop's, or the user may not be scored so.
        """
        scorer = self._current.scorer
        if task not in scorer.release.bundles:
            raise UnknownName("prediction", task, scorer.release.bundles)
        one_user = self._one_user(scorer, task)
        if request.user_id is not None:
            _check_user(scorer, request.user_id, request.complete_history)
        as_of = request.as_of or tomorrow(one_user.shop.zone)
        events = _distinct(request)
        if foreign := [place for place, event in enumerate(request.events) if event.currency not in (None, one_user.shop.currency)]:
            raise UnusableEvents(f"events.{foreign[0]} is in another currency than the shop's {one_user.shop.currency}; convert its amounts first.")
        found = one_user.vector(events, as_of)
        if found is None:
            raise UnusableEvents(f"None of the {len(request.events)} event(s) happened and was known before midnight of as_of in {one_user.shop.zone}.")
        said = vars(score_vector(scorer, task, found.values, reasons=request.reasons))
        counted = {"history": POSTED, "as_of": as_of, "used": found.used, "ignored": len(request.events) - found.used, "stage": found.stage}
        asked = {"user_id": request.user_id, "vector": found.values if request.vector else None}
        return to_json({name: value for name, value in (said | counted | asked).items() if name != "missing"}, inf_nan_mode="null")

    def _one_user(self, scorer: Scorer, task: str) -> OneUser:
        with self._lock:
            if scorer is not self._scorer:
                self._scorer, self._tasks = scorer, {}
            if task not in self._tasks:
                self._tasks[task] = maker(scorer.release.facts, scorer.release.bundles[task].features)
            return self._tasks[task]


def _check_user(scorer: Scorer, user_id: str, is_complete: bool) -> None:
    """Make sure that the events of a user alone say something true of them.

    Raises:
        UnusableEvents: nobody can have that id, nothing may be said of the user, or the release knows more of them than these events.
    """
    known = is_valid_id(user_id) and scorer.row(user_id) is not None
    absence = None if known else scorer.absence(user_id)
    if absence is Status.INVALID:
        raise UnusableEvents("user_id is no id that a user can have.")
    if absence is Status.SUPPRESSED:
        raise UnusableEvents("This user is kept out on purpose.")
    if known and not is_complete:
        raise UnusableEvents(
            "The release knows this user, and releases hold no histories that posted events could be added to: "
            "they would be scored as a newcomer's. Post everything the user ever did, with complete_history: true."
        )


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


def tomorrow(zone: str, now: datetime | None = None) -> date:
    """The day whose midnight comes next in the shop's zone: what happens today counts, as it will in a snapshot of that date."""
    return (now or datetime.now(UTC)).astimezone(ZoneInfo(zone)).date() + timedelta(days=1)


def _distinct(request: EventsRequest) -> list[dict[str, Any]]:
    """The events, each id once."""
    found: dict[Any, dict[str, Any]] = {}
    for place, event in enumerate(request.events):
        found.setdefault(place if event.event_id is None else event.event_id, vars(event))
    return list(found.values())
