"""featuretools makes features of the same kinds, one cutoff. FEATURETOOLS_PYTHON bench/peers/deep.py DATA

Runs in an environment of its own (requirements-featuretools.txt). It has no shares of the top product, no entropies and no
gaps between days out of the box, so it makes what it can: per window, the count of each kind of event, sums and means of
the amounts, numbers of different values and time since the last event.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import featuretools as ft
import pandas as pd
import pyarrow.parquet as pq
from measure import report, timed

from peers.arguments import peer_arguments, places

CUT = pd.Timestamp("2025-02-01")  # the last of the monthly cutoffs
WINDOWS = (30, 90, 365)
TEXTS = ("user_id", "event", "product_id", "campaign", "source")
NUMBERS = ("value_cents", "discount_cents", "coupon_cents", "quantity", "level")


def read(folder: Path) -> pd.DataFrame:
    """The events that count before the cutoff."""
    columns = ["event_id", *TEXTS, *NUMBERS, "order_id", "occurred_at", "known_at", "sign"]
    rows = pq.read_table(folder, columns=columns, read_dictionary=list(TEXTS)).to_pandas()
    for name in ("occurred_at", "known_at"):
        rows[name] = rows[name].dt.tz_localize(None)
    rows = rows[rows["known_at"] < CUT]
    gone = rows.loc[(rows["sign"] < 0) & (rows["event"] == "order"), "order_id"]
    cancelled = rows["event"].isin(["order", "order_item"]) & rows["order_id"].isin(gone)
    return rows[(rows["sign"] > 0) & ~cancelled].drop(columns=["known_at", "sign", "order_id"])


def features(events: pd.DataFrame) -> pd.DataFrame:
    entities = ft.EntitySet("shop")
    kinds = dict.fromkeys(TEXTS[1:], "Categorical") | dict.fromkeys(NUMBERS, "Double")
    entities = entities.add_dataframe(dataframe_name="events", dataframe=events, index="event_id", time_index="occurred_at", logical_types=kinds)
    entities = entities.normalize_dataframe(base_dataframe_name="events", new_dataframe_name="users", index="user_id", make_time_index=False)
    entities.add_interesting_values(dataframe_name="events", values={"event": sorted(events["event"].dropna().unique())})
    found = []
    for window in WINDOWS:
        matrix, _ = ft.dfs(
            entityset=entities, target_dataframe_name="users", cutoff_time=CUT, training_window=ft.Timedelta(window, "d"), max_depth=1, n_jobs=1,
            agg_primitives=["count", "sum", "mean", "num_unique", "time_since_last"], where_primitives=["count"], trans_primitives=[],
        )  # fmt: skip
        found.append(matrix.add_suffix(f"_{window}d"))
    return pd.concat(found, axis=1)


def main() -> None:
    chosen = peer_arguments(__doc__)
    for log_directory, out in places(chosen):
        facts: dict[str, float] = {}
        with timed("seconds", facts):
            frame = features(read(log_directory / "parts"))
            frame.to_parquet(out / "features.parquet", compression="lz4")
        facts |= {"rows": len(frame), "features": frame.shape[1]}
    report(facts)


if __name__ == "__main__":
    main()
