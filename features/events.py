"""EventLog: the shop's events on disk, and the only two comparisons of time in Encore.

History is strictly before `as_of`, in what happened and in what was known. An outcome window is
`start <= day < end`. `as_of` is a date and stands for midnight in the shop's zone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis import Table

from features.engine import Engine
from features.errors import InvalidShopFile, InvalidTable, LabelWindowOpen, NoUsableData
from features.files import digest_of, exclusive, parquet_bytes, read_json, sha256_of_bytes, write_bytes, write_json
from features.sources.batch import Batch
from features.vocabulary import EVENT_SCHEMA, EVENTS, LOG_SCHEMA, LONGEST_ID, PRODUCT_SCHEMA

EPOCH = date(1970, 1, 1)


def day_number(moment: date) -> int:
    """Days since 1970-01-01."""
    return (moment - EPOCH).days


def day_of(number: int) -> date:
    return EPOCH + timedelta(days=number)


def before(table: Table, as_of: date) -> Table:
    """The rows that had happened and were known before `as_of`; `table` has day and known_day."""
    cut = day_number(as_of)
    return table.filter((table.day < cut) & (table.known_day < cut))


def between(table: Table, start: date, end: date) -> Table:
    """The rows that happened in `start <= day < end`, whenever they became known."""
    return table.filter((table.day >= day_number(start)) & (table.day < day_number(end)))


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did, in rows."""

    source: str
    read: int
    added: int
    duplicates: int
    quarantined: Mapping[str, int]
    complete_until: date


class EventLog:
    """The events of one shop: immutable Parquet parts and a manifest that names them.

    Appending is atomic and idempotent: parts are named by their content, rows are known by `event_id`, and the
    manifest is replaced last, so a crash at any moment leaves the log as it was.
    """

    def __init__(self, directory: Path, zone: str, currency: str) -> None:
        self.directory, self.zone, self.currency = directory, zone, currency

    @property
    def manifest(self) -> dict[str, Any]:
        path = self.directory / "manifest.json"
        if not path.exists():
            return {"parts": [], "products": None, "streams": {}, "events": {}, "zone": self.zone, "currency": self.currency}
        return dict(read_json(path))

    @property
    def digest(self) -> str:
        """SHA-256 that changes when, and only when, the log's content does."""
        return digest_of(self.manifest)

    @property
    def complete_until(self) -> date:
        """Every event before this date is in the log; the date itself is not over.

        Of several streams of orders the one that lags behind counts: without its orders a label would be a false zero.

        Raises:
            NoUsableData: the log is empty.
        """
        streams = self.manifest["streams"].values()
        if not streams:
            raise NoUsableData(f"The event log in {self.directory} is empty. Ingest a source first: encore ingest --help")
        orders = [stream for stream in streams if stream["orders"]]
        return min(date.fromisoformat(stream["complete_until"]) for stream in orders or streams)

    @property
    def kinds(self) -> frozenset[str]:
        """The names of the events that occur in the log."""
        return frozenset(self.manifest["events"])

    def events(self, engine: Engine) -> Table:
        """All events, uncut: for tiles and reports, never for features."""
        self.complete_until  # noqa: B018 - an empty log is an error here, not an empty table
        return engine.parquet([self.directory / "parts" / part["file"] for part in self.manifest["parts"]])

    def products(self, engine: Engine) -> Table:
        name = self.manifest["products"]
        return engine.parquet([self.directory / "products" / name]) if name else engine.arrow(PRODUCT_SCHEMA.empty_table())

    def before(self, table: Table, as_of: date) -> Table:
        """History: rows of any table of this log (events or tiles) strictly before `as_of`."""
        return before(table, as_of)

    def between(self, table: Table, start: date, end: date) -> Table:
        """Outcomes: rows of any table of this log in `start <= day < end`.

        Raises:
            LabelWindowOpen: the window is not over in the data.
        """
        if end > self.complete_until:
            raise LabelWindowOpen(start, end, self.complete_until)
        return between(table, start, end)

    def append(self, batch: Batch) -> IngestReport:
        """Add what is new in a batch.

        Raises:
            InvalidTable: the batch breaks the canonical schema (all problems listed); nothing was written.
            NoUsableData: the batch has no usable row; nothing was written.
        """
        check_events(batch.events, batch.name, self.currency)
        with exclusive(self.directory / ".lock", "An ingest into this log", wait=True):
            return self._append(batch)

    def _append(self, batch: Batch) -> IngestReport:
        manifest = self.manifest
        check_same_shop(manifest, self.zone, self.currency)
        named, nameless = drop_unusable_ids(batch.events)
        rows, future = drop_future(named)
        new = drop_known(rows, self._known_ids(manifest))
        if batch.refunds_are_totals:
            new = refund_growth(new, self._known_refunds(manifest))
        quarantined = dict(batch.quarantined)
        if nameless:
            quarantined[f"user id is empty, longer than {LONGEST_ID} bytes or has control characters"] = nameless
        if future:
            quarantined["happened more than a day after it became known (a wrong device clock?)"] = future
        if not rows.num_rows:
            raise NoUsableData(f"{batch.name} has no usable row: {quarantined or 'the file is empty'}. Nothing was written.")
        if new.num_rows:
            content = parquet_bytes(localise(new, self.zone))
            name = f"{sha256_of_bytes(content)[:16]}.parquet"
            write_bytes(self.directory / "parts" / name, content)
            manifest["parts"] = [*manifest["parts"], {"file": name, "rows": new.num_rows, "source": batch.name}]
            for kind in pc.value_counts(new["event"]).to_pylist():
                manifest["events"][kind["values"]] = manifest["events"].get(kind["values"], 0) + kind["counts"]
        manifest["products"] = self._merge_products(manifest["products"], batch.products)
        stream = manifest["streams"].setdefault(batch.stream or batch.name, {"complete_until": "", "orders": False})
        stream["complete_until"] = max(stream["complete_until"], batch.complete_until.isoformat())
        stream["orders"] |= pc.any(pc.equal(rows["event"], "order")).as_py()
        write_json(self.directory / "manifest.json", manifest)
        return IngestReport(
            source=batch.name,
            read=batch.events.num_rows + sum(batch.quarantined.values()),
            added=new.num_rows,
            duplicates=rows.num_rows - new.num_rows,
            quarantined=quarantined,
            complete_until=self.complete_until,
        )

    def _known_ids(self, manifest: dict[str, Any]) -> pa.ChunkedArray:
        ids = [pq.read_table(self.directory / "parts" / part["file"], columns=["event_id"])["event_id"].chunks for part in manifest["parts"]]
        return pa.chunked_array([chunk for chunks in ids for chunk in chunks], type=pa.string())

    def _known_refunds(self, manifest: dict[str, Any]) -> pa.Table:
        paths = [self.directory / "parts" / part["file"] for part in manifest["parts"]]
        parts = [pq.read_table(path, columns=["order_id", "value_cents"], filters=[("event", "==", "refund")]) for path in paths]
        return pa.concat_tables([EVENT_SCHEMA.empty_table().select(["order_id", "value_cents"]), *parts])

    def _merge_products(self, name: str | None, products: pa.Table | None) -> str | None:
        if products is None or not products.num_rows:
            return name
        known = pq.read_table(self.directory / "products" / name) if name else PRODUCT_SCHEMA.empty_table()
        kept = known.filter(pc.invert(pc.is_in(known["product_id"], products["product_id"])))
        merged = pa.concat_tables([kept, products.select(PRODUCT_SCHEMA.names).cast(PRODUCT_SCHEMA)]).sort_by("product_id")
        content = parquet_bytes(merged)
        merged_name = f"{sha256_of_bytes(content)[:16]}.parquet"
        write_bytes(self.directory / "products" / merged_name, content)
        return merged_name


def check_events(events: pa.Table, name: str, currency: str) -> None:
    """Hold a table against the canonical schema.

    Raises:
        InvalidTable: with every problem found.
    """
    problems = []
    for field in EVENT_SCHEMA:
        if field.name not in events.column_names:
            problems.append(f"column '{field.name}' is missing")
        elif events.schema.field(field.name).type != field.type:
            problems.append(f"column '{field.name}' is {events.schema.field(field.name).type}, not {field.type}")
        elif not field.nullable and events[field.name].null_count:
            problems.append(f"column '{field.name}' has {events[field.name].null_count} empty value(s); none is allowed")
    if not problems:
        unknown = sorted(set(pc.unique(events["event"]).to_pylist()) - set(EVENTS))
        problems += [f"event '{event}' is not a canonical event; known: {', '.join(EVENTS)}" for event in unknown]
        other = sorted(set(pc.unique(events["currency"]).to_pylist()) - {None, currency})
        if other:
            problems.append(f"amounts in {', '.join(other)} cannot be added to amounts in {currency}; convert them first")
    if problems:
        raise InvalidTable(name, problems)


def check_same_shop(manifest: Mapping[str, Any], zone: str, currency: str) -> None:
    """Days and amounts already in the log were made with the zone and currency of its first ingest.

    Raises:
        InvalidShopFile: the shop file says something else now.
    """
    was = {"zone": manifest["zone"], "currency": manifest["currency"]}
    changed = [f"{name} is '{now}', but the log was made with '{was[name]}'" for name, now in (("zone", zone), ("currency", currency)) if now != was[name]]
    if changed:
        raise InvalidShopFile("encore.toml", [f"{problem}; put it back, or ingest into a new workspace" for problem in changed])


def drop_unusable_ids(events: pa.Table) -> tuple[pa.Table, int]:
    """Leave out events whose user id nobody could ask for; also returns how many."""
    ids = events["user_id"]
    length = pc.binary_length(ids)
    sized = pc.and_(pc.greater(length, 0), pc.less_equal(length, LONGEST_ID))
    usable = events.filter(pc.and_(sized, pc.invert(pc.match_substring_regex(ids, r"\p{C}"))))
    return usable, events.num_rows - usable.num_rows


def drop_future(events: pa.Table) -> tuple[pa.Table, int]:
    """Leave out events that happened more than a day after they became known; also returns how many."""
    late = pc.subtract(events["occurred_at"], events["known_at"])
    usable = events.filter(pc.less_equal(late, pa.scalar(86_400_000_000, pa.duration("us"))))
    return usable, events.num_rows - usable.num_rows


def drop_known(events: pa.Table, known: pa.ChunkedArray) -> pa.Table:
    """The rows with an event_id that is neither in `known` nor earlier in `events`, in a canonical order."""
    rows = events.select(EVENT_SCHEMA.names).sort_by([(name, "ascending") for name in ("user_id", "occurred_at", "event_id", "known_at")])
    rows = rows.filter(pc.invert(pc.is_in(rows["event_id"], known)))
    first = rows.append_column("row", pa.array(range(rows.num_rows))).group_by("event_id").aggregate([("row", "min")])
    return rows if first.num_rows == rows.num_rows else rows.take(first["row_min"].sort())


def refund_growth(events: pa.Table, known: pa.Table) -> pa.Table:
    """Refunds that say their order's total so far, as what each adds to the known refunds of that order.

    A total that adds nothing is left out: it comes from an older export.
    """
    sums = known.group_by("order_id").aggregate([("value_cents", "sum")])
    refunded = sums["value_cents_sum"].take(pc.index_in(events["order_id"], sums["order_id"]))
    is_refund = pc.equal(events["event"], "refund")
    added = pc.if_else(is_refund, pc.subtract(events["value_cents"], pc.fill_null(refunded, 0)), events["value_cents"])
    grown = events.set_column(events.column_names.index("value_cents"), EVENT_SCHEMA.field("value_cents"), added)
    return grown.filter(pc.or_(pc.invert(is_refund), pc.fill_null(pc.greater(added, 0), False)))


def localise(events: pa.Table, zone: str) -> pa.Table:
    """Add day, known_day and hour in the shop's zone."""

    def local(column: str) -> pa.ChunkedArray:
        return pc.local_timestamp(pc.cast(events[column], pa.timestamp("us", zone)))

    def day(moments: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.cast(pc.cast(moments, pa.date32()), pa.int32())

    occurred = local("occurred_at")
    columns = {"day": day(occurred), "known_day": day(local("known_at")), "hour": pc.cast(pc.hour(occurred), pa.int32())}
    for name, values in columns.items():
        events = events.append_column(name, values)
    return events.cast(LOG_SCHEMA)
