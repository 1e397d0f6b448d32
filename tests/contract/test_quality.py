"""Realised quality: what was served is judged by what happened, once its time is over, and never before."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from encore import app
from features.errors import BelowExpectation
from features.workspace import open_workspace
from serving.campaigns.store import MEMBERS
from serving.destinations.store import OUTBOX
from serving.ledger import Ledger
from serving.quality import store
from serving.quality.judge import look
from serving.quality.page import write_page
from serving.quality.runs import all_runs
from serving.quality.standing import standings
from serving.runs import without_users

SCORED, CLOSES = "2024-09-27", "2024-10-27"


@pytest.fixture(scope="session")
def judged(scored_once, tmp_path_factory):
    """The thirty days of repeat_order are over, and were looked at. Nobody may change it."""
    root = shutil.copytree(scored_once.workspace.root, tmp_path_factory.mktemp("judged") / "workspace")
    workspace = open_workspace(root, environment={})
    past = replace(scored_once, workspace=workspace, ledger=Ledger(workspace.ledger_url))
    past.passes()
    return past, look(workspace, past.ledger)


def served_rows(past):
    table = pa.concat_tables([pq.read_table(past.run.folder / part["file"]) for part in past.run.manifest["parts"]])
    rows = table.filter(pc.equal(table["model"], "repeat_order"))
    return dict(zip(rows["user_id"].to_pylist(), rows["probability"].to_pylist(), strict=True))


def oracle(past, users):
    """user -> whether an order that was never cancelled came in the thirty days; and who received a campaign in them: event by event."""
    events = past.events[(past.events["occurred_at"] >= SCORED) & (past.events["occurred_at"] < CLOSES)]
    cancelled = set(past.events.loc[past.events["event"] == "order_cancelled", "order_id"])
    did = {row.user_id for row in events.itertuples() if row.event == "order" and row.order_id not in cancelled}
    reached = {row.user_id for row in events.itertuples() if row.event == "campaign_received"}
    return {user: user in did for user in users}, reached


def area(pairs):
    """AUC by counting every pair."""
    yes, no = [p for p, y in pairs if y], [p for p, y in pairs if not y]
    return sum((a > b) + (a == b) / 2 for a in yes for b in no) / (len(yes) * len(no))


def lift(pairs, share):
    """Rate in the top share over the rate of all; the row that the border cuts counts in proportion (no two scores are equal)."""
    best, room, found = sorted(pairs, reverse=True), share * len(pairs), 0.0
    for _, y in best:
        found += y * min(1.0, max(0.0, room))
        room -= 1
    return found / (share * len(pairs)) / (sum(y for _, y in pairs) / len(pairs))


def test_numbers_are_those_of_a_slow_oracle_for_all_treated_and_untreated(judged):
    past, found = judged
    served = served_rows(past)
    did, reached = oracle(past, served)
    assert len({*served.values()}) == len(served)
    (judgement,) = found.judged
    assert (judgement.task, judgement.number, found.problems) == ("repeat_order", 1, [])
    for stratum, users in {"all": served, "untreated": served.keys() - reached, "treated": served.keys() & reached}.items():
        pairs = [(served[user], did[user]) for user in sorted(users)]
        told = judgement.facts[stratum]
        metrics = {name: interval["value"] for name, interval in told["metrics"].items()}
        assert (told["rows"], told["positives"], told["actual"]) == (len(pairs), sum(y for _, y in pairs), sum(y for _, y in pairs))
        assert told["expected"]["value"] == pytest.approx(sum(p for p, _ in pairs), rel=1e-12)
        assert metrics["auc"] == pytest.approx(area(pairs), rel=1e-12)
        assert metrics["brier"] == pytest.approx(np.mean([(p - y) ** 2 for p, y in pairs]), rel=1e-12)
        assert metrics["log_loss"] == pytest.approx(-np.mean([np.log(p if y else 1 - p) for p, y in pairs]), rel=1e-12)
        assert metrics["mean_bias"] == pytest.approx(np.mean([p - y for p, y in pairs]), rel=1e-12)
        for share in (0.1, 0.2):
            assert metrics[f"lift_{share * 100:.0f}"] == pytest.approx(lift(pairs, share), rel=1e-9)
        for interval in told["metrics"].values():
            assert interval["low"] is None or interval["low"] <= interval["high"]
        assert sum(row["count"] for row in told["reliability"]) == len(pairs)


def test_before_its_horizon_is_over_a_run_is_pending_with_the_date_and_nothing_is_judged(past):
    past.passes(past.run_day + timedelta(days=29))
    found = look(past.workspace, past.ledger)
    assert {run.task: run.closes.isoformat() for run in found.pending} == {"repeat_order": CLOSES, "churn": "2024-11-26", "lookalike": "2024-12-26"}
    assert (found.judged, store.judgements(past.ledger)) == ([], [])


def test_a_second_look_makes_nothing_of_what_is_as_it_was(judged):
    past, _ = judged
    before = store.judgements(past.ledger)
    assert look(past.workspace, past.ledger).judged == []
    assert store.judgements(past.ledger) == before


def test_late_orders_make_a_second_judgement_and_the_first_one_stays(past):
    served = served_rows(past)
    did, _ = oracle(past, served)
    late = sorted(user for user in served if did[user])[:20]
    past.passes(without=late)
    (first,) = look(past.workspace, past.ledger).judged
    past.comes_late(late)
    (second,) = look(past.workspace, past.ledger).judged
    assert (first.number, second.number) == (1, 2)
    assert second.facts["all"]["positives"] == first.facts["all"]["positives"] + 20 == sum(did.values())
    assert [one.facts["all"]["positives"] for one in store.judgements(past.ledger)] == [first.facts["all"]["positives"], second.facts["all"]["positives"]]
    assert standings(past.ledger)["repeat_order"].last[1].id == second.id


def test_who_our_own_campaign_treated_is_judged_apart(past):
    served = served_rows(past)
    did, reached = oracle(past, served)
    planted = sorted(user for user in served if user not in reached and did[user])[:40]
    row = {"campaign": "c", "group": "treatment", "entered_on": past.run_day, "ends_on": past.run_day + timedelta(days=14), "entered_at": past.now}
    with past.ledger.connection() as connection:
        connection.execute(MEMBERS.insert(), [{**row, "user_id": user} for user in planted])
        connection.execute(MEMBERS.insert(), [{**row, "user_id": user, "group": "control"} for user in sorted(served)[:5] if user not in planted])
    past.passes()
    (judgement,) = look(past.workspace, past.ledger).judged
    assert judgement.facts["treated"]["rows"] == len({*planted} | (served.keys() & reached))
    assert judgement.facts["treated"]["positives"] == 40 + sum(did[user] for user in served.keys() & reached)
    assert judgement.facts["untreated"]["positives"] == sum(did.values()) - judgement.facts["treated"]["positives"]


def test_deleted_users_are_neither_judged_nor_left_in_the_run(past):
    past.passes()
    (before,) = look(past.workspace, past.ledger).judged
    gone = sorted(served_rows(past))[:3]
    past.workspace.log(past.workspace.shop()).bury(gone, "deleted")
    (after,) = look(past.workspace, past.ledger).judged
    assert (after.number, after.facts["all"]["rows"]) == (2, before.facts["all"]["rows"] - 3)
    (run,) = all_runs(past.workspace)
    rows = run.manifest["rows"]
    erased = without_users(run.folder, lambda ids: pc.is_in(ids, pa.array(gone)))
    assert erased >= 3
    (run,) = all_runs(past.workspace)
    assert (run.manifest["erased"], run.manifest["rows"]) == (erased, rows - erased)
    assert not {*served_rows(past)} & {*gone}
    assert look(past.workspace, past.ledger).problems == []


def test_a_run_that_was_changed_on_disk_is_not_judged_and_says_so(past):
    past.passes()
    part = next(past.run.folder.glob("part-*.parquet"))
    pq.write_table(pq.read_table(part).slice(1), part)
    found = look(past.workspace, past.ledger)
    assert found.judged == []
    assert "was changed after it was served" in found.problems[0]


def test_a_run_that_was_described_anew_is_not_the_one_that_was_noted(past):
    look(past.workspace, past.ledger)
    manifest = json.loads((past.run.folder / "run.json").read_bytes())
    (past.run.folder / "run.json").write_text(json.dumps(manifest | {"digest": "0" * 64}))
    past.passes()
    assert "is not the one that was noted" in look(past.workspace, past.ledger).problems[0]


# --- alerts --------------------------------------------------------------------------------------------------------------------


def test_vectors_of_other_users_raise_the_alarm_by_command_event_gauge_and_page(make_past, tmp_path, monkeypatch):
    """A source changed its ids: everybody is scored by somebody else's vector. The honest run of the same shop raises none (`judged`)."""
    broken = make_past(tmp_path, shuffled=True)
    broken.passes()
    monkeypatch.setenv("ENCORE_MLFLOW_URI", "http://127.0.0.1:9")  # down: MLflow gets its copy later, the alarm does not wait for it
    said = CliRunner().invoke(app, ["quality", "--workspace", str(broken.workspace.root)])
    assert isinstance(said.exception, BelowExpectation)
    assert "repeat_order: ranking: AUC" in str(said.exception)
    assert "encore rollback" in str(said.exception)
    with broken.ledger.connection() as connection:
        (event,) = connection.execute(OUTBOX.select().where(OUTBOX.c.type == "quality.below_expectation")).mappings()
    assert (event["topic"], event["data"]["alerts"][0]["rule"]) == ("repeat_order", "ranking")
    gauges = (broken.workspace.root / "metrics" / "quality.prom").read_text()
    assert 'rule="ranking",task="repeat_order"' in gauges or 'task="repeat_order",rule="ranking"' in gauges
    assert "**ranking**: AUC" in (broken.workspace.root / "reports" / "quality" / "quality.md").read_text()


def test_an_honest_run_raises_no_alarm_of_quality(judged):
    assert judged[1].judged[0].alerts == []


@pytest.mark.long
def test_models_of_the_shop_are_not_accused_on_other_draws_of_it(make_past, tmp_path):
    accused, found_out = [], []
    for seed in range(100, 108):
        past = make_past(tmp_path / f"honest-{seed}", seed=seed)
        past.passes()
        (judgement,) = look(past.workspace, past.ledger).judged
        accused += [alert["rule"] for alert in judgement.alerts if alert["rule"] in ("ranking", "calibration")]
        broken = make_past(tmp_path / f"broken-{seed}", seed=seed, shuffled=True)
        broken.passes()
        found_out.append("ranking" in [alert["rule"] for alert in look(broken.workspace, broken.ledger).judged[0].alerts])
    assert accused == []
    assert all(found_out)


# --- route, page ---------------------------------------------------------------------------------------------------------------


def test_the_route_tells_what_the_last_look_found(judged, serve):
    past, found = judged
    client = serve(past.workspace.releases, past.workspace.root)
    told = client.get("/v1/quality").json
    assert (told["state"], [one["task"] for one in told["predictions"]]) == ("known", ["churn", "lookalike", "repeat_order"])
    states = {one["task"]: (one["state"], [run["closes"] for run in one["pending"]]) for one in told["predictions"]}
    assert states == {"churn": ("pending", ["2024-11-26"]), "lookalike": ("pending", ["2024-12-26"]), "repeat_order": ("judged", [])}
    last = client.get("/v1/quality?task=repeat_order").json["predictions"][0]["last"]
    assert last["strata"]["untreated"]["metrics"]["auc"] == found.judged[0].facts["untreated"]["metrics"]["auc"]
    assert (last["as_of"], last["closes"], last["alerts"]) == (SCORED, CLOSES, [])
    assert client.get("/v1/quality?task=repeat_ordr").status == 404


def test_without_a_look_the_route_says_what_to_run(client):
    told = client.get("/v1/quality")
    assert (told.status, told.json["state"], told.json["predictions"]) == (200, "unknown", [])
    assert "encore quality" in told.json["next"]


def test_the_page_has_the_numbers_and_its_pictures_are_the_same_each_time(judged, tmp_path):
    past, found = judged
    known = standings(past.ledger)
    text = write_page(tmp_path / "one", known, "EUR").read_text()
    write_page(tmp_path / "two", known, "EUR")
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "one").glob("*.png")}
    assert pictures.keys() == {"repeat_order-runs.png", "repeat_order-reliability.png"}
    assert pictures == {path.name: path.read_bytes() for path in (tmp_path / "two").glob("*.png")}
    auc = found.judged[0].facts["untreated"]["metrics"]["auc"]
    assert f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]" in text
    assert "the next one on 2024-11-26" in text
