"""Ingest: the sources of a shop, file by file, into its log, with a report that adds up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from features.engine import Engine
from features.errors import NoUsableData
from features.events import EventLog, IngestReport, day_of
from features.files import digest_of, sha256_of, write_bytes
from features.logs import log, step
from features.shopfile import Shop
from features.sources import read_source
from features.sources.batch import Batch
from features.workspace import Workspace

READABLE = (".csv", ".json", ".jsonl", ".ndjson", ".log", ".parquet")  # each also with .gz after it where its reader can


def ingest_sources(workspace: Workspace) -> None:
    """Read every file of every source that was not read before, one after the other, and report what each brought."""
    shop = workspace.shop()
    events = workspace.log(shop)
    if rows := events.erase_returned():
        log.warning("erased again: users were deleted after this log's backup was made", extra={"facts": {"rows": rows}})
    for settings in shop.sources:
        for one in files_of(settings, shop):
            ingest_file(one, shop, events, workspace.quarantine)
    log.info("the log holds", extra={"facts": summary(events)})


def ingest_file(settings: Mapping[str, Any], shop: Shop, events: EventLog, quarantine: Path) -> IngestReport | None:
    """Read one file, unless it was read before with the same settings."""
    receipt = receipt_of(settings, shop)
    name = Path(str(settings.get("path", settings["kind"]))).name
    if receipt and events.has(receipt):
        log.info(f"ingest {settings['kind']}", extra={"facts": {"file": name, "skipped": "it was read before"}})
        return None
    with step(f"ingest {settings['kind']}", file=name) as found:
        batch = read_source(settings, shop)
        report = events.append(batch, receipt)
        found |= {"read": report.read, "added": report.added, "restated": report.restated, "duplicates": report.duplicates}
        found |= {"quarantined": sum(report.quarantined.values()), "taken_back": report.taken_back, "complete_until": report.complete_until}
        if report.changes_from is not None:
            found["changes_history_from"] = report.changes_from
    place = write_quarantine(batch, quarantine, receipt)
    for reason, rows in report.quarantined.items():
        log.warning("left out", extra={"facts": {"rows": rows, "reason": reason, **({"see": place.name} if place else {})}})
    return report


def files_of(settings: Mapping[str, Any], shop: Shop) -> Iterator[Mapping[str, Any]]:
    """One setting per file where `path` is a folder or a pattern; in the order of their names.

    Raises:
        NoUsableData: there is no such file.
    """
    path = str(settings.get("path", ""))
    folder = shop.path.parent
    is_folder = bool(path) and (folder / path).is_dir()
    if not is_folder and not any(mark in path for mark in "*?["):
        yield settings
        return
    found = sorted((folder / path).iterdir() if is_folder else Path(folder.anchor).glob(str((folder / path).relative_to(folder.anchor))))
    files = [file for file in found if file.is_file() and file.with_suffix("" if file.suffix == ".gz" else file.suffix).suffix in READABLE]
    if not files:
        raise NoUsableData(f"No file to read at '{path}' (looked for {', '.join(READABLE)}). Correct `path` in encore.toml, or put the files there.")
    for file in files:
        yield {**settings, "path": str(file)}


def receipt_of(settings: Mapping[str, Any], shop: Shop) -> str | None:
    """Names what would be read: the content of the files and how they are to be understood; None where it is no file."""
    path = shop.path.parent / str(settings.get("path", ""))
    if not settings.get("path") or not path.is_file():
        return None
    others = [shop.path.parent / name for name in (shop.rates, settings.get("mapping")) if name]
    said = {name: value for name, value in settings.items() if name != "path"}
    return digest_of([sha256_of(path), path.name, said, [sha256_of(file) for file in others if file.is_file()]])


def write_quarantine(batch: Batch, folder: Path, receipt: str | None) -> Path | None:
    """File, line and reason of every row left out, as CSV."""
    if batch.refused.empty:
        return None
    place = folder / f"{batch.name}-{(receipt or digest_of(batch.name))[:8]}.csv"
    write_bytes(place, batch.refused.to_csv(index=False).encode())
    return place


def summary(events: EventLog) -> dict[str, Any]:
    """What a person checks against the shop's own figures: what stands in the log now."""
    if not events.parts:
        return {"events": 0}
    query = """SELECT sum(sign) AS events, sum(CASE WHEN event = 'order' THEN sign END) AS orders, min(day) AS first, max(day) AS last,
        sum(CASE WHEN event = 'order' THEN sign * value_cents END) AS revenue, sum(CASE WHEN event = 'refund' THEN sign * value_cents END) AS refunded,
        count(DISTINCT user_id) AS ids FROM log"""
    row = Engine().sql(query, log=events.parts).to_pylist()[0]
    return {
        "events": int(row["events"]),
        "users": int(row["ids"]) - len(events.current_ids()),
        "orders": int(row["orders"] or 0),
        "revenue_cents": int(row["revenue"] or 0),
        "refunded_cents": int(row["refunded"] or 0),
        "currency": events.currency,
        "from": day_of(row["first"]),
        "to": day_of(row["last"]),
        "complete_until": events.complete_until,
    }
