"""Writes the synthetic shop as EventLog directories: parts streamed in row groups, products, manifest.

    python bench/logs.py DIR [--events 10_000_000] [--seed 7] [--daily]

DIR/whole is the log in one part. With --daily, DIR/yesterday is the log before its last day and DIR/today the same with
a second part for that day.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from generate import CHUNK_USERS, END, EVENTS_PER_USER, SHOP, World, users_of

from features.events import EventLog, day_number
from features.files import ROW_GROUP, digest_of, write_json
from features.vocabulary import LOG_SCHEMA


class Part:
    """One file of the log, written as `features.files.parquet_bytes` would, but row group by row group."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.rows, self.events, self.days = path, 0, Counter[str](), Counter[int]()
        self._writer, self._left = pq.ParquetWriter(path, LOG_SCHEMA, compression="lz4"), LOG_SCHEMA.empty_table()

    def write(self, table: pa.Table, last: bool = False) -> None:
        for column, counter in ((table["event"], self.events), (pc.max_element_wise(table["day"], table["known_day"]), self.days)):
            counter.update({entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()})
        self.rows += table.num_rows
        rows = pa.concat_tables([self._left, table])
        whole = rows.num_rows if last else rows.num_rows - rows.num_rows % ROW_GROUP
        if whole:
            self._writer.write_table(rows.slice(0, whole), row_group_size=ROW_GROUP)
        self._left = rows.slice(whole).combine_chunks()
        if last:
            self._writer.close()


def write_logs(directory: Path, events: int, seed: int, daily: bool, kinds: tuple[str, ...] = ()) -> None:
    """Generate a shop, with `kinds` only these events of it; a directory that has one already is left as it is."""
    if (directory / "done").exists():
        return
    world, users = World.made(seed), max(events // EVENTS_PER_USER, 100)
    whole = Part(directory / "whole/parts/whole.parquet")
    until, day = (Part(directory / f"today/parts/{name}.parquet") if daily else None for name in ("until", "day"))
    split, began = day_number(END) - 1, time.perf_counter()
    chunks = [(number, min(CHUNK_USERS, users - number * CHUNK_USERS)) for number in range(-(-users // CHUNK_USERS))]
    for number, size in chunks:
        rows = users_of(world, seed, number, size)
        if kinds:
            rows = rows.filter(pc.is_in(rows["event"], pa.array(kinds)))
        is_last = number == len(chunks) - 1
        whole.write(rows, is_last)
        if until and day:
            recent = pc.greater_equal(pc.max_element_wise(rows["day"], rows["known_day"]), split)
            until.write(rows.filter(pc.invert(recent)), is_last)
            day.write(rows.filter(recent), is_last)
        if is_last or number % 10 == 9:
            print(f"generated {whole.rows:,} events of {number * CHUNK_USERS + size:,} users in {time.perf_counter() - began:.0f} s", flush=True)  # noqa: T201
    _manifest(directory / "whole", [whole], END, seed, world)
    if until and day:
        (directory / "yesterday" / "parts").mkdir(parents=True, exist_ok=True)
        (directory / "yesterday" / "parts" / "until.parquet").hardlink_to(until.path)
        _manifest(directory / "yesterday", [until], END - timedelta(days=1), seed, world)
        _manifest(directory / "today", [until, day], END, seed, world)
    (directory / "done").touch()


def _manifest(directory: Path, parts: Sequence[Part], complete_until: date, seed: int, world: World) -> None:
    (directory / "products").mkdir(exist_ok=True)
    pq.write_table(world.products(), directory / "products" / "products.parquet", compression="lz4")
    events, days = Counter[str](), Counter[int]()
    for part in parts:
        events.update(part.events)
        days.update(part.days)
    manifest = {
        "parts": [{"file": part.path.name, "rows": part.rows, "source": "bench"} for part in parts],
        "products": "products.parquet",
        "links": None,
        "streams": {"bench": {"complete_until": complete_until.isoformat(), "orders": True}},
        "events": dict(events),
        "days": {str(day): digest_of([seed, day, rows])[:16] for day, rows in days.items()},
        "tombstones": {},
        "zone": SHOP.zone,
        "currency": SHOP.currency,
    }
    write_json(directory / "manifest.json", manifest)


def open_log(directory: Path) -> EventLog:
    return EventLog(directory, SHOP.zone, SHOP.currency)


def monthly(until: date = END, months: int = 12) -> list[date]:
    """The firsts of the last months before the end of the log, oldest first."""
    firsts, day = [], until
    while len(firsts) < months:
        if day.day == 1:
            firsts.append(day)
        day -= timedelta(days=1)
    return firsts[::-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--events", type=lambda text: int(text.replace("_", "")), default=10_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--daily", action="store_true")
    chosen = parser.parse_args()
    write_logs(chosen.directory, chosen.events, chosen.seed, chosen.daily)


if __name__ == "__main__":
    main()
