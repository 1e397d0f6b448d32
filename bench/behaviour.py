"""Measures the feature pipeline, from the event log to snapshots, and writes bench/BEHAVIOUR.md.

    python bench/behaviour.py [--events 10_000_000] [--repeats 3] [--peers] [--large] [--data DIR] [--only SECTION ...]

Every piece of work runs in a process of its own. --peers adds DuckDB, pandas, PySpark and featuretools (the last two in
environments that are made in the data folder); --large adds 100 million events, which takes 15 GB of disk. With --data the
shops and the results stay there: what was measured before is shown again unless it is measured anew, so that the
sections of a long run can be taken one at a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agree import disagreements
from generate import SHOP
from logs import monthly, open_log, write_logs
from measure import Spent, best, run
from peers.sql import WideQuery
from render import page

from features.events import day_number
from features.snapshot import CATALOGUE_CODE, catalogue
from features.tiles import TILES_CODE

PAGE = Path(__file__).with_name("BEHAVIOUR.md")
PEERS = Path(__file__).with_name("peers")
TINY, SMALL, LARGE, SEED = 5_000, 1_000_000, 100_000_000, 7
Works = dict[str, Callable[[], Spent]]


class Bench:
    """The data folder: shops by number of events, environments of peers, results."""

    def __init__(self, folder: Path, repeats: int) -> None:
        self.folder, self.repeats = folder, repeats
        self.results: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}

    @property
    def _file(self) -> Path:
        return self.folder / "results.json"

    def shop(self, events: int, daily: bool = False) -> Path:
        """A generated shop of about so many events; a tiny one, for warming up, lies beside it."""
        write_logs(self.folder / "tiny", TINY, SEED, daily=True)
        write_logs(self.folder / str(events), events, SEED, daily)
        return self.folder / str(events)

    def measure(self, section: str, works: Works, repeats: int | None = None) -> None:
        """Run the works in turn, several times over, and keep the results under the section's name."""
        runs: dict[str, list[Spent]] = {name: [] for name in works}
        for number in range(repeats or self.repeats):
            for name, work in works.items():
                say(f"{section}: {name}, run {number + 1}")
                runs[name].append(work())
                say(f"    {runs[name][-1].seconds:.2f} s, {runs[name][-1].cpu:.2f} CPU s, {runs[name][-1].memory_mb:.0f} MB")
        every = {name: [asdict(run) for run in found] for name, found in runs.items()}
        self.keep(section, {**every, "best": {name: asdict(best(found)) for name, found in runs.items()}})

    def keep(self, section: str, found: dict[str, Any]) -> None:
        self.results[section] = found | {"measured": time.strftime("%Y-%m-%d"), "code": f"{TILES_CODE[:6]}-{CATALOGUE_CODE[:6]}"}
        self._file.write_text(json.dumps(self.results, indent=1))

    def python(self, name: str) -> str:
        """The interpreter of a peer's own environment, made when it is first wanted."""
        folder = self.folder / f"environment-{name}"
        if not (folder / "done").exists():
            say(f"installing {name}")
            venv.create(folder, with_pip=True, clear=True)
            subprocess.run([folder / "bin" / "pip", "install", "--quiet", "-r", PEERS / f"requirements-{name}.txt"], check=True, stdout=subprocess.DEVNULL)
            (folder / "done").touch()
        return str(folder / "bin" / "python")


def main_numbers(bench: Bench, events: int) -> None:
    """Scan, one cutoff, twelve cutoffs, a day's refresh and what it saves."""
    data = str(bench.shop(events, daily=True))
    works: Works = {
        "scan": lambda: run("jobs.py", "scan_duckdb", data),
        "scan, pyarrow": lambda: run("jobs.py", "scan_pyarrow", data),
        "scan, numbers only": lambda: run("jobs.py", "scan_duckdb", data, "--numbers-only"),
        "one cutoff": lambda: run("jobs.py", "build", data),
        "twelve cutoffs": lambda: run("jobs.py", "build", data, "--cutoffs", "12"),
        "refresh": lambda: run("jobs.py", "refresh", data),
        "recompute": lambda: run("jobs.py", "build", data, "--end"),
    }
    bench.measure("main", works)
    bench.keep("main", {**bench.results["main"], "events": open_log(Path(data) / "whole").manifest["parts"][0]["rows"]})


def stages(bench: Bench, events: int) -> None:
    """Which functions take the time."""
    data = str(bench.shop(events, daily=True))
    found = {str(cutoffs): run("stages.py", data, "--cutoffs", str(cutoffs)).facts["stages"] for cutoffs in (1, 12)}
    bench.keep("stages", {"cutoffs": found})


def write_queries(data: Path) -> None:
    """What Spark, which has no Encore in its environment, is to run: latest cutoff first."""
    log, folder = open_log(data / "whole"), data / "queries"
    folder.mkdir(exist_ok=True)
    for number, cutoff in enumerate(reversed(monthly())):
        query = WideQuery(catalogue(SHOP, log.kinds), SHOP, day_number(cutoff), "events", "products")
        (folder / f"{number}.standing.sql").write_text(query.standing())
        (folder / f"{number}.sql").write_text(query.text(standing=True))


def agreement(bench: Bench, events: int) -> None:
    """Hold the peers' numbers against ours before anything is timed.

    Raises:
        SystemExit: a feature differs for some user.
    """
    data, found = bench.shop(SMALL, daily=True), {}
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        run("jobs.py", "build", str(data), "--keep", f"{folder}/ours")
        ours = next(Path(folder).glob("ours/snapshots/*/vectors.parquet"))
        for name in ("duck", "frames"):
            spent = run(f"peers/{name}.py", str(data), "--out", f"{folder}/{name}")
            if different := disagreements(ours, next(Path(folder, name).glob("*.parquet"))):
                raise SystemExit(f"{name} and Encore do not agree: {different}")
            found[name] = {"users": spent.facts["rows"], "features": spent.facts["features"]}
            say(f"{name} agrees with Encore on {spent.facts['features']} features of {spent.facts['rows']:,} users")
    bench.keep("agreement", found)


def peers_one(bench: Bench, events: int) -> None:
    """The peers that can be trusted with so many events, one cutoff."""
    data = str(bench.shop(events, daily=True))
    works: Works = {
        "Encore": lambda: run("jobs.py", "build", data),
        "DuckDB": lambda: run("peers/duck.py", data),
        "pandas": lambda: run("peers/frames.py", data),
    }
    bench.measure("peers, one cutoff", works)


def peers_twelve(bench: Bench, events: int) -> None:
    """DuckDB runs its query twelve times."""
    data = str(bench.shop(events, daily=True))
    works: Works = {"Encore": lambda: run("jobs.py", "build", data, "--cutoffs", "12"), "DuckDB": lambda: run("peers/duck.py", data, "--cutoffs", "12")}
    bench.measure("peers, twelve cutoffs", works)


def peers_small(bench: Bench, events: int) -> None:
    """All peers on fewer events: PySpark and featuretools in environments of their own."""
    small = str(bench.shop(SMALL, daily=True))
    spark, deep = bench.python("spark"), bench.python("featuretools")
    for place in (small, str(bench.folder / "tiny")):
        write_queries(Path(place))
    works: Works = {
        "Encore": lambda: run("jobs.py", "build", small),
        "pandas": lambda: run("peers/frames.py", small),
        "PySpark": lambda: run("peers/spark.py", small, python=spark),
        "featuretools": lambda: run("peers/deep.py", small, python=deep),
    }
    bench.measure("peers, 1 M events", works)


def large(bench: Bench, events: int) -> None:
    """A hundred million events, twelve cutoffs: as it comes, and with little memory."""
    data = str(bench.shop(LARGE))
    works: Works = {
        "as it comes": lambda: run("jobs.py", "build", data, "--cutoffs", "12"),
        "with 1.5GB": lambda: run("jobs.py", "build", data, "--cutoffs", "12", "--memory", "1.5GB"),
    }
    bench.measure("large", works, repeats=1)


SECTIONS: dict[str, Callable[[Bench, int], None]] = {
    "main": main_numbers,
    "stages": stages,
    "agreement": agreement,
    "peers-one": peers_one,
    "peers-twelve": peers_twelve,
    "peers-small": peers_small,
    "large": large,
}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def number(text: str) -> int:
    return int(text.replace("_", "").replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=number, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", choices=tuple(SECTIONS), nargs="+")
    parser.add_argument("--data", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = chosen.data or Path(folder)
        data.mkdir(parents=True, exist_ok=True)
        bench = Bench(data.resolve(), chosen.repeats)
        standard = [name for name in SECTIONS if (chosen.peers or name in ("main", "stages", "large")) and (chosen.large or name != "large")]
        for name in chosen.only or standard:
            SECTIONS[name](bench, chosen.events)
        PAGE.write_text(page(bench.results), encoding="utf-8")


if __name__ == "__main__":
    main()
