"""Braze `/users/track`: attributes of known users, at most 75 objects a request, deltas only, since each attribute costs a data point.

https://www.braze.com/docs/api/endpoints/user_data/post_user_track
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from serving.destinations.items import Item
from serving.destinations.tool import Account, Tool


def encode(item: Item, account: Account) -> bytes:
    """One attributes object; null removes an attribute. A user whom Braze does not know is not created."""
    return to_json({"external_id": item.user_id, "_update_existing_only": True, **item.attributes})


def wrap(encoded: Sequence[bytes], account: Account) -> bytes:
    return b'{"attributes":[' + b",".join(encoded) + b"]}"


def headers(account: Account, body: bytes, request_id: str) -> Mapping[str, str]:
    return {"content-type": "application/json", "authorization": f"Bearer {account.secrets[0]}"}


def failed(answer: Any, items: Sequence[Item]) -> Mapping[int, str]:
    """The items that `errors` names by index; the rest was taken."""
    errors = [error for error in answer.get("errors", ()) if isinstance(error, dict) and error.get("input_array", "attributes") == "attributes"]
    return {error["index"]: str(error.get("type", "refused")) for error in errors if isinstance(error.get("index"), int)}


# 3,000 requests in 3 seconds. Every account has its own address: https://rest.<instance>.braze.com/users/track
BRAZE = Tool(encode, wrap, headers, most=75, largest=4_000_000, per_second=1_000, timeout=30, failed=failed, at_once=8)
