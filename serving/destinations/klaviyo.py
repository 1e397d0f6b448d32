"""Klaviyo bulk profile import: at most 10,000 profiles and 5 MB a job, scores as profile properties.

https://developers.klaviyo.com/en/reference/spawn_bulk_profile_import_job. A job is taken whole (202) and worked off later; what Klaviyo
then refuses of it stands in its own pages, by job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic_core import to_json

from serving.destinations.items import Item
from serving.destinations.tool import Account, Tool

REVISION = "2024-02-15"


def encode(item: Item, account: Account) -> bytes:
    """One profile, known by its external id and, where contacts are declared, by e-mail and phone. null empties a property."""
    known = {"email": item.email, "phone_number": item.phone, "external_id": item.user_id}
    return to_json({"type": "profile", "attributes": {name: value for name, value in known.items() if value} | {"properties": item.attributes}})


def wrap(encoded: Sequence[bytes], account: Account) -> bytes:
    return b'{"data":{"type":"profile-bulk-import-job","attributes":{"profiles":{"data":[' + b",".join(encoded) + b"]}}}}"


def headers(account: Account, body: bytes, request_id: str) -> Mapping[str, str]:
    return {
        "content-type": "application/vnd.api+json",
        "accept": "application/vnd.api+json",
        "authorization": f"Klaviyo-API-Key {account.secrets[0]}",
        "revision": REVISION,
    }


# 10 a second, 150 a minute: the steady rate is the one that a long export meets.
KLAVIYO = Tool(
    encode,
    wrap,
    headers,
    url="https://a.klaviyo.com/api/profile-bulk-import-jobs/",
    most=10_000,
    largest=5_000_000,
    largest_item=100_000,
    per_second=2.5,
    timeout=60,
    at_once=1,
)
