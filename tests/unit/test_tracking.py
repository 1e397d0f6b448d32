"""The registry of one shop, on a real MLflow database of its own."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.errors import BundleRefused, TrackingUnavailable
from features.workspace import Workspace, open_workspace
from training.blend import Blend, Logistic
from training.bundle import Bundle, golden_rows
from training.tracking import CHALLENGER, CHAMPION, PREVIOUS, Tracking, Version


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return open_workspace(tmp_path_factory.mktemp("registry"), environment={})


@pytest.fixture(scope="module")
def tracking(workspace) -> Tracking:
    return Tracking(workspace, "Café & Söhne, 2nd shop")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    logistic = Logistic(columns=(0,), median=(0.0,), mean=(0.0,), scale=(1.0,), coef=(1 / 3,), intercept=-0.1)
    made = Bundle(("a", "b"), Blend(logistic, (), (1.1, 0.2)), {"task": "test", "calibrated": True}, {}, {})
    return replace(made, golden=golden_rows(made, np.array([[0.1, np.nan], [7.0, 2.0]])))


def register(tracking: Tracking, bundle: Bundle, task: str) -> Version:
    with tracking.run(f"{task} run", {"encore.task": task}) as run_id:
        tracking.log_bundle(run_id, bundle, "bundle")
        return tracking.register(task, run_id, "bundle", {"encore.as_of": "2024-06-01"}, "for a test")


def status_of(tracking: Tracking, run_id: str) -> str:
    return str(tracking.client.get_run(run_id).info.status)


def test_a_new_task_has_no_champion(tracking):
    assert tracking.with_alias("unheard_of", CHAMPION) is None


def test_the_former_champion_becomes_the_previous_one(tracking, bundle):
    first, second = register(tracking, bundle, "aliases"), register(tracking, bundle, "aliases")
    assert (first.number, second.number) == ("1", "2")
    tracking.promote(first, None)
    assert (tracking.with_alias("aliases", CHAMPION), tracking.with_alias("aliases", PREVIOUS)) == (first, None)
    tracking.promote(second, first)
    assert (tracking.with_alias("aliases", CHAMPION), tracking.with_alias("aliases", PREVIOUS)) == (second, first)
    tracking.promote(second, first)  # again: the previous one stays a way back
    assert tracking.with_alias("aliases", PREVIOUS) == first
    tracking.promote(first, second)  # back
    assert (tracking.with_alias("aliases", CHAMPION), tracking.with_alias("aliases", PREVIOUS)) == (first, second)
    tracking.mark_challenger(second)
    assert tracking.with_alias("aliases", CHALLENGER) == second
    assert tracking.with_alias("aliases", CHAMPION) == first


def test_a_champion_that_is_not_the_one_judged_against_stays(tracking, bundle):
    first, second, third = (register(tracking, bundle, "moved") for _ in range(3))
    tracking.promote(first, None)
    tracking.promote(second, first)
    for judged_against, named in ((first, "version 1"), (None, "none")):
        with pytest.raises(TrackingUnavailable, match=f"judged against {named}, but champion is now version 2. No alias was changed. Run again"):
            tracking.promote(third, judged_against)
    assert (tracking.with_alias("moved", CHAMPION), tracking.with_alias("moved", PREVIOUS)) == (second, first)


def test_what_the_gate_said_of_a_challenger_is_on_the_champion_beside_its_own_tags(tracking, bundle):
    champion, challenger = register(tracking, bundle, "noted"), register(tracking, bundle, "noted")
    tracking.promote(champion, None)
    tracking.note_challenge(champion, challenger, "refused", "FAIL  beats rfm")
    found = tracking.with_alias("noted", CHAMPION).tags
    said = {"encore.challenger": "2", "encore.challenger.as_of": "2024-06-01", "encore.challenger.decision": "refused"}
    assert found == {**champion.tags, **said, "encore.challenger.reasons": "FAIL  beats rfm"}


def test_versions_come_in_the_order_of_their_making_and_not_of_their_digits(tracking, bundle):
    assert tracking.versions("unheard_of") == []
    made = [register(tracking, bundle, "many") for _ in range(11)]
    assert tracking.versions("many") == made
    assert [version.number for version in made] == [str(number) for number in range(1, 12)]


def test_pictures_come_back_by_their_names(tracking, bundle, tmp_path):
    version = register(tracking, bundle, "drawn")
    (tmp_path / "plots").mkdir()
    for name in ("roc.png", "gains.png", "notes.txt"):
        (tmp_path / "plots" / name).write_bytes(name.encode())
    tracking.log_directory(version.run_id, tmp_path)
    assert tracking.pictures(version) == {"gains": b"gains.png", "roc": b"roc.png"}


def test_a_run_without_pictures_says_so(tracking, bundle):
    with pytest.raises(TrackingUnavailable):
        tracking.pictures(register(tracking, bundle, "not drawn"))


def test_a_registered_bundle_comes_back_to_the_bit(tracking, bundle):
    loaded = tracking.load(register(tracking, bundle, "bytes"))
    assert loaded.digest == bundle.digest
    loaded.check_golden_rows()


def test_a_bundle_that_was_changed_in_the_store_is_refused(tracking, bundle, workspace):
    version = register(tracking, bundle, "changed")
    (stored,) = workspace.mlflow_artifacts.rglob(f"{version.run_id}/**/bundle.json")
    stored.write_bytes(stored.read_bytes()[:-40])
    with pytest.raises(BundleRefused):
        tracking.load(version)


def test_a_bundle_that_is_gone_from_the_store_is_said_to_be_unavailable(tracking, bundle, workspace):
    version = register(tracking, bundle, "gone")
    (stored,) = workspace.mlflow_artifacts.rglob(f"{version.run_id}/**/bundle.json")
    stored.unlink()
    stored.parent.rmdir()
    with pytest.raises((TrackingUnavailable, BundleRefused)):
        tracking.load(version)


def test_shops_in_one_registry_do_not_see_each_others_models(tracking, bundle, workspace):
    other = Tracking(workspace, "Other shop")
    tracking.promote(register(tracking, bundle, "mine"), None)
    other.promote(register(other, bundle, "theirs"), None)
    assert [version.task for version in other.champions()] == ["theirs"]
    assert "theirs" not in [version.task for version in tracking.champions()]
    assert "mine" in [version.task for version in tracking.champions()]


def test_shops_whose_names_have_no_latin_letter_have_models_of_their_own(workspace):
    assert len({Tracking(workspace, name).slug for name in ("Магазин", "Лавка", "商店")} - {""}) == 3


def test_a_run_whose_work_fails_is_marked_failed_and_is_not_taken_for_done(tracking):
    with pytest.raises(ZeroDivisionError), tracking.run("fails", {"encore.key": "k1"}) as run_id:
        raise ZeroDivisionError
    assert status_of(tracking, run_id) == "FAILED"
    assert tracking.finished("k1") is None
    with tracking.run("works", {"encore.key": "k1"}) as run_id:
        assert tracking.finished("k1") is None
    assert tracking.finished("k1") == run_id


def test_our_runs_that_nobody_ended_are_closed_as_killed_and_other_runs_are_left_alone(tracking):
    left = tracking.client.create_run(tracking.experiment, run_name="left open", tags={"encore.task": "churn"}).info.run_id
    theirs = tracking.client.create_run(tracking.experiment, run_name="a data scientist's own").info.run_id
    assert tracking.close_stale() == 1
    assert status_of(tracking, left) == "KILLED"
    assert status_of(tracking, theirs) == "RUNNING"
    assert tracking.close_stale() == 0


def test_a_second_look_opens_the_same_experiment(tracking, workspace):
    assert Tracking(workspace, tracking.shop_name).experiment == tracking.experiment


@pytest.mark.parametrize("answering", [False, True])
def test_a_server_that_is_down_or_hangs_is_an_error_within_seconds_and_tells_no_password(workspace, answering, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        if answering:
            listening.listen()  # takes the connection and never says a word
        port, began = listening.getsockname()[1], time.monotonic()
        with pytest.raises(TrackingUnavailable, match="did not do what was asked") as caught:
            Tracking(replace(workspace, mlflow_uri=f"http://ann:secret@127.0.0.1:{port}"), "Shop")
    assert time.monotonic() - began < 10
    assert f"MLflow at http://127.0.0.1:{port} did not" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_that_cannot_be_opened_is_an_infrastructure_error(tmp_path: Path, workspace):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(TrackingUnavailable):
        Tracking(replace(workspace, mlflow_uri=f"sqlite:///{tmp_path}/file/mlflow.db"), "Shop")
