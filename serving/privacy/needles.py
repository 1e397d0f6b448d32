"""Needles: ids to look for, in texts, tables and bytes, without taking one id for another.

A cell, a JSON string or a word counts only as a whole: `ann@shop` is not found in `joann@shop`. Ids that say little, such as `2375`, are
looked for in columns and fields of ids alone, since as a price they would be everywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.tombstones import tombstone
from serving.privacy.people import platform_hash

TELLING = 8  # characters from which an id is hardly anything else
ID_NAME = re.compile(
    r"(^|[^a-z])(user|customer|client|visitor|anonymous|distinct|household|member|external|device|given|owner|from|to|contact)s?_?(id|key)s?($|[^a-z])"
    r"|^id$|^user_ids?$|^users?$|^email|^added$|^removed$|^entries$|^exits$|^members$|^negatives$|^exclude|^converted$|^subject$|^word$",
    re.IGNORECASE,
)


class Needles:
    """Ids, and what destinations make of them.

    Args:
        names: ids. hashed: whether to look for their hashes, too, as advertising platforms are sent them.
    """

    def __init__(self, names: Iterable[str], *, hashed: bool = True) -> None:
        self.names = frozenset(names)
        self.hashes = frozenset(digest for name in self.names for digest in (tombstone(name), platform_hash(name)) if hashed)
        self.all = self.names | {f"'{name}" for name in self.names} | self.hashes  # a risky id is written to a sheet with a quote before it

    @cached_property
    def telling(self) -> frozenset[str]:
        return frozenset(name for name in self.names if len(name) >= TELLING and not name.isdigit())

    def is_one(self, value: object, where: str) -> bool:
        """Whether a value under a name is one of the ids."""
        return isinstance(value, str) and value in self.all and (value in self.telling or value in self.hashes or bool(ID_NAME.search(where)))

    def rows_of(self, table: pa.Table) -> pa.ChunkedArray | pa.Array:
        """Whether each row of a table has one of the ids in a cell, be it inside a list."""
        found: Any = pa.array([False] * table.num_rows, pa.bool_()) if table.num_rows < 2 else pa.nulls(table.num_rows, pa.bool_()).fill_null(False)
        for field in table.schema:
            wanted = self.wanted(field.name)
            if wanted and (mine := _has(table[field.name], pa.array(sorted(wanted), pa.string()))) is not None:
                found = pc.or_(found, mine)
        return found

    def wanted(self, column: str) -> frozenset[str]:
        """What to look for in a column of a name."""
        return self.all if ID_NAME.search(column) else self.telling | self.hashes

    @cached_property
    def _word(self) -> re.Pattern[bytes]:
        spelled = {form for name in (*self.telling, *self.hashes) for form in (name, json.dumps(name)[1:-1])}
        words = b"|".join(re.escape(word.encode()) for word in sorted(spelled, key=len, reverse=True))
        return re.compile(rb"(?<![\w@.+-])(?:" + words + rb")(?![\w@+-]|\.\w)") if words else re.compile(rb"(?!)")

    def words_in(self, content: bytes) -> int:
        """How often telling ids or hashes stand in a text as words of their own."""
        return sum(1 for _ in self._word.finditer(content))

    def bytes_in(self, content: bytes) -> bool:
        """Whether a telling id stands anywhere in some bytes, be it amid a longer word."""
        return any(form in content for form in self._forms)

    @cached_property
    def _forms(self) -> list[bytes]:
        return sorted({form.encode() for name in self.telling for form in (name, json.dumps(name)[1:-1])})

    def without(self, value: Any, where: str = "") -> tuple[Any, int]:
        """A JSON value without the ids: elements of lists and rows of tables that are one or name one go, a lone value becomes null."""
        if isinstance(value, list):
            kept, gone = [], 0
            for item in value:
                if self.is_one(item, where) or (isinstance(item, dict) and any(self.is_one(inner, name) for name, inner in item.items())):
                    gone += 1
                    continue
                left, more = self.without(item, where)
                kept.append(left)
                gone += more
            return kept, gone
        if isinstance(value, dict):
            found = {name: self.without(inner, name) for name, inner in value.items() if name not in self.telling}
            return {name: left for name, (left, _) in found.items()}, sum(more for _, more in found.values()) + len(value) - len(found)
        return (None, 1) if self.is_one(value, where) else (value, 0)


def _has(column: pa.ChunkedArray, wanted: pa.Array) -> pa.ChunkedArray | pa.Array | None:
    """Whether each cell is, or holds in a list, one of some texts; None where it cannot."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _has(column.cast(kind.value_type), wanted)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.is_in(column, wanted.cast(kind))
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_binary(kind):
        texts = {value.encode() for value in wanted.to_pylist()}
        return pa.array([value is not None and value.rstrip(b"\0") in texts for value in column.to_pylist()], pa.bool_())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_struct(kind) or pa.types.is_map(kind):
        texts = {*wanted.to_pylist()}
        return pa.array([_holds(value, texts) for value in column.to_pylist()], pa.bool_()) if _has_text(kind) else None
    return None


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(_has_text(kind.field(place).type) for place in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _has_text(kind.item_type)  # keys are names of measurements
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _has_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind))


def _holds(value: Any, texts: set[str]) -> bool:
    if isinstance(value, list | tuple):
        return any(_holds(inner, texts) for inner in value)
    if isinstance(value, dict):
        return any(_holds(inner, texts) for inner in value.values())
    return isinstance(value, str) and value in texts
