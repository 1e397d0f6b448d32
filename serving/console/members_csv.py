"""A kept audience as a CSV for people, block by block."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from features.sheets import harmless
from serving.audiences.members import audience_of, groups_of
from serving.audiences.ranking import Rows
from serving.destinations.table import members_table
from serving.ledger import Ledger, SavedAudience
from serving.release import Release

BLOCK = 20_000  # users at once


def members_csv(release: Release, saved: SavedAudience, ledger: Ledger, everybody: bool) -> tuple[int, Iterator[bytes]]:
    """How many users, and the file: user_id, of a prediction score, percentile and band as exports have them, and the group where some are held
    out, best first.

    Args:
        everybody: also whom the hold-out keeps apart; a tool that is sent those spoils the comparison.

    Raises:
        UnknownName, InvalidRule, LedgerUnavailable: as `audience_of`.
    """
    rows, drawn = audience_of(release, saved, ledger).rows, groups_of(release, saved)
    if drawn and not everybody:
        rows = rows[drawn[1][rows] == drawn[0].index("treatment")]
    return len(rows), _blocks(release, saved, rows, drawn)


def _blocks(release: Release, saved: SavedAudience, rows: Rows, drawn: tuple[tuple[str, ...], np.ndarray] | None) -> Iterator[bytes]:
    task = saved.rule.get("task")
    for start in range(0, max(1, len(rows)), BLOCK):
        some = rows[start : start + BLOCK]
        table = members_table(release, task if task in release.scores else None, some)
        if drawn:
            table = table.append_column("group", pa.array(drawn[0], pa.string()).take(pa.array(drawn[1][some].astype(np.int64))))
        sink = io.BytesIO()
        pacsv.write_csv(harmless(table, ("user_id",)), sink, pacsv.WriteOptions(include_header=not start))
        yield sink.getvalue()
