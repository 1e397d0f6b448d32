"""Segment `identify` calls: in batches of at most 500 KB over HTTPS, or a line each for an import.

https://www.twilio.com/docs/segment/connections/sources/catalog/libraries/server/http-api
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from features.files import digest_of
from serving.destinations.items import Item
from serving.destinations.tool import Account, Tool


def message(item: Item, account: Account) -> dict[str, Any]:
    """One identify call. The same traits of the same scoring have the same messageId, by which Segment knows a repetition."""
    message_id = f"encore-{digest_of([item.user_id, account.made_at, item.attributes])[:32]}"
    return {"type": "identify", "userId": item.user_id, "traits": item.attributes, "messageId": message_id, "timestamp": account.made_at}


def encode(item: Item, account: Account) -> bytes:
    return to_json(message(item, account))


def wrap(encoded: Sequence[bytes], account: Account) -> bytes:
    return b'{"batch":[' + b",".join(encoded) + b"]}"


def headers(account: Account, body: bytes, request_id: str) -> Mapping[str, str]:
    return {"content-type": "application/json", "authorization": "Basic " + base64.b64encode(f"{account.secrets[0]}:".encode()).decode()}


SEGMENT = Tool(
    encode, wrap, headers, url="https://api.segment.io/v1/batch", most=400, largest=500_000, largest_item=32_000, per_second=10, timeout=30, at_once=4
)
