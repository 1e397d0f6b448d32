"""Tool: what a receiver over HTTPS wants, and how much of it at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.destinations.items import Item


@dataclass(frozen=True)
class Account:
    """Where to send and as whom. secrets: the key, or for signed webhooks one or two secrets; id_property: of HubSpot; made_at: when
    what is sent was scored, in ISO 8601."""

    url: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    id_property: str | None = None
    made_at: str = ""


@dataclass(frozen=True)
class Tool:
    """A kind of receiver.

    encode: an item as JSON; raises `Unfit`. wrap: encoded items as one body. headers: of a request with this body and id. most, largest:
    items and bytes of a request; largest_item: bytes of one. per_second: requests. timeout: seconds for an answer. url: where its API
    stands; None where every account has its own. failed: of an answer with status 2xx, place of an item in the request -> why it was
    refused. at_once: requests that wait for an answer together. retry_unit: seconds that one of a Retry-After header stands for. tries: of a
    request that failed for a while. first_wait: seconds, doubled from try to try; of that, a wait is a random part.
    """

    encode: Callable[[Item, Account], bytes]
    wrap: Callable[[Sequence[bytes], Account], bytes]
    headers: Callable[[Account, bytes, str], Mapping[str, str]]
    most: int
    largest: int
    per_second: float
    timeout: float
    url: str | None = None
    failed: Callable[[Any, Sequence[Item]], Mapping[int, str]] = lambda answer, items: {}
    at_once: int = 4
    retry_unit: float = 1.0
    largest_item: int = 1_000_000
    tries: int = 6
    first_wait: float = 1.0


class Unfit(Exception):
    """An item that a tool cannot be told of; the text is the reason."""
