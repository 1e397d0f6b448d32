"""The console's pages: what they say, in which language, to whom, and what they say when something is missing."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from urllib.parse import quote

import numpy as np
import pytest

from features.events import EventLog
from features.shopfile import Shop
from features.store import SnapshotStore
from features.tiles import open_tiles
from serving.app import ServiceSettings, create_app
from serving.border import sessions
from serving.border.keys import create_key, revoke_key
from serving.border.sessions import Attempts, back_to
from serving.console import audiences
from serving.console.choice import Choice
from serving.console.formats import Formats
from serving.console.members_csv import members_csv
from serving.console.told import Told
from serving.console.words import Words
from serving.ledger import Ledger
from serving.pointer import point_to
from serving.privacy.audit import AUDIT_LOG
from serving.release import load_release, write_release
from serving.scorer import Scorer
from serving.tombstones import tombstone, write_tombstones
from training.prepare import first_day
from training.shop_moves import moves_and_firsts, tiers
from training.shop_report import shop_report

SCRIPT = "<script>alert(1)</script>"
PAGES = [
    "/audiences?of=repeat_order&margin=20",
    "/trust",
    "/trust/repeat_order",
    "/trust/lookalike",
    "/why",
    "/why?of=churn",
    "/users",
    "/shop",
    "/lookalikes",
    "/health",
    "/audiences",
    "/effect",
    "/sign-in",
]
LANGUAGES = {"en-GB,en;q=0.9": "en", "zh-CN,zh;q=0.9,en;q=0.8": "zh-Hans"}


def page(client, target, headers=None):
    return client.request("GET", f"/console{target}", headers=headers or {})


def text(answer):
    return answer.body.decode()


@pytest.fixture(scope="module")
def shop_page(published):
    """What a publication says of the shop, with a name that means harm."""
    folder = published.root.parent
    tiles = open_tiles(EventLog(folder / "log", "UTC", "EUR"), Shop(f"Shop {SCRIPT}", "UTC", "EUR", attributes=("age",)), folder / "tiles")
    store = SnapshotStore(folder / "snapshots")
    return {
        **shop_report(tiles, published.snapshot),
        "changed": moves_and_firsts(tiles, store, published.snapshot, first_day(tiles)),
        "tiers": tiers(published.snapshot.frame),
    }


@pytest.fixture(scope="module")
def told_root(published, shop_page, tmp_path_factory):
    """A release with pages, among them one whose feature means harm."""
    root = tmp_path_factory.mktemp("told") / "releases"
    before = load_release(published.root / published.second)
    facts = {"version": "1", "run_id": "run", "kind": "model", "decision": f"passed\npass  beats rule: {SCRIPT}", "metrics": {"model": {}}}
    models = {task: (bundle, ~np.isnan(before.scores[task].score), facts) for task, bundle in published.bundles.items()}
    entries = {one["name"]: {key: one[key] for key in ("family", "meaning", "unit", "actionable")} for one in published.snapshot.manifest["features"]}
    entries["orders_count"]["meaning"] = f"orders {SCRIPT}"
    pages = {"shop.json": json.dumps(shop_page).encode(), "features.json": json.dumps({"features": entries, "labels": {}}).encode()}
    release = write_release(root, published.snapshot, models, {"scored_at": before.manifest["scored_at"]}, pages=pages)
    point_to(root, release)
    return root


@pytest.fixture(scope="module")
def told(told_root, serve, tmp_path_factory):
    return serve(told_root, tmp_path_factory.mktemp("ledger"), timedelta(days=36_500))


# --- every page -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted", LANGUAGES)
@pytest.mark.parametrize("target", PAGES)
def test_every_page_is_whole_in_both_languages_and_runs_nothing_that_stands_in_it(told, target, accepted):
    answer = page(told, target, {"accept-language": accepted})
    body = text(answer)
    assert (answer.status, answer.headers["content-language"]) == (200, LANGUAGES[accepted].partition("-")[0])
    assert f'<html lang="{LANGUAGES[accepted]}">' in body
    assert body.rstrip().endswith("</html>")
    assert body.count("<h1") == 1
    assert not re.search(r"<[^>]*\s(?:style|on\w+)\s*=", body)
    assert re.findall(r"<script[^>]*>", body) == ['<script src="/console/static/console.js" defer>']
    assert not re.search(r'(?:src|href|action)="(?!/console|#)', body.replace('href="/"', ""))
    assert SCRIPT not in body
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"


def test_numbers_on_the_shop_page_are_the_reports(told, shop_page):
    english, chinese = text(page(told, "/shop")), text(page(told, "/shop", {"accept-language": "zh"}))
    basis, rate = shop_page["basis"], shop_page["second_order"]["second_order_rate"]["value"]
    for body in (english, chinese):
        assert f"{basis['customers']:,}" in body
        assert f"{100 * rate:.1f}%" in body
        for group in shop_page["layers"]["groups"]:
            assert f"{100 * group['share']:.1f}%" in body
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in english
    visitors = shop_page["changed"]["first_orders"]["all"]
    assert f"{visitors['visitors']:,} visitors had not ordered" in english


def test_a_users_page_says_what_the_api_says(told):
    scorer = told.app.state.current.scorer
    user = scorer.release.users[int(np.flatnonzero(~np.isnan(scorer.release.scores["repeat_order"].score))[0])].decode()
    said = told.get(f"/v1/scores/repeat_order/{user}?reasons=true").json
    body = text(page(told, f"/users?id={user}"))
    assert f"{100 * said['probability']:.1f}%" in body
    assert len(said["reasons"]) > 0
    assert "&#34;probability&#34;: " + json.dumps(said["probability"]) in body
    everything = told.get(f"/v1/users/{user}/scores").json["scores"]
    assert [one["task"] for one in everything if one["status"] == "OK"]
    for one in everything:
        assert f"&#34;task&#34;: &#34;{one['task']}&#34;" in body


@pytest.mark.parametrize("user", [SCRIPT, "nobody", '"><img src=x onerror=alert(1)>', "x" * 300, "\n", "用户"])
def test_of_an_unknown_user_nothing_is_said_and_nothing_is_run(told, user):
    answer = page(told, f"/users?id={quote(user)}")
    body = text(answer)
    assert answer.status == 200
    assert "<script>" not in body.replace('<script src="/console/static/console.js" defer></script>', "")
    assert "<img" not in body
    assert "/v1/users" not in body


def test_of_a_suppressed_or_deleted_user_nothing_is_said(told_root, serve, tmp_path):
    users = [user.decode() for user in load_release(next(told_root.glob("2*"))).users[:2]]
    root = tmp_path / "releases"
    shutil.copytree(told_root, root)
    write_tombstones(root, {tombstone(users[0].encode()): "suppressed", tombstone(users[1].encode()): "deleted"})
    client = serve(root, tmp_path)
    for user, words in zip(users, ("suppressed", "Nobody of this id"), strict=True):
        body = text(page(client, f"/users?id={user}"))
        assert words in body
        assert not re.search(r"percentile|Behaviour vector|timeline", body)


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


# --- what is missing ------------------------------------------------------------------------------------------------


def test_without_a_release_pages_say_what_to_run(serve, tmp_path):
    client = serve(tmp_path / "none", tmp_path)
    for target in ("/audiences", "/trust", "/why", "/users?id=u", "/shop", "/lookalikes"):
        answer = page(client, target)
        assert answer.status == 503
        assert [command in text(answer) for command in ("encore ingest", "encore check", "encore retrain", "encore publish")] == [True] * 4
    assert page(client, "/audiences/cut").status == page(client, "/audiences/export?name=x").status == 503
    health = page(client, "/health")
    assert (health.status, "encore publish" in text(health), "encore check" in text(health)) == (200, True, True)


def test_a_release_without_pages_says_that_it_must_be_published_anew(client):
    for target in ("/trust/repeat_order", "/shop"):
        answer = page(client, target)
        assert (answer.status, "Publish anew" in text(answer), "encore publish" in text(answer)) == (200, True, True)
    assert page(client, "/trust").status == page(client, "/why").status == 200


def test_with_a_ledger_that_fails_a_user_still_has_scores(told_root, serve, tmp_path):
    client = serve(told_root, tmp_path)
    scorer = client.app.state.current.scorer
    user = scorer.release.users[int(np.flatnonzero(~np.isnan(scorer.release.scores["repeat_order"].score))[0])].decode()
    assert "In none of the kept audiences" in text(page(client, f"/users?id={user}"))
    (tmp_path / "ledger.db").write_bytes(b"no database" * 1000)
    body = text(page(client, f"/users?id={user}"))
    assert "whose database does not answer now" in body
    assert "percentile" in body


@pytest.mark.parametrize("target", ["/trust/none", "/why?of=none", "/lookalikes/repeat_order", f"/trust/{quote(SCRIPT)}", "/trust/%F0%9F%92%A9"])
def test_a_page_that_is_not_there_is_404(told, target):
    answer = page(told, target)
    assert (answer.status, "There is no such page" in text(answer), SCRIPT in text(answer)) == (404, True, False)


def test_files_are_served_by_name_and_nothing_else_is(told):
    for name, kind in (("console.css", "text/css"), ("console.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = page(told, f"/static/{name}")
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, kind)
    for name in ("nothing.css", "..%2fwords.py", "%2e%2e/words.py", ""):
        assert page(told, f"/static/{name}").status == 404


# --- language -------------------------------------------------------------------------------------------------------


def test_the_switch_is_remembered_and_beats_the_browser(told):
    first = page(told, "/shop?lang=zh", {"accept-language": "en"})
    kept = first.headers["set-cookie"]
    assert kept.startswith("encore_language=zh;")
    assert {part.strip().lower() for part in kept.split(";")} >= {"httponly", "path=/console", "samesite=strict"}
    assert 'lang="zh-Hans"' in text(page(told, "/shop", {"accept-language": "en", "cookie": "encore_language=zh"}))
    assert 'href="/console/shop?lang=en"' in text(first)
    assert "set-cookie" not in page(told, "/shop?lang=xx").headers


# --- signing in -----------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(told_root, serve, tmp_path):
    """A service that asks for keys; and a key that reads, one that also scores."""
    client = serve(told_root, tmp_path, timedelta(days=36_500))
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    keys = {"read": create_key(ledger, "reader", ["read"], days=1), "all": create_key(ledger, "all", ["read", "score"], days=1)}
    client.app.state.keyring.look()
    return client, ledger, keys


def sign_in(client, key, wanted="/console/shop", headers=None):
    body = f"key={quote(key)}&next={quote(wanted, safe='')}".encode()
    return client.request("POST", "/console/sign-in", body, {"content-type": "application/x-www-form-urlencoded", **(headers or {})})


def session_of(answer):
    return answer.headers["set-cookie"].partition(";")[0]


def test_who_has_not_signed_in_sees_the_form_and_nothing_of_the_shop(locked):
    client, _, _ = locked
    for target in [*PAGES[:-1], "", "/users?id=u", "/nothing"]:
        answer = page(client, target)
        assert (answer.status, answer.headers["location"]) == (303, f"/console/sign-in?next={quote('/console' + target, safe='')}")
        assert answer.body == b""
    form = text(page(client, "/sign-in"))
    release = client.app.state.current.scorer.release.id
    assert 'type="password"' in form
    assert not any(told in form for told in ("Shop &lt;", release, "EUR"))


def test_a_key_becomes_a_cookie_that_holds_no_key(locked):
    client, _, keys = locked
    answer = sign_in(client, keys["read"], "/console/trust/churn")
    assert (answer.status, answer.headers["location"]) == (303, "/console/trust/churn")
    cookie = answer.headers["set-cookie"]
    assert keys["read"] not in cookie
    assert keys["read"][17:] not in cookie
    assert {part.strip().lower() for part in cookie.split(";")[1:]} == {"httponly", "path=/console", "samesite=strict", f"max-age={sessions.LASTS}"}
    seen = page(client, "/shop", {"cookie": session_of(answer)})
    assert (seen.status, "Sign out (reader)" in text(seen)) == (200, True)
    assert client.request("GET", "/v1/models", headers={"cookie": session_of(answer)}).status == 401  # the API asks for the key itself


def test_a_key_may_also_come_in_a_header(locked):
    client, _, keys = locked
    assert page(client, "/shop", {"authorization": f"Bearer {keys['read']}"}).status == 200
    assert page(client, "/shop", {"authorization": "Bearer enc_wrong"}).status == 401


def test_a_key_that_may_not_score_sees_no_user(locked):
    client, _, keys = locked
    cookie = session_of(sign_in(client, keys["read"]))
    answer = page(client, "/users?id=u", {"cookie": cookie})
    assert (answer.status, answer.headers["location"]) == (303, "/console/sign-in?next=%2Fconsole%2Fusers%3Fid%3Du&needs=score")
    assert "needs the scope “score”" in text(page(client, answer.headers["location"].removeprefix("/console"), {"cookie": cookie}))
    assert page(client, "/users?id=u", {"cookie": session_of(sign_in(client, keys["all"]))}).status == 200


def test_a_session_ends_with_its_time_with_its_key_and_with_any_changed_character(locked, monkeypatch):
    client, ledger, keys = locked
    cookie = session_of(sign_in(client, keys["read"]))
    name, _, value = cookie.partition("=")
    for place in range(len(value)):
        changed = value[:place] + ("0" if value[place] != "0" else "1") + value[place + 1 :]
        assert page(client, "/shop", {"cookie": f"{name}={changed}"}).status == 303, place
    for wrong in ("", "...", "a.b.c.d", value[:-1], value + "0", value.replace(".", "%2e"), '"', "é"):
        assert page(client, "/shop", {"cookie": f"{name}={wrong}"}).status == 303, wrong
    now = time.time()
    with monkeypatch.context() as patch:
        patch.setattr("serving.border.auth.time.time", lambda: now + sessions.LASTS + 1)
        assert page(client, "/shop", {"cookie": cookie}).status == 303
    assert page(client, "/shop", {"cookie": cookie}).status == 200
    revoke_key(ledger, keys["read"][4:16])
    client.app.state.keyring.look()
    assert page(client, "/shop", {"cookie": cookie}).status == 303


def test_a_cookie_of_another_service_is_none(locked, told_root, tmp_path):
    client, _, keys = locked
    cookie = session_of(sign_in(client, keys["read"]))
    other = create_app(ServiceSettings(told_root, f"sqlite:///{tmp_path / 'ledger.db'}", session_secret="another"))
    other.state.current.refresh()
    assert type(client)(other).request("GET", "/console/shop", headers={"cookie": cookie}).status == 303
    same = create_app(ServiceSettings(told_root, f"sqlite:///{tmp_path / 'ledger.db'}", session_secret="one"))
    twin = create_app(ServiceSettings(told_root, f"sqlite:///{tmp_path / 'ledger.db'}", session_secret="one"))
    for app in (same, twin):
        app.state.current.refresh()
    cookie = session_of(sign_in(type(client)(same), keys["read"]))
    assert type(client)(twin).request("GET", "/console/shop", headers={"cookie": cookie}).status == 200


def test_wrong_keys_are_refused_and_too_many_of_them_have_to_wait(locked):
    client, _, keys = locked
    for _ in range(sessions.FROM_ONE):
        answer = sign_in(client, "enc_" + "0" * 53)
        assert (answer.status, "set-cookie" in answer.headers) == (401, False)
    waits = sign_in(client, keys["read"])
    assert (waits.status, 0 < int(waits.headers["retry-after"]) <= 61) == (429, True)


def test_attempts_are_counted_by_client_and_in_all_and_forgotten():
    attempts = Attempts()
    for number in range(sessions.FROM_ONE):
        assert attempts.wait("a", 10.0) == 0
        attempts.note("a", 10.0 + number)
    assert attempts.wait("a", 30.0) == 40.0
    assert attempts.wait("b", 30.0) == 0
    assert attempts.wait("a", 70.0) == 0
    for number in range(sessions.FROM_ALL):
        attempts.note(str(number), 100.0)
    assert attempts.wait("new", 130.0) == 30.0


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://elsewhere.test"}, {"origin": "null"}]
)
def test_a_form_of_another_website_is_refused(locked, headers):
    client, _, keys = locked
    assert sign_in(client, keys["read"], headers=headers).status == 403
    assert client.request("POST", "/console/sign-out", headers=headers).status == 403


def test_signing_out_takes_the_cookie_away(locked):
    client, _, _ = locked
    answer = client.request("POST", "/console/sign-out", headers={"origin": "http://shop.test"})
    assert (answer.status, answer.headers["location"]) == (303, "/console/sign-in")
    assert "encore_session=" in answer.headers["set-cookie"]
    assert "max-age=0" in answer.headers["set-cookie"].lower()


ELSEWHERE = [
    "https://evil.test",
    "//evil.test/console",
    "/console/../v1",
    "/v1/models",
    "javascript:alert(1)",
    "/console\\evil",
    "/consolex",
    "",
    "/console/sign-in",
    "/console/a\nb",
]


@pytest.mark.parametrize("wanted", ELSEWHERE)
def test_signing_in_leads_to_the_console_and_nowhere_else(wanted):
    assert back_to(wanted) == "/console"


def test_signing_in_leads_back():
    assert back_to("/console/users?id=a%20b") == "/console/users?id=a%20b"
