"""The ledger: what the shop knew, as rows that only ever add up.

Every fact has an id and one or more versions, each with the moment from which it was known. A later version replaces the
earlier one, a cancellation ends an order and its lines, and a link moves a visitor's facts to a user. All three are
written as rows that count -1 from the moment they were known. Hence a sum over the rows known before a date is what was
known then, nothing has to be rewritten, and the order in which files arrive does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from features.identity import owner_at, owners
from features.vocabulary import CALENDAR, LOG_SCHEMA

CONTENT = tuple(name for name in LOG_SCHEMA.names if name not in ("user_id", "known_at", "sign", *CALENDAR))
_ROW = ["event_id", "content", "user_id", "known_at"]


@dataclass(frozen=True)
class Posting:
    """What one ingest adds to the ledger.

    rows: LOG_SCHEMA without the calendar. added, restated, duplicates, clashes: facts that were told.
    """

    rows: pa.Table
    added: int
    restated: int
    duplicates: int
    clashes: int


def post(incoming: pa.Table, existing: pa.Table, cancelled: pd.DataFrame, links: pa.Table, written: pd.Timestamp | None) -> Posting:
    """The rows to append so that the ledger says what is known now.

    Args:
        incoming: the new facts: CONTENT and known_at.
        existing: the ledger's rows (LOG_SCHEMA) of every fact that is in `incoming`, in a newly cancelled order or of a
            newly linked id.
        cancelled: order_id, given_id and off_at, the moment from which that user's order counts as never placed.
        links: all links, as `identity.LINK_SCHEMA`.
        written: when the source said it; see `Batch.written`.
    """
    posted = pa.schema([field for field in LOG_SCHEMA if field.name not in CALENDAR])
    if not incoming.num_rows + existing.num_rows:
        return Posting(posted.empty_table(), 0, 0, 0, 0)
    told = incoming.append_column("user_id", incoming["given_id"]).append_column("sign", pa.array([1] * incoming.num_rows, pa.int32()))
    columns = [*CONTENT, "known_at", "user_id", "sign"]
    schema = pa.schema([LOG_SCHEMA.field(name) for name in columns])
    both = pa.concat_tables([existing.select(columns).cast(schema), told.select(columns).cast(schema)])
    frame = both.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    frame["booked"] = np.arange(len(frame)) < existing.num_rows
    # Equal numbers for equal statements, in this call only.
    frame["content"] = frame.groupby(list(CONTENT), dropna=False, sort=False).ngroup()
    booked = _summed(frame[frame["booked"]])
    texts = frame.drop_duplicates(["event_id", "content"]).set_index(["event_id", "content"])
    known = _starts(booked).join(texts["occurred_at"], on=["event_id", "content"]).assign(booked=True)
    said = frame.loc[~frame["booked"], ["event_id", "content", "known_at", "occurred_at"]].assign(booked=False)
    versions, duplicates, clashes = _versions(known, said, written)
    wanted = _ledger(versions, texts, cancelled, links)
    rows = _summed(pd.concat([wanted, booked.assign(sign=-booked["sign"])]))
    full = rows.join(texts.drop(columns=["user_id", "known_at", "sign", "booked"]), on=["event_id", "content"])
    # What a cancellation had ended before it became known says nothing new.
    lives = pd.MultiIndex.from_frame(versions[["event_id", "content"]]).isin(pd.MultiIndex.from_frame(wanted[["event_id", "content"]]))
    new = versions[lives & ~versions["booked"]]
    restated = new["event_id"].isin(known["event_id"]) | new["event_id"].duplicated()
    return Posting(
        pa.Table.from_pandas(full[posted.names], schema=posted, preserve_index=False), int((~restated).sum()), int(restated.sum()), duplicates, clashes
    )


def _summed(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per fact, version, user and moment; what was said and taken back at once is nothing."""
    sums: pd.DataFrame = rows.groupby(_ROW, as_index=False).agg(sign=("sign", "sum"))
    return sums[sums["sign"] != 0]


def _starts(booked: pd.DataFrame) -> pd.DataFrame:
    """The versions behind a fact's rows: a +1 begins one, unless it only moves the fact to another user."""
    ends = booked[booked["sign"] < 0].set_index(["event_id", "content", "known_at"]).index
    begins = booked[booked["sign"] > 0]
    moved = pd.MultiIndex.from_frame(begins[["event_id", "content", "known_at"]]).isin(ends)
    return begins.loc[~moved, ["event_id", "content", "known_at"]]


def _versions(known: pd.DataFrame, told: pd.DataFrame, written: pd.Timestamp | None) -> tuple[pd.DataFrame, int, int]:
    """All versions of each fact in the order in which they became known, how many rows said nothing new, how many clash."""
    # Without a moment of its own, a contradiction became known when the file was written.
    undated = (told["known_at"] == told["occurred_at"]).to_numpy() & told["event_id"].isin(known["event_id"]).to_numpy()
    # It is no contradiction where all that is known became known later, at moments of its own: the older file came last.
    first = known.sort_values("known_at").drop_duplicates("event_id").set_index("event_id")
    moments = first.loc[first["known_at"] != first["occurred_at"], "known_at"]
    undated &= ~(told["known_at"].array < moments.reindex(told["event_id"]).array)
    is_known = pd.MultiIndex.from_frame(told[["event_id", "content"]]).isin(pd.MultiIndex.from_frame(known[["event_id", "content"]]))
    restated_before = told["event_id"].isin(known.loc[known["event_id"].duplicated(), "event_id"]).to_numpy()
    old_news, contradicts = undated & is_known & restated_before, undated & ~is_known
    left_out = old_news | (contradicts if written is None else False)
    if written is not None:
        told = told.assign(known_at=told["known_at"].mask(contradicts, told["known_at"].where(told["known_at"] >= written, written)))
    told = told[~left_out]
    rows = pd.concat([known, told], ignore_index=True).drop(columns="occurred_at")
    rows = rows.sort_values(["event_id", "known_at", "booked", "content"], ascending=[True, True, False, True], kind="stable")
    again = rows.duplicated(["event_id", "known_at", "content"])
    clash = rows.duplicated(["event_id", "known_at"]) & ~again
    rows = rows[~again & ~clash]
    same_fact = rows["event_id"].eq(rows["event_id"].shift())
    repeats = same_fact & rows["content"].eq(rows["content"].shift())
    duplicates = int(old_news.sum()) + int(again.sum()) + int((repeats & ~rows["booked"]).sum())
    return rows[~repeats], duplicates, int(clash.sum()) + (int(contradicts.sum()) if written is None else 0)


def _ledger(versions: pd.DataFrame, texts: pd.DataFrame, cancelled: pd.DataFrame, links: pa.Table) -> pd.DataFrame:
    """Per version and owner a +1 when it begins and a -1 when it ends."""
    rows = versions.join(texts[["event", "order_id", "given_id"]], on=["event_id", "content"])
    next_one = rows["known_at"].shift(-1).where(rows["event_id"].eq(rows["event_id"].shift(-1)))
    rows["until"] = _earlier(next_one, _cancelled_at(rows, cancelled, links))
    spans = owners(links, rows["given_id"].unique())
    rows = rows.merge(spans, on="given_id", how="left") if len(spans) else rows.reindex(columns=[*rows.columns, "owner", "owned_from", "owned_until"])
    rows["user_id"] = rows["owner"].astype(object).where(rows["owner"].notna(), rows["given_id"]).astype("str")
    owned_from = pd.to_datetime(rows["owned_from"], utc=True)
    rows["known_at"] = rows["known_at"].mask(owned_from > rows["known_at"], owned_from).astype("datetime64[us, UTC]")
    rows["until"] = _earlier(rows["until"], pd.to_datetime(rows["owned_until"], utc=True))
    rows = rows[rows["until"].isna() | (rows["until"] > rows["known_at"])]
    ends = rows[rows["until"].notna()]
    return pd.concat([rows[_ROW].assign(sign=1), ends.assign(known_at=ends["until"])[_ROW].assign(sign=-1)], ignore_index=True)


def _cancelled_at(rows: pd.DataFrame, cancelled: pd.DataFrame, links: pa.Table) -> pd.Series:
    """From when an order or its line counts as never placed: cancelled under the same order_id for the same user, as
    users were known then. Another shop's order may have the same number."""
    orders = rows.loc[rows["event"].isin(["order", "order_item"]), ["order_id", "given_id"]].rename_axis("row").reset_index()
    pairs = orders.merge(cancelled, on="order_id", suffixes=("", "_cancelling"))
    foreign = bool((pairs["given_id"] != pairs["given_id_cancelling"]).any())
    by_id = {row["from_id"]: row for row in links.to_pylist()} if foreign else {}
    who = zip(pairs["given_id"], pairs["given_id_cancelling"], pairs["off_at"], strict=True)
    same = [mine == other or owner_at(by_id, mine, moment) == owner_at(by_id, other, moment) for mine, other, moment in who]
    return pairs[np.array(same, np.bool_)].groupby("row")["off_at"].min().reindex(rows.index)


def _earlier(left: pd.Series, right: pd.Series) -> pd.Series:
    left, right = (pd.to_datetime(side, utc=True).astype("datetime64[us, UTC]") for side in (left, right))
    return left.where(left.notna() & ~(right < left), right)
