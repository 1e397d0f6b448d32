"""Scorer: a release in, scores out. It knows neither HTTP nor mlflow."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from features.conditions import features_in
from features.errors import UnknownName
from features.money import minor_units
from features.vocabulary import LONGEST_ID, STAGES
from serving.reasons import Reason, reasons_of
from serving.release import Release

MOST_REASONS = 5
LOW, HIGH = 20, 80  # percentiles between which the medium band lies
PAGE = 4096  # bytes


class Status(StrEnum):
    """What can be said of a user; none of them is an error."""

    OK = "OK"
    STALE = "STALE"  # scored, but longer ago than scores are good for
    NOT_ELIGIBLE = "NOT_ELIGIBLE"  # known, but not one of those the question is about
    NOT_FOUND = "NOT_FOUND"  # not in the snapshot
    SUPPRESSED = "SUPPRESSED"  # kept out on purpose
    INVALID = "INVALID"  # not an id that any user can have


@dataclass(frozen=True)
class Score:
    """A user's score as a journey tool receives it.

    probability, value, effect: whichever the prediction is of: the chance, the expected spend in units of the currency, what a
    treatment adds to the chance. score: 0 to 100, the probability in percent, else the percentile. details: what else
    the model says, by name; days are counted from as_of. percentile, stage_percentile: 0 to 100, among all eligible and among those of the stage.
    """

    user_id: str
    task: str
    status: Status
    model_version: str
    release: str
    as_of: str
    scored_at: datetime
    expires_at: datetime
    stage: str | None = None
    probability: float | None = None
    value: float | None = None
    effect: float | None = None
    score: float | None = None
    percentile: float | None = None
    stage_percentile: float | None = None
    band: str | None = None
    details: Mapping[str, float | None] | None = None
    baseline: bool = False
    reasons: tuple[Reason, ...] | None = None


class Scorer:
    """Answers from one release.

    Args:
        release: what to answer from. good_for: how long after its scoring an answer counts as fresh.
    """

    def __init__(self, release: Release, good_for: timedelta) -> None:
        self.release = release
        self.scored_at = datetime.fromisoformat(release.manifest["scored_at"])
        self.expires_at = self.scored_at + good_for
        self._withheld = release.withheld.rows
        self._hidden = np.zeros(len(release.users) if self._withheld else 0, dtype=bool)
        self._hidden[list(self._withheld)] = True
        # Of each prediction the features that say whom it is about; none where no features do.
        self.deciding = {task: features_in(facts.get("asks") or {}) for task, facts in self.tasks.items()}
        self._columns = {task: bundle.align(release.features) for task, bundle in release.bundles.items()}

    @property
    def tasks(self) -> Mapping[str, Mapping[str, Any]]:
        """Task -> what the release says of its model."""
        facts: Mapping[str, Mapping[str, Any]] = self.release.manifest["tasks"]
        return facts

    def is_stale(self, now: datetime) -> bool:
        return now >= self.expires_at

    def warm(self) -> None:
        """Open the trees and fetch the pages of ids and scores, which takes milliseconds, before anybody waits for it."""
        columns = [column for scores in self.release.scores.values() for column in scores.columns().values()]
        for mapped in (self.release.users, self.release.stages, *columns):
            mapped.view(np.uint8)[::PAGE].max(initial=0)
        for task, bundle in self.release.bundles.items():
            if bundle.model.texts:
                bundle.scores(np.full((1, len(self._columns[task])), np.nan))

    def score(self, task: str, user_ids: Sequence[str], now: datetime | None = None, *, reasons: bool = False) -> list[Score]:
        """One answer per id, in the order of the ids.

        Raises:
            UnknownName: the release has no model of that task.
        """
        if task not in self.release.bundles:
            raise UnknownName("prediction", task, self.release.bundles)
        stale = self.is_stale(now or datetime.now(UTC))
        answers = [self._one(task, user_id, stale) for user_id in user_ids]
        return self._with_reasons(task, answers) if reasons else answers

    def row(self, user_id: str) -> int | None:
        """The user's row in the snapshot, if any; those who are withheld have none."""
        key = user_id.encode()
        if len(key) > self.release.users.itemsize:  # numpy would copy all ids to look for a longer one
            return None
        row = int(np.searchsorted(self.release.users, key))
        return row if row < len(self.release.users) and self.release.users[row] == key and row not in self._withheld else None

    def absence(self, user_id: str) -> Status:
        """Why nothing is known of an id that has no row."""
        if not is_valid_id(user_id):
            return Status.INVALID
        return Status.SUPPRESSED if self.release.withheld.is_suppressed(user_id) else Status.NOT_FOUND

    def rows(self, user_ids: Sequence[str]) -> npt.NDArray[np.intp]:
        """The row of each id, -1 where there is none: many are looked up at once."""
        users, together = self.release.users, "".join(user_ids)
        # Longer ones than any that is known would be cut to the width of the known ones, and one that is not valid is nobody's.
        if together.isascii() and together.isprintable() and max(map(len, user_ids), default=0) <= users.itemsize:
            keys = [user.encode() for user in user_ids]
        else:
            keys = [key if is_valid_id(user) and len(key := user.encode()) <= users.itemsize else b"" for user in user_ids]
        wanted = np.array(keys, dtype=users.dtype)
        if not len(users):
            return np.full(len(keys), -1)
        found = np.minimum(np.searchsorted(users, wanted), len(users) - 1)
        known = (users[found] == wanted) & (wanted != b"")
        if self._withheld:
            known &= ~self._hidden[found]
        return np.where(known, found, -1)

    def reasons(self, task: str, rows: Sequence[int]) -> list[tuple[Reason, ...]]:
        """The strongest reasons of each of some rows."""
        return reasons_of(self.release.bundles[task], self.release.vectors[rows][:, self._columns[task]], MOST_REASONS, self.release.currency)

    def _one(self, task: str, user_id: str, stale: bool) -> Score:
        row = self.row(user_id) if is_valid_id(user_id) else None
        if row is None:
            return self._answer(task, user_id, self.absence(user_id))
        scores = self.release.scores[task]
        value, stage = float(scores.score[row]), STAGES[self.release.stages[row]]
        if np.isnan(value):
            return self._answer(task, user_id, Status.NOT_ELIGIBLE, stage=stage)
        percentile = float(scores.percentile[row])
        return self._answer(
            task,
            user_id,
            Status.STALE if stale else Status.OK,
            stage=stage,
            **shown(self.release.bundles[task].kind, value, percentile, self.release.currency),
            percentile=percentile,
            stage_percentile=float(scores.stage_percentile[row]),
            band=band(percentile),
            details={name: or_none(float(values[row])) for name, values in scores.details.items()} or None,
        )

    def _answer(self, task: str, user_id: str, status: Status, **known: Any) -> Score:
        facts = self.tasks[task]
        return Score(
            user_id=user_id,
            task=task,
            status=status,
            model_version=facts["version"],
            release=self.release.id,
            as_of=self.release.manifest["as_of"],
            scored_at=self.scored_at,
            expires_at=self.expires_at,
            baseline=facts["kind"] == "baseline",
            **known,
        )

    def _with_reasons(self, task: str, answers: list[Score]) -> list[Score]:
        rows = [self.row(answer.user_id) if answer.score is not None else None for answer in answers]
        scored = sorted({row for row in rows if row is not None})
        if not scored:
            return answers
        found = dict(zip(scored, self.reasons(task, scored), strict=True))
        return [answer if row is None else _replace_reasons(answer, found[row]) for answer, row in zip(answers, rows, strict=True)]


def _replace_reasons(answer: Score, reasons: tuple[Reason, ...]) -> Score:
    return Score(**{**vars(answer), "reasons": reasons})


def is_valid_id(user_id: str) -> bool:
    """Whether an id could be a user's: some text of at most 256 bytes without control or invisible format characters."""
    if user_id.isascii():
        return 0 < len(user_id) <= LONGEST_ID and user_id.isprintable()
    try:
        sized = 0 < len(user_id.encode()) <= LONGEST_ID
        return sized and (user_id.isprintable() or not any(unicodedata.category(letter).startswith("C") for letter in user_id))
    except UnicodeEncodeError:  # a lone surrogate, which JSON can carry
        return False


def shown(kind: str, raw: float, percentile: float, currency: str) -> dict[str, float | None]:
    """What a kind of prediction makes of the model's number; the same for one user and for a file of all."""
    is_chance = kind in ("probability", "date")
    return {
        "probability": raw if is_chance else None,
        "value": raw / minor_units(currency) if kind == "value" else None,
        "effect": raw if kind == "effect" else None,
        "score": round(100 * raw if is_chance else percentile, 2),
    }


def or_none(number: float) -> float | None:
    """A number, or None where there is none."""
    return None if math.isnan(number) else number


def band(percentile: float) -> str:
    """Low, medium or high, cut at percentiles 20 and 80."""
    return "low" if percentile < LOW else "high" if percentile >= HIGH else "medium"
