"""`encore ingest` over files: folders and patterns, each file once, a quarantine with lines, a summary that adds up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from features.commands import build_vectors
from features.errors import NoUsableData
from features.explain import behind, named, rows_of
from features.ingest import files_of, ingest_sources, summary
from features.workspace import Workspace, open_workspace

SHOP = """
name = "Files"
zone = "UTC"
currency = "EUR"
[[sources]]
kind = "table"
path = "{path}"
rows = "orders"
time_zone = "UTC"
[sources.columns]
order_id = "order"
user_id = "user"
occurred_at = "at"
amount = "total"
"""
MONDAY = "order,user,at,total\n1,anna,2024-03-04 10:00,10.00\n2,ben,2024-03-04 11:00,20.00\n"
TUESDAY = "order,user,at,total\n3,anna,2024-03-05 10:00,5.50\n4,,2024-03-05 11:00,1.00\n5,ben,not a time,2.00\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Callable[..., Workspace]:
    def make(path: str, **files: str) -> Workspace:
        (tmp_path / "encore.toml").write_text(SHOP.format(path=path))
        for name, content in files.items():
            place = tmp_path / "days" / f"{name}.csv"
            place.parent.mkdir(exist_ok=True)
            place.write_text(content)
        return open_workspace(tmp_path, environment={})

    return make


@pytest.mark.parametrize("path", ["days", "days/*.csv", "days/o*.csv"])
def test_a_folder_or_a_pattern_is_its_files(workspace: Callable[..., Workspace], path: str) -> None:
    place = workspace(path, orders_1=MONDAY, orders_2=TUESDAY)
    ingest_sources(place)
    found = summary(place.log(place.shop()))
    assert (found["orders"], found["users"], found["revenue_cents"]) == (3, 2, 3550)
    assert (found["from"], found["to"], found["complete_until"]) == (date(2024, 3, 4), date(2024, 3, 5), date(2024, 3, 5))


def test_a_day_at_a_time_is_the_same_as_all_at_once(workspace: Callable[..., Workspace], tmp_path: Path) -> None:
    place = workspace("days", orders_1=MONDAY)
    ingest_sources(place)
    first = place.log(place.shop()).digest_before(date(2024, 3, 5))
    place = workspace("days", orders_2=TUESDAY)
    ingest_sources(place)
    log = place.log(place.shop())
    assert log.digest_before(date(2024, 3, 5)) == first
    other = tmp_path / "other"
    (other / "days").mkdir(parents=True)
    for name, content in {"b": TUESDAY, "a": MONDAY}.items():
        (other / "days" / f"{name}.csv").write_text(content)
    (other / "encore.toml").write_text(SHOP.format(path="days"))
    there = open_workspace(other, environment={})
    ingest_sources(there)
    assert there.log(there.shop()).digest == log.digest


def test_a_file_is_read_once(workspace: Callable[..., Workspace], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    place = workspace("days", orders_1=MONDAY)
    ingest_sources(place)
    before = place.log(place.shop()).digest
    monkeypatch.setattr("features.ingest.read_source", lambda *_: pytest.fail("the file was read again"))
    ingest_sources(place)
    assert place.log(place.shop()).digest == before


def test_what_is_left_out_is_listed_with_file_line_and_reason(workspace: Callable[..., Workspace]) -> None:
    place = workspace("days", orders_2=TUESDAY)
    ingest_sources(place)
    (listed,) = place.quarantine.iterdir()
    rows = pd.read_csv(listed)
    assert rows[["file", "line"]].to_numpy().tolist() == [["orders_2.csv", 3], ["orders_2.csv", 4]]
    assert rows["reason"].tolist() == ["no user id", "'at' is not an ISO 8601 time"]


def test_no_file_says_where_it_looked(workspace: Callable[..., Workspace]) -> None:
    with pytest.raises(NoUsableData, match=r"No file to read at 'nothing/\*.csv'"):
        ingest_sources(workspace("nothing/*.csv"))


def test_the_events_behind_a_value(workspace: Callable[..., Workspace]) -> None:
    place = workspace("days", orders_1=MONDAY, orders_2=TUESDAY)
    ingest_sources(place)
    shop = place.shop()
    log = place.log(shop)
    feature, known = named("orders_revenue_30d", shop, log.kinds, log.products())
    rows = rows_of(log, "anna", date(2024, 3, 6))
    assert behind(feature, known, rows, date(2024, 3, 6), shop)["value_cents"].tolist() == [550, 1000]
    with pytest.raises(NoUsableData, match="Nothing is known of the user 'Anna' before 2024-03-06"):
        rows_of(log, "Anna", date(2024, 3, 6))


def test_a_forgotten_user_is_gone_everywhere_and_stays_gone(workspace: Callable[..., Workspace]) -> None:
    place = workspace("days", orders_1=MONDAY, orders_2=TUESDAY)
    ingest_sources(place)
    build_vectors(place, date(2024, 3, 5))
    log = place.log(place.shop())
    assert log.bury(["ben"], "deleted") == 1
    place.drop_derived()
    assert b"ben" not in b"".join(path.read_bytes() for path in place.root.rglob("*.parquet"))
    workspace("days", orders_3=MONDAY.replace("2,ben", "7,ben"))
    ingest_sources(place)
    build_vectors(place, date(2024, 3, 5))
    shop = place.shop()
    assert place.snapshots.get(place.tiles(shop), date(2024, 3, 5)).user_ids.tolist() == ["anna"]


def test_a_suppressed_user_is_in_no_snapshot(workspace: Callable[..., Workspace]) -> None:
    place = workspace("days", orders_1=MONDAY, orders_2=TUESDAY)
    ingest_sources(place)
    log = place.log(place.shop())
    assert log.bury(["anna"], "suppressed") == 0
    assert place.snapshots.get(place.tiles(place.shop()), date(2024, 3, 5)).user_ids.tolist() == ["ben"]
    assert summary(log)["orders"] == 3  # their events stay


def test_files_that_are_packed_are_not_passed_over(workspace: Callable[..., Workspace], tmp_path: Path) -> None:
    place = workspace("days", orders_1=MONDAY)
    for name in ("a.json.gz", "b.log", "c.txt", "d.csv.part"):
        (tmp_path / "days" / name).touch()
    shop = place.shop()
    assert [Path(one["path"]).name for one in files_of(shop.sources[0], shop)] == ["a.json.gz", "b.log", "orders_1.csv"]


def test_less_memory_means_smaller_buckets_of_tiles_that_were_made_before(workspace: Callable[..., Workspace]) -> None:
    lines = "".join(f"{number},user-{number % 50:02d},2024-03-04 10:00,1.00\n" for number in range(100))
    place = workspace("days", orders_1="order,user,at,total\n" + lines)
    ingest_sources(place)
    shop = place.shop()
    whole, small = place.tiles(shop), place.tiles(shop, 25)
    assert (len(whole), len(small)) == (1, 4)
