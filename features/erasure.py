"""Users erased from the parts of a log, and the sums that say what is in each day kept true."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import admission
from features.engine import Engine

NAMING = ("campaign", "channel", "source", "medium", "detail")  # columns of free text


def erase_rows(folder: Path, named: set[str], manifest: dict[str, Any], write: Callable[[pa.Table], str]) -> int:
    """Write the parts that hold some ids anew without their rows, and let the manifest name them; returns the rows erased.

    What others did may name them, such as a friend's invitation: there the name becomes nothing.

    Args:
        folder: of the parts. write: keeps a part and gives its file's name.
    """
    gone, erased, engine = pa.array(sorted(named), pa.string()), 0, Engine()
    for part in list(manifest["parts"]):
        table = pq.read_table(folder / part["file"])
        mine = pc.or_(pc.is_in(table["user_id"], gone), pc.is_in(table["given_id"], gone))
        naming = {name: pc.is_in(table[name], gone) for name in NAMING}
        touched = reduce(pc.or_, naming.values(), mine)
        rows = table.filter(touched)
        if not rows.num_rows:
            continue
        erased += pc.sum(mine).as_py()
        for name, is_named in naming.items():
            table = table.set_column(table.column_names.index(name), table.schema.field(name), pc.if_else(is_named, None, table[name]))
        kept, still = table.filter(pc.invert(mine)), table.filter(pc.and_(touched, pc.invert(mine)))
        add_to_days(manifest, admission.content_sums(engine, rows), -1)
        add_to_days(manifest, admission.content_sums(engine, still), 1)
        place = manifest["parts"].index(part)
        manifest["parts"][place : place + 1] = [{**part, "file": write(kept), "rows": kept.num_rows}] if kept.num_rows else []
    return int(erased)


def add_to_days(manifest: Mapping[str, Any], sums: Mapping[int, int], sign: int) -> None:
    """Add to, or take from, the sums that say what is in each day; a day with nothing in it is not named."""
    days = manifest["days"]
    for day, content in sums.items():
        total = (int(days.pop(str(day), "0"), 16) + sign * content) % 2**64
        days |= {str(day): f"{total:016x}"} if total else {}
