"""`/v1/lookalikes`: a request becomes an audience of exactly the size asked for, with its contrast and its proof."""

from __future__ import annotations

import json
from contextlib import closing
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import encore
from features.errors import NoUsableData
from features.ingest import ingest_sources
from features.workspace import open_workspace
from serving.jobs import JOBS, Jobs
from serving.ledger import Ledger, NameTaken
from serving.lookalike_schemas import LookalikeRequest
from serving.lookalikes import make_lookalike
from serving.orders import Lookalikes
from serving.publish import publish
from serving.release import load_release
from serving.work import work
from training.lookalike.match import hash_of_address
from training.tracking import CHAMPION, Tracking

PATH = "/v1/lookalikes"
SHOP = """
name = "Sampling shop"
zone = "UTC"
currency = "EUR"

[[sources]]
kind = "simulated"
users = 800
days = 250
seed = 3
"""


@pytest.fixture(scope="module", autouse=True)
def few_splits():
    """What is promised here does not depend on how often the proof is repeated or how many trees vote, which is what an expansion takes its time for."""
    with pytest.MonkeyPatch.context() as patch:
        few = {"proof.SPLITS": range(2), "proof.CURVE_SPLITS": range(1), "proof.CURVE": (30,), "choose.SPLITS": range(2), "choose.SIZES": (), "methods.BAGS": 4}
        for name, value in few.items():
            patch.setattr(f"training.lookalike.{name}", value)
        yield


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    place = open_workspace(tmp_path_factory.mktemp("sampling"), environment={})
    place.shop_file.write_text(SHOP)
    ingest_sources(place)
    return place


@pytest.fixture(scope="module")
def buyers(shop):
    """Ids of the hundred users who see most products, and of somebody whom the shop does not know."""
    tiles = shop.tiles(shop.shop())
    frame = shop.snapshots.get(tiles, tiles.log.complete_until).frame
    return [*frame["activity_product_views_90d"].sort_values(ascending=False).index[:100], "nobody"]


@pytest.fixture(scope="module")
def story(shop, buyers, serve, tmp_path_factory):
    """What is answered before, between and after two runs of the worker."""
    ledger = tmp_path_factory.mktemp("ledger")
    client = serve(shop.releases, ledger)
    body = {"name": "best", "seed": {"user_ids": buyers}, "size": 37}
    told = {"first": client.post(PATH, body), "again": client.post(PATH, body), "other": client.post(PATH, {**body, "size": 38})}
    told["queued"] = client.get(f"{PATH}/best")
    told["bad"] = client.post(PATH, {"name": "few", "seed": {"user_ids": buyers[:5]}, "size": 10})
    desk = Ledger(f"sqlite:///{ledger / 'ledger.db'}")
    assert work(shop, desk, once=True) == 2
    client = serve(shop.releases, ledger)
    told |= {"done": client.get(f"{PATH}/best"), "failed": client.get(f"{PATH}/few"), "all": client.get(PATH)}
    told |= {"audience": client.get("/v1/audiences/best"), "members": client.get("/v1/audiences/best/members")}
    told |= {"refresh": client.post(f"{PATH}/best/refresh"), "early": client.post(f"{PATH}/few/refresh")}
    work(shop, desk, once=True)
    told |= {"refreshed": client.get(f"/v1/jobs/{told['refresh'].json['id']}"), "after": client.get(f"{PATH}/best")}
    told |= {which: client.get(f"{PATH}/best/changes?which={which}") for which in ("entries", "exits")}
    told |= {who: client.get(f"/v1/journeys/best/{user}") for who, user in (("in", told["members"].json["user_ids"][0]), ("out", buyers[0]))}
    told["export"] = client.post("/v1/audiences/best/exports")
    work(shop, desk, once=True)
    told["file"] = shop.exports / client.get(f"/v1/jobs/{told['export'].json['id']}").json["result"]["file"]
    told["exported"] = pd.read_csv(told["file"], dtype=str)
    told |= {"score": client.get(f"/v1/scores/lookalike-best/{told['members'].json['user_ids'][0]}?reasons=true")}
    told |= {"models": client.get("/v1/models")}
    told |= {"of_seed": client.get(f"/v1/scores/lookalike-best/{buyers[0]}")}
    with desk.connection() as connection:
        told["kept"] = str(connection.execute(JOBS.select()).mappings().all())
    told |= {"deleted": client.delete(f"{PATH}/best"), "gone": client.get(f"{PATH}/best"), "no audience": client.get("/v1/audiences/best")}
    work(shop, desk, once=True)
    told["left"] = [path.name for path in shop.exports.iterdir()]
    told["champion"] = Tracking(shop, "Sampling shop").with_alias("lookalike-best", CHAMPION)
    told["versions"] = Tracking(shop, "Sampling shop").versions("lookalike-best")
    return told


def test_it_is_queued_once_however_often_it_is_asked_for(story):
    assert (story["first"].status, story["again"].status) == (202, 200)
    assert story["first"].json == story["again"].json == story["queued"].json
    assert (story["first"].json["state"], story["first"].json["result"]) == ("queued", None)


def test_one_name_is_one_seed(story):
    assert story["other"].status == 409


def test_the_audience_has_exactly_the_size_that_was_asked_for(story, buyers):
    result = story["done"].json["result"]
    assert story["done"].json["state"] == "done", result
    assert (result["size"], story["audience"].json["size"], len(story["members"].json["user_ids"])) == (37, 37, 37)
    assert not set(story["members"].json["user_ids"]) & set(buyers)


def test_a_marketer_reads_the_match_the_contrast_and_the_proof(story):
    result = story["done"].json["result"]
    assert any("99.0% of 101" in line for line in result["seed"]), result["seed"]
    assert any("others" in line and "(higher)" in line for line in result["contrast"]), result["contrast"]
    assert result["proof"]["model"]["recall_10"]["value"] > 0.1
    assert {"rfm", "centroid"} <= set(result["proof"])


def test_its_scores_come_with_reasons_and_the_seed_is_not_asked_about(story):
    assert story["score"].json["status"] == "OK"
    assert story["score"].json["probability"] is None, "a look-alike ranks"
    assert story["score"].json["reasons"]
    assert story["of_seed"].json["status"] == "NOT_ELIGIBLE"


def test_its_model_looks_at_what_kinds_of_goods_users_buy(story):
    (model,) = [model for model in story["models"].json["models"] if model["task"] == "lookalike-best"]
    assert model["features"]["bought_category_care_0_365d"] == "purchases of the category 'care-0' in the last 365 days"


def test_a_seed_that_is_too_small_fails_with_what_to_do(story):
    assert story["failed"].json["state"] == "failed"
    assert "at least 30" in story["failed"].json["result"]["reason"]


def test_no_id_stays_in_the_ledger_when_the_job_has_run(story, buyers):
    assert not [user for user in buyers if f"'{user}'" in story["kept"]]


def test_a_deleted_look_alike_is_gone_with_its_audience_and_its_seed(story, shop):
    assert (story["deleted"].status, story["gone"].status, story["no audience"].status) == (202, 404, 404)
    assert not (shop.root / "seeds" / "best").exists()


def test_no_id_of_the_seed_is_in_mlflow(story, shop, buyers):
    assert Tracking(shop, "Sampling shop").versions("lookalike-best")
    texts = [path.read_bytes() for path in shop.mlflow_artifacts.rglob("*") if path.is_file()]
    texts.append((shop.root / "mlflow" / "mlflow.db").read_bytes())
    known = [user for user in buyers[:-1] if len(user) > 4]
    assert known
    assert not [user for user in known if any(user.encode() in text for text in texts)]


def test_the_members_of_the_first_refresh_are_the_best_and_the_export_is_the_members(story, shop):
    release = load_release(shop.releases / story["audience"].json["release"])
    scores = pd.Series(release.scores["lookalike-best"].score, [user.decode() for user in release.users]).dropna()
    best = scores.sort_values(ascending=False, kind="stable").index[:37]
    assert set(story["members"].json["user_ids"]) == set(story["exported"]["user_id"]) == set(best)


def test_size_entries_and_exits_of_the_last_refresh_are_told(story):
    first = {"size": 37, "entries": 37, "exits": 0, "as_of": story["score"].json["as_of"], "before": None, "expected": None}
    assert story["done"].json["audience"] == story["after"].json["audience"] == first, "with nothing new a refresh changes nothing"
    assert story["entries"].json["user_ids"] == story["members"].json["user_ids"]
    assert story["exits"].json["user_ids"] == []
    assert (story["refreshed"].json["state"], story["early"].status) == ("done", 409)


def test_a_journey_answers_by_the_membership(story):
    assert (story["in"].json["branch"], story["out"].json["branch"], story["out"].json["status"]) == ("in", "out", "NOT_ELIGIBLE")


def test_nothing_of_a_deleted_look_alike_is_left_but_its_versions(story):
    assert not [name for name in story["left"] if name.startswith("lookalike-best")]
    assert story["champion"] is None
    assert "encore.retired" in story["versions"][-1].tags


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"size": None}, "size"),
        ({"top_percent": 5.0}, "size"),
        ({"name": "Not a name"}, "name"),
        ({"seed": {"user_ids": ["a"], "rule": "loyal"}}, "user_ids"),
        ({"seed": {}}, "user_ids"),
        ({"seeds": {}}, "not known here"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(client, change, field):
    body = {"name": "best", "seed": {"user_ids": ["a"]}, "size": 5, **change}
    answer = client.post(PATH, {key: value for key, value in body.items() if value is not None})
    assert answer.status == 422
    assert field in str(answer.json["errors"])


# --- the ledger, without any training ----------------------------------------------------------------------------------


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


ASKED = LookalikeRequest(name="best", seed={"user_ids": ["somebody"]}, size=5).model_dump(mode="json", exclude={"name"})


def test_one_that_failed_is_tried_again_and_others_are_not(ledger):
    jobs, asked = Jobs(ledger), Lookalikes(ledger)
    first, _ = asked.order("best", ASKED)
    assert jobs.finish(jobs.claim(), "failed", {"reason": "MLflow is down"})
    again, is_new = asked.order("best", ASKED)
    assert (is_new, again.state, again.id != first.id) == (True, "queued", True)
    assert asked.order("best", ASKED) == (again, False)
    assert jobs.claim().request["seed"] == ASKED["seed"]


def test_a_mended_request_takes_the_place_of_one_that_failed(ledger):
    jobs, asked = Jobs(ledger), Lookalikes(ledger)
    asked.order("best", ASKED)
    with pytest.raises(NameTaken):
        asked.order("best", {**ASKED, "size": 6})
    jobs.finish(jobs.claim(), "failed", {"reason": "too few"})
    assert asked.order("best", {**ASKED, "size": 6})[1]
    assert asked.job("best").request["size"] == 6
    with pytest.raises(NameTaken):
        asked.order("best", ASKED)


@pytest.mark.parametrize("begun", [False, True])
def test_one_that_is_deleted_before_it_is_made_leaves_no_id(ledger, begun):
    jobs, asked = Jobs(ledger), Lookalikes(ledger)
    job, _ = asked.order("best", ASKED)
    running = jobs.claim() if begun else None
    asked.forget("best")
    assert "somebody" not in str(jobs.job(job.id))
    assert jobs.claim().kind == "forget_lookalike"
    assert jobs.claim() is None
    assert running is None or not jobs.finish(running, "done", {}), "it is not the worker's any more"
    assert jobs.job(job.id).state == "failed"


def test_all_are_read_at_once(ledger, monkeypatch):
    asked = Lookalikes(ledger)
    for name in ("one", "two", "three"):
        asked.order(name, ASKED)
    connections = []
    real = Ledger.connection
    monkeypatch.setattr(Ledger, "connection", lambda self: connections.append(1) or real(self))
    assert [*asked.all()] == ["one", "two", "three"]
    assert len(connections) == 1


def test_an_audience_of_another_making_is_neither_taken_nor_deleted(ledger):
    asked = Lookalikes(ledger)
    ledger.save_audience("mine", {"task": "churn", "top_n": 5})
    with pytest.raises(NameTaken, match="Choose another name"):
        asked.order("mine", ASKED)
    assert asked.all() == {}
    asked.order("later", ASKED)
    ledger.save_audience("later", {"task": "churn", "top_n": 5})
    asked.forget("later")
    assert [one.name for one in ledger.audiences()] == ["mine", "later"]
    with pytest.raises(NameTaken):
        ledger.keep_audience("mine", {"task": "lookalike-mine", "members": True})


def test_the_name_of_a_look_alike_of_the_command_line_is_taken(ledger):
    ledger.keep_audience("keen", {"task": "lookalike-keen", "members": True})
    with pytest.raises(NameTaken, match="made on the command line"):
        Lookalikes(ledger).order("keen", ASKED)


def test_one_that_is_deleted_while_it_is_made_is_not_served(ledger, shop, monkeypatch):
    Lookalikes(ledger).order("best", ASKED)
    job = Jobs(ledger).claim()
    Lookalikes(ledger).forget("best")
    monkeypatch.setattr("training.lookalike.seed_request.make_requested", lambda *_: (None, {}))
    monkeypatch.setattr("training.lookalike.expand_run.run_expand", lambda *_: {"promoted": True})
    with pytest.raises(NoUsableData, match="deleted while it was made"):
        make_lookalike(shop, ledger, job)
    assert ledger.audiences() == []


# --- the same from the command line ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(shop, buyers, serve, tmp_path_factory):
    """What is printed by: a seed from a CSV, its expansion twice, the second round of the wave, and a user who wants to be forgotten."""
    folder = tmp_path_factory.mktemp("desk")
    pd.Series(buyers, name="user_id").to_csv(folder / "seed.csv", index=False)

    def run(*words):
        return CliRunner().invoke(encore.app, [*map(str, words), "--workspace", str(shop.root)], catch_exceptions=False).output

    told = {"seed": run("lookalike", "seed", "keen", "--file", folder / "seed.csv"), "first": run("lookalike", "expand", "keen", "--size", 50)}
    members = pd.read_csv(shop.exports / "lookalike-keen.csv", dtype={"user_id": str})
    told["again"] = run("lookalike", "expand", "keen", "--base-rate", 0.1)
    told["chances"] = pd.read_csv(shop.exports / "lookalike-keen.csv", dtype={"user_id": str})
    (shop.root / "reports" / "lookalike-keen" / "evidence.json").unlink()
    told["lost"] = run("lookalike", "expand", "keen", "--size", 50)
    publish(shop)
    told["client"] = serve(shop.releases, shop.root)
    told["served"] = told["client"].get("/v1/audiences/keen/members").json["user_ids"]
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")  # of a service that has not heard of it
    Lookalikes(ledger).order("keen", {**ASKED, "seed": {**ASKED["seed"], "user_ids": buyers[:60]}})
    work(shop, ledger, once=True)
    told["taken"], removal = Lookalikes(ledger).job("keen"), Lookalikes(ledger).forget("keen")
    work(shop, ledger, once=True)
    told["removal"] = Jobs(ledger).job(removal.id).result
    told["kept"] = (shop.root / "seeds" / "keen" / "manifest.json").exists()
    told["versions"] = len(Tracking(shop, "Sampling shop").versions("lookalike-keen"))
    told["large"] = CliRunner().invoke(encore.app, ["lookalike", "expand", "keen", "--size", "5000", "--workspace", str(shop.root)]).exception
    converted = [hash_of_address(user) for user in members["user_id"].iloc[:5]] + list(members["user_id"].iloc[5:20])
    pd.DataFrame({"user_id": [*converted, "stranger", " "], "day": "31.12.2025"}).to_csv(folder / "converted.csv", index=False)
    told["of"] = (
        CliRunner().invoke(encore.app, ["lookalike", "outcomes", "keen", str(folder / "converted.csv"), "--of", "2024-01-01", "-w", str(shop.root)]).exception
    )
    told["outcomes"] = run("lookalike", "outcomes", "keen", folder / "converted.csv")
    told["seeds"] = json.loads((shop.root / "seeds" / "keen-2" / "manifest.json").read_text())
    told["members"], forgotten = members, members["user_id"][0]
    before = [path for path in (shop.root / "seeds").rglob("*.parquet") if forgotten in pq.read_table(path)["user_id"].to_pylist()]
    run("forget", forgotten)
    after = [path for path in (shop.root / "seeds").rglob("*.parquet") if forgotten in pq.read_table(path)["user_id"].to_pylist()]
    told["exported"] = [path.name for path in shop.exports.glob("lookalike-keen.*") if forgotten in path.read_text()]
    run("lookalike", "forget", "keen")
    run("lookalike", "forget", "keen-2")
    told["left"] = [path.name for path in shop.exports.iterdir()]
    told["champions"] = [version.task for version in Tracking(shop, "Sampling shop").champions()]
    return SimpleNamespace(**told, held=len(before), still_held=len(after))


def test_the_command_prints_the_match_and_writes_an_audience_of_that_size(desk):
    assert "99.0% of 101" in desk.seed
    assert "50 users, the first of this seed" in desk.first
    assert list(desk.members["rank"]) == list(range(1, 51))
    assert desk.members["similarity"].is_monotonic_decreasing


def test_with_nothing_new_nobody_enters_or_leaves_and_no_model_is_made(desk):
    assert "50 users, the first of this seed" in desk.again, "without a dial that of the last time is turned"
    assert "50 users, the first of this seed" in desk.lost, "a page that was lost is made again"
    assert list(desk.chances["user_id"]) == list(desk.members["user_id"])
    assert desk.versions == 1


def test_a_base_rate_makes_probabilities_and_without_one_there_are_none(desk):
    assert "probability" not in desk.members
    assert desk.chances["probability"].between(0.1, 1).all(), "the best are more likely than the average"
    assert desk.chances["probability"].is_monotonic_decreasing
    assert f"At a base rate of 10.00%, {desk.chances['probability'].sum():,.0f} of them are what you look for" in desk.again


def test_an_audience_of_the_command_line_is_served_by_its_name_after_the_next_publication(desk):
    assert set(desk.served) == set(desk.members["user_id"])


def test_a_seed_of_the_command_line_is_neither_taken_nor_deleted_by_a_request(desk):
    assert (desk.taken.state, "another seed of this name" in desk.taken.result["reason"]) == ("failed", True)
    assert desk.removal["deleted"] is False
    assert "encore lookalike forget keen" in desk.removal["kept"]
    assert desk.kept


def test_more_users_than_there_are_candidates_are_refused(desk):
    assert isinstance(desk.large, NoUsableData)
    assert "An audience of 5,000 users cannot be made" in str(desk.large)


def test_the_second_round_says_what_the_wave_taught(desk):
    assert "40.0% [" in desk.outcomes
    assert "1 of the given ids were not in the audience" in desk.outcomes
    assert "had ranked them higher with AUC 1.000" in desk.outcomes, "the twenty best of fifty converted"
    assert "rank correlation" in desk.outcomes
    assert (desk.seeds["users"], desk.seeds["negatives"]) == (120, 30)


def test_the_wave_may_be_named_by_its_date_and_one_that_is_not_kept_is_said(desk):
    assert "2024-01-01" in str(desk.of)
    assert "Known: 20" in str(desk.of)


def test_who_is_forgotten_is_in_no_seed_and_no_audience(desk):
    assert desk.held >= 2
    assert desk.still_held == 0
    assert desk.exported == []


def test_a_forgotten_seed_leaves_no_file_and_no_champion_and_publishing_is_silent(desk, shop, caplog):
    assert not [name for name in desk.left if "keen" in name]
    assert desk.champions == []
    with pytest.raises(NoUsableData, match="No model is champion yet"):
        publish(shop)
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
