"""Seed: a named, dated list of users whose like is looked for, with explicit negatives where they are known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from features.errors import NoUsableData
from features.files import digest_of
from features.logs import log
from features.snapshot import Snapshot
from features.tiles import Tiles
from training.lookalike.match import EXAMPLES, NO_ADDRESSES, Matched, form_of, rows_of
from training.lookalike.rules import Condition, Mask, conditions_of, holds

LEAST, FEW = 30, 100  # users: below the first a seed is refused, below the second it comes with a warning
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class SeedRefused(NoUsableData):
    """A seed cannot be used; `problems` lists everything that is wrong with it and what to do.

    No user is named in its text, which goes into logs and over HTTP; `examples` name a few, for a person at the command line.
    """

    def __init__(self, name: str, problems: Sequence[str], examples: Sequence[str] = ()) -> None:
        self.problems, self.examples = list(problems), list(examples)
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"The seed '{name}' is refused. Nothing was written. {len(self.problems)} problem(s):\n{lines}")


@dataclass(frozen=True)
class Seed:
    """Users as the snapshot of `as_of` names them, each list sorted and without duplicates.

    users: whose like is looked for. negatives: who are known not to be such. how: where they came from, in JSON: kind (list,
    rule, campaign or receivers), words, the rule and candidate filter as written, the columns they speak of, counts.
    digest: SHA-256 of date, lists and origin, by which a model names its seed without naming anybody. excluded: who is
    neither candidate nor evidence. expires: from when on the seed is no longer used and its ids are deleted.
    """

    name: str
    as_of: date
    users: tuple[str, ...]
    negatives: tuple[str, ...]
    how: Mapping[str, Any]
    digest: str
    excluded: tuple[str, ...] = ()
    expires: date | None = None


@dataclass(frozen=True)
class Origin:
    """What a seed is made of, before it is held against the population.

    users, negatives, excluded: matched ids. how: see `Seed`; problems: what was wrong on the way.
    """

    users: Matched
    negatives: Matched
    excluded: Matched
    how: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def make_seed(name: str, origin: Origin, snapshot: Snapshot, candidates: str | None = None, expires: date | None = None) -> Seed:
    """Hold what a seed is made of against the population of its date.

    Args:
        candidates: rule of who may become a look-alike at all; everybody known where None.

    Raises:
        SeedRefused: with all problems: a bad name or rule, unknown ids, too few users, a seed that is everybody, nobody left
            to look among.
    """
    problems = [*origin.problems]
    if not NAME.fullmatch(name):
        problems.append(f"the name is '{name}'; use small letters, digits, - and _, at most 64 of them, such as sample-2026-06")
    gone = {*origin.excluded.users}
    negatives = tuple(user for user in origin.negatives.users if user not in gone)
    both = {*origin.users.users} & {*negatives}
    users = tuple(user for user in origin.users.users if user not in gone)
    if both:
        problems.append(f"{len(both)} user(s) are both in the seed and among the negatives; leave them out of one of the lists")
    conditions, wrong = conditions_of(candidates, snapshot) if candidates else ([], [])
    problems += [f"candidate filter: {problem}" for problem in wrong]
    problems += [] if origin.problems else size_problems(origin, users, snapshot)
    _say_unknown(name, origin.users)
    how = {
        **origin.how,
        "counts": dict(origin.users.counts),
        "negative_counts": dict(origin.negatives.counts),
        "excluded_counts": dict(origin.excluded.counts),
        "in_seed_and_excluded": len({*origin.users.users} & gone),
        "candidates": candidates,
        "candidate_columns": [condition.column for condition in conditions],
        "candidate_conditions": [vars(condition) for condition in conditions],
    }
    seed = Seed(name, snapshot.as_of, users, negatives, how, "", tuple(sorted(gone)), expires)
    if not wrong:
        problems += _candidate_problems(seed, snapshot)
    if problems:
        raise SeedRefused(name, problems, _examples(origin.users, both, snapshot))
    return Seed(name, seed.as_of, users, negatives, how, seed_digest(seed), seed.excluded, expires)


def _say_unknown(name: str, found: Matched) -> None:
    if found.rows:
        log.warning("unknown ids", extra={"facts": {"seed": name, "ids": found.counts["unknown"], "rows": rows_of(found)}})


def _examples(found: Matched, both: Collection[str], snapshot: Snapshot) -> list[str]:
    """What a person at the command line may see of the ids themselves."""
    lines = [f"Unknown are such as {', '.join(map(repr, found.unknown))}; the log has such as {', '.join(map(repr, snapshot.user_ids[:3]))}."]
    return [*(lines if found.unknown else []), *([f"In both lists: {', '.join(map(repr, sorted(both)[:EXAMPLES]))}."] if both else [])]


def seed_digest(seed: Seed) -> str:
    origin = {key: value for key, value in seed.how.items() if not key.endswith("counts")}
    return digest_of([seed.as_of, seed.users, seed.negatives, seed.excluded, origin])


def size_problems(origin: Origin, users: Sequence[str], snapshot: Snapshot) -> list[str]:
    """What is wrong with the number of users, in words that say where the others went."""
    counts, as_of, problems = origin.users.counts, snapshot.as_of, []
    given = counts.get("given", len(users)) - counts.get("blank", 0) - counts.get("duplicates", 0)
    unknown = counts.get("unknown", 0)
    if 2 * unknown > given:
        forms = Counter(form_of(str(user)) for user in snapshot.user_ids[:: max(1, len(snapshot.user_ids) // 1_000)])
        known = " or ".join(form for form, _ in forms.most_common(2))
        theirs = f", such as those in rows {rows_of(origin.users)} of the list" if origin.users.rows else ""
        problems.append(
            f"{unknown:,} of {given:,} different ids ({unknown / given:.0%}) are unknown to the log{theirs}; its own have the form {known}. "
            "Check that the list has the ids that the shop's orders have (spelling, leading zeros, prefix), or name the right column"
            + (f". {NO_ADDRESSES}" if counts.get("addresses_unknown") else "")
        )
    if len(users) == snapshot.table.num_rows:
        problems.append(
            f"the seed is everybody: all {len(users):,} users known before {as_of} are in it, so there is nobody to compare it with or to find. "
            "Give a part of them: a narrower rule or list"
        )
    if not users:
        problems.append(f"nobody matched: no user known before {as_of} is in the seed ({_where(counts)}). Check the ids, the rule or the date")
    elif len(users) < LEAST:
        problems.append(
            f"{len(users)} users are in the seed, at least {LEAST} are needed and {FEW} are better ({_where(counts)}). "
            "Add users, widen the rule, or give a longer time to buy"
        )
    return problems


def _where(counts: Mapping[str, int]) -> str:
    words = {
        "given": "given", "duplicates": "duplicates", "unknown": "unknown", "later": "known only later", "deleted": "deleted",
        "suppressed": "suppressed", "matched": "matched",
    }  # fmt: skip
    return ", ".join(f"{counts[key]:,} {word}" for key, word in words.items() if counts.get(key)) or "none was given"


def _candidate_problems(seed: Seed, snapshot: Snapshot) -> list[str]:
    left = int(candidates_of(seed, snapshot).sum())
    if len(seed.users) == snapshot.table.num_rows or left >= LEAST:
        return []
    rule = f"the candidate filter '{seed.how['candidates']}' leaves" if seed.how["candidates"] else "the seed, its negatives and the exclusions leave"
    return [f"{rule} {left} candidate(s) of {snapshot.table.num_rows:,} users; at least {LEAST} are needed to look among. Widen it or leave it out"]


def mask_of(users: Sequence[str], snapshot: Snapshot) -> Mask:
    """Which rows of the snapshot are these users."""
    return np.asarray(snapshot.user_ids.isin(pd.Index(list(users), dtype="str")))


def rest_of(seed: Seed, snapshot: Snapshot) -> Mask:
    """Whom a seed is compared with: who fulfils the candidate filter and is neither in the seed nor excluded."""
    conditions = [Condition(one["column"], one["op"], _value(one["value"])) for one in seed.how.get("candidate_conditions", ())]
    return holds(conditions, snapshot) & ~mask_of(seed.users, snapshot) & ~mask_of(seed.excluded, snapshot)


def spoken_of(seed: Seed) -> list[str]:
    """The features that the seed's rule and its candidate filter speak of."""
    return [*seed.how.get("columns", ()), *seed.how.get("candidate_columns", ())]


def candidates_of(seed: Seed, snapshot: Snapshot) -> Mask:
    """Who may become a look-alike: the rest without the explicit negatives."""
    return rest_of(seed, snapshot) & ~mask_of(seed.negatives, snapshot)


def named_now(seed: Seed, tiles: Tiles) -> Seed:
    """The seed for snapshots after its own date: a visitor who was recognised since stands in it under the new id too, and is no look-alike of himself."""
    owners = tiles.current_ids
    lists = ({*users} | {owners[user] for user in users if user in owners} for users in (seed.users, seed.negatives, seed.excluded))
    users, negatives, excluded = (tuple(sorted(names)) for names in lists)
    return replace(seed, users=users, negatives=negatives, excluded=excluded)


def _value(value: Any) -> float | tuple[str, ...] | None:
    return tuple(value) if isinstance(value, list | tuple) else value
