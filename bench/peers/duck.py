"""DuckDB runs the wide query once per cutoff, from the log's parts to Parquet. python bench/peers/duck.py DATA --cutoffs N --out DIR"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import duckdb
from generate import SHOP
from logs import monthly, open_log
from measure import report, timed

from features.events import day_number
from features.snapshot import catalogue
from peers.arguments import peer_arguments, places
from peers.sql import WideQuery


def main() -> None:
    chosen = peer_arguments(__doc__)
    for log_directory, out in places(chosen):
        log, facts = open_log(log_directory), {}
        files = ", ".join(f"'{path}'" for path in log.parts)
        products = log.directory / "products" / "products.parquet"
        with timed("seconds", facts):
            connection = duckdb.connect()
            connection.execute(f"SET temp_directory = '{out}'")
            rows = 0
            for cutoff in monthly()[-chosen.cutoffs :]:
                query = WideQuery(catalogue(SHOP, log.kinds), SHOP, day_number(cutoff), f"read_parquet([{files}])", f"read_parquet('{products}')")
                written = connection.execute(f"COPY ({query.text()}) TO '{out / f'{cutoff}.parquet'}' (FORMAT parquet, COMPRESSION lz4_raw)")
                rows += written.fetchall()[0][0]
        facts |= {"rows": rows, "features": len(query.names)}
    report(facts)


if __name__ == "__main__":
    main()
