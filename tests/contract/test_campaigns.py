"""What campaigns promise over HTTP, in the ledger of either database and on the command line: a plan that stays, groups for life, no claim too early."""

from __future__ import annotations

import itertools
from contextlib import closing
from datetime import date, timedelta

import pytest
from typer.testing import CliRunner

from encore import app
from features.errors import UnknownName
from features.workspace import Workspace
from serving.campaigns import store
from serving.campaigns.plan import InvalidCampaign, Plan, checked, plan_of
from serving.ledger import Ledger, NameTaken
from serving.privacy.databases import erase_from_ledger
from serving.privacy.needles import Needles
from serving.work import work

PATH = "/v1/campaigns"
DAY = date(2025, 3, 1)
REQUEST = {"name": "spring", "audience": "soon", "horizon": 14, "hold_out": 0.2, "incentive": "10 % off", "channel": "e-mail", "contact_cost": 0.1}


@pytest.fixture
def workspace(releases):
    return Workspace(releases.parent, "", f"sqlite:///{releases.parent / 'ledger.db'}")


@pytest.fixture
def service(releases, serve, published):
    """A service with a saved audience of 300, and the date of its release."""
    client = serve(releases, releases.parent)
    assert client.post("/v1/audiences", {"task": "repeat_order", "top_n": 300, "name": "soon"}).status == 201
    return client, published.snapshot.as_of.isoformat()


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


def plan(name: str = "spring", **more) -> Plan:
    return checked(Plan(**{"name": name, "starts": DAY, "horizon": 14, **more}))


def member(user: str, group: str = "treatment", on: date = DAY, days: int = 14, chance: float | None = 0.25) -> store.Member:
    return store.Member(user, group, chance, chance, 50.0, "release", on, on, on + timedelta(days=days))


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_a_campaign_is_logged_entered_and_asked_for(service, workspace):
    client, as_of = service
    made = client.post(PATH, {**REQUEST, "starts": as_of})
    assert (made.status, made.json["state"], made.json["groups"]) == (201, "running", {"treatment": 0, "control": 0})
    assert made.json["plan"]["rule"] == {"task": "repeat_order", "top_n": 300} | {k: v for k, v in made.json["plan"]["rule"].items() if v is None}
    assert client.post(PATH, {**REQUEST, "starts": as_of}).status == 200
    assert client.post(PATH, {**REQUEST, "starts": as_of, "horizon": 15}).status == 409
    queued = client.post(f"{PATH}/spring/enrolments", {"on": as_of})
    assert (queued.status, queued.json["kind"]) == (202, "enrol_campaign")
    client.post(f"{PATH}/spring/enrolments", {"on": as_of})
    assert work(workspace, Ledger(workspace.ledger_url), once=True) == 2
    done = client.get(f"/v1/jobs/{queued.json['id']}").json
    assert (done["state"], done["result"]["new"]) == ("done", 300)
    groups = client.get(f"{PATH}/spring").json["groups"]
    assert sum(groups.values()) == 300
    assert 35 <= groups["control"] <= 85
    assert [one["name"] for one in client.get(PATH).json] == ["spring"]
    assert client.post(f"{PATH}/spring/stop").json["state"] == "stopped"


def test_each_member_is_kept_with_the_group_the_score_and_the_release_of_entry(service, workspace, published):
    client, as_of = service
    client.post(PATH, {**REQUEST, "starts": as_of, "horizon": 30})
    client.post(f"{PATH}/spring/enrolments", {"on": as_of})
    ledger = Ledger(workspace.ledger_url)
    work(workspace, ledger, once=True)
    entered = store.members(ledger, store.campaign(ledger, "spring"))
    scores = {one["user_id"]: one for one in client.post("/v1/scores/repeat_order", {"user_ids": [one.user_id for one in entered]}).json["scores"]}
    assert all(one.chance == pytest.approx(scores[one.user_id]["probability"], abs=1e-9) for one in entered)
    assert all(one.expected == pytest.approx(one.chance) for one in entered)  # the prediction's horizon is 30 days, too
    assert {one.release for one in entered} == {published.second}


@pytest.mark.parametrize(
    ("wrong", "status", "says"),
    [
        ({"goal": "odrer"}, 422, "Goals are"),
        ({"where": {"leval": {"at_least": 1}}, "goal": "rating"}, 422, "Properties are"),
        ({"hold_out": 0.6, "business_as_usual": 0.5}, 422, "nobody to treat"),
        ({"margin": 1.0, "margin_share": 0.5}, 422, "not both"),
        ({"goal": "spend", "margin": 2.0}, 422, "margin_share"),
        ({"target": 1.5}, 422, "target"),
        ({"audience": "nobody"}, 404, "audience"),
        ({"horizon": 0}, 422, "problem"),
        ({"colour": "red"}, 422, "problem"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said_without_repeating_it(service, wrong, status, says):
    client, as_of = service
    answer = client.post(PATH, {**REQUEST, "starts": as_of, **wrong})
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert says in answer.json["detail"]
    assert "odrer" not in answer.body.decode()
    assert "leval" not in answer.body.decode()


def test_a_report_is_asked_for_and_there_is_none_before_it_is_made(service):
    client, as_of = service
    client.post(PATH, {**REQUEST, "starts": as_of})
    answer = client.get(f"{PATH}/spring/report")
    assert (answer.status, answer.json["type"]) == (404, "urn:encore:problem:no-report")
    assert client.post(f"{PATH}/spring/reports", {"kind": "final"}).json["kind"] == "report_campaign"
    assert client.post(f"{PATH}/spring/reports", {"kind": "guess"}).status == 422
    assert client.get(f"{PATH}/autumn").status == 404


def test_a_release_that_knows_the_days_after_entry_enters_nobody(service, workspace, published):
    client, _ = service
    early = (published.snapshot.as_of - timedelta(days=3)).isoformat()
    client.post(PATH, {**REQUEST, "starts": early})
    job = client.post(f"{PATH}/spring/enrolments", {"on": early}).json
    work(workspace, Ledger(workspace.ledger_url), once=True)
    done = client.get(f"/v1/jobs/{job['id']}").json
    assert (done["state"], "scores know what happened" in done["result"]["reason"]) == ("failed", True)


# --- in the ledger --------------------------------------------------------------------------------------------------


def test_a_plan_comes_back_as_it_was_and_does_not_change(ledger):
    told = plan(goal="rating", where={"level": {"at_least": 4}}, shares={"treatment": 0.8, "control": 0.1, "business_as_usual": 0.1}, winsorise=0.99)
    assert plan_of(told.described()) == told
    of, new = store.save_campaign(ledger, told)
    assert (new, store.campaign(ledger, of.id).plan, store.save_campaign(ledger, told)[1]) == (True, told, False)
    with pytest.raises(NameTaken):
        store.save_campaign(ledger, plan(horizon=15))
    with pytest.raises(UnknownName):
        store.campaign(ledger, "autumn")


def test_entering_twice_late_or_in_pieces_harms_nothing(ledger, monkeypatch):
    monkeypatch.setattr(store, "ROWS", 3)
    of, _ = store.save_campaign(ledger, plan())
    everybody = [member(f"u{number}", "control" if number % 5 == 0 else "treatment") for number in range(10)]
    assert store.add_members(ledger, of, everybody[:4]) == 4
    assert store.add_members(ledger, of, everybody) == 6
    late = [member(one.user_id, "control", DAY + timedelta(days=3), chance=0.9) for one in everybody]
    assert store.add_members(ledger, of, late) == 0
    assert store.members(ledger, of) == sorted(everybody, key=lambda one: one.user_id)
    assert store.group_sizes(ledger, of) == {"treatment": 8, "control": 2}
    store.stop_campaign(ledger, "spring")
    with pytest.raises(InvalidCampaign, match="stopped"):
        store.add_members(ledger, of, [member("late")])


def test_sizes_are_those_of_the_members_after_each_enrolment_and_each_erasure(ledger):
    first, second = (store.save_campaign(ledger, plan(name))[0] for name in ("first", "second"))

    def sizes():
        """What is told, held against the members themselves."""
        told = [store.group_sizes(ledger, of) for of in (first, second)]
        groups = [[one.group for one in store.members(ledger, of)] for of in (first, second)]
        assert told == [{group: of.count(group) for group in ("treatment", "control")} for of in groups]
        return told

    store.add_members(ledger, first, [member("a"), member("b"), member("b"), member("c", "control")])
    store.add_members(ledger, second, [member("a", "control"), member("d")])
    assert sizes() == [{"treatment": 2, "control": 1}, {"treatment": 1, "control": 1}]
    erase_from_ledger(ledger, Needles(["a"]))
    assert sizes() == [{"treatment": 1, "control": 1}, {"treatment": 1, "control": 0}]
    assert store.add_members(ledger, second, [member("d"), member("e", "control")]) == 1
    assert sizes() == [{"treatment": 1, "control": 1}, {"treatment": 1, "control": 1}]


def test_the_treated_are_those_whose_windows_touch_the_days(ledger):
    of, _ = store.save_campaign(ledger, plan())
    store.add_members(ledger, of, [member("a"), member("b", "control"), member("c", on=DAY + timedelta(days=20))])
    for start, end, ids in ((0, 1, {"a"}), (13, 14, {"a"}), (14, 20, set()), (14, 21, {"c"}), (0, 99, {"a", "c"}), (-5, 0, set())):
        assert store.treated(ledger, DAY + timedelta(days=start), DAY + timedelta(days=end)) == ids


def test_who_is_treated_by_two_campaigns_at_once_is_counted(ledger):
    first, _ = store.save_campaign(ledger, plan("first"))
    second, _ = store.save_campaign(ledger, plan("second"))
    store.add_members(ledger, first, [member("a"), member("b"), member("c"), member("d")])
    later = DAY + timedelta(days=14)
    store.add_members(ledger, second, [member("a"), member("b", "control"), member("c", on=later)])
    assert (store.also_treated(ledger, first), store.also_treated(ledger, second)) == (1, 2)


def test_the_newest_report_of_a_kind_is_the_one_that_is_shown(ledger):
    of, _ = store.save_campaign(ledger, plan())
    assert store.last_report(ledger, of, store.MONITOR) is None
    for number, kind in zip(itertools.count(), (store.MONITOR, store.MONITOR, store.FINAL), strict=False):
        store.save_report(ledger, of, kind, {"number": number})
    assert [store.last_report(ledger, of, kind) for kind in (store.MONITOR, store.FINAL)] == [{"number": 1}, {"number": 2}]
    assert store.stop_campaign(ledger, of.id).state == store.REPORTED


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"goal": "odrer"}, "Did you mean 'order'"),
        ({"shares": {"treatment": 0.9, "control": 0.2}}, "add up to 1"),
        ({"shares": {"control": 1.0}}, "needed"),
        ({"horizon": 400}, "1 to 365"),
        ({"winsorise": 0.5}, "from .9"),
        ({"goal": "spend", "where": {"channel": "web"}}, "no properties"),
        ({"contact_cost": -1.0}, "0 or more"),
    ],
)
def test_everything_that_is_wrong_with_a_plan_is_said(wrong, says):
    with pytest.raises(InvalidCampaign, match=says):
        plan(**wrong)


# --- on the command line --------------------------------------------------------------------------------------------


def test_the_commands_log_enter_watch_and_refuse_what_is_not_over(small_workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("ENCORE_LEDGER_URL", f"sqlite:///{tmp_path / 'ledger.db'}")
    place = ["-w", str(small_workspace.root)]
    today = str(small_workspace.log(small_workspace.shop()).complete_until)
    Ledger(f"sqlite:///{tmp_path / 'ledger.db'}").save_audience("best", {"task": "repeat_order", "top_n": 50})

    def call(*words: str):
        return CliRunner().invoke(app, ["campaign", *words, *place], catch_exceptions=True)

    assert call("start", "spring", "--audience", "best", "--horizon", "14", "--starts", today, "--hold-out", "0.2").exit_code == 0
    assert call("enrol", "spring", "--on", today).exit_code == 0
    assert call("enrol", "spring", "--on", today).exit_code == 0
    assert "running" in call("list").stdout
    watched = call("monitor", "spring")
    assert (watched.exit_code, "Interim" in watched.stdout) == (0, True)
    assert type(call("report", "spring").exception).__name__ == "LabelWindowOpen"
    assert call("stop", "spring").exit_code == 0
    assert type(call("enrol", "spring", "--on", today).exception).__name__ == "InvalidCampaign"


def test_a_campaign_of_another_tool_is_entered_from_the_log_and_reported(small_workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("ENCORE_LEDGER_URL", f"sqlite:///{tmp_path / 'ledger.db'}")
    place = ["-w", str(small_workspace.root)]
    out = tmp_path / "page"
    begins = ["--starts", "2024-12-16", "--horizon", "21", "--hold-out", "0.5", "--log-name", "campaign-10"]
    for words in (["start", "ours", *begins], ["enrol", "ours", "--from-log"], ["report", "ours", "--out", str(out)]):
        assert CliRunner().invoke(app, ["campaign", *words, *place], catch_exceptions=False).exit_code == 0
    assert "# Campaign ours: did it work?" in (out / "report.md").read_text()
