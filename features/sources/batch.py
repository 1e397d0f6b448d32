"""Batch: what every source hands to the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import pandas as pd
import pyarrow as pa

from features.vocabulary import EVENT_SCHEMA, PRODUCT_SCHEMA


@dataclass(frozen=True)
class Batch:
    """Canonical events read from one source, with what was left out and why.

    Args:
        name: the source, as the reports call it.
        events: rows of EVENT_SCHEMA, in any order.
        complete_until: every event before this date is in the batch or was in an earlier one.
        products: rows of PRODUCT_SCHEMA, or None.
        quarantined: reason -> rows left out.
        stream: the flow of data that the batch continues; by default one of its own name.
        refunds_are_totals: a refund's value is all that was refunded of its order so far; the log adds what is new.
    """

    name: str
    events: pa.Table
    complete_until: date
    products: pa.Table | None = None
    quarantined: Mapping[str, int] = field(default_factory=dict)
    refunds_are_totals: bool = False
    stream: str | None = None


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
