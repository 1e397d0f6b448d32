"""Of a shop whose currency has no decimals, or three, every surface says the same amounts: the log's minor units, told in units."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.events import EventLog
from features.files import read_json
from features.money import DIGITS, minor_units
from features.shopfile import Shop
from features.tiles import open_tiles
from serving.audiences.conditions import holds
from serving.audiences.cut import cut
from serving.audiences.rules import Rule
from serving.audiences.schemas import measures
from serving.batch import score_table
from serving.campaigns.outcomes import outcomes_of
from serving.campaigns.plan import Plan, checked
from serving.campaigns.store import Member
from serving.console.formats import Formats
from serving.destinations.contacts import Contacts
from serving.destinations.lists import people
from serving.inference import infer
from serving.quality.page import write_page
from serving.quality.runs import StoredRun
from serving.quality.standing import Standing
from serving.quality.store import Judgement, NotedRun
from serving.release import Release, load_release
from serving.runs import score_run
from serving.score_json import ScoreJson
from serving.scorer import Scorer, shown
from serving.vector import score_vector
from training.kind_plots import spend_by_tenth

UNITS = {"EUR": 100, "JPY": 1, "KWD": 1000}
DAY = date(2024, 3, 4)


@pytest.fixture(scope="module", params=UNITS)
def currency(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def release(published, currency) -> Release:
    """A real release, as if `churn` predicted spend, in a shop of another currency."""
    real = load_release(published.root / published.second)
    bundle = replace(real.bundles["churn"], about={**real.bundles["churn"].about, "kind": "value", "calibrated": False})
    stored = replace(real.scores["churn"], score=np.rint(1e6 * real.scores["churn"].score))
    return replace(real, manifest={**real.manifest, "currency": currency}, bundles={"churn": bundle}, scores={"churn": stored})


@pytest.fixture(scope="module")
def scorer(release) -> Scorer:
    return Scorer(release, timedelta(days=365))


@pytest.fixture(scope="module")
def rows(release) -> np.ndarray:
    return np.flatnonzero(~np.isnan(release.scores["churn"].score))


def test_1200_minor_units_are_12_euros_1200_yen_and_a_dinar_and_a_fifth(currency):
    assert shown("value", 1200.0, 50.0, currency)["value"] == {"EUR": 12.0, "JPY": 1200.0, "KWD": 1.2}[currency]
    assert minor_units(currency) == UNITS[currency]


@given(raw=st.integers(-(10**12), 10**12), currency=st.sampled_from([*DIGITS, "EUR", "XYZ"]))
def test_a_value_times_its_minor_units_is_what_the_model_said(raw, currency):
    value = shown("value", float(raw), 50.0, currency)["value"]
    assert value is not None
    assert round(value * minor_units(currency)) == raw


def test_one_user_many_batch_and_the_inference_protocol_say_the_same_to_the_bit(release, scorer, rows, currency):
    ids = [release.users[row].decode() for row in rows]
    expected = [float(raw) / UNITS[currency] for raw in release.scores["churn"].score[rows]]
    prepared = ScoreJson(scorer, "churn")
    assert [json.loads(prepared.one(user))["value"] for user in ids] == expected
    assert [answer["value"] for answer in json.loads(prepared.many(ids))["scores"]] == expected
    assert [score.value for score in scorer.score("churn", ids)] == expected
    assert score_table(scorer, "churn", 0, len(release.users))["value"].to_pylist() == expected
    asked = {"inputs": [{"name": "user_id", "shape": [len(ids)], "datatype": "BYTES", "data": ids}]}
    told = {tensor["name"]: tensor["data"] for tensor in infer(scorer, "churn", asked)["outputs"]}
    assert told["value"] == expected


def test_posted_features_are_answered_in_units(release, scorer, rows, currency):
    bundle = release.bundles["churn"]
    given = dict(zip(bundle.features, release.vectors[rows[0], bundle.align(release.features)].tolist(), strict=True))
    expected = float(bundle.scores(np.array([list(given.values())]))[0]) / UNITS[currency]
    assert score_vector(scorer, "churn", given).value == expected
    asked = {"inputs": [{"name": "features", "shape": [1, len(given)], "datatype": "FP64", "data": [None if x != x else x for x in given.values()]}]}
    assert {tensor["name"]: tensor["data"] for tensor in infer(scorer, "churn", asked)["outputs"]}["value"] == [expected]


def test_reasons_have_the_digits_of_the_currency(release, scorer, rows, currency):
    words = release.bundles["churn"].about["features"]
    said = [reason for score in scorer.score("churn", [release.users[row].decode() for row in rows], reasons=True) for reason in score.reasons or ()]
    money = [reason for reason in said if words[reason.feature]["unit"] == "cents" and reason.value is not None]
    digits = {"EUR": 2, "JPY": 0, "KWD": 3}[currency]
    assert money
    for reason in money:
        assert reason.text.endswith(f": {reason.value / UNITS[currency]:,.{digits}f}")


def test_audiences_and_conditions_count_in_units(release, rows, currency):
    scores = release.scores["churn"].score
    found = cut(release, Rule("churn", top_n=10))
    assert measures(found, release)["expected_value"] == pytest.approx(scores[found.rows].sum() / UNITS[currency])
    least = float(np.median(scores[rows])) / UNITS[currency]
    assert np.array_equal(np.flatnonzero(holds({"value": "churn", "at_least": least}, release)), rows[scores[rows] / UNITS[currency] >= least])


def test_lists_for_platforms_have_units(release, rows, currency):
    some = rows[:3]
    contacts = Contacts(some, pa.array([f"u{row}@shop.test" for row in some]), pa.nulls(3, pa.string()), None, 0, "")
    expected = [round(float(raw) / UNITS[currency], 2) for raw in release.scores["churn"].score[some]]
    assert [person["value"] for person in people(release, some, contacts, "churn")] == expected


def test_quality_reads_back_the_minor_units_that_a_run_was_made_of(release, scorer, rows, currency, tmp_path):
    run = score_run(scorer, tmp_path)
    manifest = read_json(run.folder / "run.json")
    assert manifest["currency"] == currency
    assert StoredRun(run.folder, manifest, manifest["predictions"]).served("churn").score == pytest.approx(release.scores["churn"].score[rows], rel=1e-12)
    earlier = {name: value for name, value in manifest.items() if name != "currency"}  # such a run had hundredths, whatever the currency
    hundredths = StoredRun(run.folder, earlier, manifest["predictions"]).served("churn").score
    assert hundredths == pytest.approx(release.scores["churn"].score[rows] / UNITS[currency] * 100, rel=1e-12)


def test_the_page_of_quality_says_units(currency, tmp_path):
    run = NotedRun("run", "value", "release", "1", "value", DAY, DAY, "digest", datetime.now(UTC))
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    told = {"rows": 40, "metrics": {"gini": interval}, "expected": {"value": 5e6, "low": None, "high": None}, "actual": 6e6}
    judged = [(run, Judgement("id", "run", "value", 1, "", "", datetime.now(UTC), {"all": told}, []))]
    page = write_page(tmp_path, {"value": Standing("value", judged, [], [], None)}, currency).read_text()
    assert {"EUR": "| 50,000 | 60,000 |", "JPY": "| 5,000,000 | 6,000,000 |", "KWD": "| 5,000 | 6,000 |"}[currency] in page


def test_what_the_members_of_a_campaign_spent_is_in_units(make_batch, currency, tmp_path: Path):
    log = EventLog(tmp_path / "log", "UTC", currency)
    days = (("2024-03-01", 5000), ("2024-03-06", 1200))  # before and after they entered
    log.append(make_batch([{"event": "order", "order_id": day, "occurred_at": f"{day}T10:00", "value_cents": paid, "quantity": 1} for day, paid in days]))
    tiles = open_tiles(log, Shop("Shop", "UTC", currency), tmp_path / "tiles")
    plan = checked(Plan(name="spring", starts=DAY, horizon=14, goal="spend"))
    found = outcomes_of(tiles, plan, [Member("u", "treatment", None, None, None, None, None, DAY, DAY + timedelta(days=14))])
    assert (found.spend.tolist(), found.spend_before.tolist()) == ([1200 / UNITS[currency]], [5000 / UNITS[currency]])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_console_writes_units_and_minor_units_alike(language, currency):
    formats = Formats(language, currency)
    assert formats.units(1200 / UNITS[currency]) == formats.money(1200)
    assert {"EUR": "12.00", "JPY": "1,200", "KWD": "1.200"}[currency] in formats.money(1200)


def test_the_picture_of_spend_by_tenth_is_in_units(currency):
    figure = spend_by_tenth(np.full(20, 1200.0), np.full(20, 2400.0), currency)
    axes = figure.axes[0]
    assert {round(bar.get_height(), 9) for bar in axes.patches} == {1200 / UNITS[currency], 2400 / UNITS[currency]}
    assert axes.get_ylabel().endswith(f"({currency})")
