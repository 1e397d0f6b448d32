"""EventLog: the shop's events on disk, and what "before a date" means.

History is strictly before `as_of`, in what happened and in what was known; `as_of` is a date and stands for midnight in the
shop's zone. SQL cuts with `before`, the compiled loops with the same two comparisons; outcome windows are `tiles.Window`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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
from features.erasure import add_to_days, erase_rows
from features.errors import NoUsableData, ReleaseRefused
from features.files import digest_of, exclusive, parquet_bytes, read_json, sha256_of_bytes, write_bytes, write_json
from features.identity import LINK_SCHEMA, current_ids, links_in, moved_ids, same_people, stated_links, tombstone, valid_links, without_tombstones
from features.ledger import CONTENT, Posting, post
from features.sources.batch import Batch
from features.tombstones import DELETED, joined, kept_out, read_tombstones
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

    def __init__(self, directory: Path, zone: str, currency: str, tombstones: Path | None = None) -> None:
        self.directory, self.zone, self.currency = directory, zone, currency
        self._tombstones = tombstones  # the folder of a list that counts besides the log's own

    @property
    def manifest(self) -> dict[str, Any]:
        path = self.directory / "manifest.json"
        empty: dict[str, Any] = {"parts": [], "products": None, "links": None, "streams": {}, "events": {}, "days": {}, "tombstones": {}, "receipts": []}
        own = read_json(path) if path.exists() else {}
        return {**empty, "zone": self.zone, "currency": self.currency, **own, "tombstones": kept_out(joined(own.get("tombstones", {}), self._listed()))}

    @property
    def own_tombstones(self) -> dict[str, str]:
        """The tombstones that the log has itself, without the list beside the releases."""
        path = self.directory / "manifest.json"
        return joined(read_json(path).get("tombstones", {}) if path.exists() else {})

    def _listed(self) -> Mapping[str, str]:
        """The list beside the releases. While it is damaged the log's own list counts alone, of which it can be made anew."""
        try:
            return read_tombstones(self._tombstones) if self._tombstones else {}
        except ReleaseRefused:
            return {}

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

    def happened(self, first: date) -> dict[int, str]:
        """Day from `first` on -> a digest of what the log says happened on it, whenever that became known: late data change it."""
        return {day: f"{content:016x}" for day, content in admission.happened_sums(Engine(), self.parts, day_number(first)).items() if content}

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
        return valid_links(self.stated_links())

    def stated_links(self) -> pa.Table:
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
        stated = stated_links(self.stated_links(), links_in(rows))
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

    def same_people(self, ids: Iterable[str]) -> set[str]:
        """All ids of the people whom some ids belong to, visitors that turned out to be them included."""
        return same_people(self.current_ids(), self.stated_links(), ids)

    def ids(self) -> set[str]:
        """Every id that an event or a link was given with."""
        links = self.stated_links()
        found = {*links["from_id"].to_pylist(), *links["to_id"].to_pylist()}
        for part in self.parts:
            table = pq.read_table(part, columns=["user_id", "given_id"], read_dictionary=["user_id", "given_id"])
            found |= {name for column in table.columns for name in pc.unique(column.cast(pa.string())).to_pylist()}
        return found

    def bury(self, user_ids: Iterable[str], kind: str) -> int:
        """Keep users out: with "no_profiling" they are in no snapshot, with "deleted" they are erased from the log too, and what of them
        arrives later is left out; both with every visitor that turned out to be them. Returns the rows erased."""
        named = self.same_people(user_ids)
        return self.bury_marks({tombstone(name): kind for name in named}, named if kind == DELETED else ())

    def bury_marks(self, marks: Mapping[str, str], erase: Collection[str] = ()) -> int:
        """Take over tombstones, `lifted` ones too, and erase users by all of their ids. Returns the rows erased."""
        with exclusive(self.directory / ".lock", "An ingest into this log", wait=True):
            if not marks.keys() and not erase:
                return 0
            manifest, erased, links = self.manifest, 0, self.stated_links()
            known = joined(manifest["tombstones"], marks)
            manifest["tombstones"] = kept_out(known)
            if erase:
                erased = erase_rows(self.directory / "parts", {*erase}, manifest, lambda table: self._write_table("parts", table))
                gone = pa.array(sorted(erase), pa.string())
                links = links.filter(pc.invert(pc.or_(pc.is_in(links["from_id"], gone), pc.is_in(links["to_id"], gone))))
                manifest["links"] = self._write_table("links", links) if links.num_rows else None
            write_json(self.directory / "manifest.json", manifest)
            used = {*self.parts, self.directory / "links" / str(manifest["links"])}
            for path in {*(self.directory / "parts").glob("*"), *(self.directory / "links").glob("*")} - used if erase else ():
                path.unlink()  # also what a crash, or a backup that was restored, left there
        return erased

    def erase_returned(self) -> int:
        """Erase again who was deleted and came back with a backup of the log: whom the list beside the releases has as deleted and the log's
        own has not. Returns the rows erased."""
        own = self.own_tombstones
        missing = {mark: kind for mark, kind in self._listed().items() if kind == DELETED and own.get(mark) != DELETED}
        if not missing:
            return 0
        back = [name for name in self.ids() if tombstone(name) in missing]
        return self.bury_marks(missing, self.same_people(back) if back else ())


ORDER = ("user_id", "day", "known_day", "occurred_at", "event_id", "known_at", "sign")
