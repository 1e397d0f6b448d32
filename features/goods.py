"""Goods: products that share a category, brand or department, and the names of the features that count their purchases."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from features.tile_columns import DIMENSIONS

BOUGHT, WINDOW = "bought", 365  # name of the view, days
FEATURE = re.compile(rf"{BOUGHT}_({'|'.join(DIMENSIONS)})_(.+)_{WINDOW}d")


@dataclass(frozen=True, order=True)
class Goods:
    """Products with one value of a dimension.

    Args:
        dimension: category, brand or department.
        name: the value in small letters, digits and underscores; values that read alike are the same goods.
        values: as the sources write it.
    """

    dimension: str
    name: str
    values: tuple[str, ...]

    @property
    def feature(self) -> str:
        """The feature that counts how often a user bought them."""
        return f"{BOUGHT}_{self.dimension}_{self.name}_{WINDOW}d"


def plain(value: str) -> str:
    """`FRZN PIZZA/SNACKS` -> `frzn_pizza_snacks`; letters of every script are kept, nothing else is left of a value of signs."""
    return re.sub(r"\W+", "_", unicodedata.normalize("NFKC", value).casefold()).strip("_")


def goods_of(products: pa.Table, dimension: str) -> list[Goods]:
    """All goods of a dimension that the products (PRODUCT_SCHEMA) have, by name."""
    values: dict[str, list[str]] = {}
    for value in sorted(pc.unique(products[dimension]).drop_null().to_pylist()):
        values.setdefault(plain(value), []).append(value)
    return [Goods(dimension, name, tuple(values[name])) for name in sorted(values) if name]


def goods_named(features: Iterable[str], products: pa.Table) -> list[Goods]:
    """The goods whose purchases the named features count; names of other features are passed over. Goods that no product
    belongs to (any more) were bought by nobody."""
    asked = sorted({found.groups() for found in map(FEATURE.fullmatch, features) if found})
    known = {(one.dimension, one.name): one for dimension in dict.fromkeys(dimension for dimension, _ in asked) for one in goods_of(products, dimension)}
    return [known.get((dimension, name), Goods(dimension, name, (name,))) for dimension, name in asked]
