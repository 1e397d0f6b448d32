"""Drifted data (F35): from one day on a source sends amounts in another unit, ten times too much.

Retrain says which features drifted and does what the shop's policy says; what is in service stays what it was. What happens to
the workspace happens once, in the fixture `story`, in the order of its lines.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from features.errors import InvalidShopFile
from features.files import read_json
from features.shop import simulate
from features.shopfile import read_shop
from features.workspace import Workspace, open_workspace
from training import heartbeat
from training.evaluate import evaluate_difference
from training.gates import Decision, Reason
from training.models import Recipe
from training.retrain import retrain
from training.tracking import CHALLENGER, CHAMPION, Tracking

TASK, NAME = "lookalike", "Corner shop"  # the cheapest: it needs a single snapshot
DAYS = 250
END = date(2024, 1, 1) + timedelta(days=DAYS)
BROKEN, EARLIER = END - timedelta(days=45), END - timedelta(days=60)
AMOUNTS = ("revenue", "value", "price", "spend", "discounts_share")  # the last one is the discount over the amount


def times_ten(events: pa.Table, since: date) -> pa.Table:
    """The events as a source sends them that gives amounts in tenths of a cent from one day on."""
    column = events["value_cents"]
    late = pc.greater_equal(events["occurred_at"], pa.scalar(np.datetime64(since, "us").item(), events.schema.field("occurred_at").type))
    return events.set_column(events.schema.get_field_index("value_cents"), "value_cents", pc.if_else(late, pc.multiply(column, 10), column))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    root = tmp_path_factory.mktemp("workspace")
    (root / "encore.toml").write_text(f'name = "{NAME}"\nzone = "UTC"\ncurrency = "EUR"\n')
    made = open_workspace(root, environment={})
    batch = simulate(users=3000, days=DAYS, seed=1).batch
    few = batch.events.filter(pc.is_in(batch.events["event"], pa.array(["order", "coupon_redeemed"])))
    made.log(made.shop()).append(replace(batch, events=times_ten(few, BROKEN), products=None))
    return made


def pass_all(*_: object) -> Decision:
    return Decision(True, True, False, (Reason("beats rfm", True, "because this test says so"),))


@pytest.fixture(scope="module")
def quick() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.evidence.SHUFFLES", 2)
        patch.setattr("training.fit.BLEND", Recipe(trees=20, seeds=1))
        patch.setattr("training.evidence.RESAMPLES", 20)
        patch.setattr("training.evidence.FEW", 2)
        patch.setattr("training.kinds.evaluate_difference", partial(evaluate_difference, resamples=20))
        patch.setattr("training.record.draw", lambda *_: None)
        patch.setattr("training.judge.decide", pass_all)
        yield patch


@pytest.fixture(scope="module")
def story(workspace, quick, tmp_path_factory) -> SimpleNamespace:
    tracking, heard = Tracking(workspace, NAME), Heard()
    logging.getLogger("encore").addHandler(heard)

    def run(as_of: date, on_drift: str) -> SimpleNamespace:
        heard.records.clear()
        (outcome,) = retrain(workspace, replace(workspace.shop(), on_drift=on_drift), as_of, (TASK,))
        alerts = [record for record in heard.records if "drifted" in record.getMessage()]
        samples = heartbeat.parse((workspace.root / heartbeat.FILE).read_text())
        gauge = samples.get((heartbeat.DRIFT, (("task", TASK),)))
        mlflow = tracking.client.get_run(outcome.run_id)
        folder = Path(tracking.client.download_artifacts(outcome.run_id, "", str(tmp_path_factory.mktemp("run"))))
        return SimpleNamespace(
            outcome=outcome, alerts=alerts, gauge=gauge, run=mlflow, folder=folder, champion=tracking.with_alias(TASK, CHAMPION),
            challenger=tracking.with_alias(TASK, CHALLENGER),
        )  # fmt: skip

    seen = SimpleNamespace(first=run(EARLIER, "stop"), clean=run(BROKEN, "stop"), stop=run(END, "stop"), go_on=run(END, "continue"))
    logging.getLogger("encore").removeHandler(heard)
    return seen


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def table(seen: SimpleNamespace) -> dict[str, dict[str, object]]:
    return {line["name"]: line for line in read_json(seen.folder / "drift.json")["features"]}


def test_the_first_champion_has_nothing_to_be_compared_with(story):
    assert story.first.outcome.state == "promoted", story.first.outcome.reason
    assert (story.first.outcome.drifted, story.first.gauge, story.first.alerts) == (None, None, [])
    assert not (story.first.folder / "drift.json").exists()


def test_true_data_are_no_drift_even_where_drift_would_stop(story):
    assert story.clean.outcome.state == "promoted", story.clean.outcome.reason
    assert (story.clean.outcome.drifted, story.clean.gauge, story.clean.alerts) == (0, 0, [])
    assert "pass  drift: 0 of " in story.clean.outcome.reason


def test_the_table_names_the_amounts_and_nothing_else(story):
    drifted = {name for name, line in table(story.stop).items() if line["word"] == "drifted"}
    assert {"orders_revenue_30d", "orders_revenue_90d", "orders_basket_value_30d", "orders_basket_value", "discounts_item_price"} <= drifted
    assert not [name for name in drifted if not any(word in name for word in AMOUNTS)]
    assert table(story.stop)["orders_basket_value_30d"]["median_factor"] == pytest.approx(10, rel=0.1)
    assert 2 < table(story.stop)["orders_basket_value"]["median_factor"] < 10  # half of its orders are from before


def test_the_alert_the_gauge_the_tag_the_metrics_and_the_card_say_so(story):
    count = story.stop.outcome.drifted
    (alert,) = story.stop.alerts
    assert (alert.levelno, alert.facts["task"], alert.facts["count"]) == (logging.WARNING, TASK, count)
    assert alert.facts["features"][0] == "orders_basket_value_30d (x9.9)"
    assert story.stop.gauge == count
    assert story.stop.run.data.metrics["drift.features_drifted"] == count
    assert story.stop.run.data.metrics["drift.max_psi"] == max(line["psi"] for line in table(story.stop).values())
    assert story.stop.run.data.tags["encore.drift"].startswith(f"{count} of {len(table(story.stop))} features drifted")
    assert "| `orders_basket_value_30d` | 3.499 | drifted | x9.9 |" in (story.stop.folder / "model_card.md").read_text()


def test_under_stop_the_challenger_is_logged_and_refused_and_the_champion_stays(story):
    assert story.stop.outcome.state == "refused"
    assert "pass  beats rfm" in story.stop.outcome.reason
    assert "FAIL  drift: " in story.stop.outcome.reason
    assert story.stop.run.data.tags["encore.decision"] == "refused"
    assert (story.stop.champion.number, story.stop.champion.run_id) == (story.clean.champion.number, story.clean.outcome.run_id)
    assert story.stop.challenger.run_id == story.stop.outcome.run_id


def test_under_continue_the_other_rules_decide_and_the_drift_is_a_warning(story):
    assert story.go_on.outcome.state == "promoted", story.go_on.outcome.reason
    assert story.go_on.champion.run_id == story.go_on.outcome.run_id != story.stop.outcome.run_id
    assert "warn  drift: " in story.go_on.champion.tags["encore.reasons"]
    assert len(story.go_on.alerts) == 1


def test_drift_makes_no_refused_model_pass():
    refused = Decision(False, False, False, (Reason("beats rfm", False, "no"),))
    assert not refused.also(Reason("drift", True, "moved", warning=True)).promote


def test_a_policy_that_does_not_exist_is_refused_with_the_nearest_one(tmp_path):
    (tmp_path / "encore.toml").write_text(f'name = "{NAME}"\nzone = "UTC"\ncurrency = "EUR"\non_drift = "stpo"\n')
    with pytest.raises(InvalidShopFile, match=r"line 4: unknown choice for 'on_drift' 'stpo'. Did you mean 'stop'\? Known: continue, stop."):
        read_shop(tmp_path / "encore.toml")
