"""API keys as the ledger keeps them and as the command line makes them: a digest, two at a time, shown once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

import encore
from features.errors import UnknownName
from features.exit_codes import exit_code
from serving.border import auth
from serving.border.auth import Keyring
from serving.border.keys import API_KEYS, InvalidKey, NameInUse, NotOpen, create_key, may_listen, read_keys, revoke_key, write_last_used
from serving.ledger import Ledger


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


def change(ledger, key, **values):
    with ledger.connection() as connection:
        connection.execute(API_KEYS.update().where(API_KEYS.c.id == key[4:16]).values(**values))


# --- the ledger of keys, on both databases ---------------------------------------------------------------------------


def test_only_a_digest_is_kept(ledger):
    key = create_key(ledger, "shop", ["score", "read"], days=7, per_second=12.5)
    (kept,) = read_keys(ledger)
    assert (kept.name, kept.scopes, kept.per_second, kept.state(datetime.now(UTC))) == ("shop", {"score", "read"}, 12.5, "valid")
    assert timedelta(days=6.99) < kept.expires_at - datetime.now(UTC) <= timedelta(days=7)
    with ledger.connection() as connection:
        row = str(connection.execute(API_KEYS.select()).one())
    assert key[17:] not in row
    assert len(key) == 57


def test_two_keys_of_a_name_at_a_time_and_a_third_when_one_is_revoked_or_over(ledger):
    first, second = (create_key(ledger, "shop", ["score"], days=7) for _ in range(2))
    with pytest.raises(NameInUse, match=f"encore keys revoke {first[4:16]}") as refused:
        create_key(ledger, "shop", ["score"], days=7)
    assert exit_code(refused.value) == 2
    create_key(ledger, "another", ["score"], days=7)
    revoke_key(ledger, first[4:16])
    third = create_key(ledger, "shop", ["score"], days=7)
    with pytest.raises(NameInUse):
        create_key(ledger, "shop", ["score"], days=7)
    change(ledger, second, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    create_key(ledger, "shop", ["score"], days=7)
    states = {key.id: key.state(datetime.now(UTC)) for key in read_keys(ledger)}
    assert (states[first[4:16]], states[second[4:16]], states[third[4:16]]) == ("revoked", "expired", "valid")


def test_revoking_twice_changes_nothing_and_an_unknown_id_is_told(ledger):
    key = create_key(ledger, "shop", ["score"], days=7)
    assert revoke_key(ledger, key[4:16]).revoked_at == revoke_key(ledger, key[4:16]).revoked_at
    with pytest.raises(UnknownName, match=key[4:16]):
        revoke_key(ledger, "000000000000")


@pytest.mark.parametrize(
    ("name", "scopes", "days", "rate"),
    [(name, ["score"], 1, None) for name in ("Shop", "", "a" * 65, "a b", "-a", "a\n")]
    + [("a", scopes, 1, None) for scopes in ([], ["everything"], ["score", ""])]
    + [("a", ["score"], days, None) for days in (0, 3651, -1)]
    + [("a", ["score"], 1, rate) for rate in (0.0, -1.0, float("nan"), float("inf"))],
)
def test_a_key_that_makes_no_sense_is_not_made(tmp_path, name, scopes, days, rate):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    with pytest.raises((InvalidKey, UnknownName)) as refused:
        create_key(ledger, name, scopes, days, rate)
    assert (exit_code(refused.value), read_keys(ledger)) == (2, [])


def test_the_last_use_is_written_in_the_background_at_most_once_a_minute_and_never_backwards(ledger, monkeypatch):
    key, now = create_key(ledger, "shop", ["score"], days=7), time.time()
    written = []
    monkeypatch.setattr(auth, "write_last_used", lambda *told: written.append(told[1]) or write_last_used(*told))
    keyring = Keyring(ledger)
    keyring.look()
    for seconds in (0, 1, 59, 61, 62):
        keyring.used[key[4:16]] = now + seconds
        keyring.write_use()
    assert [round(at.timestamp() - now) for told in written for at in told.values()] == [0, 61]
    write_last_used(ledger, {key[4:16]: datetime.fromtimestamp(now - 100, UTC)})
    assert read_keys(ledger)[0].last_used_at.timestamp() == pytest.approx(now + 61, abs=0.001)


# --- the commands ----------------------------------------------------------------------------------------------------


def run(*arguments, folder):
    return CliRunner().invoke(encore.app, [*arguments, "--workspace", str(folder)])


def test_the_commands_make_list_and_revoke(tmp_path):
    made = run("keys", "create", "journey-tool", "--scope", "score", "--scope", "read", "--days", "30", "--per-second", "50", folder=tmp_path)
    key = made.stdout.strip()
    assert (made.exit_code, key.startswith("enc_"), len(key)) == (0, True, 57)
    listed = run("keys", "list", folder=tmp_path).stdout
    assert key[4:16] in listed
    assert key[17:] not in listed
    assert all(word in " ".join(listed.split()) for word in ("journey-tool", "50", "valid", "never"))
    assert run("keys", "revoke", key[4:16], folder=tmp_path).exit_code == 0
    assert "revoked" in run("keys", "list", folder=tmp_path).stdout


def test_beyond_loopback_a_key_must_exist_or_somebody_must_say_so(tmp_path):
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        may_listen(host, url, open_on_purpose=False)
    for host in ("0.0.0.0", "::", "10.0.0.7", "shop.example"):
        with pytest.raises(NotOpen, match="encore keys create NAME --scope score") as refused:
            may_listen(host, url, open_on_purpose=False)
        assert exit_code(refused.value) == 2
        may_listen(host, url, open_on_purpose=True)
    create_key(Ledger(url), "one", ["score"], days=1)
    may_listen("0.0.0.0", url, open_on_purpose=False)


def test_the_command_to_serve_refuses_to_be_open_to_the_world(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENCORE_")}
    command = [sys.executable, "-m", "encore", "serve", "--workspace", str(tmp_path), "--host", "0.0.0.0", "--port", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "encore keys create NAME --scope score" in done.stderr) == (2, True), done.stderr
