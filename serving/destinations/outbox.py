"""Events for other systems, as CloudEvents 1.0, kept in the ledger until a webhook has taken them.

An event's id is made of its type, its subject and the day: said twice it is once, and nobody is told of a user more than once a day
and type. `encore work` and `encore export events` deliver them in batches (application/cloudevents-batch+json), oldest first, at least
once, signed as Standard Webhooks are; nothing overtakes, so that the order of each subject is kept. https://github.com/cloudevents/spec
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, RowMapping

from features.errors import EncoreError, InvalidUse
from features.files import digest_of
from features.logs import log
from features.workspace import Workspace
from serving.destinations.address import resolved
from serving.destinations.delivery import Again, DeliveryStopped, Sending
from serving.destinations.export import allowed_hosts
from serving.destinations.items import Item
from serving.destinations.post import Poster
from serving.destinations.store import OUTBOX, alone
from serving.destinations.tool import Account, Tool
from serving.destinations.webhook import WEBHOOK, check_secrets, headers
from serving.ledger import Ledger

BAND_CROSSED, ORDER_DUE = "score.band.crossed", "order.due"
MEMBER_ADDED, MEMBER_REMOVED = "audience.member.added", "audience.member.removed"
OF_USERS = (BAND_CROSSED, ORDER_DUE, MEMBER_ADDED, MEMBER_REMOVED)  # their subject is a user
RUN_FAILED = "run.failed"
PREFIX = "encore."  # of types, outside
KEPT = timedelta(days=30)  # after it was taken or refused
AT_ONCE = 1_000  # rows of one statement

Event = tuple[str, str, Mapping[str, Any]]  # type, subject, data


def emit(connection: Connection, type: str, subject: str, data: Mapping[str, Any], day: date) -> None:
    """Keep an event in the caller's transaction; of the same type, subject and day there is one, the first.

    Args:
        type: dotted words; those in OF_USERS have a user as their subject. data: plain JSON values.
    """
    emit_all(connection, [(type, subject, data)], day)


def emit_all(connection: Connection, events: Iterable[Event], day: date) -> int:
    """Keep many events of a day, in their order; returns how many are new."""
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    insert: Any = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(OUTBOX)
    statement = insert.on_conflict_do_nothing(index_elements=["id"])
    before = connection.execute(_count).scalar_one()
    for type_, subject, data in events:
        who = {"user_id": subject, "topic": None} if type_ in OF_USERS else {"user_id": None, "topic": subject}
        rows.append({"id": event_id(type_, subject, day), "type": type_, **who, "day": day, "data": dict(data), "created_at": now, "state": "waiting"})
        if len(rows) == AT_ONCE:
            connection.execute(statement, rows)
            rows.clear()
    if rows:
        connection.execute(statement, rows)
    return int(connection.execute(_count).scalar_one() - before)


_count = sa.select(sa.func.count()).select_from(OUTBOX)


def event_id(type: str, subject: str, day: date) -> str:
    return digest_of([type, subject, day.isoformat()])


def account(environment: Mapping[str, str] = os.environ) -> Account | None:
    """Where events go: ENCORE_EVENTS_URL, signed with ENCORE_EVENTS_SECRET (one, or two while one replaces the other). None: nowhere.

    Raises:
        InvalidUse: the secret is missing or none.
    """
    url = environment.get("ENCORE_EVENTS_URL")
    if not url:
        return None
    secrets = tuple(environment.get("ENCORE_EVENTS_SECRET", "").split())
    if not secrets:
        raise InvalidUse("ENCORE_EVENTS_URL has no ENCORE_EVENTS_SECRET: events are signed. Make one: echo whsec_$(openssl rand -base64 32)")
    check_secrets(secrets)
    return Account(url, secrets)


def send_events(workspace: Workspace, ledger: Ledger, to: Account, tool: Tool | None = None) -> dict[str, int]:
    """Deliver what waits, oldest first, until all is taken or the receiver fails; what it refuses for good is marked with the reason.

    Raises:
        Locked: another process delivers. DeliveryStopped: the receiver is down; what waits, waits.
    """
    chosen = tool or EVENTS
    address = resolved(to.url, allowed_hosts())
    told = {"sent": 0, "refused": 0}
    with alone(ledger, workspace.root, "events"):
        if not (waiting := _waiting(ledger, chosen.most)):
            return told
        source = _source(workspace)
        poster = Poster(address, chosen.timeout)
        sending = Sending(chosen, to, poster, "events")
        try:
            while waiting:
                items = [Item(row["number"], "", _envelope(row, source)) for row in waiting]
                try:
                    refused = sending.send(items, [chosen.encode(item, to) for item in items])
                except Again as error:
                    raise DeliveryStopped(f"The receiver of events did not take them ({error}). They wait for the next turn.") from None
                _settle(ledger, [item.row for item in items], {item.row: reason for item, reason in refused})
                told = {"sent": told["sent"] + len(items) - len(refused), "refused": told["refused"] + len(refused)}
                waiting = _waiting(ledger, chosen.most)
        finally:
            poster.close()
    if told["refused"]:
        log.warning("events refused", extra={"facts": told})
    return told


def look(workspace: Workspace, ledger: Ledger, to: Account) -> dict[str, Any]:
    """What a delivery would send: how many wait, and the first one as it would go out."""
    resolved(to.url, allowed_hosts())
    with ledger.connection() as connection:
        number = connection.execute(_count.where(OUTBOX.c.state == "waiting")).scalar_one()
    first = _waiting(ledger, 1)
    return {"events": number, "payload": to_json(_envelope(first[0], _source(workspace)), indent=2).decode() if first else ""}


def send_if_told(workspace: Workspace, ledger: Ledger) -> None:
    """What a worker does at each turn: deliver events, if somebody wants them. Whatever goes wrong is logged, and they wait."""
    try:
        if to := account():
            send_events(workspace, ledger, to)
    except EncoreError as error:
        log.warning("events wait", extra={"facts": {"reason": str(error)}})


def _waiting(ledger: Ledger, most: int) -> list[RowMapping]:
    with ledger.connection() as connection:
        return list(connection.execute(OUTBOX.select().where(OUTBOX.c.state == "waiting").order_by(OUTBOX.c.number).limit(most)).mappings())


def _settle(ledger: Ledger, numbers: list[int], refused: Mapping[int, str]) -> None:
    now = datetime.now(UTC)
    with ledger.connection() as connection:
        connection.execute(OUTBOX.update().where(OUTBOX.c.number.in_(numbers)).values(state="sent", finished_at=now))
        for number, reason in refused.items():
            connection.execute(OUTBOX.update().where(OUTBOX.c.number == number).values(state="refused", reason=reason[:200]))
        connection.execute(OUTBOX.delete().where(OUTBOX.c.finished_at < now - KEPT))


def _source(workspace: Workspace) -> str:
    return f"/encore/{quote(workspace.shop().name)}"


def _envelope(row: RowMapping, source: str) -> dict[str, Any]:
    moment = row["created_at"] if row["created_at"].tzinfo else row["created_at"].replace(tzinfo=UTC)  # SQLite keeps no zone
    return {
        "specversion": "1.0",
        "id": row["id"],
        "source": source,
        "type": f"{PREFIX}{row['type']}",
        "subject": row["user_id"] or row["topic"],
        "time": moment.isoformat(),
        "datacontenttype": "application/json",
        "data": {**row["data"], "day": row["day"].isoformat()},
    }


def _encode(item: Item, to: Account) -> bytes:
    return to_json(item.attributes)


def _wrap(encoded: Any, to: Account) -> bytes:
    return b"[" + b",".join(encoded) + b"]"


def _headers(to: Account, body: bytes, request_id: str) -> Mapping[str, str]:
    return {**headers(to, body, request_id), "content-type": "application/cloudevents-batch+json"}


EVENTS = replace(WEBHOOK, encode=_encode, wrap=_wrap, headers=_headers, at_once=1)
