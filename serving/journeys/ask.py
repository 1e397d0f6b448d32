"""From a question of a journey tool to its answer, whatever is broken."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic_core import to_json

from features.errors import NoRelease, UnknownName
from features.logs import log
from serving.border.headers import Headers, kept_for
from serving.current import Current
from serving.journeys.answer import Flat, also, fallback, of_audience, of_prediction, together
from serving.journeys.known import KnownAudiences
from serving.ledger import Ledger
from serving.schemas import sendable
from serving.score_json import Answers
from serving.scorer import Status, is_valid_id

KEPT = {Status.OK, Status.NOT_ELIGIBLE, Status.NOT_FOUND, Status.SUPPRESSED}  # answers of a release, and not of what is wrong now


@dataclass(frozen=True)
class Journeys:
    """What journeys are answered from."""

    current: Current
    answers: Answers
    known: KnownAudiences

    async def ask(self, audience: str, user_id: str, ledger: Ledger) -> Flat:
        """Which branch a user takes. Never raises: where nothing can be said, the branch is `fallback`, and `status` says why."""
        try:
            return await self._ask(sendable(audience), user_id, ledger)
        except NoRelease:
            return fallback(audience, user_id, "NO_RELEASE")
        except UnknownName:
            return fallback(audience, user_id, "UNKNOWN_AUDIENCE")
        except TimeoutError:
            return fallback(audience, user_id, "UNAVAILABLE")
        except Exception as error:  # noqa: BLE001 - whatever is broken, the contact stays in the journey
            log.error("journey fell back", exc_info=error)
            return fallback(audience, user_id, "UNAVAILABLE")

    async def answer(self, audience: str, user_id: str, query: bytes, ledger: Ledger) -> tuple[bytes, Headers]:
        """The body of the answer to a request, about all that it asks, and the headers that say how long it may be kept."""
        found = [await self.ask(one, user_id, ledger) for one in (audience, *also(query))]
        scorer = self.current.loaded
        kept = scorer is not None and all(one["status"] in KEPT for one in found)
        return to_json(together(found)), kept_for(scorer.expires_at.timestamp() - time.time()) if scorer and kept else []

    async def _ask(self, audience: str, user_id: str, ledger: Ledger) -> Flat:
        scorer = self.current.scorer
        if not (audience and is_valid_id(user_id)):  # as where a template left something out
            return fallback(audience, user_id, Status.INVALID)
        if scorer.row(user_id) in scorer.release.withheld.unmarketed:  # who may be scored, but not spoken to
            return fallback(audience, user_id, Status.SUPPRESSED)
        predictions = self.answers.of(scorer)
        if prediction := predictions.get(audience):
            return of_prediction(prediction, user_id)
        members = await self.known.members(audience, scorer.release, ledger)
        ranking = predictions[members.task] if members.task else None
        return of_audience(audience, user_id, members, ranking, scorer)
