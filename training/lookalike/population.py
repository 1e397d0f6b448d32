"""Population: who could be in an audience, what is known of them, and who of them is in the seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from features.errors import NoUsableData, UnknownName

Mask = npt.NDArray[np.bool_]
Table = npt.NDArray[np.float64] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Population:
    """Candidates and seed, one row a user, ascending by user id, so that the order in which they came changes nothing.

    X: users x features, NaN for no value; float32 holds twice as many users. names: of the columns. users: ids.
    seed: who is known to be what is looked for; everybody else is unlabelled, not negative (Elkan, Noto 2008,
    https://doi.org/10.1145/1401890.1401920). negatives: who is known not to be, if anybody is. facts: columns that rules see and
    models do not, by name.
    """

    X: Table
    names: tuple[str, ...]
    users: npt.NDArray[np.object_]
    seed: Mask
    negatives: Mask
    facts: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)

    @property
    def unlabelled(self) -> Mask:
        return ~(self.seed | self.negatives)

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """One feature of everybody.

        Raises:
            UnknownName: no feature is called so.
        """
        if name in self.facts:
            return self.facts[name]
        if name not in self.names:
            raise UnknownName("feature", name, (*self.names, *self.facts))
        return np.asarray(self.X[:, self.names.index(name)], dtype=np.float64)

    def take(self, rows: Mask) -> Population:
        facts = {name: values[rows] for name, values in self.facts.items()}
        return Population(self.X[rows], self.names, self.users[rows], self.seed[rows], self.negatives[rows], facts)

    def hiding(self, hidden: Mask) -> Population:
        """The same people, some of the labelled passed off as unlabelled."""
        return replace(self, seed=self.seed & ~hidden, negatives=self.negatives & ~hidden)

    def at_most(self, unlabelled: int) -> Population:
        """All that is labelled and at most so many of the others, drawn by lots: the same ones each time."""
        others = np.flatnonzero(self.unlabelled)
        if len(others) <= unlabelled:
            return self
        rows = ~self.unlabelled
        rows[np.random.default_rng(_number(f"{len(self)} drawn")).choice(others, unlabelled, replace=False)] = True
        return self.take(rows)


def population(
    X: Table,
    names: Sequence[str],
    users: Sequence[str] | npt.NDArray[np.object_],
    seed: Iterable[str],
    negatives: Iterable[str] = (),
    facts: Mapping[str, npt.NDArray[np.float64]] | None = None,
) -> Population:
    """Everybody with who of them is in the seed, and who is known not to be what is looked for.

    Ids that are not among the users are passed over: the seed report counts them.

    Raises:
        NoUsableData: a user twice, a seed or negative seed that overlap, a seed of nobody or of everybody, no candidate.
    """
    ids = np.asarray(users, dtype=object)
    order = np.argsort(ids.astype(str), kind="stable")
    if np.any(order[1:] < order[:-1]):
        X, ids, facts = X[order], ids[order], {name: values[order] for name, values in (facts or {}).items()}
    if len(ids) and (twice := int((ids[1:] == ids[:-1]).sum())):
        raise NoUsableData(f"{twice} user(s) are in the population twice. Give one row per user.")
    wanted, unwanted = set(seed), set(negatives)
    if both := len(wanted & unwanted):
        raise NoUsableData(f"{both} user(s) are both in the seed and in the negative seed. Take them out of one of the two.")
    made = Population(
        X,
        tuple(names),
        ids,
        np.fromiter((user in wanted for user in ids), bool, len(ids)),
        np.fromiter((user in unwanted for user in ids), bool, len(ids)),
        facts or {},
    )
    if not made.seed.any():
        raise NoUsableData(f"None of the {len(wanted)} seed users is among the {len(ids)} users of the population. Check the ids and the date of the snapshot.")
    if not made.unlabelled.any():
        raise NoUsableData(
            f"The seed and the negative seed are the whole population ({len(ids)} users): there is nobody left to find. Widen the candidate filter."
        )
    return made


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
