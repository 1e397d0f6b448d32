"""What is told of one user: the attributes that changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from serving.destinations.contacts import Contacts
from serving.destinations.standings import ABSENT, IN, Block, band_of, points_of

Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One user. row: place in the comparison, by which a delivery goes on where it ended. attributes: None where one is to be removed.
    email, phone: normalised, where contacts are declared."""

    row: int
    user_id: str
    attributes: Attributes
    email: str | None = None
    phone: str | None = None


@dataclass(frozen=True)
class Naming:
    """What the receiver calls our attributes. theirs: by our name (`churn_score`, `churn_band`, or an audience's name); every other one is
    ours with `encore_` before it. is_audience: attributes say who is in, not scores."""

    theirs: Mapping[str, str]
    is_audience: bool

    def of(self, ours: str) -> str:
        return self.theirs.get(ours, f"encore_{ours.replace('-', '_')}")


def items(blocks: Iterable[Block], naming: Naming, contacts: Contacts | None = None) -> Iterator[Item]:
    """The users of blocks with what changed of each; with contacts, only those who have one."""
    told = _membership if naming.is_audience else _scores
    for block in blocks:
        by_name = [(naming, name, block.old[name].tolist(), block.new[name].tolist()) for name in block.new]
        reached = _reached(block, contacts)
        for place, (row, user) in enumerate(zip(block.rows.tolist(), block.users.tolist(), strict=True)):
            if reached is not None and place not in reached:
                continue
            attributes: Attributes = {}
            for names, name, old, new in by_name:
                if old[place] != new[place]:
                    told(attributes, names, name, old[place], new[place])
            if attributes:
                yield Item(row, user.decode(), attributes, *(reached[place] if reached is not None else ()))


def _reached(block: Block, contacts: Contacts | None) -> dict[int, tuple[str | None, str | None]] | None:
    """Place -> the first usable contact of the user."""
    if contacts is None:
        return None
    found: dict[int, tuple[str | None, str | None]] = {}
    for place, email, phone in contacts.of(block.rows):
        if email or phone:
            found.setdefault(place, (email, phone))
    return found


def _scores(attributes: Attributes, naming: Naming, task: str, old: int, new: int) -> None:
    score, band = naming.of(f"{task}_score"), naming.of(f"{task}_band")
    if new == ABSENT:
        attributes[score] = attributes[band] = None
        return
    if old < 0 or points_of(old) != points_of(new):
        attributes[score] = points_of(new)
    if old < 0 or band_of(old) != band_of(new):
        attributes[band] = band_of(new)


def _membership(attributes: Attributes, naming: Naming, audience: str, old: int, new: int) -> None:
    attributes[naming.of(audience)] = new == IN
