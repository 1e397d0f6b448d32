"""What Prometheus reads, and what the health page says of old scores."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from features.errors import InvalidShopFile
from features.workspace import open_workspace
from serving.app import service_settings
from serving.border.observe import AccessLog

PATH = "/v1/scores/repeat_order"


def metrics(client):
    """Series -> value."""
    lines = client.get("/metrics").body.decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def grown(client, before):
    after = metrics(client)
    return {series: value - before.get(series, 0.0) for series, value in after.items() if value != before.get(series, 0.0)}


def aged(client, hours):
    """Make the scores of a service that old."""
    scorer = client.app.state.current.scorer
    good_for = scorer.expires_at - scorer.scored_at
    scorer.scored_at = datetime.now(UTC) - timedelta(hours=hours)
    scorer.expires_at = scorer.scored_at + good_for


def test_requests_and_scores_are_counted_on_the_short_way_and_on_the_long_one(client, published):
    before = metrics(client)
    user = published.snapshot.user_ids[0]
    client.get(f"{PATH}/{user}")
    client.get(f"{PATH}/{user}?reasons=true")
    client.get(f"{PATH}/nobody")
    client.post(PATH, {"user_ids": [user, "nobody", "nobody"]})
    client.get("/nowhere")
    now = grown(client, before)
    assert now['encore_requests_total{method="GET",route="/v1/scores/{task}/{user_id}",status="200"}'] == 3
    assert now['encore_requests_total{method="POST",route="/v1/scores/{task}",status="200"}'] == 1
    assert now['encore_requests_total{method="GET",route="none",status="404"}'] == 1
    assert now['encore_request_seconds_count{route="/v1/scores/{task}/{user_id}"}'] == 3
    statuses = {re.search('status="([^"]*)"', series)[1]: value for series, value in now.items() if series.startswith("encore_scores_total")}
    assert (statuses["NOT_FOUND"], sum(statuses.values())) == (3, 6)


def test_ages_are_of_features_scores_and_models_and_never_below_zero(published, serve, tmp_path):
    client = serve(published.root, tmp_path)
    aged(client, 7)
    found = metrics(client)
    as_of = datetime.fromisoformat(published.snapshot.manifest["as_of"]).replace(tzinfo=UTC)
    assert found["encore_release_age_seconds"] == pytest.approx(7 * 3600, abs=60)
    assert found["encore_feature_age_seconds"] == pytest.approx((datetime.now(UTC) - as_of).total_seconds(), abs=60)
    models = {series: value for series, value in found.items() if series.startswith("encore_model_age_seconds")}
    assert len(models) == len(published.bundles)
    assert all(value > found["encore_feature_age_seconds"] for value in models.values())
    aged(client, -24)  # the clock was put back by a day
    assert metrics(client)["encore_release_age_seconds"] == 0
    assert client.get("/health/ready").json["status"] == "ready"


def test_swaps_and_refused_releases_are_counted(published, releases, serve, tmp_path):
    client = serve(releases, tmp_path)
    before, current = metrics(client), client.app.state.current
    (releases / "current.json").write_text("{")
    current.refresh()
    current.refresh()
    now = grown(client, before)
    assert (now["encore_releases_refused_total"], "encore_release_swaps_total" in now) == (1, False)
    release = f'encore_release_info{{as_of="{published.snapshot.manifest["as_of"]}",release="{published.second}"}}'
    assert metrics(client)[release] == 1
    (releases / "current.json").write_bytes((published.root / "current.json").read_bytes())
    serve(releases, tmp_path)
    assert grown(client, before)["encore_release_swaps_total"] == 1


# --- old scores -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "status", "said", "reason", "score"),
    [(1, 200, "ready", None, "OK"), (49, 200, "stale", "stale", "STALE"), (167, 200, "stale", "stale", "STALE"), (168, 503, "not ready", "too_old", "STALE")],
)
def test_stale_scores_are_given_and_said_to_be_and_after_the_hard_limit_the_service_is_not_ready(
    published, serve, tmp_path, hours, status, said, reason, score
):
    client = serve(published.root, tmp_path)
    aged(client, hours)
    ready = client.get("/health/ready")
    assert (ready.status, ready.json["status"], ready.json["reason"], ready.json["release"]) == (status, said, reason, published.second)
    assert ("retry-after" in ready.headers) == (status == 503)
    users = list(published.snapshot.user_ids)
    given = client.post(PATH, {"user_ids": users}).json["scores"]
    assert score in {one["status"] for one in given}
    assert client.get("/health/live").status == 200
    assert metrics(client)["encore_ready"] == (said == "ready")


# --- settings -----------------------------------------------------------------------------------------------------------------


def test_the_environment_says_which_requests_are_logged_and_how_old_scores_may_be(tmp_path):
    plain = service_settings(open_workspace(tmp_path, environment={}), {})
    told = service_settings(open_workspace(tmp_path, environment={}), {"ENCORE_ACCESS_LOG": "all", "ENCORE_SCORES_HARD_LIMIT_HOURS": "72"})
    assert (plain.access_log, plain.hard_limit) == (AccessLog.ERRORS, timedelta(days=7))
    assert (told.access_log, told.hard_limit) == (AccessLog.ALL, timedelta(days=3))


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("ENCORE_ACCESS_LOG", "loud", "it must be off, errors, all"),
        ("ENCORE_SCORES_HARD_LIMIT_HOURS", "a week", "such as 168"),
        ("ENCORE_SCORES_HARD_LIMIT_HOURS", "nan", "such as 168"),
    ],
)
def test_a_setting_that_is_none_says_what_it_should_be(tmp_path, name, value, needed):
    with pytest.raises(InvalidShopFile, match=needed):
        service_settings(open_workspace(tmp_path, environment={}), {name: value})
