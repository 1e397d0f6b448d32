"""What the events of a request need of the shop to become a vector: two small files of the release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from features.conditions import features_in
from features.files import digest_of, read_json, sha256_of_bytes, write_json
from features.norms import Norms
from features.shopfile import Shop
from serving.arrow import read_arrow, write_arrow

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from features.histories import Histories
    from features.snapshot import Snapshot
    from features.tiles import Tiles
    from training.bundle import Bundle

    Models = Mapping[str, tuple[Bundle, npt.NDArray[np.bool_], Mapping[str, Any]]]

FACTS, PRODUCTS = "shop.json", "products.arrow"


@dataclass(frozen=True)
class ShopFacts:
    """code: digest of the code that makes vectors. shop: what of its settings shapes features. kinds: of events in its log. norms: of the
    snapshot. products: product_id (sorted), category, brand, department and lasts, the minutes that one piece lasts, 0 where nobody says."""

    code: str
    shop: Shop
    kinds: frozenset[str]
    norms: Norms
    products: pa.Table

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.products.schema) as stream:
            stream.write_table(self.products)
        return digest_of([self.described(), sha256_of_bytes(sink.getvalue())])

    def described(self) -> dict[str, Any]:
        """All but the products, as JSON values."""
        shop = self.shop
        settings: dict[str, Any] = {"zone": shop.zone, "currency": shop.currency, "interest": {level: list(events) for level, events in shop.interest.items()}}
        settings |= {"attributes": list(shop.attributes), "tiers": list(shop.tiers), "daily_use": dict(shop.daily_use)}
        return {"code": self.code, "shop": settings, "kinds": sorted(self.kinds), "norms": self.norms.describe()}


def facts_of(tiles: Tiles, snapshot: Snapshot) -> ShopFacts:
    """The facts behind a snapshot; for who publishes, where everything is installed."""
    from features.requests import CODE
    from features.tiles import supply_of

    supply, known = supply_of(tiles.products, tiles.shop), tiles.products
    others = sorted(set(supply) - set(known["product_id"].to_pylist()))  # the shop file may name products that the catalogue does not have
    known = pa.concat_tables([known, pa.table({"product_id": pa.array(others, pa.string())})], promote_options="default").sort_by("product_id")
    lasts = pa.array([supply.get(name, 0) for name in known["product_id"].to_pylist()], pa.int64())
    products = known.append_column("lasts", lasts).combine_chunks()
    return ShopFacts(CODE, tiles.shop, tiles.log.kinds, Norms(**snapshot.manifest["norms"]), products)


def histories_behind(tiles: Tiles, snapshot: Snapshot, facts: ShopFacts, models: Models) -> Histories:
    """The histories of a snapshot's users, as far back as the features of some models and of whom they are about look."""
    from features.history_rows import histories_of

    names = sorted({name for bundle, _, told in models.values() for name in (*bundle.features, *features_in(told.get("asks") or {}))})
    users, products = (column.combine_chunks() for column in (snapshot.table["user_id"], facts.products["product_id"]))
    return histories_of(tiles, users, snapshot.as_of, names, products)


def write_facts(facts: ShopFacts, folder: Path) -> None:
    write_json(folder / FACTS, facts.described())
    columns = {name: facts.products[name].combine_chunks() for name in facts.products.column_names}
    write_arrow(folder / PRODUCTS, {name: column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks) for name, column in columns.items()})


def read_facts(folder: Path) -> ShopFacts:
    """What `write_facts` wrote, the products mapped into memory.

    Raises:
        KeyError, TypeError, ValueError: it is not that.
    """
    found: Mapping[str, Any] = read_json(folder / FACTS)
    told = found["shop"]
    shop = Shop(
        name="",
        zone=told["zone"],
        currency=told["currency"],
        interest={level: tuple(events) for level, events in told["interest"].items()},
        attributes=tuple(told["attributes"]),
        tiers=tuple(told["tiers"]),
        daily_use=told["daily_use"],
    )
    return ShopFacts(found["code"], shop, frozenset(found["kinds"]), Norms(**found["norms"]), pa.table(read_arrow(folder / PRODUCTS)))
