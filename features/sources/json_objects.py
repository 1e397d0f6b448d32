"""JSON files as values with the line of the file on which each begins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pandas as pd

from features.errors import InvalidTable, NoUsableData, unknown_name
from features.sources.batch import refused_rows

Entry = Mapping[str, Any]
ENDINGS = (".json", ".jsonl", ".ndjson", ".log")
BROKEN = "not a JSON object"


@dataclass(frozen=True)
class Lines:
    """What a file of one JSON object a line says.

    Args:
        entries: the objects.
        numbers: the line of each.
        broken: the lines that hold none; a log that is being written ends in half a line.
    """

    entries: list[Entry]
    numbers: pd.Series
    broken: pd.Series


def read_lines(path: Path) -> Lines:
    """One JSON object a line.

    Raises:
        InvalidTable: there is no such file, or not one line of it is a JSON object.
        NoUsableData: the file is empty.
    """
    if not path.is_file():
        near = [file.name for file in path.parent.iterdir() if file.suffix in ENDINGS] if path.parent.is_dir() else []
        raise InvalidTable(path.name or "The file", [unknown_name("file", path.name, sorted(near)).replace("Known:", "Beside it:")])
    entries: list[Entry] = []
    numbers, broken = [], []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if text.isspace() or not text:
                continue
            found = _object(text)
            if found is None:
                broken.append(number)
            else:
                entries.append(found)
                numbers.append(number)
    if not entries and broken:
        raise InvalidTable(path.name, [f"not one of its {len(broken)} lines is a JSON object; give a file with one object a line"])
    if not entries:
        raise NoUsableData(f"{path.name} is an empty file. Nothing was written.")
    return Lines(entries, pd.Series(numbers, dtype="int64"), pd.Series(broken, dtype="int64"))


def values_of(text: str) -> list[tuple[int, Any]]:
    """The elements of a JSON array, or the values of JSON lines, each with the line on which it begins.

    Raises:
        ValueError: it is neither.
    """
    if not text.lstrip().startswith("["):
        # Not `splitlines`: it also divides at characters that may stand in a JSON string.
        return [(number, json.loads(line)) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    json.loads(text)  # as a whole: what follows only looks for the beginnings of its elements
    found: list[tuple[int, Any]] = []
    decoder, place, line, counted = json.JSONDecoder(), text.index("[") + 1, 1, 0
    while True:
        while text[place].isspace() or text[place] == ",":
            place += 1
        if text[place] == "]":
            return found
        line, counted = line + text.count("\n", counted, place), place
        value, place = decoder.raw_decode(text, place)
        found.append((line, value))


def content_id(entry: Entry, leave_out: tuple[str, ...] = ()) -> str:
    """An id of what an object says: the same whatever the order of its keys, and whenever it was received."""
    said = {name: value for name, value in entry.items() if name not in leave_out}
    return blake2b(json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _object(line: bytes) -> Entry | None:
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def refused_lines(path: Path, lines: Lines, *judged: tuple[pd.Series, pd.Series]) -> pd.DataFrame:
    """What `Batch.refused` is told: the lines that hold no object, and of each pair of lines and reasons those with one."""
    broken = pd.Series(BROKEN, lines.broken.index, dtype="string")
    left_out = [refused_rows(path.name, *each) for each in (*judged, (lines.broken, broken))]
    return pd.concat(left_out).drop_duplicates().sort_values("line", kind="stable", ignore_index=True)


def require_some(usable: pd.DataFrame, refused: pd.DataFrame, path: Path) -> None:
    """Raises NoUsableData, with the reasons, where no row is left."""
    if usable.empty:
        counts = {str(reason): int(count) for reason, count in refused["reason"].value_counts().sort_index().items()}
        raise NoUsableData(f"{path.name} has no usable event: {counts}. Nothing was written.")
