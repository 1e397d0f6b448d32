"""Whom a request is about: ids or hashes as they were given, and all other ids of the same people."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from features.errors import InvalidTable, NoUsableData
from features.events import EventLog
from features.tombstones import tombstone

HASH = re.compile(r"[0-9a-fA-F]{64}")
HEADERS = ("user_id", "id", "user", "customer_id", "hash", "sha256", "mark", "email")


@dataclass(frozen=True)
class People:
    """People by all of their ids.

    names: ids that were given, and every id that the log links to them. marks: hashes of all of these, and hashes that were given and of
    whom nobody is known. given, unknown: how many ids were given, and how many of them the log does not know.
    """

    names: frozenset[str]
    marks: frozenset[str]
    given: int
    unknown: int


def people_of(log: EventLog, given: Iterable[str]) -> People:
    """Find the people whom ids, SHA-256 hashes of ids, or hashes of ids as advertising platforms write them (trimmed, small letters) name."""
    asked = {text for text in (str(one).strip() for one in given) if text}
    known, hashes = log.ids(), {text.lower() for text in asked if HASH.fullmatch(text)}
    by_hash = {mark: name for name in sorted(known) for mark in {tombstone(name), platform_hash(name)} & hashes} if hashes else {}
    plain = {text for text in asked if text in known or text.lower() not in hashes}
    named = plain | set(by_hash.values())
    names = log.same_people(named) if named else set()
    unknown = {text for text in asked if text not in known and text.lower() not in by_hash}
    # A hash that nobody is known by may be that of an id, or, as of guests, an id itself.
    marks = {tombstone(name) for name in names} | {mark for text in unknown & (asked - plain) for mark in (text.lower(), tombstone(text))}
    return People(frozenset(names), frozenset(marks), len(asked), len(unknown))


def platform_hash(name: str) -> str:
    """A user's id as advertising platforms want it: SHA-256 of the trimmed text in small letters."""
    return sha256(name.strip().lower().encode()).hexdigest()


def ids_in(path: Path) -> list[str]:
    """Ids or hashes in a file: the first column, or the one with an id's name, of CSV; a line each of plain text.

    Raises:
        NoUsableData: there are none. InvalidTable: it is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidTable(path.name, [f"it is no UTF-8 text: byte {error.start} cannot be read"]) from None
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in row)]
    column = 0
    if rows and (headers := [cell.strip().lower() for cell in rows[0]]) and (found := [name for name in HEADERS if name in headers]):
        column, rows = headers.index(found[0]), rows[1:]
    if short := next((number for number, row in enumerate(rows, 2) if len(row) <= column), None):
        raise InvalidTable(path.name, [f"row {short} has no column {column + 1}, where the ids are"])
    ids = [row[column].strip() for row in rows if row[column].strip()]
    if not ids:
        raise NoUsableData(f"{path.name} names nobody: it needs one id, or its SHA-256 hash, in each line.")
    return ids
