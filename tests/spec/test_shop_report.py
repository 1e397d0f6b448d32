"""The shop report: every number on a shop that a person can check, and on the simulated one against plain loops."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
from matplotlib.container import ErrorbarContainer
from typer.testing import CliRunner

import encore
from features.errors import NoUsableData
from features.events import EPOCH, EventLog
from features.ingest import ingest_sources
from features.shop import SimulatedShop, simulate
from features.shopfile import Shop
from features.sources.batch import Batch
from features.store import SnapshotStore
from features.tiles import open_tiles
from features.workspace import open_workspace
from training.shop_page import shop_page, write_report
from training.shop_plots import repeat_curve
from training.shop_report import LAST_NUMBER, WITHIN, Report, shop_report
from training.shop_value import LAYERS

MakeLog = Callable[..., EventLog]
AS_OF = date(2024, 4, 1)


def order(user: str, day: str, euros: int, name: str | None = None) -> dict[str, Any]:
    return {"user_id": user, "event": "order", "occurred_at": f"2024-{day} 10:00", "value_cents": 100 * euros, "order_id": name or f"{user}-{day}"}


def view(user: str, day: str) -> dict[str, Any]:
    return {"user_id": user, "event": "product_view", "occurred_at": f"2024-{day} 09:00"}


# Ann ordered on three days, twice on the first of them; Ben on two; Cem's only other order was cancelled; Dee and Eve
# ordered once, Eve two days before the end; Fay only looks. Ben's second order had no visit.
SHOP = [
    view("ann", "01-01"), order("ann", "01-01", 10), order("ann", "01-01", 20, "ann again"),
    view("ann", "01-10"), order("ann", "01-11", 30), view("ann", "02-20"), order("ann", "02-20", 40),
    order("ben", "01-05", 50), order("ben", "01-25", 50),
    order("cem", "01-05", 15), order("cem", "01-06", 99, "mistake"),
    {"user_id": "cem", "event": "order_cancelled", "order_id": "mistake", "occurred_at": "2024-01-07 10:00"}, view("cem", "01-20"),
    order("dee", "02-10", 25),
    order("eve", "03-30", 60), view("eve", "03-31"),
    view("fay", "01-02"), view("fay", "03-02"),
]  # fmt: skip


def report_of(log: EventLog, shop: Shop, folder: Path, as_of: date) -> Report:
    tiles = open_tiles(log, shop, folder / "tiles")
    return shop_report(tiles, SnapshotStore(folder / "snapshots").get(tiles, as_of, 1))


@pytest.fixture(scope="module")
def small(make_log: MakeLog, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report_of(make_log(SHOP, complete_until=AS_OF), shop, tmp_path_factory.mktemp("small"), AS_OF)


@pytest.fixture(scope="module")
def simulated() -> SimulatedShop:
    """Smaller than the shared one, as it is counted event by event."""
    return simulate(users=500, days=300, seed=5)


@pytest.fixture(scope="module")
def simulated_report(simulated: SimulatedShop, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report_of(log_of(simulated.batch, tmp_path_factory.mktemp("log")), shop, tmp_path_factory.mktemp("made"), simulated.batch.complete_until)


def log_of(batch: Batch, folder: Path) -> EventLog:
    log = EventLog(folder, "UTC", "EUR")
    log.append(batch)
    return log


def test_the_repeat_curve_counts_order_days_and_beside_them_orders(small: Report) -> None:
    curve = small["repeat_curve"]
    assert [(row["customers"], row["returned"]) for row in curve] == [(5, 2), (2, 1), (1, 0)]
    assert [(row["by_orders"]["customers"], row["by_orders"]["returned"]) for row in curve] == [(5, 2), (2, 1), (1, 1)]  # Ann's four orders
    assert curve[0]["share"]["value"] == 0.4
    assert curve[0]["share"]["low"] == pytest.approx(0.1176, abs=1e-4)  # Wilson for 2 of 5, as printed in textbooks
    assert curve[0]["share"]["high"] == pytest.approx(0.7693, abs=1e-4)


def test_who_is_still_waiting_leaves_the_estimate_when_nobody_knows_any_more(small: Report) -> None:
    within = small["repeat_curve"][0]["within_days"]
    # After 10 days Ann of five is back; Eve is known for a day only, so Ben on day 20 is one of three others: 1 - 3/4 x 2/3.
    assert within["30"]["value"] == pytest.approx(1 - 3 / 4 * 2 / 3)
    assert within["60"]["value"] == pytest.approx(0.5)
    assert within["90"] == {"value": None, "low": None, "high": None}  # Cem, the longest watched, is known for 86 days
    assert small["repeat_curve"][0]["watched_for_days"] == {"30": 4, "60": 3, "90": 1, "180": 0, "365": 0}


def test_a_second_order_is_a_return_times_a_conversion(small: Report) -> None:
    second = small["second_order"]
    assert second["horizon_days"] == 30  # too few repurchasers for a cycle
    assert (second["first_orders"], second["still_open"]) == (4, 1)  # Eve's thirty days are not over
    assert (second["returned"], second["ordered"], second["ordered_unseen"]) == (3, 2, 1)  # Cem came and did not buy; Ben was not seen
    rates = [second[name]["value"] for name in ("return_rate", "conversion_after_return", "second_order_rate")]
    assert rates == [3 / 4, 2 / 3, 2 / 4]


def test_a_first_order_counts_from_the_day_on_which_its_window_is_over(make_log: MakeLog, shop: Shop, tmp_path: Path) -> None:
    log = make_log(SHOP, complete_until=AS_OF)
    on_time, early = (report_of(log, shop, tmp_path, day)["second_order"] for day in (date(2024, 2, 1), date(2024, 1, 31)))
    assert (on_time["first_orders"], on_time["still_open"]) == (1, 2)  # Ann's thirty days end with January
    assert (early["first_orders"], early["still_open"]) == (0, 3)


def test_the_gmv_equation_holds_in_every_month(small: Report) -> None:
    months = small["months"]
    assert [month["month"] for month in months] == ["2024-01", "2024-02", "2024-03"]
    assert [month["visitors"] for month in months] == [4, 2, 2]
    assert [month["buyers"] for month in months] == [3, 2, 1]
    assert [month["revenue_cents"] for month in months] == [17_500, 6_500, 6_000]
    assert [(month["new"]["revenue_cents"], month["returning"]["revenue_cents"]) for month in months] == [(17_500, 0), (2_500, 4_000), (6_000, 0)]
    assert [(month["new"]["customers"], month["returning"]["customers"]) for month in months] == [(3, 0), (1, 1), (1, 0)]
    for month in months:
        product = month["visitors"] * month["conversion"]["value"] * month["orders_per_buyer"] * month["average_order_cents"]
        assert product == pytest.approx(month["revenue_cents"])


def test_value_groups_and_layers_hold_every_customer_once(small: Report) -> None:
    groups = {group["name"]: group for group in small["value_groups"]["groups"]}
    # Medians: last order 51 days ago (Dee), one order, 60 euros. Eve bought lately; Dee too, as 51 is not above 51.
    assert small["value_groups"]["split_at"] == {"recency_days": 51, "orders": 1, "spend_cents": 6_000}
    assert {name: group["customers"] for name, group in groups.items() if group["customers"]} == {
        "champion": 1, "valuable, to win back": 1, "new": 2, "lost": 1
    }  # fmt: skip
    assert len(groups) == 8
    assert groups["champion"]["revenue_share"] == 10_000 / 30_000
    assert groups["new"]["share"] == 2 / 5
    layers = {group["name"]: group["customers"] for group in small["layers"]["groups"]}
    # With a cycle of 30 days, and 33.33 euros the mean of the single orders: Eve is new, Cem and Dee cool, Ben is lapsing.
    assert layers == {"new, high value": 1, "cooling, low value": 2, "super user": 1, "lapsing": 1}
    assert small["layers"]["visitors"] == 1


def test_the_basis_says_what_is_there_and_where_nothing_is(small: Report) -> None:
    basis = small["basis"]
    assert (basis["users"], basis["customers"], basis["orders"], basis["order_days"], basis["revenue_cents"]) == (6, 5, 9, 8, 30_000)
    assert (basis["first_order_day"], basis["last_order_day"], basis["first_visit_day"]) == ("2024-01-01", "2024-03-30", "2024-01-01")
    assert (basis["days"], basis["days_without_order"]) == (91, 91 - 7)  # Ben and Cem first ordered on the same day
    assert basis["longest_pauses"][0] == {"from": "2024-02-21", "days": 38}
    assert sum(basis["without_order_by_weekday"].values()) == 84


def test_without_visits_the_page_says_so_and_without_orders_there_is_none(make_log: MakeLog, shop: Shop, tmp_path: Path) -> None:
    silent = report_of(make_log([event for event in SHOP if event["event"] != "product_view"], complete_until=AS_OF), shop, tmp_path / "silent", AS_OF)
    assert silent["second_order"]["return_rate"] is None
    assert silent["second_order"]["second_order_rate"]["value"] == 2 / 4
    assert all(month["visitors"] is None and month["conversion"] is None for month in silent["months"])
    assert "no sessions, page views or product views" in shop_page(silent)
    early = make_log([{**view("fay", "01-02"), "occurred_at": "2023-12-30"}], complete_until=AS_OF)
    with pytest.raises(NoUsableData, match="no valid order before 2024-01-01"):
        report_of(early, shop, tmp_path / "none", date(2024, 1, 1))


def test_first_orders_before_visits_were_recorded_say_nothing_of_returns(make_log: MakeLog, shop: Shop, tmp_path: Path) -> None:
    late = [event for event in SHOP if event["event"] != "product_view" or event["occurred_at"] > "2024-02-01"]
    found = report_of(make_log(late, complete_until=AS_OF), shop, tmp_path, AS_OF)
    assert found["second_order"]["visits_known_since"] == "2024-02-20"
    assert found["second_order"]["first_orders"] == 0  # Dee's is ten days older than the first visit, Eve's is still open
    assert [month["visitors"] for month in found["months"]] == [None, None, 2]


# --- the simulated shop against plain loops ---------------------------------------------------------------------------


def valid_orders(batch: Batch, as_of: date) -> dict[str, dict[int, list[int]]]:
    """user -> day -> cents of each valid order before a date, read from the raw events one by one."""
    rows = batch.events.select(["event", "user_id", "order_id", "occurred_at", "value_cents"]).to_pylist()
    rows = [row for row in rows if row["occurred_at"].date() < as_of]
    cancelled = {row["order_id"] for row in rows if row["event"] == "order_cancelled"}
    found: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["event"] == "order" and row["order_id"] not in cancelled:
            found[row["user_id"]][(row["occurred_at"].date() - EPOCH).days].append(row["value_cents"])
    return found


def test_the_curve_of_the_simulated_shop_is_that_of_a_plain_count(simulated: SimulatedShop, simulated_report: Report) -> None:
    users = valid_orders(simulated.batch, simulated.batch.complete_until).values()
    days, counts = [len(orders) for orders in users], [sum(map(len, orders.values())) for orders in users]
    for number, row in enumerate(simulated_report["repeat_curve"], 1):
        assert (row["customers"], row["returned"]) == (sum(n >= number for n in days), sum(n > number for n in days))
        assert (row["by_orders"]["customers"], row["by_orders"]["returned"]) == (sum(n >= number for n in counts), sum(n > number for n in counts))
    assert number == LAST_NUMBER
    assert simulated_report["basis"]["orders"] == sum(counts)
    assert simulated_report["basis"]["revenue_cents"] == sum(sum(cents) for orders in users for cents in orders.values())


def test_the_estimate_of_the_simulated_shop_is_the_product_over_days(simulated: SimulatedShop, simulated_report: Report) -> None:
    end = (simulated.batch.complete_until - EPOCH).days
    firsts = [sorted(orders) for orders in valid_orders(simulated.batch, simulated.batch.complete_until).values()]
    for within in WITHIN:
        still = 1.0
        for day in range(1, within + 1):
            at_risk = [days for days in firsts if (len(days) == 1 or days[1] - days[0] >= day) and days[0] + day < end]
            back = sum(len(days) > 1 and days[1] - days[0] == day for days in at_risk)
            still *= 1 - back / len(at_risk) if at_risk else 1.0
        found = simulated_report["repeat_curve"][0]["within_days"][str(within)]["value"]
        assert found == (pytest.approx(1 - still) if at_risk else None)  # the shop is younger than a year


def test_the_second_order_of_the_simulated_shop_is_that_of_a_plain_count(simulated: SimulatedShop, simulated_report: Report) -> None:
    until = simulated.batch.complete_until
    horizon, end = simulated_report["second_order"]["horizon_days"], (until - EPOCH).days
    seen = defaultdict(set)
    for row in simulated.batch.events.select(["event", "user_id", "occurred_at"]).to_pylist():
        if row["event"] in ("session_start", "page_view", "product_view"):
            seen[row["user_id"]].add((row["occurred_at"].date() - EPOCH).days)
    n = came = bought = 0
    for user, orders in valid_orders(simulated.batch, until).items():
        first = min(orders)
        if first + horizon < end:
            after = range(first + 1, first + horizon + 1)
            ordered = any(day in orders for day in after)
            n, came, bought = n + 1, came + (ordered or any(day in seen[user] for day in after)), bought + ordered
    found = simulated_report["second_order"]
    assert (found["first_orders"], found["returned"], found["ordered"]) == (n, came, bought)
    assert found["return_rate"]["value"] * found["conversion_after_return"]["value"] == pytest.approx(found["second_order_rate"]["value"])


def test_months_and_groups_of_the_simulated_shop_add_up(simulated_report: Report) -> None:
    basis = simulated_report["basis"]
    for name, total in (("orders", basis["orders"]), ("revenue_cents", basis["revenue_cents"])):
        assert sum(month[name] for month in simulated_report["months"]) == total
        assert sum(month[who][name] for month in simulated_report["months"] for who in ("new", "returning")) == total
    assert sum(month["new"]["customers"] for month in simulated_report["months"]) == basis["customers"]
    assert all(month["new"]["customers"] + month["returning"]["customers"] == month["buyers"] for month in simulated_report["months"])
    for part in ("value_groups", "layers"):
        groups = simulated_report[part]["groups"]
        assert sum(group["customers"] for group in groups) == basis["customers"]  # so that every layer there is has its place in LAYERS
        assert sum(group["revenue_cents"] for group in groups) == basis["revenue_cents"]
    assert basis["customers"] + simulated_report["layers"]["visitors"] == basis["users"]
    assert {group["name"] for group in simulated_report["layers"]["groups"]} <= set(LAYERS)


def test_nothing_later_is_seen(simulated: SimulatedShop, shop: Shop, tmp_path: Path) -> None:
    as_of = simulated.start + timedelta(days=150)
    events = simulated.batch.events
    kept = events.filter(pc.less(events["known_at"], pd.Timestamp(as_of, tz="UTC").as_unit("us")))
    assert kept.num_rows < 0.7 * events.num_rows
    pages = [
        report_of(log_of(batch, tmp_path / name / "log"), shop, tmp_path / name, as_of)
        for name, batch in (("all", simulated.batch), ("cut", replace(simulated.batch, events=kept, complete_until=as_of)))
    ]
    assert pages[0] == pages[1]


def test_the_folder_holds_strict_json_a_page_and_its_pictures_and_is_the_same_again(small: Report, tmp_path: Path) -> None:
    for name in ("first", "again"):
        write_report(small, tmp_path / name)
    text = (tmp_path / "first" / "report.json").read_text()
    assert json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON")) == small
    page = (tmp_path / "first" / "report.md").read_text()
    assert {path.name for path in (tmp_path / "first").glob("*.png")} == {line.split("](")[1][:-1] for line in page.splitlines() if line.startswith("![")}
    assert all((tmp_path / "again" / path.name).read_bytes() == path.read_bytes() for path in (tmp_path / "first").iterdir())


def test_a_report_of_the_simulated_shop_is_strict_json_and_a_page_without_holes(simulated_report: Report) -> None:
    assert json.loads(json.dumps(simulated_report, allow_nan=False)) == simulated_report
    assert re.findall(r"\b(nan|None|inf|null)\b", shop_page(simulated_report)) == []


def test_a_picture_shows_the_numbers_of_the_table(small: Report) -> None:
    bars = [each for each in repeat_curve(small["repeat_curve"]).axes[0].containers if isinstance(each, ErrorbarContainer)]
    points = {str(each.get_label()).split(" (")[0]: np.asarray(each.lines[0].get_ydata()).tolist() for each in bars}
    assert points["so far"] == [0.4, 0.5, 0.0]


def test_the_command_writes_the_report_into_the_workspace_and_says_where(tmp_path: Path) -> None:
    lines = ["ann,1,2024-01-01,10", "ann,2,2024-01-08,10", "ben,3,2024-01-03,20", ",4,2024-01-04,5", "cem,5,2024-02-01,5"]
    (tmp_path / "orders.csv").write_text("\n".join(["user_id,order_id,occurred_at,amount", *lines]) + "\n")
    (tmp_path / "encore.toml").write_text(
        'name = "Tea"\nzone = "UTC"\ncurrency = "EUR"\n[[sources]]\nkind = "table"\nrows = "orders"\npath = "orders.csv"\ntime_zone = "UTC"\n'
        '[sources.columns]\nuser_id = "user_id"\norder_id = "order_id"\noccurred_at = "occurred_at"\namount = "amount"\n'
    )
    ingest_sources(open_workspace(tmp_path))
    said = CliRunner().invoke(encore.app, ["shop", "history", "--workspace", str(tmp_path), "--as-of", "2024-01-31"])
    assert said.exit_code == 0, said.output
    assert "came back after order day 1: 50.0 % [9.5, 90.5] of 2" in said.output
    folder = tmp_path / "reports" / "shop-2024-01-31"
    assert str(folder / "report.md") in said.output
    assert list(json.loads((folder / "report.json").read_text())["basis"]["left_out"].values()) == [1]
