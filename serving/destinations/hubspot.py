"""HubSpot contacts: batch upsert of at most 100, by e-mail or by a property of the shop's own that holds user ids.

https://developers.hubspot.com/docs/api-reference/crm-contacts-v3/batch/post-crm-v3-objects-contacts-batch-upsert
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from serving.destinations.items import Item
from serving.destinations.tool import Account, Tool, Unfit


def encode(item: Item, account: Account) -> bytes:
    """One contact. An empty text empties a property; true and false are texts there."""
    key = item.user_id if account.id_property else item.email
    if key is None:
        raise Unfit("no e-mail address in the file of contacts")
    words = {True: "true", False: "false", None: ""}
    values = {name: words[value] if value is None or isinstance(value, bool) else value for name, value in item.attributes.items()}
    return to_json({"id": key, "idProperty": account.id_property or "email", "properties": values})


def wrap(encoded: Sequence[bytes], account: Account) -> bytes:
    return b'{"inputs":[' + b",".join(encoded) + b"]}"


def headers(account: Account, body: bytes, request_id: str) -> Mapping[str, str]:
    return {"content-type": "application/json", "authorization": f"Bearer {account.secrets[0]}"}


def failed(answer: Any, items: Sequence[Item]) -> Mapping[int, str]:
    """The items whose keys the errors of a 207 name."""
    places = {key: place for place, item in enumerate(items) for key in (item.user_id, item.email) if key}
    found = {}
    for error in answer.get("errors", ()) if isinstance(answer, dict) else ():
        for key in error.get("context", {}).get("ids", ()):
            if key in places:
                found[places[key]] = str(error.get("category", "refused"))
    return found


# Retry-After counts milliseconds here, as HubSpot reads it from others.
HUBSPOT = Tool(
    encode,
    wrap,
    headers,
    url="https://api.hubapi.com/crm/v3/objects/contacts/batch/upsert",
    failed=failed,
    most=100,
    largest=3_000_000,
    per_second=10,
    timeout=30,
    retry_unit=0.001,
)
