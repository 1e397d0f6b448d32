"""The console's pages: what they say, in which language, and what they say when something is missing."""

from __future__ import annotations

import json
import re
import shutil
from urllib.parse import quote

import numpy as np
import pytest

from serving.release import load_release
from serving.tombstones import tombstone, write_tombstones

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
