"""Everything that is held about a user, written for that person: JSON and CSV, with what each thing is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.calendar import day_of
from features.errors import InvalidUse, NoUsableData
from features.files import new_directory, read_json, write_bytes
from features.workspace import Workspace
from serving.ledger import Ledger
from serving.pointer import directory_of
from serving.privacy.databases import rows_in_ledger
from serving.privacy.models import first_seen, trained_with
from serving.privacy.needles import Needles
from serving.privacy.people import people_of
from serving.privacy.register import listed
from serving.privacy.releases import rows_in_releases
from serving.privacy.search import search
from serving.release import load_release

Rows = list[dict[str, Any]]
Page = tuple[str, Callable[[Workspace, Ledger, Needles], Rows]]


def export(workspace: Workspace, ledger: Ledger, user: str, out: Path) -> dict[str, int]:
    """Write a folder with everything that is held about a user under any of their ids; returns file -> rows.

    Each part is a `.json` and a `.csv` of the same rows; `README.md` says what each is.

    Raises:
        InvalidUse: the folder exists. NoUsableData: nothing is held.
    """
    if out.exists():
        raise InvalidUse(f"The folder {out} exists already. Name a new one, so that nobody's data are mixed.")
    people = people_of(workspace.log(workspace.shop()), [user])
    needles = Needles({*people.names, user})
    parts = {name: (what, rows) for name, (what, read) in PAGES.items() if (rows := read(workspace, ledger, needles))}
    marks = [row for row in listed(ledger) if row["mark"] in people.marks]
    if marks:
        parts["suppressions"] = ("Lists that keep this person out of something, by hash of the id: kind, reason, since when.", [dict(row) for row in marks])
    for table, found in rows_in_ledger(ledger, needles).items():
        parts[f"ledger-{table}"] = (f"Rows of the table `{table}` of the service's ledger that are about this person.", [dict(row) for row in found])
    if not parts:
        raise NoUsableData("Nothing is held about this user under any id that is known.")
    places = [{"place": place, "rows": rows} for place, rows in search(workspace, needles).places.items()]
    parts["places"] = ("Every file and table of the workspace in which one of the ids stands, and how often.", places)
    with new_directory(out.resolve()) as folder:
        for name, (_, rows) in parts.items():
            write_bytes(folder / f"{name}.json", (json.dumps(rows, indent=2, ensure_ascii=False, default=str) + "\n").encode())
            write_bytes(folder / f"{name}.csv", _csv(rows))
        write_bytes(folder / "README.md", _readme(workspace, sorted(people.names), {name: (what, len(rows)) for name, (what, rows) in parts.items()}).encode())
    out.chmod(0o700)
    return {name: len(rows) for name, (_, rows) in parts.items()}


# --- parts ----------------------------------------------------------------------------------------------------------


def _links(workspace: Workspace, ledger: Ledger, needles: Needles) -> Rows:
    return [dict(row) for row in workspace.log(workspace.shop()).stated_links().to_pylist() if {row["from_id"], row["to_id"]} & needles.names]


def _events(workspace: Workspace, ledger: Ledger, needles: Needles) -> Rows:
    mine = pc.field("user_id").isin(list(needles.names)) | pc.field("given_id").isin(list(needles.names))
    found = [row for part in workspace.log(workspace.shop()).parts for row in pq.read_table(part, filters=mine).to_pylist()]
    return sorted(({**row, "day": day_of(row["day"]), "known_day": day_of(row["known_day"])} for row in found), key=lambda row: row["occurred_at"])


def _days(workspace: Workspace, ledger: Ledger, needles: Needles) -> Rows:
    from features.tile_columns import DAY_COLUMNS

    shop = workspace.shop()
    if not workspace.log(shop).parts:
        return []
    tiles, found = workspace.tiles(shop), []
    for number in range(len(tiles)):
        bucket = tiles.bucket(number, ("days",))
        places = {place: name for place, name in enumerate(bucket.users.to_pylist()) if name in needles.names}
        for place, name in places.items():
            mine = bucket.days["user"] == place
            for day, column, value in zip(*(bucket.days[key][mine].tolist() for key in ("day", "column", "value")), strict=True):
                found.append({"user_id": name, "day": day_of(day), "what": DAY_COLUMNS[column].name, "value": value})
    return found


def _vectors(workspace: Workspace, ledger: Ledger, needles: Needles) -> Rows:
    found = []
    for path in sorted((workspace.root / "snapshots").glob("*/manifest.json")):
        manifest = read_json(path)
        words = {feature["name"]: feature for feature in (*manifest["features"], *manifest["labels"])}
        for row in pq.read_table(path.with_name("vectors.parquet"), filters=pc.field("user_id").isin(list(needles.names))).to_pylist():
            for name, value in row.items():
                if name in words and value is not None and value == value:  # NaN is no value
                    meaning = {"meaning": words[name]["meaning"], "value": value, "unit": words[name].get("unit", "")}
                    found.append({"user_id": row["user_id"], "as_of": manifest["as_of"], "feature": name, **meaning})
    return found


def _scores(workspace: Workspace, ledger: Ledger, needles: Needles) -> Rows:
    found = []
    for name, rows in rows_in_releases(workspace.releases, needles.names).items():
        release = load_release(directory_of(workspace.releases, name))
        for row in rows:
            told = {"user_id": release.users[row].decode(), "release": name, "as_of": release.manifest["as_of"]}
            for task, scores in release.scores.items():
                if scores.score[row] == scores.score[row]:
                    columns = {column: float(values[row]) for column, values in scores.columns().items() if column != "ordered"}
                    asked = release.bundles[task].about.get("question", "")
                    found.append({**told, "prediction": task, "question": asked, "withheld": row in release.withheld.rows, **columns})
    return found


def _runs(workspace: Workspace, ledger: Ledger, needles: Needles) -> Rows:
    mine = pc.field("user_id").isin(list(needles.names))
    found = []
    for part in sorted((workspace.root / "scores").glob("*/part-*.parquet")):
        found += [{"run": part.parent.name, **row} for row in pq.read_table(part, filters=mine).to_pylist()]
    return found


def _files(workspace: Workspace, ledger: Ledger, needles: Needles) -> Rows:
    """Rows of seeds, exports and every other table that lies in the workspace."""
    found = []
    for folder in ("seeds", "exports"):
        for path in sorted((workspace.root / folder).rglob("*")):
            for row in _rows_of(path, needles) if path.is_file() else ():
                found.append({"file": str(path.relative_to(workspace.root)), **row})
    return found


def _rows_of(path: Path, needles: Needles) -> Rows:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return [dict(row) for row in table.filter(needles.rows_of(table)).to_pylist()]
    if path.suffix == ".csv":
        with suppress(UnicodeDecodeError), path.open(newline="", encoding="utf-8") as file:
            rows = [{name: cell for name, cell in row.items() if name} for row in csv.DictReader(file)]
            return [row for row in rows if any(needles.is_one(cell, name) for name, cell in row.items())]
    if path.suffix in (".jsonl", ".json", ".ndjson"):
        return [{"line": line.strip()} for line in path.read_text(encoding="utf-8").splitlines() if needles.words_in(line.encode())]
    return []


def _models(workspace: Workspace, ledger: Ledger, needles: Needles) -> Rows:
    return trained_with(workspace, first_seen(workspace.log(workspace.shop()), needles.names))


PAGES: dict[str, Page] = {
    "identity": ("Which ids were found to be the same person, and since when that was known.", _links),
    "events": ("What the shop's systems told: one row for each event, and one with `sign` -1 for each that was taken back.", _events),
    "days": ("The same as sums for each day, from which all that follows is computed.", _days),
    "features": ("What was known of the person on certain dates, as the models see it, in words.", _vectors),
    "scores": ("What was predicted, in each release that is kept: score, percentile among all, and what was asked.", _scores),
    "score-runs": ("The same as it was written for other systems.", _runs),
    "files": ("Lists that the person is in: seeds of look-alikes, exports of audiences and scores.", _files),
    "models": ("Models whose training examples may hold this person. They keep no row and no id.", _models),
}


def _csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    rows, sink = list(rows), io.StringIO(newline="")
    names = list(dict.fromkeys(name for row in rows for name in row))
    sheet = csv.DictWriter(sink, names, quoting=csv.QUOTE_ALL, lineterminator="\n")
    sheet.writeheader()
    sheet.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return sink.getvalue().encode()


def _cell(value: Any) -> Any:
    text = "" if value is None else json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list | tuple) else str(value)
    return f"'{text}" if text[:1] in "=+-@\t\r" and text[1:] and not text[1:].replace(".", "").isdigit() else text  # a sheet would run it


def _readme(workspace: Workspace, names: list[str], parts: Mapping[str, tuple[str, int]]) -> str:
    lines = [f"# What {workspace.shop().name} holds about a user", "", f"Ids: {', '.join(names)}", ""]
    lines += [f"- `{name}.json`, `{name}.csv` ({rows:,} rows): {what}" for name, (what, rows) in parts.items()]
    money = "Money is in the currency's smallest unit (cents), but `value` of score runs in units of the currency"
    return "\n".join([*lines, "", f"{money}; times are UTC, dates are the shop's own.", ""])
