"""The console's page of campaigns: what it says of each, that it says what the report says, and that it claims nothing without control."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta
from html import unescape
from urllib.parse import quote

import numpy as np
import pytest

from serving.campaigns import effect, monitor, report, store
from serving.campaigns.outcomes import Outcomes
from serving.campaigns.plan import Plan, checked
from serving.console.effect_said import ALARMS, WARNINGS, alarm, warning
from serving.console.words import Words
from serving.ledger import Ledger

DAY = date(2024, 3, 4)
HARM = "<script>alert(1)</script>"
LANGUAGES = ("en", "zh")


def plan(name: str, **more) -> Plan:
    return checked(Plan(**{"name": name, "starts": DAY, "horizon": 14, "shares": {"treatment": 0.5, "control": 0.5}, **more}))


def outcomes(of: Plan, treated: int, control: int, ours: int, theirs: int, observed: int = 14) -> Outcomes:
    """So many of each group, so many of whom came to the goal on the fifth day."""
    import pandas as pd

    many = treated + control
    group = np.array(["treatment"] * treated + ["control"] * control, dtype=object)
    converted = np.concatenate([np.arange(treated) < ours, np.arange(control) < theirs]).astype(float)
    made = {
        "users": np.array([f"u{number:05d}" for number in range(many)], dtype=object),
        "group": group,
        "chance": np.full(many, 0.2),
        "expected": np.full(many, 0.2),
        "percentile": np.linspace(0, 100, many),
        "entered": np.full(many, 19_786),
        "observed": np.full(many, observed),
        "goal_on": np.where(converted > 0, 4, -1),
        "spend": converted * 30.0,
        "orders_before": np.zeros(many),
        "spend_before": np.zeros(many),
        "messages": {name: (group == "treatment") * int(name == "sent") for name in ("sent", "opened", "clicked", "redeemed")},
        "daily": pd.DataFrame({"member": np.flatnonzero(converted), "offset": 4}),
    }
    return Outcomes(**{name: made[name] for name in Outcomes.__dataclass_fields__})


def reported(ledger: Ledger, of: Plan, *sizes: int) -> dict:
    campaign, _ = store.save_campaign(ledger, of)
    found = report.report_of(of, outcomes(of, *sizes), DAY + timedelta(days=20), "EUR")
    store.add_members(ledger, campaign, [store.Member("u", "treatment", None, None, None, None, None, DAY, of.ends(DAY))])
    store.save_report(ledger, campaign, store.FINAL, found)
    return found


def seen(client, target: str = "", language: str = "en") -> tuple[int, str]:
    answer = client.request("GET", f"/console/effect{target}", headers={"accept-language": language})
    return answer.status, unescape(re.sub(r"<[^>]*>", " ", answer.body.decode())).replace("\u2060", "")


@pytest.fixture
def ledger(client) -> Ledger:
    return client.app.state.ledger


def test_without_campaigns_it_says_how_to_come_to_one(client):
    status, body = seen(client)
    assert status == 200
    assert all(f"encore campaign {step}" in body for step in ("start", "enrol", "monitor", "report"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_are_the_reports(client, ledger, language):
    found = reported(ledger, plan("spring", contact_cost=0.1, margin=20.0, target=0.2), 2000, 2000, 500, 400)
    status, body = seen(client, "/spring", language)
    added, roi = found["economics"]["added"], found["economics"]["roi"]
    assert status == 200
    assert f"+{added['value']:,.1f}" in body
    assert f"+{added['low']:,.1f}" in body
    assert f"+{100 * found['effect']['adjusted']['value']:.2f}" in body
    assert f"{100 * roi['value']:,.0f}%" in body
    for group in found["groups"].values():
        assert f"{100 * group['rate']['value']:.1f}%" in body
    assert ("The campaign added" if language == "en" else "活动为全部触达成员合计带来") in body
    assert f"+{added['value']:,.1f}" in seen(client, "", language)[1]


def test_no_control_no_claim(client, ledger):
    reported(ledger, plan("all", shares={"treatment": 1.0}), 200, 0, 50, 0)
    body = seen(client, "/all")[1]
    assert "No control, no claim" in body
    assert "Conversions added" not in body
    assert "没有对照组，就不下结论" in seen(client, "/all", "zh")[1]


@pytest.mark.parametrize(
    ("sizes", "says"), [((200, 29, 50, 6), "fewer than 30"), ((200, 200, 50, 4), "fewer than 5"), ((2000, 2000, 400, 400), "No effect shown")]
)
def test_too_few_and_nothing_shown_are_said(client, ledger, sizes, says):
    reported(ledger, plan("few"), *sizes)
    assert says in seen(client, "/few")[1]


def test_the_least_sizes_in_words_are_those_of_the_report():
    assert (effect.LEAST_CONTROL, effect.LEAST_OUTCOMES) == (30, 5)


def test_groups_of_other_sizes_than_the_lot_warn_on_the_page_and_in_the_list(client, ledger):
    reported(ledger, plan("lost"), 2000, 1500, 600, 300)
    for target in ("", "/lost"):
        body = seen(client, target)[1]
        assert "sizes do not fit the lot" in body


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_open_campaign_says_from_when_on_and_shows_no_effect(client, ledger, language):
    of = plan("open", starts=date(2100, 1, 1))
    campaign, _ = store.save_campaign(ledger, of)
    assert ("Nobody has entered" if language == "en" else "还没有人进入") in seen(client, "/open", language)[1]
    store.add_members(ledger, campaign, [store.Member("u", "treatment", None, None, None, None, None, of.starts, of.ends(of.starts))])
    found = monitor.watch(of, outcomes(of, 300, 300, 3, 60, observed=10), DAY + timedelta(days=10))
    assert [one["what"] for one in found["alarms"]] == ["conversions far under expectation"]
    store.save_report(ledger, campaign, store.MONITOR, found)
    body = seen(client, "/open", language)[1]
    assert ("15 Jan 2100" if language == "en" else "2100年1月15日") in body
    assert ("Conversions are far under expectation" if language == "en" else "转化远低于预期") in body
    assert not re.search(r"Effect a member|Conversions added|人均效果|增量转化", body)


def test_with_a_ledger_that_fails_it_says_so(releases, serve, tmp_path):
    client = serve(releases, tmp_path)
    assert seen(client)[0] == 200  # the keys are known from now on
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1000)
    for target in ("", "/spring"):
        status, body = seen(client, target)
        assert (status, "Campaigns cannot be read now" in body) == (503, True)


def test_without_a_release_campaigns_are_still_told(serve, tmp_path):
    client = serve(tmp_path / "none", tmp_path)
    reported(client.app.state.ledger, plan("early"), 2000, 2000, 500, 400)
    assert seen(client, "/early")[0] == 200
    assert seen(client, "/none")[0] == 404


def test_what_means_harm_is_written_as_it_is(client, ledger):
    of = replace(plan("harm", incentive=HARM, channel=HARM, when=HARM), name=HARM)
    reported(ledger, of, 2000, 2000, 500, 400)
    for target in ("", f"/{quote(HARM)}"):
        answer = client.request("GET", f"/console/effect{target}")
        assert answer.status == 200
        assert HARM not in answer.body.decode()


# --- sentences of reports -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_warning_of_a_report_is_known(language):
    of = plan("spring", contact_cost=0.1)
    given = outcomes(of, 200, 39, 60, 6)
    messages = {name: np.zeros(len(given.users), dtype=int) for name in given.messages}
    messages["sent"][-1] = 1
    found = report.report_of(of, replace(given, messages=messages), DAY, "EUR", overlap=3)
    assert len(found["warnings"]) == len(WARNINGS)
    words = Words(language)
    for text in found["warnings"]:
        said = warning(text, words)
        assert 'lang="en"' not in said
        assert bool(re.search("[\u4e00-\u9fff]", said)) == (language == "zh")


def test_an_unknown_sentence_stays_as_it_is_and_is_escaped():
    assert warning(f"New {HARM}", Words("en")) == f"New {HARM}"
    assert warning(f"New {HARM}", Words("zh")) == '<span lang="en">New &lt;script&gt;alert(1)&lt;/script&gt;</span>'


def test_every_alarm_of_the_monitor_is_known():
    of = plan("spring")
    raised: dict[str, dict] = {}
    quiet = outcomes(of, 400, 100, 5, 40, observed=10)
    silent = {name: np.zeros(500, dtype=int) for name in quiet.messages}
    unopened = {**quiet.messages, "opened": (np.arange(500) == 0).astype(int)}
    stray = {**quiet.messages, "sent": np.ones(500, dtype=int)}
    for messages in (quiet.messages, silent, unopened, stray):
        for one in monitor.watch(of, replace(quiet, messages=messages), DAY)["alarms"]:
            raised[one["what"]] = one
    assert raised.keys() == {what for what, _ in ALARMS.values()}
    for one in raised.values():
        said = alarm(one, Words("zh"))
        assert all(re.search("[\u4e00-\u9fff]", part) and 'lang="en"' not in part for part in said.values()), said
