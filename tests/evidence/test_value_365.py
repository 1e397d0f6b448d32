"""A year's spending told from a year's history: what serves a young shop, what it is called, and whether it came true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from features.cycle import RepurchaseCycle
from features.events import EventLog
from features.shop import simulate
from features.shopfile import Shop
from features.sources.batch import Batch
from features.store import SnapshotStore
from features.tiles import Tiles, open_tiles
from serving.pointer import point_to
from serving.release import write_release
from training.buying import Worth
from training.card import grade_of, model_card
from training.evaluate_value import evaluate_value
from training.fit import Candidate, fit_task
from training.gates import decide
from training.kinds import VALUE
from training.outcomes import spent
from training.preflight import Verdict, preflight
from training.tasks import TASKS

SHOP = Shop("Test shop", "UTC", "EUR")
ASKED = TASKS["value_365"].at(SHOP, RepurchaseCycle(None, 0))
YEAR, KINDS = 365, ("order", "order_cancelled", "refund")


@pytest.fixture(scope="module")
def both_years() -> Batch:
    batch = simulate(users=2500, days=2 * YEAR, seed=1).batch
    return replace(batch, products=None, events=batch.events.filter(pc.is_in(batch.events["event"], pa.array(KINDS))))


def tiles_of(batch: Batch, folder) -> Tiles:
    log = EventLog(folder / "log", SHOP.zone, SHOP.currency)
    log.append(batch)
    return open_tiles(log, SHOP, folder / "tiles")


@pytest.fixture(scope="module")
def first_year(both_years, tmp_path_factory) -> tuple[Tiles, SnapshotStore]:
    until = both_years.complete_until - timedelta(days=YEAR)
    midnight = pa.scalar(np.datetime64(until, "us").item(), both_years.events.schema.field("occurred_at").type)
    events = both_years.events.filter(pc.and_(pc.less(both_years.events["occurred_at"], midnight), pc.less(both_years.events["known_at"], midnight)))
    folder = tmp_path_factory.mktemp("first_year")
    return tiles_of(replace(both_years, events=events, complete_until=until), folder), SnapshotStore(folder / "snapshots")


@pytest.fixture(scope="module")
def candidate(first_year) -> Candidate:
    tiles, store = first_year
    return fit_task(ASKED, tiles.log.complete_until, tiles, store)


def test_a_young_shop_gets_bgnbd_x_gamma_gamma_about_a_year_and_evidence_about_less(candidate):
    assert isinstance(candidate.served.model, Worth)
    assert isinstance(candidate.evaluated.model, Worth)
    assert candidate.served.model.horizon == candidate.served.about["horizon_days"] == YEAR
    days = candidate.asked.measured_on
    assert 90 < days < YEAR
    assert candidate.evaluated.model.horizon == candidate.served.about["measured_on_days"] == days
    assert candidate.split.test[-1] + timedelta(days=days) == date(2024, 12, 31)  # the year was a leap year
    assert candidate.baselines == {"bgnbd": candidate.served}
    assert set(candidate.evidence.gains) == {"rule"}


def test_it_says_so_wherever_it_is_read(candidate):
    words = f"not proven on windows of 365 days: BG/NBD x Gamma-Gamma extrapolates, with evidence on windows of {candidate.asked.measured_on} days"
    assert candidate.served.about["extrapolation"] == words
    decision = decide(candidate.evidence, candidate.test, None, VALUE, candidate.split.provisional)
    decision = replace(decision, extrapolation=candidate.asked.extrapolation)
    assert words in decision.text.splitlines()[0]
    assert grade_of(decision, candidate.evidence.metrics["model"]) == words
    card = model_card(candidate, decision)
    assert f"Grade: {words}." in card
    assert f"Measured on windows of {candidate.asked.measured_on} days, not of 365" in card
    assert f"- As a proven figure: {words}." in card


def test_the_check_before_training_warns_and_does_not_forbid(first_year):
    tiles, store = first_year
    (span,) = (check for check in preflight(ASKED, tiles.log.complete_until, tiles, store) if check.name == "span")
    assert (span.verdict, span.advice) == (Verdict.WARN, "BG/NBD x Gamma-Gamma will extrapolate from shorter windows, labelled so.")


def test_what_was_told_of_the_second_year_came_true(candidate, first_year, both_years, tmp_path):
    tiles, store = first_year
    snapshot = store.get(tiles, tiles.log.complete_until)
    asked = candidate.asked.eligible(snapshot.frame).to_numpy(bool)
    told = candidate.served.scores(snapshot.matrix(candidate.served.features))[asked]
    later = tiles_of(both_years, tmp_path)
    came = spent(later.between(snapshot.as_of, snapshot.as_of + timedelta(days=YEAR))).reindex(snapshot.frame.index[asked]).fillna(0).to_numpy()
    measured = evaluate_value(came, told, snapshot.frame.index[asked].to_numpy(), seed=0, resamples=100)
    assert measured["sum_ratio"]["value"] == pytest.approx(1, abs=0.25)
    assert measured["gini"]["low"] > 0.4
    past = snapshot.frame["orders_revenue_90d"].to_numpy(float)[asked] + 1
    assert measured["gini"]["value"] > evaluate_value(came, past, np.arange(len(came)), seed=0, resamples=1)["gini"]["value"]


def test_two_years_and_a_quarter_are_learned_from_as_ever(tmp_path):
    batch = simulate(users=900, days=860, seed=2).batch
    tiles = tiles_of(replace(batch, products=None, events=batch.events.filter(pc.is_in(batch.events["event"], pa.array(KINDS)))), tmp_path)
    candidate = fit_task(ASKED, tiles.log.complete_until, tiles, SnapshotStore(tmp_path / "snapshots"))
    assert candidate.asked.extrapolation == ""
    assert candidate.served.about["horizon_days"] == YEAR
    assert not isinstance(candidate.served.model, Worth)
    assert set(candidate.baselines) == {"rule", "bgnbd"}


def test_a_score_over_rest_is_the_amount_of_a_year_and_its_two_factors(candidate, first_year, serve: Callable, tmp_path):
    tiles, store = first_year
    snapshot = store.get(tiles, tiles.log.complete_until)
    facts = {"version": "1", "run_id": "run", "kind": "baseline", "decision": candidate.asked.extrapolation, "metrics": {"model": {}}}
    models = {"value_365": (candidate.served, candidate.asked.eligible(snapshot.frame).to_numpy(bool), facts)}
    point_to(tmp_path / "releases", write_release(tmp_path / "releases", snapshot, models, {"scored_at": "2026-01-01T00:00:00+00:00"}))
    client = serve(tmp_path / "releases", tmp_path, good_for=timedelta(days=10_000))
    row = int(np.flatnonzero(models["value_365"][1])[0])
    cents = candidate.served.scores(snapshot.matrix(candidate.served.features)[row : row + 1])[0]
    score = client.get(f"/v1/scores/value_365/{snapshot.frame.index[row]}?reasons=true").json
    assert (score["status"], score["baseline"], score["value"]) == ("OK", True, pytest.approx(cents / 100))
    assert score["details"]["expected_orders"] * score["details"]["cents_per_order"] == pytest.approx(cents)
    assert score["reasons"]
