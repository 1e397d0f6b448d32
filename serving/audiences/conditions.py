"""Conditions on a release: which users fulfil what a rule asks, in the language of `features.conditions`, which goals speak, too.

    { "all": [
        { "feature": "orders_count", "at_least": 2 },
        { "feature": "layer", "is": ["lapsing", "lapsed"] },
        { "percentile": "reactivation", "at_least": 80 },
        { "not": { "feature": "campaigns_received_30d", "at_least": 3 } } ] }

A condition names one thing and says at_least, at_most, is or known of it. `feature` is any column of the behaviour vector, a label
(such as the layer, or where the first visit came from), an attribute by its name, or `stage`; interest levels are features, such as
interest_strong_7d. `probability`, `score`, `percentile`, `stage_percentile`, `band`, `value` and `effect` are of the prediction that
they name. What has no value fulfils no condition but `"known": false`; `not` is the complement, as `exclude` of a goal is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from features import conditions
from features.conditions import Condition, Mask, features_in, of_values
from features.goals import RULE
from features.money import minor_units
from features.vocabulary import STAGES
from serving.audiences.columns import BANDS, SHORT, band_places, column_of, feature, fetch, label_places, words_of
from serving.release import Release

Floats = npt.NDArray[np.float64]

SAYS = RULE[1:]  # at_least, at_most, is, known
JOINS = ("all", "any", "not")
MEASURES = ("probability", "score", "percentile", "stage_percentile", "band", "value", "effect")  # of a prediction
SUBJECTS = ("feature", *MEASURES)
# What a label could say though nobody has it today; tests hold it against the views that give them.
CLOSED: Mapping[str, tuple[str, ...]] = {
    "stage": STAGES,
    "layers_layer": (
        "visitor", "new, high value", "new, low value", "cooling, high value", "cooling, low value",
        "lapsed", "lapsing", "super user", "discount-sensitive", "loyal full-price", "loyal",
    ),
    "layers_rfm_group": (
        "lost", "valuable once", "frequent once", "valuable, to win back", "new", "valuable, to develop", "regular", "champion",
    ),
}  # fmt: skip
DEEPEST, MOST = 20, 200  # how far conditions may be nested, and how many there may be


@dataclass(frozen=True)
class Mistake:
    """at: where in the rule, in our words alone. problem: without what was sent; seen: what was sent, for whoever sent it. fatal: whether
    the rule cannot be applied; else it can, and picks nobody by this condition."""

    at: str
    problem: str
    seen: object = None
    near: str | None = None
    fatal: bool = True

    @property
    def public(self) -> str:
        """Without what was sent, which may be personal data."""
        return self.problem + (f". Did you mean '{self.near}'?" if self.near else "")

    def __str__(self) -> str:
        seen = "" if self.seen is None else f" '{self.seen}'" if isinstance(self.seen, str) else f" ({self.seen})"
        return (f"{self.at}: " if self.at else "") + self.problem + seen + (f". Did you mean '{self.near}'?" if self.near else "")


# --- what is wrong with it ------------------------------------------------------------------------------------------


def mistakes_of(condition: Any, release: Release, at: str = "where") -> list[Mistake]:
    """Everything that is wrong with a condition, as JSON gave it, for a release."""
    return [mistake for mistake in _mistakes(condition, release, at, 0, [0]) if mistake.fatal]


def hints_of(condition: Any, release: Release, at: str = "where") -> list[Mistake]:
    """What is probably not meant: words of labels that no user has."""
    return [mistake for mistake in _mistakes(condition, release, at, 0, [0]) if not mistake.fatal]


def _mistakes(condition: Any, release: Release, at: str, depth: int, count: list[int]) -> Iterator[Mistake]:
    count[0] += 1
    if depth > DEEPEST or count[0] > MOST:
        if depth == DEEPEST + 1 or count[0] == MOST + 1:
            yield Mistake(at, f"too much: at most {MOST} conditions, at most {DEEPEST} deep")
        return
    if not isinstance(condition, Mapping) or not condition:
        yield Mistake(at, 'must be a condition such as {"feature": "orders_count", "at_least": 1}, or "all", "any" or "not" of some', condition)
        return
    joins = [name for name in JOINS if name in condition]
    if not joins:
        yield from _leaf_mistakes(condition, release, at)
    elif len(condition) > 1:
        yield Mistake(at, f'"{joins[0]}" stands alone in its braces: put the other conditions into it')
    elif joins == ["not"]:
        yield from _mistakes(condition["not"], release, f"{at}.not", depth + 1, count)
    elif not isinstance(condition[joins[0]], Sequence) or isinstance(condition[joins[0]], str) or not condition[joins[0]]:
        yield Mistake(at, f'"{joins[0]}" must be a list of conditions', condition[joins[0]])
    else:
        for number, part in enumerate(condition[joins[0]]):
            yield from _mistakes(part, release, f"{at}.{joins[0]}[{number}]", depth + 1, count)


def _leaf_mistakes(condition: Mapping[str, Any], release: Release, at: str) -> Iterator[Mistake]:
    words = [*SUBJECTS, *SAYS]
    for word in condition:
        if word not in words:
            yield Mistake(at, "unknown word", word, nearest(word, [*words, *JOINS]))
    subjects = [name for name in SUBJECTS if name in condition]
    said = [word for word in SAYS if word in condition]
    if len(subjects) != 1:
        yield Mistake(at, f"names {len(subjects)} things; it must name one, as one of: {', '.join(SUBJECTS)}")
    if not said:
        yield Mistake(at, f"says nothing; give {', '.join(SAYS[:-1])} or {SAYS[-1]}")
    if len(subjects) != 1:
        return
    subject, name = subjects[0], condition[subjects[0]]
    trouble = _of_name(subject, name, release, at)
    if trouble:
        yield trouble
        return
    is_words = subject == "band" or (subject == "feature" and column_of(name, release) in words_of(release))
    yield from _of_words(condition, subject, name, release, at) if is_words else _of_numbers(condition, at)
    if not isinstance(condition.get("known", True), bool):
        yield Mistake(at, '"known" must be true or false', condition["known"])


def _of_name(subject: str, name: Any, release: Release, at: str) -> Mistake | None:
    if not isinstance(name, str):
        return Mistake(at, f'"{subject}" must be a name', name)
    if subject == "feature":
        if column_of(name, release):
            return None
        known = [*SHORT, *words_of(release), *release.features]
        # By the end of a name, too: of `recency` the nearest is not `group`.
        return Mistake(at, "unknown feature", name, nearest(name, known) or next((one for one in known if one.endswith(f"_{name}")), None))
    if name not in release.scores:
        return Mistake(at, "unknown prediction", name, nearest(name, list(release.scores)))
    kind = release.bundles[name].kind
    fits = {"probability": release.bundles[name].calibrated, "value": kind == "value", "effect": kind == "effect"}
    if not fits.get(subject, True):
        what = {"value": "spend", "effect": "an effect"}.get(kind, "a probability" if release.bundles[name].calibrated else "a rank")
        return Mistake(at, f"'{name}' gives {what}, no {subject}; a percentile and a band every prediction has")
    return None


def _of_numbers(condition: Mapping[str, Any], at: str) -> Iterator[Mistake]:
    for word in ("at_least", "at_most"):
        if word in condition and not _is_number(condition[word]):
            yield Mistake(at, f'"{word}" must be a number', condition[word])
    if "is" in condition and not all(map(_is_number, _many(condition["is"]))):
        yield Mistake(at, '"is" must be a number here, or a list of them', condition["is"])


def _of_words(condition: Mapping[str, Any], subject: str, name: str, release: Release, at: str) -> Iterator[Mistake]:
    for word in ("at_least", "at_most"):
        if word in condition:
            yield Mistake(at, f'it holds words: say "is", not "{word}"')
    asked = _many(condition.get("is", []))
    column = None if subject == "band" else column_of(name, release)
    closed = BANDS if column is None else CLOSED.get(column)
    known = list(closed) if closed else [str(word) for word in release.labels[str(column)].dictionary.to_pylist()]
    for word in asked:
        if not isinstance(word, str):
            yield Mistake(at, '"is" must be a word here, or a list of them', word)
        elif word not in known:
            problem = f"unknown word; known: {', '.join(known)}" if closed else f"no user has this word in {column}"
            yield Mistake(at, problem, word, nearest(word, known), fatal=bool(closed))


# --- who fulfils it -------------------------------------------------------------------------------------------------


def holds(condition: Condition, release: Release) -> Mask:
    """Which users of a release fulfil a condition without mistakes: one truth for each user."""
    named = {str(column_of(name, release)) for name in features_in(condition)}
    fetch(release, sorted(named & {*release.features}))
    return conditions.holds(condition, lambda leaf: _of_leaf(leaf, release))


def _of_leaf(leaf: Condition, release: Release) -> Mask:
    subject = next(name for name in SUBJECTS if name in leaf)
    name = leaf[subject]
    if subject == "feature" and (column := column_of(name, release)) in words_of(release):
        return _of_codes(leaf, *label_places(str(column), release))
    if subject == "band":
        return _of_codes(leaf, band_places(release, name), list(BANDS))
    return of_values(leaf, _measure(subject, name, release))


def _of_codes(condition: Mapping[str, Any], codes: npt.NDArray[Any], words: list[str]) -> Mask:
    """Codes are places in words, -1 where there is none."""
    allowed = np.ones(len(words), dtype=bool)
    if "is" in condition:
        allowed = np.isin(np.array(words, dtype=object), _many(condition["is"]))
    known = condition.get("known", True)
    table = np.append(allowed if known else np.zeros(len(words), dtype=bool), not known and "is" not in condition)
    return np.asarray(table[codes])


def _measure(subject: str, name: str, release: Release) -> Floats:
    if subject == "feature":
        return feature(release, str(column_of(name, release)))
    scores, bundle = release.scores[name], release.bundles[name]
    as_shown: Mapping[str, Callable[[], Floats]] = {
        "probability": lambda: scores.score,
        "value": lambda: scores.score / minor_units(release.currency),
        "effect": lambda: scores.score,
        "score": lambda: 100 * scores.score if bundle.calibrated else scores.percentile,
        "percentile": lambda: scores.percentile,
        "stage_percentile": lambda: scores.stage_percentile,
    }
    return as_shown[subject]()


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def nearest(seen: str, allowed: Sequence[str]) -> str | None:
    """The nearest of the names that are allowed, if any is near."""
    return next(iter(get_close_matches(seen, list(allowed), n=1)), None)
