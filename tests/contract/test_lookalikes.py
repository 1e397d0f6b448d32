"""`/v1/lookalikes`: a request becomes an audience of exactly the size asked for, with its contrast and its proof."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import encore
from features.errors import NoUsableData
from features.ingest import ingest_sources
from features.workspace import open_workspace
from serving.ledger import JOBS, Ledger, NameTaken
from serving.lookalikes import make_lookalike
from serving.release import current_id, load_release
from serving.schemas import LookalikeRequest
from serving.work import work
from training.lookalike.seed import hash_of_address
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
    told |= {"score": client.get(f"/v1/scores/lookalike-best/{told['members'].json['user_ids'][0]}?reasons=true")}
    told |= {"of_seed": client.get(f"/v1/scores/lookalike-best/{buyers[0]}")}
    with desk._connection() as connection:
        told["kept"] = str(connection.execute(JOBS.select()).mappings().all())
    told |= {"deleted": client.delete(f"{PATH}/best"), "gone": client.get(f"{PATH}/best"), "no audience": client.get("/v1/audiences/best")}
    work(shop, desk, once=True)
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


def test_a_seed_that_is_too_small_fails_with_what_to_do(story):
    assert story["failed"].json["state"] == "failed"
    assert "at least 30" in story["failed"].json["result"]["reason"]


def test_no_id_stays_in_the_ledger_when_the_job_has_run(story, buyers):
    assert not [user for user in buyers if f"'{user}'" in story["kept"]]


def test_a_deleted_look_alike_is_gone_with_its_audience_and_its_seed(story, shop):
    assert (story["deleted"].status, story["gone"].status, story["no audience"].status) == (202, 404, 404)
    assert not (shop.root / "seeds" / "best").exists()


def test_no_id_of_the_seed_is_in_mlflow(story, shop, buyers):
    version = Tracking(shop, "Sampling shop").with_alias("lookalike-best", CHAMPION)
    assert version
    texts = [path.read_bytes() for path in shop.mlflow_artifacts.rglob("*") if path.is_file()]
    texts.append((shop.root / "mlflow" / "mlflow.db").read_bytes())
    known = [user for user in buyers[:-1] if len(user) > 4]
    assert known
    assert not [user for user in known if any(user.encode() in text for text in texts)]


def test_the_release_holds_the_ranking_that_the_file_has(story, shop):
    release = load_release(shop.releases / current_id(shop.releases))
    scores = pd.Series(release.scores["lookalike-best"].score, [user.decode() for user in release.users]).dropna()
    best = scores.sort_values(ascending=False, kind="stable").index[:37]
    assert set(pd.read_csv(shop.exports / "lookalike-best.csv", dtype=str)["user_id"]) == set(best)


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
def ledger(tmp_path):
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


ASKED = LookalikeRequest(name="best", seed={"user_ids": ["somebody"]}, size=5).model_dump(mode="json", exclude={"name"})


def test_one_that_failed_is_tried_again_and_others_are_not(ledger):
    first, _ = ledger.order_lookalike("best", ASKED)
    ledger.finish(ledger.claim(), "failed", {"reason": "MLflow is down"})
    again, is_new = ledger.order_lookalike("best", ASKED)
    assert (is_new, again.state, again.id != first.id) == (True, "queued", True)
    assert ledger.order_lookalike("best", ASKED) == (again, False)
    assert ledger.claim().request["seed"] == ASKED["seed"]


def test_one_that_is_deleted_before_it_began_never_begins_and_leaves_no_id(ledger):
    job, _ = ledger.order_lookalike("best", ASKED)
    ledger.forget_lookalike("best")
    assert ledger.claim().kind == "forget_lookalike"
    assert ledger.claim() is None
    assert (ledger.job(job.id).state, "somebody" in str(ledger.job(job.id))) == ("failed", False)


def test_an_audience_of_another_making_is_neither_taken_nor_deleted(ledger):
    ledger.save_audience("mine", {"task": "churn", "top_n": 5})
    with pytest.raises(NameTaken, match="Choose another name"):
        ledger.order_lookalike("mine", ASKED)
    assert ledger.lookalikes() == []
    ledger.order_lookalike("later", ASKED)
    ledger.save_audience("later", {"task": "churn", "top_n": 5})
    ledger.forget_lookalike("later")
    assert [one.name for one in ledger.audiences()] == ["mine", "later"]


def test_one_that_is_deleted_while_it_is_made_is_not_served(ledger, shop, monkeypatch):
    ledger.order_lookalike("best", ASKED)
    job = ledger.claim()
    ledger.forget_lookalike("best")
    monkeypatch.setattr("training.lookalike.seed_request.make_requested", lambda *_: (None, {}))
    monkeypatch.setattr("training.lookalike.expand_commands.run_expand", lambda *_: {"promoted": True})
    with pytest.raises(NoUsableData, match="deleted while it was made"):
        make_lookalike(shop, ledger, job.request)
    assert ledger.audiences() == []


# --- the same from the command line ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(shop, buyers, tmp_path_factory):
    """What is printed by: a seed from a CSV, its expansion twice, the second round of the wave, and a user who wants to be forgotten."""
    folder = tmp_path_factory.mktemp("desk")
    pd.Series(buyers, name="user_id").to_csv(folder / "seed.csv", index=False)

    def run(*words):
        return CliRunner().invoke(encore.app, [*map(str, words), "--workspace", str(shop.root)], catch_exceptions=False).output

    told = {"seed": run("lookalike", "seed", "keen", "--file", folder / "seed.csv"), "first": run("lookalike", "expand", "keen", "--size", 50)}
    members = pd.read_csv(shop.exports / "lookalike-keen.csv", dtype={"user_id": str})
    told["again"] = run("lookalike", "expand", "keen", "--size", 50)
    (shop.root / "reports" / "lookalike-keen" / "evidence.json").unlink()
    told["lost"] = run("lookalike", "expand", "keen", "--size", 50)
    told["versions"] = len(Tracking(shop, "Sampling shop").versions("lookalike-keen"))
    told["large"] = CliRunner().invoke(encore.app, ["lookalike", "expand", "keen", "--size", "5000", "--workspace", str(shop.root)]).exception
    converted = [hash_of_address(user) for user in members["user_id"].iloc[:5]] + list(members["user_id"].iloc[5:20])
    pd.DataFrame({"user_id": [*converted, "stranger", " "], "day": "31.12.2025"}).to_csv(folder / "converted.csv", index=False)
    told["outcomes"] = run("lookalike", "outcomes", "keen", folder / "converted.csv")
    told["seeds"] = json.loads((shop.root / "seeds" / "keen-2" / "manifest.json").read_text())
    told["members"], forgotten = members, members["user_id"][0]
    before = [path for path in (shop.root / "seeds").rglob("*.parquet") if forgotten in pq.read_table(path)["user_id"].to_pylist()]
    run("forget", forgotten)
    after = [path for path in (shop.root / "seeds").rglob("*.parquet") if forgotten in pq.read_table(path)["user_id"].to_pylist()]
    return SimpleNamespace(**told, held=len(before), still_held=len(after))


def test_the_command_prints_the_match_and_writes_an_audience_of_that_size(desk):
    assert "99.0% of 101" in desk.seed
    assert "50 users, 50 new, 0 left" in desk.first
    assert list(desk.members["rank"]) == list(range(1, 51))
    assert desk.members["similarity"].is_monotonic_decreasing


def test_with_nothing_new_nobody_enters_or_leaves_and_no_model_is_made(desk):
    assert "50 users, 0 new, 0 left" in desk.again
    assert "50 users, 0 new, 0 left" in desk.lost, "a page that was lost is made again"
    assert desk.versions == 1


def test_more_users_than_there_are_candidates_are_refused(desk):
    assert isinstance(desk.large, NoUsableData)
    assert "An audience of 5,000 users cannot be made" in str(desk.large)


def test_the_second_round_says_what_the_wave_taught(desk):
    assert "40.0% [" in desk.outcomes
    assert "1 of the given ids were not in the audience" in desk.outcomes
    assert "had ranked them higher with AUC 1.000" in desk.outcomes, "the twenty best of fifty converted"
    assert "rank correlation" in desk.outcomes
    assert (desk.seeds["users"], desk.seeds["negatives"]) == (120, 30)


def test_who_is_forgotten_is_in_no_seed_and_no_audience(desk):
    assert desk.held >= 2
    assert desk.still_held == 0
