"""Scores as the JSON of `ScoreBody`, straight from the release's columns: a tenth of the time that a model of every answer takes.

What it says of a user is `Scorer.score`'s, to the last digit; a contract test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from prometheus_client import Counter
from pydantic_core import to_json

from features.vocabulary import STAGES
from serving.current import Current
from serving.metrics import SCORES
from serving.schemas import score_body, sendable
from serving.score_texts import written_together
from serving.scorer import Score, Scorer, Status, band, is_valid_id, shown

LIGHT = 1_000_000  # characters of trees, some 7,500 leaves: their shares take less than a millisecond, and a thread half of one
Values = Sequence[float]  # score, percentile, stage_percentile, place of the stage, details


class ScoreJson:
    """One task's answers from one release.

    Args:
        scorer: the release. task: a prediction that it has.
    """

    def __init__(self, scorer: Scorer, task: str) -> None:
        self.scorer, self.task = scorer, task
        stored = scorer.release.scores[task]
        self._kind, self._currency, self._details = scorer.release.bundles[task].kind, scorer.release.currency, tuple(stored.details)
        self._columns: list[np.ndarray[Any, Any]] = [stored.score, stored.percentile, stored.stage_percentile, scorer.release.stages, *stored.details.values()]
        # What is said of an id of which nothing is known, as pydantic writes it; much of it is the same for everybody.
        nobody = score_body(scorer.score(task, [""])[0]).model_dump(mode="json")
        self._nobody = {name: value for name, value in nobody.items() if name not in ("user_id", "status")}
        self._scored = {stale: {**nobody, "status": "STALE" if stale else "OK"} for stale in (False, True)}
        self.is_light = sum(map(len, scorer.release.bundles[task].model.texts)) < LIGHT
        self._counters: dict[str, Counter] = {status.value: SCORES.labels(task, status.value, nobody["model_version"]) for status in Status}

    def one(self, user_id: str, *, reasons: bool = False) -> bytes:
        """The answer for one id. Reasons run the model: unless it `is_light`, ask for them in a thread."""
        answer = self.said(user_id)
        if reasons and answer["score"] is not None and (row := self.scorer.row(user_id)) is not None:
            answer["reasons"] = [vars(reason) for reason in self.scorer.reasons(self.task, [row])[0]]
        return to_json(answer, inf_nan_mode="null")

    def said(self, user_id: str) -> dict[str, Any]:
        """The answer for one id as plain values; NaN stands for null."""
        row = self.scorer.row(user_id) if is_valid_id(user_id) else None
        answer = self._answer(user_id, None if row is None else [column.item(row) for column in self._columns], self._is_stale())
        self._counters[answer["status"]].inc()
        return answer

    def many(self, user_ids: Sequence[str]) -> bytes:
        """The body of an answer for many ids, in their order. Those who have a score are written together, column by column."""
        rows, stale = self.scorer.rows(user_ids), self._is_stale()
        has_score = rows >= 0
        has_score[has_score] = ~np.isnan(self._columns[0][rows[has_score]])
        places = rows[has_score]
        if len(places) == len(rows):
            scored, texts = user_ids, []
        else:
            scored = [user_id for user_id, is_scored in zip(user_ids, has_score.tolist(), strict=True) if is_scored]
            texts = [b"" if is_scored else to_json(self.said(user_id)) for user_id, is_scored in zip(user_ids, has_score.tolist(), strict=True)]
        columns = [column[places] for column in self._columns]
        written = written_together({**self._scored[stale], "user_id": scored}, self._kind, self._details, columns, self._currency)
        self._counters["STALE" if stale else "OK"].inc(len(places))
        if texts:
            following = iter(written)
            written = [text or next(following) for text in texts]
        return b'{"scores":[' + b",".join(written) + b"]}"

    def _is_stale(self) -> bool:
        return self.scorer.is_stale(datetime.now(UTC))

    def _answer(self, user_id: str, values: Values | None, stale: bool) -> dict[str, Any]:
        if values is None:
            return {"user_id": sendable(user_id), "status": self.scorer.absence(user_id).value, **self._nobody}
        raw, percentile, stage_percentile, stage, *details = values
        if raw != raw:  # NaN
            return {"user_id": user_id, "status": "NOT_ELIGIBLE", **self._nobody, "stage": STAGES[int(stage)]}
        return {
            **self._scored[stale],
            "user_id": user_id,
            **shown(self._kind, raw, percentile, self._currency),
            "percentile": percentile,
            "stage_percentile": stage_percentile,
            "stage": STAGES[int(stage)],
            "band": band(percentile),
            "details": dict(zip(self._details, details, strict=True)) if details else None,
        }


class Answers:
    """The prepared answers of whatever release is in service. One thread alone may use it: the event loop's."""

    def __init__(self, current: Current) -> None:
        self._current = current
        self._scorer: Scorer | None = None
        self._tasks: dict[str, ScoreJson] = {}

    def ready(self, task: str) -> ScoreJson | None:
        """The answers of a task, where there is a release and it has the task."""
        return self.of(self._current.loaded).get(task)

    def everything(self, user_id: str) -> bytes:
        """The body of an answer for all tasks of one release.

        Raises:
            NoRelease: there is nothing to answer from yet.
        """
        return to_json({"scores": [task.said(user_id) for task in self.of(self._current.scorer).values()]}, inf_nan_mode="null")

    def of(self, scorer: Scorer | None) -> dict[str, ScoreJson]:
        """The answers of all tasks of a release."""
        if scorer is not self._scorer:
            self._scorer = scorer
            self._tasks = {} if scorer is None else {name: ScoreJson(scorer, name) for name in scorer.release.bundles}
        return self._tasks


def counted(scores: Sequence[Score]) -> Sequence[Score]:
    """Scores, counted in the metrics as prepared answers are."""
    for score in scores:
        SCORES.labels(score.task, score.status.value, score.model_version).inc()
    return scores
