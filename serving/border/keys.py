"""API keys: who may ask the service for what. The ledger holds their digests; a key itself is shown once and kept nowhere.

A key is `enc_<id>_<secret>`: the id finds it, 160 random bits prove it. The digest is a plain SHA-256: slow, salted hashes protect
passwords, which people choose and attackers guess; nobody guesses 160 random bits, and a slow hash would cost every request.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from features.errors import InvalidUse, UnknownName
from serving.ledger import METADATA, Duplicate, Ledger, LedgerUnavailable
from serving.privacy.audit import record

SCOPES = {
    "score": "scores, users and journeys",
    "audience": "audiences, look-alikes, jobs and exports",
    "read": "models and metrics",
    "privacy": "deletion, export and suppression of users",
    "admin": "everything",
}
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
AT_A_TIME = (1, 2)  # places for valid keys of one name: the old one and the new one of a rotation

API_KEYS = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", sa.String(12), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("place", sa.Integer),  # one of AT_A_TIME while it is valid; the database lets no third key in
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("scopes", sa.String(100), nullable=False),
    sa.Column("per_second", sa.Float),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("revoked_at", sa.DateTime(timezone=True)),
    sa.Column("last_used_at", sa.DateTime(timezone=True)),
    sa.UniqueConstraint("name", "place", name="two_keys_at_a_time"),
)


class InvalidKey(InvalidUse):
    """A key was asked for that cannot be made."""


class NameInUse(InvalidUse):
    """A name has as many valid keys as it may have."""


class NotOpen(InvalidUse):
    """The service was told to listen beyond this machine while anybody might ask it anything."""


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key. digest: SHA-256 of the key; per_second: requests, None for the service's default."""

    id: str
    name: str
    scopes: frozenset[str]
    digest: bytes = field(repr=False)
    per_second: float | None
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now: datetime) -> str:
        """`valid`, `expired` or `revoked`."""
        return "revoked" if self.revoked_at else "expired" if self.expires_at <= now else "valid"


def create_key(ledger: Ledger, name: str, scopes: Sequence[str], days: int, per_second: float | None = None) -> str:
    """Make a key and return it; nobody can ever read it again.

    Raises:
        InvalidKey: name, scopes, days or rate are not possible. NameInUse: two keys of this name are valid. LedgerUnavailable.
    """
    if not NAME.fullmatch(name):
        raise InvalidKey(f"'{name}' cannot name a key: up to 64 of a-z, 0-9, - and _, beginning with a letter or digit, such as journey-tool.")
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise UnknownName("scope", unknown[0], SCOPES)
    if not scopes or not 1 <= days <= 3650 or (per_second is not None and not 0 < per_second <= 1_000_000):
        raise InvalidKey("A key has at least one scope, is valid for 1 to 3650 days and for more than 0 and up to 1,000,000 requests a second.")
    key_id, now = secrets.token_hex(6), datetime.now(UTC)
    key = f"enc_{key_id}_{secrets.token_hex(20)}"
    made = {"id": key_id, "name": name, "digest": sha256(key.encode()).hexdigest(), "scopes": " ".join(sorted(set(scopes))), "per_second": per_second}
    try:
        with ledger.connection() as connection:
            mine = API_KEYS.c.name == name
            connection.execute(API_KEYS.update().where(mine & (API_KEYS.c.expires_at <= now)).values(place=None))
            rows = connection.execute(API_KEYS.select().where(mine & API_KEYS.c.place.is_not(None)).order_by(API_KEYS.c.created_at)).mappings().all()
            free = set(AT_A_TIME) - {row["place"] for row in rows}
            if not free:
                raise NameInUse(_in_use(name, [_key(row) for row in rows]))
            connection.execute(API_KEYS.insert().values(**made, place=min(free), created_at=now, expires_at=now + timedelta(days=days)))
            record(connection, "key created", {"key": key_id, "name": name, "scopes": made["scopes"], "days": days})
    except Duplicate:
        raise NameInUse(f"Another key of the name '{name}' was made at the same moment. Look with: encore keys list") from None
    return key


def _in_use(name: str, keys: Sequence[Key]) -> str:
    told = "; ".join(f"{key.id}, made {day(key.created_at)}, last used {day(key.last_used_at)}" for key in keys)
    return f"'{name}' has two valid keys already ({told}). Revoke the one that is no longer used, then make the new one: encore keys revoke {keys[0].id}"


def day(moment: datetime | None) -> str:
    """A date as people read it in a list; `never` for none."""
    return f"{moment:%Y-%m-%d}" if moment else "never"


def revoke_key(ledger: Ledger, key_id: str) -> Key:
    """End a key for good; to revoke it again changes nothing. Running services know within seconds.

    Raises:
        UnknownName: no key has this id.
    """
    with ledger.connection() as connection:
        this = API_KEYS.c.id == key_id
        ended = connection.execute(API_KEYS.update().where(this & API_KEYS.c.revoked_at.is_(None)).values(revoked_at=datetime.now(UTC), place=None)).rowcount
        row = connection.execute(API_KEYS.select().where(this)).mappings().first()
        if row is None:
            raise UnknownName("key id", key_id, connection.execute(sa.select(API_KEYS.c.id)).scalars().all())
        if ended:
            record(connection, "key revoked", {"key": key_id, "name": row["name"]})
    return _key(row)


def read_keys(ledger: Ledger) -> list[Key]:
    """Every key that was ever made, oldest first. A ledger that nobody has begun holds none, and is not begun by looking."""
    if ledger.is_absent:
        return []
    with ledger.connection() as connection:
        return [_key(row) for row in connection.execute(API_KEYS.select().order_by(API_KEYS.c.created_at)).mappings()]


def write_last_used(ledger: Ledger, used: Mapping[str, datetime]) -> None:
    """Note when keys (ids) were last used; an earlier moment never replaces a later one."""
    with ledger.connection() as connection:
        for key_id, moment in used.items():
            older = API_KEYS.c.last_used_at.is_(None) | (API_KEYS.c.last_used_at < moment)
            connection.execute(API_KEYS.update().where((API_KEYS.c.id == key_id) & older).values(last_used_at=moment))


def may_listen(host: str, ledger_url: str, *, open_on_purpose: bool) -> None:
    """Whether the service may listen on an address. With a key it may everywhere: it lets nobody in without one.

    Raises:
        NotOpen: no key was ever made, the address is not on loopback, and nobody said that this is meant.
    """
    if open_on_purpose or _is_loopback(host):
        return
    try:
        with closing(Ledger(ledger_url)) as ledger:
            if read_keys(ledger):
                return
    except LedgerUnavailable:
        return  # it cannot know its keys, and until it does it lets nobody in
    raise NotOpen(
        f"No API key exists, so whoever reaches {host} could read every score. Make one first: encore keys create NAME --scope score. "
        "Or listen on 127.0.0.1; or, where something in front of the service checks who asks, say so with ENCORE_OPEN=1."
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key(row: RowMapping) -> Key:
    return Key(
        id=row["id"],
        name=row["name"],
        scopes=frozenset(row["scopes"].split()),
        digest=bytes.fromhex(row["digest"]),
        per_second=row["per_second"],
        created_at=_utc(row["created_at"]),
        expires_at=_utc(row["expires_at"]),
        revoked_at=row["revoked_at"] and _utc(row["revoked_at"]),
        last_used_at=row["last_used_at"] and _utc(row["last_used_at"]),
    )


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)  # SQLite forgets the zone; it was UTC
