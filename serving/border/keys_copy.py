"""A copy of the keys on local disk, so that a service that starts while its ledger is down still knows whom it may answer.

It holds what the ledger holds: digests, never a key. What it says is as old as its date: a key that was revoked since is let in until the
ledger is back, which is why a copy counts for `GOOD_FOR` only, and a key that was made since is refused. It is the owner's alone to read
and write; a copy that others may write, that is torn, from the future or of another ledger is not used. Who may write as the owner could
change the releases as well: the digest finds damage, not malice. Where nobody ever made a key there is no copy: an open service whose
ledger is down at its start stays closed, since somebody may have made the first key meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from features.errors import EncoreError
from features.files import canonical_json, digest_of, read_json, sha256_of_bytes, write_bytes
from features.logs import log
from serving.border.keys import Key

FILE = "keys.json"
GOOD_FOR = timedelta(hours=24)
WRITE_EVERY = 60.0  # seconds between two copies of keys that stay the same: its date is that exact
MINE = 0o600
MOMENTS = ("created_at", "expires_at", "revoked_at", "last_used_at")


class CopyRefused(EncoreError):
    """There is no copy, or it may not be used."""


class KeysCopy:
    """The copy beside some releases of the keys of one ledger.

    Args:
        path: of the file. ledger_url: of the ledger; another ledger's copy is not used.
    """

    def __init__(self, path: Path, ledger_url: str) -> None:
        self.path = path
        self._ledger = sha256_of_bytes(ledger_url.encode())
        self._kept: Sequence[Key] = ()
        self._kept_at, self._failing = 0.0, False

    def keep(self, keys: Sequence[Key]) -> None:
        """Write what changed at once, and now and then the date of what did not; a disk that takes nothing stops nobody."""
        said = [replace(key, last_used_at=None) for key in keys]
        if not said or (said == self._kept and time.monotonic() - self._kept_at < WRITE_EVERY):
            return
        try:
            self.write(said, datetime.now(UTC))
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("no copy of the keys could be kept", extra={"facts": {"reason": type(error).__name__}})
            self._failing = True
        self._kept, self._kept_at = said, time.monotonic()

    def write(self, keys: Sequence[Key], now: datetime) -> None:
        """Keep what the ledger said just now.

        Raises:
            OSError: it cannot be written; the one before stays.
        """
        told: dict[str, Any] = {"ledger": self._ledger, "seen_at": now.isoformat(), "keys": [_plain(key) for key in keys]}
        write_bytes(self.path, canonical_json(told | {"digest": digest_of(told)}).encode(), MINE)

    def read(self, now: datetime) -> tuple[list[Key], timedelta]:
        """The keys and how long ago the ledger said so.

        Raises:
            CopyRefused: with the reason.
        """
        try:
            lies = self.path.lstat()
            if self.path.is_symlink() or lies.st_uid != os.geteuid() or lies.st_mode & 0o077:
                raise CopyRefused("the copy of the keys is not its owner's alone (mode 600)")
            told = dict(read_json(self.path))
            if told.pop("digest") != digest_of(told):
                raise CopyRefused("the copy of the keys is damaged")
            if told["ledger"] != self._ledger:
                raise CopyRefused("the copy of the keys is of another ledger")
            age = now - datetime.fromisoformat(told["seen_at"])
            if not timedelta(0) <= age <= GOOD_FOR:
                raise CopyRefused(f"the copy of the keys is from {told['seen_at']}; it counts for {GOOD_FOR.total_seconds() / 3600:g} hours")
            return [_key(row) for row in told["keys"]], age
        except FileNotFoundError:
            raise CopyRefused("there is no copy of the keys") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CopyRefused(f"the copy of the keys cannot be read: {type(error).__name__}") from None


def _plain(key: Key) -> dict[str, Any]:
    """A key as JSON values."""
    told = asdict(key) | {"scopes": sorted(key.scopes), "digest": key.digest.hex()}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in told.items()}


def _key(row: dict[str, Any]) -> Key:
    moments = {name: row[name] and datetime.fromisoformat(row[name]).astimezone(UTC) for name in MOMENTS}
    return Key(**{**row, **moments, "scopes": frozenset(row["scopes"]), "digest": bytes.fromhex(row["digest"])})
