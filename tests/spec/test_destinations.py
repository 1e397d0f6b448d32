"""What leaves for each tool, field by field, on users that can be checked in the head."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from features.errors import InvalidShopFile, InvalidUse
from features.exports import export_problems
from features.sheets import write_csv
from features.shopfile import read_shop
from serving.destinations.braze import BRAZE
from serving.destinations.contacts import hashed, hashed_ids, normal_email, normal_phone
from serving.destinations.delivery import batches, retry_after
from serving.destinations.export import TOOLS, account_of, find_export
from serving.destinations.hubspot import HUBSPOT
from serving.destinations.items import Item, Naming, items
from serving.destinations.klaviyo import KLAVIYO
from serving.destinations.segment import SEGMENT
from serving.destinations.sensors import encode as sensors_line
from serving.destinations.standings import ABSENT, POINTS, Standings, changes, coded
from serving.destinations.tool import Account, Unfit
from serving.destinations.webhook import check_secrets, signed

MADE_AT = "2026-11-01T06:00:00+00:00"
ACCOUNT = Account("https://receiver.test/in", ("key",), made_at=MADE_AT)
ANN = Item(0, "ann", {"encore_churn_score": 42, "encore_churn_band": "medium"}, "ann@shop.test", "+447700900123")
GONE = Item(1, "bob", {"encore_churn_score": None, "encore_churn_band": None})
SECRETS = ("whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_" + "C2FVsBQIhrscChlQIMV+b5sSYspob7oD")


def told(tool, *some, account=ACCOUNT):
    encoded = [tool.encode(item, account) for item in some]
    return json.loads(tool.wrap(encoded, account)), tool.headers(account, tool.wrap(encoded, account), "msg_1")


# --- what changed ---------------------------------------------------------------------------------------------------


def standings(**users):
    """user=code -> Standings of one prediction."""
    ids = np.array(sorted(name.encode() for name in users), dtype=np.bytes_)
    return Standings(ids, {"churn": np.array([users[name.decode()] for name in ids], dtype=np.int16)})


def changed(before, now, **more):
    return [(item.user_id, item.attributes) for item in items(changes(before, now, **more), Naming({}, False))]


def test_noise_of_a_new_fit_is_no_change():
    before, now = (coded(np.array([42.31, 42.4999, 99.6]), np.array([50.0, 79.9, 99.0])) for _ in range(2))
    now[:] = coded(np.array([42.31 + 1e-12, 42.4, 99.51]), np.array([50.0000001, 79.99, 98.0]))
    assert (before == now).all()


def test_a_point_or_a_band_is_a_change():
    assert coded(np.array([42.4]), np.array([50.0])) != coded(np.array([42.6]), np.array([50.0]))
    assert coded(np.array([42.4]), np.array([79.99])) != coded(np.array([42.4]), np.array([80.0]))
    assert coded(np.array([np.nan]), np.array([np.nan])) == ABSENT


def test_only_attributes_that_changed_are_told():
    low, medium = 10, POINTS + 10
    before = standings(ann=low, bob=low, cat=low, dan=low)
    now = standings(ann=low, bob=medium, cat=low + 1, eve=low)
    assert changed(before, now) == [
        ("bob", {"encore_churn_band": "medium"}),
        ("cat", {"encore_churn_score": 11}),
        ("eve", {"encore_churn_score": 10, "encore_churn_band": "low"}),
        ("dan", {"encore_churn_score": None, "encore_churn_band": None}),
    ]


def test_whoever_the_receiver_may_not_know_is_told_everything():
    same = standings(ann=10, bob=ABSENT, cat=10)
    assert changed(same, same) == []
    assert changed(same, same, again=["ann", "bob", "nobody"]) == [
        ("ann", {"encore_churn_score": 10, "encore_churn_band": "low"}),
        ("bob", {"encore_churn_score": None, "encore_churn_band": None}),
    ]


CODES = st.dictionaries(st.sampled_from([*"abcdefgh", "long-id", "顾客"]), st.integers(-1, 3 * POINTS - 1))


@given(CODES, CODES, st.integers(0, 12))
def test_a_receiver_that_applies_the_changes_knows_what_the_release_says(before, now, start):
    known = {user: code for user, code in before.items() if code != ABSENT}
    old, new = (standings(**users) if users else Standings(np.array([], "S1"), {"churn": np.array([], np.int16)}) for users in (before, now))
    whole = [
        (int(row), user.decode(), int(code)) for block in changes(old, new) for row, user, code in zip(block.rows, block.users, block.new["churn"], strict=True)
    ]
    known |= {user: code for _, user, code in whole}
    assert {user: code for user, code in known.items() if code != ABSENT} == {user: code for user, code in now.items() if code != ABSENT}
    later = [int(row) for block in changes(old, new, start=start) for row in block.rows]
    assert later == [row for row, *_ in whole if row >= start]  # going on from a row misses nobody and repeats nobody


# --- tools ----------------------------------------------------------------------------------------------------------


def test_braze():
    body, headers = told(BRAZE, ANN, GONE)
    assert body == {
        "attributes": [
            {"external_id": "ann", "_update_existing_only": True, "encore_churn_score": 42, "encore_churn_band": "medium"},
            {"external_id": "bob", "_update_existing_only": True, "encore_churn_score": None, "encore_churn_band": None},
        ]
    }
    assert headers == {"content-type": "application/json", "authorization": "Bearer key"}
    assert BRAZE.failed({"message": "success", "errors": [{"type": "odd", "input_array": "attributes", "index": 1}]}, [ANN, GONE]) == {1: "odd"}
    assert [len(batch.items) for batch in batches([Item(row, str(row), {"a": 1}) for row in range(151)], BRAZE, ACCOUNT)] == [75, 75, 1]


def test_klaviyo_takes_ten_thousand_profiles_or_five_megabytes():
    body, headers = told(KLAVIYO, ANN, GONE)
    assert body["data"]["type"] == "profile-bulk-import-job"
    assert body["data"]["attributes"]["profiles"]["data"] == [
        {"type": "profile", "attributes": {"email": "ann@shop.test", "phone_number": "+447700900123", "external_id": "ann", "properties": ANN.attributes}},
        {"type": "profile", "attributes": {"external_id": "bob", "properties": GONE.attributes}},
    ]
    assert headers["authorization"] == "Klaviyo-API-Key key"
    assert headers["revision"]
    many = [Item(row, f"user-{row}", {"a": 1}) for row in range(10_001)]
    assert [len(batch.items) for batch in batches(many, KLAVIYO, ACCOUNT)] == [10_000, 1]
    wide = [Item(row, f"user-{row}", {"a": "x" * 1_000}) for row in range(9_000)]
    sizes = [len(KLAVIYO.wrap(batch.encoded, ACCOUNT)) for batch in batches(wide, KLAVIYO, ACCOUNT)]
    assert len(sizes) == 2
    assert max(sizes) <= 5_000_000


def test_segment():
    body, headers = told(SEGMENT, ANN)
    (message,) = body["batch"]
    assert {name: message[name] for name in ("type", "userId", "traits", "timestamp")} == {
        "type": "identify",
        "userId": "ann",
        "traits": ANN.attributes,
        "timestamp": MADE_AT,
    }
    assert headers["authorization"] == "Basic a2V5Og=="
    again, _ = told(SEGMENT, ANN)
    other, _ = told(SEGMENT, Item(0, "ann", {"encore_churn_score": 43}))
    assert again == body  # the same messageId: a repetition is known as one
    assert other["batch"][0]["messageId"] != message["messageId"]


def test_hubspot_knows_contacts_by_email_or_by_a_property_of_the_shop():
    body, _ = told(HUBSPOT, ANN)
    assert body == {"inputs": [{"id": "ann@shop.test", "idProperty": "email", "properties": ANN.attributes}]}
    by_id, _ = told(HUBSPOT, GONE, account=Account("", ("key",), id_property="customer_id"))
    assert by_id["inputs"] == [{"id": "bob", "idProperty": "customer_id", "properties": {"encore_churn_score": "", "encore_churn_band": ""}}]
    with pytest.raises(Unfit):
        HUBSPOT.encode(GONE, ACCOUNT)
    answer = {"errors": [{"category": "VALIDATION_ERROR", "context": {"ids": ["ann@shop.test"]}}]}
    assert HUBSPOT.failed(answer, [GONE, ANN]) == {1: "VALIDATION_ERROR"}


def test_sensors():
    lines = [json.loads(line) for line in sensors_line(ANN, ACCOUNT).splitlines()]
    at = int(datetime(2026, 11, 1, 6, tzinfo=UTC).timestamp() * 1000)
    assert lines == [{"distinct_id": "ann", "login_id": "ann", "time": at, "type": "profile_set", "properties": ANN.attributes}]
    (gone,) = [json.loads(line) for line in sensors_line(GONE, ACCOUNT).splitlines()]
    assert (gone["type"], gone["properties"]) == ("profile_unset", {"encore_churn_score": True, "encore_churn_band": True})


# --- signatures -----------------------------------------------------------------------------------------------------


def test_the_signature_is_the_one_of_the_standard():
    """The example that the Standard Webhooks libraries test themselves with."""
    made = signed(SECRETS[:1], "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1614265330)
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (made["webhook-id"], made["webhook-timestamp"]) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")


def test_with_two_secrets_a_receiver_may_have_either():
    body = '{"用户": 1}'.encode()
    made = signed(SECRETS, "msg_1", body, datetime.now(UTC).timestamp())
    for secret in SECRETS:
        assert Webhook(secret).verify(body, made) == {"用户": 1}
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(body, made)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRETS[0]).verify(b"{}", made)
    old = signed(SECRETS, "msg_1", body, datetime.now(UTC).timestamp() - 301)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRETS[0]).verify(body, old)


@pytest.mark.parametrize("secrets", [(), ("secret",), ("whsec_short",), ("whsec_%%%",), ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",), (*SECRETS, SECRETS[0])])
def test_what_is_no_secret_is_refused(secrets):
    with pytest.raises(InvalidUse):
        check_secrets(secrets)


# --- contacts -------------------------------------------------------------------------------------------------------


def hash_of(text):
    return sha256(text.encode()).hexdigest()


def test_the_same_phone_has_two_hashes():
    found = hashed(normal_email("  Ann@Shop.TEST "), normal_phone("+86 138 0013-8000"))
    assert found == {
        "email_sha256": hash_of("ann@shop.test"),
        "phone_sha256_meta": hash_of("8613800138000"),
        "phone_sha256_google": hash_of("+8613800138000"),
    }
    assert hashed(None, None) == {"email_sha256": None, "phone_sha256_meta": None, "phone_sha256_google": None}


@pytest.mark.parametrize(
    "text, region, phone",
    [
        ("+86 138 0013 8000", None, "+8613800138000"),
        ("0086-138-0013-8000", None, "+8613800138000"),
        ("+8613800138000", "GB", "+8613800138000"),
        ("07700 900123", "GB", "+447700900123"),
        ("06 1234 5678", "IT", "+390612345678"),  # an Italian number keeps its zero
        ("07700 900123", None, None),  # of which country?
        ("none", "GB", None),
        ("12", "GB", None),
        ("", "GB", None),
        (None, "GB", None),
    ],
)
def test_phones_become_e164_or_nothing(text, region, phone):
    assert normal_phone(text, region) == phone


@pytest.mark.parametrize("text", ["", None, "ann", "@", "ann@", "a b@c"])
def test_what_is_no_email_is_none(text):
    assert normal_email(text) is None


def test_hashed_ids_are_those_that_the_sources_make():
    import pandas as pd

    from features.sources.paid_orders import hashed_contact

    emails, phones = [" Ann@Shop.test", None, "none", None, ""], ["1", "+44 7700 900123", "077009001", "12", None]
    theirs = hashed_contact(pd.Series(emails, dtype="string"), pd.Series(phones, dtype="string"))
    assert hashed_ids(pa.array(emails), pa.array(phones)).to_pylist() == [None if pd.isna(value) else value for value in theirs]


# --- CSV that a spreadsheet may open (F42) --------------------------------------------------------------------------


def test_formulas_are_text_and_numbers_stay(tmp_path):
    texts = ["=1+1", "+1", "-2", "@x", "\tx", "\rx", "\nx", "plain", None]
    phones = ["+8613800138000", "=cmd()", "+1;2", "-5", "0049", None, "@", "+", "+8613800138000x"]
    table = pa.table({"name": pa.array(texts), "phone": pa.array(phones), "effect": pa.array([-1.5] * len(texts))})
    write_csv(table, tmp_path / "a.csv", ["name", "phone"], ["phone"])
    import csv

    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["'=1+1", "'+1", "'-2", "'@x", "'\tx", "'\rx", "'\nx", "plain", ""]
    assert [row["phone"] for row in rows] == ["+8613800138000", "'=cmd()", "'+1;2", "'-5", "0049", "", "'@", "'+", "'+8613800138000x"]
    assert {row["effect"] for row in rows} == {"-1.5"}


# --- Retry-After ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, unit, seconds",
    [("3", 1, 3), ("3000", 0.001, 3), ("0", 1, 0), (None, 1, 0), ("soon", 1, 0), ("-4", 1, 0), ("Sun, 01 Nov 2026 06:00:10 GMT", 0.001, 10)],
)
def test_retry_after_is_seconds_milliseconds_or_a_date(text, unit, seconds):
    assert retry_after(text, unit, datetime.fromisoformat(MADE_AT).timestamp()) == pytest.approx(seconds)


# --- encore.toml ----------------------------------------------------------------------------------------------------

SHOP = 'name = "S"\nzone = "UTC"\ncurrency = "EUR"\n'


def shop_with(tmp_path, text):
    (tmp_path / "encore.toml").write_text(SHOP + text)
    return read_shop(tmp_path / "encore.toml")


def test_an_export_of_the_shop_file(tmp_path):
    shop = shop_with(tmp_path, '[[exports]]\nname = "daily"\ndestination = "braze"\ntasks = ["churn"]\nattributes = { churn_score = "risk" }\n')
    export = find_export("daily", shop, {})
    assert (export.destination, export.tasks, export.attributes) == ("braze", ("churn",), {"churn_score": "risk"})
    environment = {"ENCORE_EXPORT_BRAZE_KEY": "k", "ENCORE_EXPORT_DAILY_URL": "https://rest.test/users/track"}
    assert account_of(export, environment=environment) == Account("https://rest.test/users/track", ("k",))
    with pytest.raises(InvalidUse, match="ENCORE_EXPORT_DAILY_KEY or ENCORE_EXPORT_BRAZE_KEY"):
        account_of(export, environment={"ENCORE_EXPORT_DAILY_URL": "https://rest.test"})
    with pytest.raises(InvalidUse, match="declared"):
        find_export("daily", shop, {"audience": "vip"})
    assert set(TOOLS) == {"braze", "hubspot", "klaviyo", "segment", "webhook"}


@pytest.mark.parametrize(
    "text, word",
    [
        ('name = "a"\ndestination = "braz"', "'braze'"),
        ('name = "A b"\ndestination = "csv"', "small letters"),
        ('name = "csv"\ndestination = "csv"', "own name"),
        ('name = "a"\ndestination = "csv"\ntasks = ["x"]\naudience = "b"', "exclude"),
        ('name = "a"\ndestination = "meta"\naudience = "vip"', "contacts"),
        ('name = "a"\ndestination = "meta"\ncontacts = { file = "c.csv", email = "E" }', "audience"),
        ('name = "a"\ndestination = "csv"\nkey = "secret"', "unknown setting"),
        ('name = "a"\ndestination = "csv"\ntasks = []', "list of predictions"),
        ('name = "a"\ndestination = "braze"\nattributes = { a = "x", b = "x" }', "of its own"),
        ('name = "a"\ndestination = "csv"\n[[exports]]\nname = "a"\ndestination = "csv"', "two exports"),
    ],
)
def test_what_is_wrong_with_an_export_is_said(tmp_path, text, word):
    with pytest.raises(InvalidShopFile, match=word):
        shop_with(tmp_path, f"[[exports]]\n{text}\n")
    assert export_problems({"name": "a", "destination": "csv"}) == []
