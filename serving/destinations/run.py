"""Running an export: look at it first, then send what changed since the last time, and go on where an earlier run ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa

from features.errors import InvalidUse
from features.exports import FILES, LINES
from features.logs import log
from features.workspace import Workspace
from serving.destinations.address import resolved
from serving.destinations.contacts import read_contacts
from serving.destinations.delivery import DeadLetters, DeliveryStopped, Progress, Sending, batches, deliver
from serving.destinations.export import TOOLS, Export, account_of, allowed_hosts
from serving.destinations.items import Item, Naming, items
from serving.destinations.post import Poster
from serving.destinations.standings import changes
from serving.destinations.store import TRIALS, alone
from serving.destinations.told import DEAD, Delivery, Told, begin, deliveries, note, rule_of, told
from serving.destinations.written import LINE, write
from serving.ledger import Duplicate, Ledger
from serving.pointer import current_id

SHOWN = 3  # users of the first payload that a dry run prints
Facts = dict[str, Any]


def run_export(workspace: Workspace, ledger: Ledger, export: Export, *, dry_run: bool = False, yes: bool = False) -> Facts:
    """Run an export, or only say what it would do.

    What is sent over HTTP is looked at first: a definition that was neither tried with `dry_run` nor sent before is refused without `yes`.

    Returns:
        counts, and for a dry run the beginning of the first payload as `payload`.

    Raises:
        InvalidUse: it was not looked at, or its address, secret or contacts are wrong. DeliveryStopped: the receiver is down; the next run
        goes on there. Locked: it is running. NoRelease: nothing was published.
    """
    url = account_of(export).url
    definition = export.definition(url)
    if export.destination in TOOLS:
        resolved(url, allowed_hosts())
    with alone(ledger, workspace.root, f"export-{export.stem}"):
        if dry_run:
            facts = look(workspace, ledger, export, definition)
            _note_trial(ledger, export, definition)
            return facts
        if export.destination in TOOLS and not yes and not _was_tried(ledger, export, definition):
            raise InvalidUse(
                f"'{export.name}' was never looked at as it is defined now, so nothing was sent. "
                f"See what it would send: encore export {export.name} --dry-run. Then run it again; or say --yes."
            )
        return _run(workspace, ledger, export, definition)


def look(workspace: Workspace, ledger: Ledger, export: Export, definition: str) -> Facts:
    """What a run would do: how many users, attributes and requests, and the beginning of the first payload."""
    planned = Delivery(0, None, current_id(workspace.releases), rule_of(ledger, export), "running", 0, 0, 0, 0)
    known = _known(deliveries(ledger, export, definition), export, planned)
    found = told(workspace, ledger, export, planned, known)
    facts: Facts = {"release": planned.release, "since": known.release if known else None}
    if export.destination not in (*TOOLS, *LINES):
        return {**facts, "rows": sum(int((codes >= 0).sum()) for codes in found.now.codes.values())}
    account = replace(account_of(export), made_at=found.release.manifest["scored_at"])
    stream = _items(export, found)
    if export.destination in LINE:
        sample = list(islice(stream, SHOWN))
        lines = b"\n".join(LINE[export.destination](item, account) for item in sample)
        return {**facts, "users": len(sample) + sum(1 for _ in stream), "payload": lines.decode()}
    tool, payload = TOOLS[export.destination], b""
    counts = {"users": 0, "attributes": 0, "requests": 0, "cannot_be_told": 0}
    for batch in batches(stream, tool, account):
        counts["users"] += len(batch.items)
        counts["attributes"] += sum(len(item.attributes) for item in batch.items)
        counts["requests"] += bool(batch.items)
        counts["cannot_be_told"] += len(batch.unfit)
        payload = payload or (tool.wrap(batch.encoded[:SHOWN], account) if batch.items else b"")
    return {**facts, **counts, "payload": json.dumps(json.loads(payload), indent=2, ensure_ascii=False) if payload else ""}


def _run(workspace: Workspace, ledger: Ledger, export: Export, definition: str) -> Facts:
    """Finish what an earlier run left, then bring the receiver to the release in service."""
    past = deliveries(ledger, export, definition)
    if past and past[0].state == "running" and (workspace.releases / past[0].release).is_dir() and export.destination in TOOLS:
        log.info("going on where an earlier run ended", extra={"facts": {"export": export.name, "row": past[0].next_row, "sent": past[0].sent}})
        before = next((one for one in past if one.number == past[0].before), None)
        past = [_send(workspace, ledger, export, past[0], told(workspace, ledger, export, past[0], before)), *past[1:]]
    elif past and past[0].state == "running" and export.destination in TOOLS:  # its release is gone, so that nobody knows what it told whom
        past = []
    planned = Delivery(0, None, current_id(workspace.releases), rule_of(ledger, export), "running", 0, 0, 0, 0)
    known = _known(past, export, planned)
    facts: Facts = {"release": planned.release, "since": known.release if known else None}
    is_same = known is not None and (known.release, known.rule) == (planned.release, planned.rule)
    if is_same and known and not known.refused and export.destination in TOOLS:
        return {**facts, "sent": 0, "refused": 0}
    delivery = begin(ledger, export, definition, known, planned)
    found = told(workspace, ledger, export, delivery, known)
    if export.destination in TOOLS:
        delivery = _send(workspace, ledger, export, delivery, found)
    else:
        delivery = note(ledger, delivery, sent=write(workspace, export, found), state="done")
    for old in workspace.exports.glob(f"{export.stem}.*.{DEAD}"):  # what is in them was told again, or stands in the newest
        if old != delivery.dead_letters(workspace, export):
            old.unlink()
    if delivery.refused:
        log.warning("users refused", extra={"facts": {"export": export.name, "refused": delivery.refused}})
    dead = {"dead_letters": delivery.dead_letters(workspace, export).name} if delivery.refused else {}
    return {**facts, "sent": delivery.sent, "refused": delivery.refused, **dead}


def _known(past: list[Delivery], export: Export, planned: Delivery) -> Delivery | None:
    """The delivery after which the receiver knew what it knows; none where everything is told each time.

    A table that is written again for the same release is compared with what it was compared with the first time.
    """
    if export.everybody:
        return None
    done = [one for one in past if one.state == "done"]
    if export.destination in (*FILES, *LINES):
        done = [one for one in done if (one.release, one.rule) != (planned.release, planned.rule)]
    return done[0] if done else None


def _send(workspace: Workspace, ledger: Ledger, export: Export, delivery: Delivery, found: Told) -> Delivery:
    account = replace(account_of(export), made_at=found.release.manifest["scored_at"])
    tool = TOOLS[export.destination]
    poster = Poster(resolved(account.url, allowed_hosts()), tool.timeout)
    dead = DeadLetters(delivery.dead_letters(workspace, export), delivery.dead_bytes)
    progress = Progress(delivery.next_row, delivery.sent, delivery.refused, delivery.dead_bytes)

    def save(so_far: Progress) -> None:
        note(ledger, delivery, **vars(so_far))

    try:
        note(ledger, delivery, reason=None)
        deliver(_items(export, found, delivery.next_row), Sending(tool, account, poster, export.definition(account.url)), dead, progress, save)
    except DeliveryStopped as error:
        note(ledger, delivery, reason=str(error)[:500])
        raise
    finally:
        dead.close()
        poster.close()
    return note(ledger, delivery, **vars(progress), state="done")


def _items(export: Export, found: Told, start: int = 0) -> Iterator[Item]:
    contacts = read_contacts(export.contacts, export.folder, found.release) if export.contacts else None
    return items(changes(found.before, found.now, found.again, start), Naming(export.attributes, bool(export.audience)), contacts)


def _was_tried(ledger: Ledger, export: Export, definition: str) -> bool:
    with ledger.connection() as connection:
        return connection.execute(sa.select(TRIALS.c.tried_at).where(TRIALS.c.definition == definition)).first() is not None or bool(
            deliveries(ledger, export, definition)
        )


def _note_trial(ledger: Ledger, export: Export, definition: str) -> None:
    try:
        with ledger.connection() as connection:
            connection.execute(TRIALS.insert().values(definition=definition, export=export.name, tried_at=datetime.now(UTC)))
    except Duplicate:
        return
