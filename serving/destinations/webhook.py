"""A generic webhook, signed by the Standard Webhooks scheme, and the same signature for events.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. With two secrets both signatures are sent, so
that the receiver's can be changed without a gap.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pydantic_core import to_json
from standardwebhooks import Webhook

from features.errors import InvalidUse
from serving.destinations.items import Item
from serving.destinations.tool import Account, Tool

PREFIX = "whsec_"


def check_secrets(secrets: Sequence[str]) -> None:
    """Make sure that secrets are ones of the scheme.

    Raises:
        InvalidUse: one is not `whsec_` and 24 to 64 bytes in base64, or there are none or more than two.
    """
    if not 1 <= len(secrets) <= 2:
        raise InvalidUse(f"A signed webhook has one secret, or two while one replaces the other; {len(secrets)} were given.")
    for secret in secrets:
        try:
            size = len(base64.b64decode(secret.removeprefix(PREFIX), validate=True))
        except binascii.Error:
            size = 0
        if not secret.startswith(PREFIX) or not 24 <= size <= 64:
            raise InvalidUse("A secret of a signed webhook is whsec_ and 24 to 64 random bytes in base64: echo whsec_$(openssl rand -base64 32)")


def signed(secrets: Sequence[str], request_id: str, body: bytes, now: float) -> dict[str, str]:
    """The three headers of the scheme; now: seconds since 1970."""
    moment = datetime.fromtimestamp(int(now), UTC)
    signatures = [Webhook(secret).sign(request_id, moment, body.decode()) for secret in secrets]
    return {"webhook-id": request_id, "webhook-timestamp": str(int(now)), "webhook-signature": " ".join(signatures)}


def encode(item: Item, account: Account) -> bytes:
    return to_json({"user_id": item.user_id, "attributes": item.attributes})


def wrap(encoded: Sequence[bytes], account: Account) -> bytes:
    """type, timestamp and data, as the scheme recommends."""
    begin = to_json({"type": "encore.users.changed", "timestamp": account.made_at})[:-1]
    return begin + b',"data":{"users":[' + b",".join(encoded) + b"]}}"


def headers(account: Account, body: bytes, request_id: str) -> Mapping[str, str]:
    return {"content-type": "application/json", **signed(account.secrets, request_id, body, time.time())}


# The timeout is the scheme's: a receiver that has more to do does it after its answer.
WEBHOOK = Tool(encode, wrap, headers, most=100, largest=1_000_000, per_second=20, timeout=20, at_once=2)
