"""EventLog: the shop's events on disk, and what "before a date" means.

History is strictly before `as_of`, in what happened and in what was known; `as_of` is a date and stands for midnight in the
shop's zone. SQL cuts with `before`, the compiled loops with the same two comparisons; outcome windows are `tiles.Window`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis import Table

from features import admission
from features.calendar import EPOCH as EPOCH
from features.calendar import day_number as day_number
from features.calendar import day_of as day_of
from features.engine import Engine
from features.errors import NoUsableData
from features.files import digest_of, exclusive, parquet_bytes, read_json, sha256_of_bytes, write_bytes, write_json
from features.identity import LINK_SCHEMA, current_ids, links_in, moved_ids, stated_links, tombstone, valid_links, without_tombstones
from features.ledger import CONTENT, Posting, post
from features.sources.batch import Batch
from features.vocabulary import LOG_SCHEMA, PRODUCT_SCHEMA


def before(table: Table, as_of: date) -> Table:
    """The rows that had happened and were known before `as_of`; `table` has day and known_day."""
    cut = day_number(as_of)
    return table.filter((table.day < cut) & (table.known_day < cut))


@dataclass(frozen=True)
class IngestReport:
    """What one ingest did. A row of a source may make several facts (an order and its line) or a part of one.

    read: facts that were told and rows that were left out; added + restated + duplicates + quarantined make it up.

    added: new facts. restated: new versions of known facts. duplicates: said before. taken_back: facts that count no
    longer, or for another user, from some moment on. changes_from: the first day of history that is not what it was
    before this ingest, where facts became known late; None where all is new.
    """

    source: str
    read: int
    added: int
    restated: int
    duplicates: int
    taken_back: int
    quarantined: Mapping[str, int]
    complete_until: date
    changes_from: date | None = None


class EventLog:
    """The events of one shop: immutable Parquet parts and a manifest that names them.

    Appending is atomic and idempotent: parts are named by their content, facts are known by `event_id`, and the
    manifest is replaced last, so a crash at any moment leaves the log as it was.
    """

    def __init__(self, directory: Path, zone: str, currency: str) -> None:
        self.directory, self.zone, self.currency = directory, zone, currency

    @property
    def manifest(self) -> dict[str, Any]:
        path = self.directory / "manifest.json"
        empty: dict[str, Any] = {"parts": [], "products": None, "links": None, "streams": {}, "events": {}, "days": {}, "tombstones": {}, "receipts": []}
        return {**empty, "zone": self.zone, "currency": self.currency, **(read_json(path) if path.exists() else {})}

    @property
    def digest(self) -> str:
        """SHA-256 that changes when, and only when, what the log says does, however it was split over ingests."""
        manifest = self.manifest
        return digest_of([manifest[name] for name in ("days", "products", "links", "streams", "tombstones", "zone", "currency")])

    def digest_before(self, as_of: date) -> str:
        """The same of what had happened and was known before `as_of`: later ingests leave it as it is, unless they
        restate history."""
        manifest, cut = self.manifest, day_number(as_of)
        days = {day: content for day, content in manifest["days"].items() if int(day) < cut}
        return digest_of([days, *(manifest[name] for name in ("products", "tombstones", "zone", "currency"))])

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

    @property
    def parts(self) -> list[Path]:
        """The files of events, each sorted by user, day and known_day."""
        return [self.directory / "parts" / part["file"] for part in self.manifest["parts"]]

    def products(self) -> pa.Table:
        """What is known of the products now, as PRODUCT_SCHEMA."""
        name = self.manifest["products"]
        return pq.read_table(self.directory / "products" / name) if name else PRODUCT_SCHEMA.empty_table()

    def links(self) -> pa.Table:
        """Which visitor is which user, as `identity.LINK_SCHEMA`."""
        return valid_links(self._stated_links())

    def _stated_links(self) -> pa.Table:
        name = self.manifest["links"]
        return pq.read_table(self.directory / "links" / name) if name else LINK_SCHEMA.empty_table()

    def current_ids(self) -> dict[str, str]:
        """Linked id -> the user it belongs to by all that is known now."""
        return current_ids(self.links())

    def has(self, receipt: str) -> bool:
        """Whether what has this receipt was appended before."""
        return receipt in self.manifest["receipts"]

    def append(self, batch: Batch, receipt: str | None = None) -> IngestReport:
        """Add what a batch says and the log does not.

        Args:
            receipt: names the batch's content, so that it need not be read a second time.

        Raises:
            InvalidTable: the batch breaks the canonical schema (all problems listed); nothing was written.
            NoUsableData: the batch has no usable row; nothing was written.
        """
        admission.check_events(batch.events, batch.name, self.currency)
        with exclusive(self.directory / ".lock", "An ingest into this log", wait=True):
            return self._append(batch, Engine(), receipt)

    def _append(self, batch: Batch, engine: Engine, receipt: str | None) -> IngestReport:
        manifest = self.manifest
        admission.check_same_shop(manifest, self.zone, self.currency)
        events, deleted = without_tombstones(batch.events, manifest["tombstones"])
        rows, quarantined = admission.usable(events, dict(batch.quarantined))
        if not rows.num_rows and not deleted:
            raise NoUsableData(f"{batch.name} has no usable row: {quarantined or 'the file is empty'}. Nothing was written.")
        stated = stated_links(self._stated_links(), links_in(rows))
        links = valid_links(stated)
        if batch.refunds_are_totals:
            rows = admission.refund_growth(rows, self._known_refunds(engine))
        posting = self._post(rows, links, batch, engine)
        if posting.clashes:
            quarantined[admission.CLASH] = posting.clashes
        changes_from = self._write_part(posting.rows, manifest, batch.name, engine)
        manifest["links"] = self._write_table("links", stated) if stated.num_rows else None
        manifest["products"] = self._merge_products(batch.products)
        manifest["receipts"] = sorted({*manifest["receipts"], *([receipt] if receipt else [])})
        stream = manifest["streams"].setdefault(batch.stream or batch.name, {"complete_until": "", "orders": False})
        stream["complete_until"] = max(stream["complete_until"], batch.complete_until.isoformat())
        stream["orders"] |= bool(pc.any(pc.equal(rows["event"], "order")).as_py())
        write_json(self.directory / "manifest.json", manifest)
        return IngestReport(
            source=batch.name,
            read=batch.events.num_rows + len(batch.refused),
            added=posting.added,
            restated=posting.restated,
            duplicates=rows.num_rows - posting.added - posting.restated - posting.clashes,
            taken_back=int(pc.sum(pc.equal(posting.rows["sign"], -1)).as_py() or 0) - posting.restated,
            quarantined=quarantined | ({"the user was deleted from this log": deleted} if deleted else {}),
            complete_until=self.complete_until,
            changes_from=changes_from,
        )

    def _post(self, rows: pa.Table, links: pa.Table, batch: Batch, engine: Engine) -> Posting:
        """Most facts are new and simple and go straight in; those that are not meet what the log has of them."""
        offs = admission.cancellations(engine, rows, self.parts)
        existing = admission.affected(engine, rows, self.parts, moved_ids(self.links(), links))
        simple = admission.simple_rows(rows, existing, offs, links)
        straight, tangled = rows.filter(simple), rows.filter(pc.invert(simple))
        posting = post(tangled.select([*CONTENT, "known_at"]), existing, offs, links, batch.written)
        plain = admission.as_ledger(straight)
        everything = pa.concat_tables([plain, posting.rows.select(plain.column_names).cast(plain.schema)])
        return Posting(everything, posting.added + plain.num_rows, posting.restated, posting.duplicates, posting.clashes)

    def _write_part(self, rows: pa.Table, manifest: dict[str, Any], source: str, engine: Engine) -> date | None:
        if not rows.num_rows:
            return None
        ordered = engine.sql(f"SELECT * FROM rows ORDER BY {', '.join(ORDER)}", rows=admission.localise(rows, self.zone)).cast(LOG_SCHEMA)  # noqa: S608
        manifest["parts"] = [*manifest["parts"], {"file": self._write_table("parts", ordered), "rows": ordered.num_rows, "source": source}]
        for kind in ordered.group_by("event").aggregate([("sign", "sum")]).to_pylist():
            manifest["events"][kind["event"]] = manifest["events"].get(kind["event"], 0) + kind["sign_sum"]
        latest = max((int(day) for day in manifest["days"]), default=None)
        sums = admission.content_sums(engine, ordered)
        add_to_days(manifest, sums, 1)
        return None if latest is None or min(sums) > latest else day_of(min(sums))

    def _known_refunds(self, engine: Engine) -> pa.Table:
        query = "SELECT order_id, sum(value_cents * sign)::BIGINT AS value_cents FROM log WHERE event = 'refund' GROUP BY order_id"
        return engine.sql(query, log=self.parts) if self.parts else pa.table({"order_id": pa.array([], pa.string()), "value_cents": pa.array([], pa.int64())})

    def _merge_products(self, products: pa.Table | None) -> str | None:
        known = self.products()
        if products is None or not products.num_rows:
            return str(self.manifest["products"]) if known.num_rows else None
        kept = known.filter(pc.invert(pc.is_in(known["product_id"], products["product_id"])))
        return self._write_table("products", pa.concat_tables([kept, products.select(PRODUCT_SCHEMA.names).cast(PRODUCT_SCHEMA)]).sort_by("product_id"))

    def _write_table(self, folder: str, table: pa.Table) -> str:
        content = parquet_bytes(table)
        name = f"{sha256_of_bytes(content)[:16]}.parquet"
        write_bytes(self.directory / folder / name, content)
        return name

    def bury(self, user_ids: Iterable[str], kind: str) -> int:
        """Keep users out for good: "suppressed" ones are in no snapshot, "deleted" ones are erased from the log too, with
        every visitor that turned out to be them. What of them arrives later is left out. Returns the rows erased."""
        links = self._stated_links()
        owners = self.current_ids()
        named = set(user_ids)
        named |= {visitor for visitor, owner in owners.items() if owner in named}
        with exclusive(self.directory / ".lock", "An ingest into this log", wait=True):
            manifest, erased = self.manifest, 0
            known = manifest["tombstones"]
            manifest["tombstones"] = known | {mark: kind for mark in map(tombstone, named) if known.get(mark) != "deleted"}
            if kind == "deleted":
                erased = self._erase(named, manifest, Engine())
                gone = pa.array(sorted(named), pa.string())
                links = links.filter(pc.invert(pc.or_(pc.is_in(links["from_id"], gone), pc.is_in(links["to_id"], gone))))
                manifest["links"] = self._write_table("links", links) if links.num_rows else None
            stale = {*self.parts, *(self.directory / "links").glob("*.parquet")}
            write_json(self.directory / "manifest.json", manifest)
            for path in stale - {*self.parts, self.directory / "links" / str(manifest["links"])}:
                path.unlink()
        return erased

    def _erase(self, named: set[str], manifest: dict[str, Any], engine: Engine) -> int:
        gone, erased = pa.array(sorted(named), pa.string()), 0
        for part in list(manifest["parts"]):
            table = pq.read_table(self.directory / "parts" / part["file"])
            mine = pc.or_(pc.is_in(table["user_id"], gone), pc.is_in(table["given_id"], gone))
            rows = table.filter(mine)
            if not rows.num_rows:
                continue
            erased += rows.num_rows
            add_to_days(manifest, admission.content_sums(engine, rows), -1)
            kept = table.filter(pc.invert(mine))
            place = manifest["parts"].index(part)
            manifest["parts"][place : place + 1] = [{**part, "file": self._write_table("parts", kept), "rows": kept.num_rows}] if kept.num_rows else []
        return erased


ORDER = ("user_id", "day", "known_day", "occurred_at", "event_id", "known_at", "sign")


def add_to_days(manifest: Mapping[str, Any], sums: Mapping[int, int], sign: int) -> None:
    """Add to, or take from, the sums that say what is in each day; a day with nothing in it is not named."""
    days = manifest["days"]
    for day, content in sums.items():
        total = (int(days.pop(str(day), "0"), 16) + sign * content) % 2**64
        days |= {str(day): f"{total:016x}"} if total else {}
