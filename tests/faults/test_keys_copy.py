"""A service that starts while its ledger is down: the copy of its keys lets the known ones in, for as long as it is good, and nobody else."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from serving.app import ServiceSettings, create_app
from serving.border.auth import Keyring
from serving.border.keys import create_key, revoke_key
from serving.border.keys_copy import GOOD_FOR, CopyRefused, KeysCopy
from serving.ledger import Ledger


@pytest.fixture
def kept(tmp_path):
    """Two keys, one of them revoked, in a ledger that a keyring has looked at once: its file, the copy, the keys."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with closing(Ledger(url)) as ledger:
        valid, revoked = (create_key(ledger, name, ["score"], days=7) for name in ("one", "two"))
        revoke_key(ledger, revoked[4:16])
        copy = KeysCopy(tmp_path / "keys.json", url)
        Keyring(ledger, copy).look()
        yield tmp_path / "ledger.db", copy, valid, revoked


def start(file, copy):
    file.write_bytes(b"garbage " * 1_000)
    keyring = Keyring(Ledger(f"sqlite:///{file}"), KeysCopy(copy.path, f"sqlite:///{file}"))
    keyring.look()
    return keyring


def test_the_copy_lets_known_keys_in_and_neither_revoked_nor_unknown_ones(kept):
    file, copy, valid, revoked = kept
    keyring = start(file, copy)
    assert (keyring.is_known, keyring.is_open) == (True, False)
    assert keyring.find(valid.encode()).ends > datetime.now(UTC).timestamp()
    assert keyring.find(revoked.encode()).ends <= datetime.now(UTC).timestamp()
    assert keyring.find(f"enc_{'0' * 12}_{'0' * 40}".encode()) is None


def test_it_holds_digests_and_is_its_owners_alone(kept):
    _, copy, valid, revoked = kept
    assert copy.path.stat().st_mode & 0o777 == 0o600
    assert not any(key[17:] in copy.path.read_text() for key in (valid, revoked))
    found, age = copy.read(datetime.now(UTC))
    assert ({key.name for key in found}, age < timedelta(seconds=30)) == ({"one", "two"}, True)


@pytest.mark.parametrize("fault", ["old", "from the future", "torn", "changed", "readable by others", "another ledger", "a link", "none"])
def test_a_copy_that_may_not_be_used_leaves_the_service_closed(kept, fault):
    file, copy, *_ = kept
    told = json.loads(copy.path.read_text())
    match fault:
        case "old" | "from the future":
            away = GOOD_FOR + timedelta(minutes=1) if fault == "old" else timedelta(minutes=-5)
            copy.write(copy.read(datetime.now(UTC))[0], datetime.now(UTC) - away)
        case "torn":
            copy.path.write_bytes(copy.path.read_bytes()[:-20])
        case "changed":
            told["keys"][0]["expires_at"] = "2400-01-01T00:00:00+00:00"
            copy.path.write_text(json.dumps(told))
        case "readable by others":
            copy.path.chmod(0o644)
        case "another ledger":
            KeysCopy(copy.path, "sqlite:///other.db").write(copy.read(datetime.now(UTC))[0], datetime.now(UTC))
        case "a link":
            copy.path.rename(copy.path.with_suffix(".else"))
            copy.path.symlink_to(copy.path.with_suffix(".else"))
        case "none":
            copy.path.unlink()
    with pytest.raises(CopyRefused):
        copy.read(datetime.now(UTC))
    assert start(file, copy).state == "unknown"


def test_a_copy_that_grows_too_old_during_the_outage_closes_the_service_and_the_ledgers_return_opens_it(kept):
    file, copy, valid, _ = kept
    content = file.read_bytes()
    keyring = start(file, copy)
    copy.write(copy.read(datetime.now(UTC))[0], datetime.now(UTC) - GOOD_FOR - timedelta(seconds=1))
    keyring.look()
    assert (keyring.state, keyring.find(valid.encode())) == ("unknown", None)
    file.write_bytes(content)
    keyring.look()
    assert (keyring.state, keyring.find(valid.encode()).key.name) == ("known", "one")


def test_an_open_service_leaves_no_copy(tmp_path):
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")) as ledger:
        ledger.audiences()
        Keyring(ledger, KeysCopy(tmp_path / "keys.json", "x")).look()
    assert not (tmp_path / "keys.json").exists()


def test_with_a_postgresql_that_refuses_connections_a_restarted_service_answers_known_keys_alone(published, postgres_server, tmp_path, serve):
    """The database refuses connections, as it does while it is down, and takes them again."""
    name = f"keys_{uuid.uuid4().hex}"
    postgres_server.run(f"create database {name}")
    url = f"{postgres_server.url.rpartition('/')[0]}/{name}"
    with closing(Ledger(url)) as ledger:
        valid, revoked = (create_key(ledger, who, ["score"], days=7) for who in ("one", "two"))
        revoke_key(ledger, revoked[4:16])
    client_of = type(serve(published.root, tmp_path))

    def started():
        app = create_app(ServiceSettings(published.root, url, keys_copy=tmp_path / "keys.json"))
        app.state.current.refresh()
        app.state.keyring.look()
        return client_of(app)

    def asked(client, key):
        user = published.snapshot.user_ids[0]
        return client.request("GET", f"/v1/scores/churn/{user}", headers={"authorization": f"Bearer {key}"}).status

    first = started()
    assert (asked(first, valid), asked(first, revoked)) == (200, 401)
    first.app.state.ledger.close()
    postgres_server.run(f"alter database {name} with allow_connections false")
    try:
        again = started()
        assert [asked(again, key) for key in (valid, revoked, f"enc_{'0' * 12}_{'0' * 40}")] == [200, 401, 401]
        assert again.get("/health/ready").status == again.get("/v2/health/ready").status == 200
        (tmp_path / "keys.json").unlink()
        closed = started()
        assert asked(closed, valid) == 503
        assert closed.get("/health/ready").status == closed.get("/v2/health/ready").status == 503
    finally:
        postgres_server.run(f"alter database {name} with allow_connections true")
    closed.app.state.keyring.look()
    assert (asked(closed, valid), closed.get("/v2/health/ready").status) == (200, 200)
