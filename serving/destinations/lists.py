"""Lists of people for advertising platforms, who match by hashed e-mail and phone: CSV as Meta and as Google take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.logs import log
from features.money import minor_units
from features.sheets import write_csv
from serving.destinations.contacts import Contacts, hashed
from serving.release import Release

FEWEST = 100  # people: platforms serve no smaller audience
META_PART = 10_000  # rows that one call or file takes
BLOCK = 50_000  # users
META = ("EMAIL", "PHONE", "EXTERN_ID", "LOOKALIKE_VALUE")
GOOGLE = ("Email", "Phone")
Row = dict[str, Any]


def people(release: Release, rows: npt.NDArray[np.int64], contacts: Contacts, value_of: str | None) -> Iterator[Row]:
    """A row for each contact of some users, hashed, in the order of users: user_id, the hashes, and the expected value or score.

    Args:
        value_of: prediction whose number becomes `value`: an expected spend in units of the currency, else the score from 0 to 100.
    """
    ordered = np.sort(rows)
    for start in range(0, len(ordered), BLOCK):
        block = ordered[start : start + BLOCK]
        ids = release.users[block].tolist()
        values = _values(release, block, value_of)
        for place, email, phone in contacts.of(block):
            if email or phone:
                yield {"user_id": ids[place].decode(), **hashed(email, phone), "value": values[place]}


def write_meta(rows: Iterator[Row], folder: Path, stem: str) -> tuple[list[Path], int]:
    """Files of at most 10,000 rows; ids and values are not hashed. Returns them and how many people are in them."""
    for old in folder.glob(f"{stem}-*.csv"):
        old.unlink()
    files: list[Path] = []
    people, part = set[str](), list[Row]()
    for row in rows:
        people.add(row["user_id"])
        part.append({"EMAIL": row["email_sha256"], "PHONE": row["phone_sha256_meta"], "EXTERN_ID": row["user_id"], "LOOKALIKE_VALUE": row["value"]})
        if len(part) == META_PART:
            files.append(_write(part, META, folder / f"{stem}-{len(files) + 1:03d}.csv"))
            part = []
    if part or not files:
        files.append(_write(part, META, folder / f"{stem}-{len(files) + 1:03d}.csv"))
    return files, len(people)


def write_google(rows: Iterator[Row], folder: Path, stem: str) -> tuple[list[Path], int]:
    """One file. Returns it and how many people are in it."""
    seen, kept = set[str](), []
    for row in rows:
        seen.add(row["user_id"])
        kept.append({"Email": row["email_sha256"], "Phone": row["phone_sha256_google"]})
    return [_write(kept, GOOGLE, folder / f"{stem}.csv")], len(seen)


def warn_of_few(number: int, destination: str) -> None:
    """Say that a list is too small to be used."""
    if number < FEWEST:
        log.warning("too few people", extra={"facts": {"destination": destination, "people": number, "at_least": FEWEST}})


def _write(rows: Sequence[Row], columns: Sequence[str], path: Path) -> Path:
    kinds = {"LOOKALIKE_VALUE": pa.float64()}
    table = pa.table({name: pa.array([row[name] for row in rows], kinds.get(name, pa.string())) for name in columns})
    write_csv(table, path, [name for name in columns if name not in kinds])
    return path


def _values(release: Release, rows: npt.NDArray[np.int64], task: str | None) -> list[float | None]:
    if task is None:
        return [None] * len(rows)
    stored = release.scores[task]
    kind = release.bundles[task].kind
    if kind == "value":
        found = stored.score[rows] / minor_units(release.currency)
    else:
        found = 100 * stored.score[rows] if kind == "probability" else stored.percentile[rows]
    return [None if np.isnan(value) else round(value, 2) for value in found.tolist()]
