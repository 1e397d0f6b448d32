"""What happened: what users did in a period, as frames. Labels, cycles and reports are made of it; features never are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from features.bucket import Bucket, statements
from features.tile_columns import DAY_CODES, DIMENSIONS, KEY_CODES
from features.vocabulary import PROPERTIES

if TYPE_CHECKING:
    from features.tiles import Tiles


@dataclass(frozen=True)
class Window:
    """What the users did in `start <= day < end`, as frames; by what was known before the day `known_before`."""

    tiles: Tiles
    start: int
    end: int
    known_before: int = 2**31 - 1

    def days(self, column: str) -> pd.DataFrame:
        """user_id, day and value, where the column of the day tiles is above zero."""
        return self._frame("days", DAY_CODES[column], [])

    def keys(self, column: str) -> pd.DataFrame:
        """user_id, day, key and value, where the column counted per product, campaign, ... is above zero."""
        return self._frame("keys", KEY_CODES[column], ["key"])

    def rises(self) -> pd.DataFrame:
        """user_id and day of every change of the membership level to a higher one than before."""
        frames = [pd.DataFrame({"user_id": pd.Series(dtype="str"), "day": pd.Series(dtype="int32")})]
        for part in (_cached_bucket(self.tiles, number) for number in range(len(self.tiles))):
            said = pd.DataFrame({**part.changes, "statement": statements(part.changes)})
            names = part.names.to_pylist()
            said = said[(said["name"] == (names.index("tier") if "tier" in names else -1)) & (said["day"] < self.end) & (said["known"] < self.known_before)]
            stands = said.groupby("statement", as_index=False).agg(
                user=("user", "first"), day=("day", "first"), level=("level", "first"), value=("value", "sum")
            )
            stands = stands[stands["value"] > 0]  # in order of user and moment
            higher = stands["level"] > stands.groupby("user")["level"].shift(1)
            mine = stands[higher & (stands["day"] >= self.start)]
            frames.append(pd.DataFrame({"user_id": part.users.take(pa.array(mine["user"])).to_pandas().to_numpy(), "day": mine["day"].to_numpy()}))
        return pd.concat(frames[1:] or frames, ignore_index=True)

    def events(self, event: str, where: Mapping[str, Any]) -> pd.DataFrame:
        """user_id and day of every event of a kind that stands and whose properties fit.

        Args:
            where: property -> one text, a list of texts, or {"at_least": number, "at_most": number}; product_id, campaign,
                channel, source, medium, detail, quantity, value_cents, level, and category, brand, department of the product.
        """
        is_asked = (pc.field("event") == event) & (pc.field("day") >= self.start) & (pc.field("day") < self.end)
        wanted = is_asked & (pc.field("known_day") < self.known_before)
        columns = ["user_id", "event_id", "day", "sign", *(name for name in PROPERTIES if name not in DIMENSIONS)]
        rows = ds.dataset([str(path) for path in self.tiles.log.parts]).to_table(columns=columns, filter=wanted).to_pandas()
        if any(name in DIMENSIONS for name in where):
            rows = rows.merge(self.tiles.products.to_pandas(), on="product_id", how="left")
        for name, allowed in where.items():
            rows = rows[_fits(rows[name], allowed)]
        stands = rows.groupby(["user_id", "event_id", "day"], as_index=False)["sign"].sum()
        kept: pd.DataFrame = stands.loc[stands["sign"] > 0, ["user_id", "day"]].reset_index(drop=True)
        return kept

    def _frame(self, table: str, code: int, more: list[str]) -> pd.DataFrame:
        frames = [
            pd.DataFrame({"user_id": pd.Series(dtype="str"), "day": pd.Series(dtype="int32"), **dict.fromkeys(more, pd.Series(dtype="str"))}).assign(value=0)
        ]
        for part in (_cached_bucket(self.tiles, number) for number in range(len(self.tiles))):
            rows = getattr(part, table)
            mine = (rows["column"] == code) & (rows["day"] >= self.start) & (rows["day"] < self.end) & (rows["known"] < self.known_before)
            frame = pd.DataFrame({name: rows[name][mine] for name in ("user", "day", *more, "value")})
            frame = frame.groupby(["user", "day", *more], as_index=False).agg(value=("value", "sum"))
            frame = frame[frame["value"] > 0]
            words = {"user_id": part.users.take(pa.array(frame["user"])).to_pandas().to_numpy()}
            if more:
                words["key"] = part.key_names.take(pa.array(frame["key"])).to_pandas().to_numpy()
            frames.append(frame.assign(**words)[["user_id", "day", *more, "value"]])
        return pd.concat(frames[1:] or frames, ignore_index=True)


@lru_cache(maxsize=2)
def _cached_bucket(tiles: Tiles, number: int) -> Bucket:
    """A small shop's few buckets are asked for dozens of windows in turn."""
    return tiles.bucket(number)


def _fits(column: pd.Series[Any], allowed: Any) -> pd.Series[bool]:
    if isinstance(allowed, Mapping):
        return column.ge(allowed.get("at_least", float("-inf"))) & column.le(allowed.get("at_most", float("inf")))
    return column.isin([allowed] if isinstance(allowed, str) else list(allowed))
