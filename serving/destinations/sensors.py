"""神策 (Sensors Data): a `profile_set` line for each user, for its import tools.

https://manual.sensorsdata.cn/sa/docs/tech_knowledge_layout/v0300. Properties that are to be removed are a `profile_unset` line.
"""

from __future__ import annotations

from datetime import datetime

from pydantic_core import to_json

from serving.destinations.items import Item
from serving.destinations.tool import Account


def encode(item: Item, account: Account) -> bytes:
    """One line, or two where some properties are set and others removed."""
    milliseconds = int(datetime.fromisoformat(account.made_at).timestamp() * 1000)
    known = {name: value for name, value in item.attributes.items() if value is not None}
    gone = {name: True for name, value in item.attributes.items() if value is None}
    lines = [
        to_json({"distinct_id": item.user_id, "login_id": item.user_id, "time": milliseconds, "type": kind, "properties": properties})
        for kind, properties in (("profile_set", known), ("profile_unset", gone))
        if properties
    ]
    return b"\n".join(lines)
