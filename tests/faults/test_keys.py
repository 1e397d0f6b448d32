"""F44: who has no key, a wrong one, one that is over or one for something else gets nothing, and no key is ever seen again."""

from __future__ import annotations

import base64
import hmac
import io
import json
import logging
import time
from types import SimpleNamespace

import pytest

from features.logs import JsonLines, log
from serving.border import auth
from serving.border.auth import NEEDS, Keyring, key_sent, needed_scope
from serving.border.keys import SCOPES, create_key, read_keys, revoke_key
from serving.border.limits import is_journey
from serving.ledger import Ledger
from serving.routes import ROUTERS

SCORE = "/v1/scores/churn/user-000001"
ASKED = {"score": SCORE, "audience": "/v1/audiences", "read": "/v1/models", "privacy": "/v1/privacy/requests/none", "admin": "/nothing"}


@pytest.fixture
def shop(published, serve, tmp_path):
    """A service with a key of each scope: client, ledger, keys by scope."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    keys = {scope: create_key(ledger, f"of-{scope}", [scope], days=30) for scope in SCOPES}
    return SimpleNamespace(client=serve(published.root, tmp_path), ledger=ledger, keys=keys, file=tmp_path / "ledger.db")


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def get(client, target, headers=None):
    return client.request("GET", target, headers=headers)


# --- who is let in ---------------------------------------------------------------------------------------------------


def forms(key):
    basic = {name: base64.b64encode(pair.encode()).decode() for name, pair in {"password": f"encore:{key}", "user": f"{key}:", "both": f"{key}:x"}.items()}
    yield from ({"authorization": f"{scheme} {key}"} for scheme in ("Bearer", "bearer", "BEARER", "Bearer  "))
    yield from ({"authorization": f"{scheme} {text}"} for text in basic.values() for scheme in ("Basic", "basic"))
    yield {"x-api-key": key}
    yield {"x-api-key": key, "authorization": "Basic cHJveHk6aXRz"}  # a proxy's own


def test_each_way_to_send_a_key_lets_in(shop):
    for headers in forms(shop.keys["score"]):
        assert get(shop.client, SCORE, headers).status == 200, headers


def test_a_key_of_each_scope_is_let_in_to_its_own_routes_and_admin_to_all(shop):
    for scope, key in shop.keys.items():
        for needed, target in ASKED.items():
            answer = get(shop.client, target, bearer(key))
            assert (answer.status in (200, 404)) == (scope in (needed, "admin")), (scope, target)
            if answer.status == 403:
                assert answer.headers["content-type"] == "application/problem+json"
                assert f"needs the scope {needed}, and has {scope}" in answer.json["detail"]
                assert f'error="insufficient_scope", scope="{needed}"' in answer.headers["www-authenticate"]


def test_a_key_may_have_several_scopes(shop):
    key = create_key(shop.ledger, "both", ["score", "read"], days=1)
    assert [get(shop.client, target, bearer(key)).status for target in ASKED.values()] == [200, 403, 200, 403, 403]


def test_probes_and_documentation_need_no_key(shop):
    for target in ("/health/live", "/health/ready", "/docs", "/redoc", "/openapi.json"):
        assert get(shop.client, target).status == 200
    assert get(shop.client, "/health/ready").json["keys"] == "known"


WRONG = ["", "Bearer", "Bearer ", "Bearer x", "Basic", "Basic !", "Basic eA==", "Digest x", "Bearer enc_", "Bearer " + "x" * 60_000]


@pytest.mark.parametrize("authorization", WRONG)
def test_what_is_no_key_is_refused_with_what_to_do(shop, authorization):
    for target in (*ASKED.values(), "/metrics", "/nothing", "/v1/journeys/churn/u", "//v1/scores/churn/u", "/HEALTH/live"):
        answer = get(shop.client, target, {"authorization": authorization} if authorization else {})
        assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")
        assert answer.headers["www-authenticate"].startswith('Bearer realm="encore"')
        assert "Authorization: Bearer KEY" in answer.json["detail"]
        assert "xxxx" not in answer.body.decode()


@pytest.mark.parametrize("target", ["/health/../v1/models", "/health%2f..%2fv1/models", "/docs/../metrics", "/static-offline-docs/..%2f..%2fapp.py"])
def test_no_detour_leads_past_the_check(shop, target):
    assert get(shop.client, target).status == 404


def test_a_key_with_any_character_changed_is_refused(shop):
    key = shop.keys["score"]
    for place in range(len(key)):
        changed = key[:place] + ("0" if key[place] != "0" else "1") + key[place + 1 :]
        assert get(shop.client, SCORE, bearer(changed)).status == 401
    assert get(shop.client, SCORE, bearer(key[:-1])).status == get(shop.client, SCORE, bearer(key + "0")).status == 401
    assert get(shop.client, SCORE, bearer(key)).status == 200


def test_the_secret_of_one_key_does_not_prove_another(shop):
    mixed = shop.keys["admin"][:16] + shop.keys["score"][16:]
    assert get(shop.client, SCORE, bearer(mixed)).status == 401


def test_an_expired_key_is_refused_at_the_moment_it_ends(shop, monkeypatch):
    key = shop.keys["score"]
    assert get(shop.client, SCORE, bearer(key)).status == 200
    end = shop.client.app.state.keyring.find(key.encode()).ends
    assert end - time.time() == pytest.approx(30 * 86_400, abs=60)
    for moment, status in ((end - 0.001, 200), (end, 401)):
        with monkeypatch.context() as patch:
            patch.setattr(auth.time, "time", lambda moment=moment: moment)
            answer = get(shop.client, SCORE, bearer(key))
            assert answer.status == status
    assert "has expired" in answer.json["detail"]


def test_a_revoked_key_is_refused_at_the_next_look_and_its_twin_is_not(shop):
    old, new = shop.keys["score"], create_key(shop.ledger, "of-score", ["score"], days=30)
    revoke_key(shop.ledger, old[4:16])
    shop.client.app.state.keyring.look()
    answer = get(shop.client, SCORE, bearer(old))
    assert (answer.status, "was revoked" in answer.json["detail"]) == (401, True)
    assert get(shop.client, SCORE, bearer(new)).status == 200


def test_a_journey_without_a_key_is_refused_like_everything_else(shop):
    assert get(shop.client, "/v1/journeys/churn/user-000001").status == 401
    assert get(shop.client, "/v1/journeys/churn/user-000001", bearer(shop.keys["read"])).status == 403
    assert get(shop.client, "/v1/journeys/churn/user-000001", bearer(shop.keys["score"])).json["status"] == "OK"


def test_what_is_refused_is_refused_before_its_body_is_read(shop):
    def chunks():
        raise AssertionError("the body was read")
        yield b""

    assert shop.client.post("/v1/scores/churn", chunks()).status == 401


def test_the_comparison_takes_the_same_time_however_much_is_right(shop, monkeypatch):
    compared, real = [], hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda one, other: compared.append((len(one), len(other))) or real(one, other))
    for key in (shop.keys["score"], shop.keys["score"][:-1] + "x", "enc_" + "0" * 53, "x"):
        get(shop.client, SCORE, bearer(key))
    assert compared == [(32, 32)] * 4  # digests, also where no key has the id


# --- open, known, old, unknown ---------------------------------------------------------------------------------------


def test_without_any_key_everybody_may_ask_and_the_first_key_ends_that_for_good(published, serve, tmp_path):
    client, ledger = serve(published.root, tmp_path), Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert [get(client, target).status for target in (SCORE, "/metrics", "/health/ready")] == [200, 200, 200]
    assert get(client, "/health/ready").json["keys"] == "open"
    assert not (tmp_path / "ledger.db").exists(), "to look is not to begin"
    key = create_key(ledger, "one", ["score"], days=1)
    client.app.state.keyring.look()
    assert (get(client, SCORE).status, get(client, SCORE, bearer(key)).status) == (401, 200)
    revoke_key(ledger, key[4:16])
    client.app.state.keyring.look()
    assert get(client, SCORE).status == get(client, SCORE, bearer(key)).status == 401


def _listen():
    """Everything that is logged from now on, the handler that writes it, and the level to go back to."""
    said = io.StringIO()
    handler, level = logging.StreamHandler(said), log.level
    handler.setFormatter(JsonLines())
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    return said, handler, level


FAULTS = ["garbage", "gone", "no tables", "a directory"]


def break_ledger(file, fault):
    content = file.read_bytes()
    file.unlink()
    if fault == "garbage":
        file.write_bytes(b"this is no database, " * 100)
    elif fault == "no tables":
        Ledger(f"sqlite:///{file}").audiences()
    elif fault == "a directory":
        file.mkdir()
    return content


@pytest.mark.parametrize("fault", FAULTS)
def test_a_ledger_that_breaks_leaves_the_known_keys_valid_and_lets_nobody_else_in(shop, fault, monkeypatch):
    keyring, key = shop.client.app.state.keyring, shop.keys["score"]
    keyring.look()
    content = break_ledger(shop.file, fault)
    for _ in range(3):
        keyring.look()
    assert (get(shop.client, SCORE, bearer(key)).status, get(shop.client, SCORE).status) == (200, 401)
    with monkeypatch.context() as patch:
        patch.setattr(auth, "OLD", 0.0)
        ready = get(shop.client, "/health/ready")
        assert (ready.status, ready.json["keys"]) == (200, "old")
    if shop.file.is_dir():
        shop.file.rmdir()
    shop.file.write_bytes(content)
    revoke_key(Ledger(f"sqlite:///{shop.file}"), key[4:16])
    keyring.look()
    assert get(shop.client, SCORE, bearer(key)).status == 401, "a revocation counts when the ledger is back"


@pytest.mark.parametrize("fault", ["garbage", "a directory"])
def test_a_service_that_could_never_read_its_keys_lets_nobody_in_until_it_can(shop, published, serve, fault):
    content = break_ledger(shop.file, fault)
    client = serve(published.root, shop.file.parent)
    for headers in ({}, bearer(shop.keys["admin"])):
        answer = get(client, SCORE, headers)
        assert (answer.status, answer.headers["retry-after"], answer.json["type"]) == (503, "30", "urn:encore:problem:keys-unknown")
        journey = get(client, "/v1/journeys/churn/user-000001", headers)
        assert (journey.status, journey.json["branch"], journey.json["status"]) == (200, "fallback", "UNAVAILABLE")
    ready = get(client, "/health/ready")
    assert (ready.status, ready.json["reason"], ready.json["keys"]) == (503, "keys_unknown", "unknown")
    assert get(client, "/health/live").status == 200
    if shop.file.is_dir():
        shop.file.rmdir()
    shop.file.write_bytes(content)
    client.app.state.keyring.look()
    assert (get(client, SCORE, bearer(shop.keys["admin"])).status, get(client, SCORE).status) == (200, 401)


def test_a_folder_that_cannot_be_read_is_not_one_without_keys(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError("denied")

    keyring = Keyring(Ledger(f"sqlite:///{tmp_path / 'closed' / 'ledger.db'}"))
    monkeypatch.setattr("pathlib.Path.stat", denied)
    monkeypatch.setattr("pathlib.Path.mkdir", denied)
    keyring.look()
    assert (keyring.is_open, keyring.state) == (False, "unknown")


def test_an_outage_is_logged_once_and_so_is_its_end(shop):
    keyring = shop.client.app.state.keyring
    keyring.look()
    said, handler, level = _listen()
    try:
        content = break_ledger(shop.file, "garbage")
        for _ in range(5):
            keyring.look()
        shop.file.write_bytes(content)
        for _ in range(5):
            keyring.look()
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    messages = [json.loads(line)["message"] for line in said.getvalue().splitlines()]
    assert [sum(word in message for message in messages) for word in ("keys not refreshed", "keys refreshed again", "ledger")] == [1, 1, 1]


# --- keys are seen nowhere -------------------------------------------------------------------------------------------


def test_no_key_is_in_answers_logs_metrics_or_the_ledger(shop):
    said, handler, level = _listen()
    seen = []
    try:
        for key in (shop.keys["score"], shop.keys["admin"]):
            for sent in (key, key[:-1] + ("0" if key[-1] != "0" else "1")):
                for target in (*ASKED.values(), "/metrics", "/openapi.json", "/v1/users/x/scores", "/v1/scores/nothing/x"):
                    for headers in forms(sent):
                        answer = get(shop.client, target, headers)
                        seen += [answer.body.decode(), str(answer.headers)]
        shop.client.app.state.keyring.write_use()
        for key in shop.keys.values():
            revoke_key(shop.ledger, key[4:16])
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    everything = "".join(seen) + said.getvalue() + shop.file.read_bytes().decode("latin-1") + str(read_keys(shop.ledger))
    for key in shop.keys.values():
        assert key[17:-1] not in everything


# --- the description -------------------------------------------------------------------------------------------------


def test_every_route_is_listed_under_a_scope_and_says_so(client):
    document = client.get("/openapi.json").json
    assert set(document["components"]["securitySchemes"]) == {"bearer", "header", "basic"}
    for router in ROUTERS:
        for route in router.routes:
            parts = route.path.split("/", 3)[1:3]
            assert parts[0] == "health" or "/".join(parts[:2]) in NEEDS, f"{route.path} needs a line in serving/border/auth.py:NEEDS"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            needed = needed_scope(path)
            assert operation.get("security") == (needed and [{"bearer": [needed]}, {"header": [needed]}, {"basic": [needed]}])
            assert not needed or {"401", "403"} <= set(operation["responses"])
            assert not needed or ("429" in operation["responses"]) != is_journey({"path": path})


def test_headers_that_repeat_and_bytes_that_are_no_text_are_no_key():
    assert key_sent([(b"authorization", b"Bearer \xff\xfe")]) == b"\xff\xfe"
    assert key_sent([(b"authorization", b"Basic \xff")]) == b"\xff"
    assert key_sent([]) == b""
    assert key_sent([(b"authorization", b"Bearer one"), (b"x-api-key", b"two")]) == b"two"


# --- a real service --------------------------------------------------------------------------------------------------


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_a_running_service_learns_of_new_and_revoked_keys_by_itself(start_service, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    with start_service(tmp_path) as live:
        assert live.get(SCORE).status == 200
        key, other = (create_key(ledger, name, ["score"], days=1) for name in ("one", "other"))
        until(lambda: live.get(SCORE).status == 401)
        assert (live.get(SCORE, bearer(key)).status, live.get("/health/live").status, live.get("/metrics", bearer(key)).status) == (200, 200, 403)
        revoke_key(ledger, other[4:16])
        until(lambda: live.get(SCORE, bearer(other)).status == 401)
        assert live.get(SCORE, bearer(key)).status == 200
        until(lambda: {one.name: one.last_used_at for one in read_keys(ledger)}["one"])
        said = live.errors.read_text()
    assert key[17:] not in said
