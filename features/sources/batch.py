"""Batch: what every source hands to the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa

from features.vocabulary import EVENT_SCHEMA, PRODUCT_SCHEMA


def nothing_refused() -> pd.DataFrame:
    return pd.DataFrame({"file": pd.Series(dtype="string"), "line": pd.Series(dtype="Int64"), "reason": pd.Series(dtype="string")})


@dataclass(frozen=True)
class Batch:
    """Canonical events read from one source, with what was left out and why.

    Args:
        name: the source, as the reports call it.
        events: rows of EVENT_SCHEMA, in any order.
        complete_until: every event before this date is in the batch or was in an earlier one.
        products: rows of PRODUCT_SCHEMA, or None.
        refused: one row per row left out: file (its name), line (1 is the first of the file, its header included; of a
            file without lines the row, from 1) and reason.
        stream: the flow of data that the batch continues; by default one of its own name.
        refunds_are_totals: a refund's value is all that was refunded of its order so far; the log adds what is new.
        written: when the source said this. What contradicts an earlier statement without a later `known_at` of its own
            became known then; without `written` it is refused.
    """

    name: str
    events: pa.Table
    complete_until: date
    products: pa.Table | None = None
    refused: pd.DataFrame = field(default_factory=nothing_refused)
    refunds_are_totals: bool = False
    stream: str | None = None
    written: pd.Timestamp | None = None

    @property
    def quarantined(self) -> Mapping[str, int]:
        """Reason -> rows left out."""
        counts = self.refused["reason"].value_counts().sort_index()
        return {str(reason): int(rows) for reason, rows in counts.items()}


def refused_rows(file: str, lines: pd.Series, reasons: pd.Series) -> pd.DataFrame:
    """The rows that have a reason, as `Batch.refused` wants them."""
    left_out = reasons.notna().to_numpy()
    return pd.DataFrame(
        {
            "file": pd.Series(file, index=range(int(left_out.sum())), dtype="string"),
            "line": pd.array(lines.to_numpy()[left_out], dtype="Int64"),
            "reason": pd.array(reasons.to_numpy()[left_out], dtype="string"),
        }
    )


def file_date(path: Path) -> pd.Timestamp:
    """When a file was last written: the latest that its content can have become known."""
    return pd.Timestamp(path.stat().st_mtime_ns // 1000, unit="us", tz="UTC")


def canonical_events(*frames: pd.DataFrame) -> pa.Table:
    """Stack frames that have some of the canonical columns into one table of EVENT_SCHEMA; absent ones are null.

    `known_at` is `occurred_at` where a frame does not say otherwise.
    """
    tables = []
    for frame in frames:
        known = frame if "known_at" in frame else frame.assign(known_at=frame["occurred_at"])
        tables.append(pa.Table.from_pandas(known.reindex(columns=EVENT_SCHEMA.names), schema=_nullable(EVENT_SCHEMA), preserve_index=False))
    return pa.concat_tables(tables)


def canonical_products(frame: pd.DataFrame) -> pa.Table:
    """A frame with some of the product columns as a table of PRODUCT_SCHEMA."""
    return pa.Table.from_pandas(frame.reindex(columns=PRODUCT_SCHEMA.names), schema=PRODUCT_SCHEMA, preserve_index=False)


def _nullable(schema: pa.Schema) -> pa.Schema:
    # Empty values are reported by the log together with all other problems, not one at a time by Arrow.
    return pa.schema([pa.field(field.name, field.type) for field in schema])
