"""PySpark on two local cores runs the wide query once per cutoff. SPARK_PYTHON bench/peers/spark.py DATA --cutoffs N --out DIR

Runs in an environment of its own (requirements-spark.txt), hence the queries come as text: DATA/queries/N.sql, written by
`behaviour.py`. The session is started before the clock. CPU and memory are those of the Java process.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from measure import report
from pyspark.sql import SparkSession

from peers.arguments import peer_arguments, places

# As it comes, but for memory enough, partitions that suit two cores, and wide aggregates that are compiled at all.
SETTINGS = {
    "spark.driver.memory": "8g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "8",
    "spark.sql.codegen.maxFields": "2000",
    "spark.driver.extraJavaOptions": "-XX:-DontCompileHugeMethods",
}


def java() -> int:
    """The number of the Java process that this one started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, rest = stat.read_text().rsplit(")", 1)
        except OSError:
            continue
        parents[int(stat.parent.name)] = (int(rest.split()[1]), name)
    return next(number for number, (parent, name) in parents.items() if "java" in name and os.getpid() in (parent, parents.get(parent, (0, ""))[0]))


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    chosen = peer_arguments(__doc__)
    builder = SparkSession.builder.master("local[2]")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    process = java()
    for log_directory, out in places(chosen):
        began, cpu, rows, columns = time.perf_counter(), cpu_seconds(process), 0, 0
        session.read.parquet(str(log_directory / "parts")).createOrReplaceTempView("events")
        session.read.parquet(str(log_directory / "products")).createOrReplaceTempView("products")
        for number in range(chosen.cutoffs):
            queries = log_directory.parent / "queries"
            session.sql((queries / f"{number}.standing.sql").read_text()).cache().createOrReplaceTempView("standing")
            found = session.sql((queries / f"{number}.sql").read_text())
            found.write.parquet(str(out / f"{number}.parquet"), compression="lz4_raw")
            columns = len(found.columns) - 1
            session.catalog.clearCache()
        facts = {"seconds": time.perf_counter() - began, "seconds_cpu": cpu_seconds(process) - cpu}
        for number in range(chosen.cutoffs):
            rows += session.read.parquet(str(out / f"{number}.parquet")).count()
        facts |= {"rows": rows, "features": columns, "peak_mb": peak_mb(process)}
    session.stop()
    report(facts)


if __name__ == "__main__":
    main()
