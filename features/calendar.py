"""The shop's own clock: days and hours of moments, as the log and requests count them."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc

EPOCH = date(1970, 1, 1)


def day_number(moment: date) -> int:
    """Days since 1970-01-01."""
    return (moment - EPOCH).days


def day_of(number: int) -> date:
    return EPOCH + timedelta(days=number)


def local(moments: pa.ChunkedArray | pa.Array, zone: str) -> pa.ChunkedArray | pa.Array:
    """Moments in UTC as the wall clock of a zone showed them."""
    return pc.local_timestamp(pc.cast(moments, pa.timestamp("us", zone)))


def day(clock: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Days since 1970-01-01 of what `local` gives, as int32."""
    return pc.cast(pc.cast(clock, pa.date32()), pa.int32())


def hour(clock: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """0 to 23 of what `local` gives, as int32."""
    return pc.cast(pc.hour(clock), pa.int32())
