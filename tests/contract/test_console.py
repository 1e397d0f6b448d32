"""The console's pages: what they say, in which language, to whom, and what they say when something is missing."""

from __future__ import annotations

import json
import re
import shutil
import time
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
from serving.ledger import Ledger
from serving.pointer import point_to
from serving.release import load_release, write_release
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

    kept = post(b"of=repeat_order&at=5&size=7&name=seven")
    assert (kept.status, kept.headers["location"]) == (303, "/console/audiences?of=repeat_order&at=5&said=kept")
    assert client.get("/v1/audiences/seven").json["size"] == 7
    assert post(b"of=repeat_order&at=5&size=8&name=seven").headers["location"].endswith("said=taken")
    assert post(b"of=repeat_order&at=5&size=8&name=churn").headers["location"].endswith("said=name")
    assert post(b"of=repeat_order&at=5&size=8&name=%3Cscript%3E").headers["location"].endswith("said=name")
    assert post(b"of=none&size=8&name=x").status == post(b"of=churn&size=x&name=x").status == 404
    assert post(b"of=repeat_order&size=8&name=theirs", {**form, "sec-fetch-site": "cross-site"}).status == 403
    assert {one["name"] for one in client.get("/v1/audiences").json} == {"seven"}


def test_amounts_that_are_none_are_passed_over(told):
    for wrong in ("margin=x", "margin=-1", "margin=nan", "margin=1e99", "at=-3", "at=9999999999", "at=x", "margin=5&coupon_cost=y"):
        assert page(told, f"/audiences?of=repeat_order&{wrong}").status == 200
    with_profit = text(page(told, "/audiences?of=repeat_order&margin=20&contact_cost=1"))
    assert "Most profit at" in with_profit


# --- what is missing ------------------------------------------------------------------------------------------------


def test_without_a_release_pages_say_what_to_run(serve, tmp_path):
    client = serve(tmp_path / "none", tmp_path)
    for target in ("/trust", "/why", "/users?id=u", "/shop", "/lookalikes"):
        answer = page(client, target)
        assert answer.status == 503
        assert [command in text(answer) for command in ("encore ingest", "encore check", "encore retrain", "encore publish")] == [True] * 4
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
