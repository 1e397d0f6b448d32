"""The console's page of audiences: what its handles say, what its forms keep, and what is downloaded."""

from __future__ import annotations

import csv
import re
import shutil
import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from serving.audiences.memory import known
from serving.console import audiences
from serving.console.choice import Choice
from serving.console.formats import Formats
from serving.console.members_csv import members_csv
from serving.console.told import Told
from serving.console.words import Words
from serving.ledger import Ledger
from serving.privacy.audit import AUDIT_LOG
from serving.scorer import Scorer
from serving.tombstones import tombstone, write_tombstones

SCRIPT = "<script>alert(1)</script>"


def page(client, target, headers=None):
    return client.request("GET", f"/console{target}", headers=headers or {})


def text(answer):
    return answer.body.decode()


def test_an_audience_that_means_harm_is_written_as_it_is(told_root, serve, tmp_path):
    client = serve(told_root, tmp_path)
    client.app.state.ledger.save_audience(f"all {SCRIPT}", {"task": "repeat_order", "top_percent": 100})  # over HTTP such a name is refused
    scorer = client.app.state.current.scorer
    inside = scorer.release.users[int(np.flatnonzero(~np.isnan(scorer.release.scores["repeat_order"].score))[0])].decode()
    body = text(page(client, f"/users?id={inside}"))
    assert "all &lt;script&gt;" in body
    assert SCRIPT not in body


def test_an_audience_is_kept_by_a_form_of_this_service_alone(told_root, serve, tmp_path):
    client = serve(told_root, tmp_path, timedelta(days=36_500))
    form = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}

    def post(body, headers=form):
        return client.request("POST", "/console/audiences", body, headers)

    kept = post(b"of=repeat_order&at=20&skip=5&held=20&margin=9.5&name=soon")
    assert (kept.status, kept.headers["location"]) == (
        303,
        "/console/audiences?of=repeat_order&at=20&skip=5&held=20&margin=9.5&said=kept",
    )
    found = client.get("/v1/audiences/soon").json
    assert found["rule"] == {"task": "repeat_order", "top_percent": 20, "skip_percent": 5}
    assert found["groups"]["control"] > 0
    assert post(b"of=repeat_order&at=21&name=soon").headers["location"].endswith("said=taken")
    assert post(b"of=repeat_order&at=5&name=churn").headers["location"].endswith("said=name")
    assert post(b"of=repeat_order&at=5&name=%3Cscript%3E").headers["location"].endswith("said=name")
    assert post(b"of=none&name=x").status == 404
    assert post(b"of=repeat_order&name=theirs", {**form, "sec-fetch-site": "cross-site"}).status == 403
    assert {one["name"] for one in client.get("/v1/audiences").json} == {"soon"}


@pytest.mark.parametrize("choice", [(20, 2, 10), (50, 49, 50), (1, 0, 20), (100, 0, 0), (31.4, 7, 10)])
@pytest.mark.parametrize("task", ["repeat_order", "churn"])
def test_a_move_says_what_a_preview_says(told, task, choice):
    at, skip, held = choice
    moved = page(told, f"/audiences/cut?of={task}&at={at}&skip={skip}&held={held}&margin=18&coupon_cost=5&contact_cost=1").json
    sent = {"task": task, "top_percent": float(at), "skip_percent": float(skip), "holdout": {"control": held / 100}}
    seen = told.post("/v1/audiences:preview", {**sent, "economics": {"margin": 18, "coupon_cost": 5, "contact_cost": 1}}).json
    profit = f"{'-' if seen['profit'] < 0 else ''}€{abs(seen['profit']):,.{0 if abs(seen['profit']) >= 1000 else 2}f}"
    assert {name: moved["said"][name] for name in ("size", "expected", "interval", "precision", "lift", "at_random", "by_recency", "profit")} == {
        "size": f"{seen['size']:,}",
        "expected": f"{seen['expected_conversions']:,.0f}",
        "interval": f"{seen['expected_low']:,.0f} – {seen['expected_high']:,.0f}",
        "precision": f"{100 * seen['precision']:.1f}%",
        "lift": f"{seen['lift']:.2f}×",
        "at_random": f"{seen['at_random']:,.0f}",
        "by_recency": f"{seen['by_recency']:,.0f}",
        "profit": profit,
    }
    if seen["power"] and seen["power"]["effect"]:
        assert f"{100 * seen['power']['effect']:.1f} points" in moved["power"] or seen["power"]["effect"] < 0.01
        assert f"({seen['power']['control']} users)" in moved["power"]
    elif held:
        assert "cannot show anything" in moved["power"]
    else:
        assert "nobody will know" in moved["power"]


def test_handles_stay_in_their_places_and_do_not_cross(told):
    for asked, at, skip in (
        ("at=-3&skip=-1", 1, 0),
        ("at=9999999999&skip=200", 100, 99),
        ("at=x&skip=x", 10, 0),
        ("at=5&skip=7", 5, 4),
        ("at=nan&held=7", 10, 0),
    ):
        moved = page(told, f"/audiences/cut?of=repeat_order&{asked}").json
        assert (float(moved["at"]), float(moved["skip"])) == (at, skip), asked
    assert page(told, "/audiences/cut?of=none").status == 404
    likeness = page(told, "/audiences/cut?of=lookalike&at=20&skip=2&margin=3").json
    assert set(likeness["said"]) == {"size", "percent"}
    assert "gives no probability" in likeness["power"]


def test_amounts_that_are_none_are_named_and_nothing_is_reckoned(told):
    for wrong, said in {
        "margin=x": "“Margin of a conversion” must be a number from 0 to 1,000,000,000",
        "margin=-1": "“Margin of a conversion” must be",
        "margin=nan": "“Margin of a conversion” must be",
        "margin=1e99": "“Margin of a conversion” must be",
        "margin=5&coupon_cost=y": "“Coupon, for each who converts” must be",
        "contact_cost=2": "say the margin of a conversion",
    }.items():
        answer = page(told, f"/audiences?of=repeat_order&{wrong}")
        assert (answer.status, said in text(answer), "Most profit" in text(answer)) == (200, True, False), wrong
    assert 'name="coupon_cost" type="number" min="0" max="1000000000" step="any" inputmode="decimal" value="2.5"' in text(
        page(told, "/audiences?margin=x&coupon_cost=2.5")
    )
    with_profit = text(page(told, "/audiences?of=repeat_order&margin=20&contact_cost=1"))
    assert "A contact pays from a chance of 5.0% on." in with_profit
    assert "Most profit at" in with_profit
    assert "No contact pays" in text(page(told, "/audiences?of=repeat_order&margin=1&contact_cost=2"))


@pytest.mark.parametrize("eligible", [0, 1, 3, 40])
def test_of_a_tiny_shop_every_place_of_the_handles_has_its_page(told, tmp_path, eligible):
    current, whole = told.app.state.current, told.app.state.current.scorer.release
    scores = whole.scores["repeat_order"]
    some = np.flatnonzero(~np.isnan(scores.score))[:eligible]
    score = np.full(len(scores.score), np.nan)
    score[some] = scores.score[some]
    few = replace(whole, scores={**whole.scores, "repeat_order": replace(scores, score=score)})
    small = Told(current.root, Scorer(few, timedelta(days=1)))
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        for at, skip in ((1, 0), (10, 5), (60, 30), (100, 99), (100, 0)):
            one = audiences.page(small, ledger, Choice("repeat_order", at, skip, amounts={"margin": 20}), Words("en"), Formats("en"))
            assert len(one["rows"]) == eligible
            if eligible:
                taken = round(eligible * at / 100) - min(round(eligible * skip / 100), round(eligible * at / 100))
                assert one["cut"]["said"]["size"] == str(taken)
                assert "cannot show anything" in one["cut"]["power"] or eligible == 40
            else:
                assert one["cut"] is None
                assert audiences.move(small, Choice("repeat_order", at, skip), Words("en"), Formats("en"))["said"]["size"] == "0"


def test_with_a_ledger_that_fails_the_handles_move_and_nothing_is_kept_or_taken(told_root, serve, tmp_path):
    client = serve(told_root, tmp_path, timedelta(days=36_500))
    assert "None yet." in text(page(client, "/audiences?of=repeat_order"))
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1000)
    body = text(page(client, "/audiences?of=repeat_order"))
    assert "whose database does not answer now" in body
    assert page(client, "/audiences/cut?of=repeat_order&at=20").status == 200
    form = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
    assert client.request("POST", "/console/audiences", b"of=repeat_order&name=x", form).status == page(client, "/audiences/export?name=x").status == 503


def test_a_kept_audience_is_downloaded_without_whom_it_holds_out(told_root, serve, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.console.members_csv.BLOCK", 7)  # more than one block
    client = serve(told_root, tmp_path, timedelta(days=36_500))
    client.post("/v1/audiences", {"task": "repeat_order", "top_n": 50, "name": "a.b _c", "holdout": {"control": 0.3}})
    client.post("/v1/audiences", {"where": {"feature": "orders_count", "at_least": 0}, "name": "everybody"})
    of = {group: client.get(f"/v1/audiences/a.b%20_c/members?group={group}").json["user_ids"] for group in ("treatment", "control")}
    to_treat, everybody = (page(client, f"/audiences/export?name=a.b+_c{more}") for more in ("", "&group=all"))
    assert re.fullmatch(r'attachment; filename="a-b-c-[0-9a-f]{6}-[0-9a-f-]+\.csv"', to_treat.headers["content-disposition"])
    rows = [list(csv.DictReader(text(one).splitlines())) for one in (to_treat, everybody)]
    assert [row["user_id"] for row in rows[0]] == of["treatment"]
    assert [row["user_id"] for row in rows[1]] == client.get("/v1/audiences/a.b%20_c/members").json["user_ids"]
    assert {row["user_id"] for row in rows[1] if row["group"] == "control"} == set(of["control"]) != set()
    score = client.get(f"/v1/scores/repeat_order/{rows[0][0]['user_id']}").json
    assert (float(rows[0][0]["score"]), rows[0][0]["band"]) == (round(100 * score["probability"], 2), score["band"])
    assert text(page(client, "/audiences/export?name=everybody")).startswith('"user_id"\n')
    assert page(client, "/audiences/export?name=none").status == page(client, "/audiences/export").status == 404
    with client.app.state.ledger.connection() as connection:
        taken = [row.facts["rows"] for row in connection.execute(AUDIT_LOG.select()) if row.what == "audience exported"]
    assert taken[:2] == [len(of["treatment"]), 50]


def test_a_download_runs_nothing_in_a_spreadsheet(told_root, serve, tmp_path):
    client = serve(told_root, tmp_path, timedelta(days=36_500))
    client.post("/v1/audiences", {"task": "repeat_order", "top_n": 4, "name": "four"})
    release, ledger = client.app.state.current.scorer.release, client.app.state.ledger
    ids = np.array([sign + bytes(user)[1:] for sign, user in zip([b"=", b"+", b"-", b"@"] * len(release.users), release.users, strict=False)])
    _, blocks = members_csv(replace(release, users=ids), ledger.audience("four"), ledger, everybody=True)
    assert [row["user_id"][:2] in ("'=", "'+", "'-", "'@") for row in csv.DictReader(b"".join(blocks).decode().splitlines())] == [True] * 4


def test_after_the_form_to_sign_in_the_page_finds_its_ranking_and_its_lots_made(told_root, serve, tmp_path):
    root = tmp_path / "releases"
    shutil.copytree(told_root, root)
    client = serve(root, tmp_path)
    current = client.app.state.current
    assert known(current.scorer.release) == []
    assert page(client, "/sign-in").status == 200
    for thread in [one for one in threading.enumerate() if one.name == "console-first"]:
        thread.join(60)
    made = known(current.scorer.release)
    assert {kind for kind, *_ in made} == {"ranking", "by recency", "lots", "groups", "feature"}
    assert page(client, "/audiences").status == 200
    assert {*known(current.scorer.release)} == {*made}
    write_tombstones(root, {tombstone(bytes(current.scorer.release.users[0])): "suppressed"})
    current.refresh()  # another release, in which somebody is withheld
    assert {*known(current.scorer.release)} == {*made}
