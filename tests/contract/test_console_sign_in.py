"""Signing in to the console: who sees what, how a session ends, and where a form may come from and lead to."""

from __future__ import annotations

import time
from datetime import timedelta
from urllib.parse import quote

import pytest

from serving.app import ServiceSettings, create_app
from serving.border import sessions
from serving.border.keys import create_key, revoke_key
from serving.border.sessions import Attempts, back_to
from serving.console.render import PAGES
from serving.ledger import Ledger


def page(client, target, headers=None):
    return client.request("GET", f"/console{target}", headers=headers or {})


def text(answer):
    return answer.body.decode()


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
    for target in [*(f"/{name}" for name in PAGES), "/audiences?of=repeat_order&margin=20", "/trust/churn", "", "/users?id=u", "/nothing"]:
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
