"""Behaviour vectors at the moment of asking: events that come with a request go through the same code as the log's.

A user's vector from their events alone equals the one that a snapshot of the whole shop holds: the same ledger, tiles and
integers, the same finishing, judged by the norms that the snapshot stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import pyarrow as pa

from features import admission
from features.bucket import Bucket
from features.engine import Engine
from features.events import day_number
from features.identity import links_in, valid_links
from features.ledger import CONTENT, post
from features.norms import Norms
from features.shopfile import Shop
from features.snapshot import finish, parts_of
from features.tiles import supply_of
from features.tiling import bucket_of
from features.view import Feature
from features.vocabulary import LOG_SCHEMA
from features.windows import Plan, Reader


def tiles_of(events: pa.Table, products: pa.Table, shop: Shop) -> Bucket:
    """Events of EVENT_SCHEMA, in any order, as tiles.

    Raises:
        InvalidTable: they break the canonical schema; all problems are listed.
    """
    admission.check_events(events, "The request", shop.currency)
    rows, _ = admission.usable(events, {})
    links = valid_links(links_in(rows))
    posting = post(rows.select([*CONTENT, "known_at"]), LOG_SCHEMA.empty_table(), admission.cancellations(Engine(1), rows, []), links, None)
    return bucket_of(admission.localise(posting.rows, shop.zone), supply_of(products, shop))


def vectors_of(events: pa.Table, as_of: date, features: Sequence[Feature], norms: Norms, products: pa.Table, shop: Shop) -> tuple[list[str], dict[str, Any]]:
    """Users with a fact before `as_of`, and name -> values of every feature and label for them.

    Args:
        events: everything that the users ever did, as EVENT_SCHEMA. norms: of the snapshot that they are judged by.
    """
    bucket = tiles_of(events, products, shop)
    known, parts = Reader(bucket, Plan(parts_of(features), shop.interest), products).parts_at(day_number(as_of))
    return bucket.users.take(pa.array(known)).to_pylist(), finish(features, parts, norms)
