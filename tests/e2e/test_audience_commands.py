"""`encore audiences …` on a small shop: previewed, kept, listed, refreshed, who is in it, what it can tell, what to begin with."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from encore import app
from features.errors import InvalidUse
from features.workspace import open_workspace
from serving.audiences.refresh import refresh_published
from serving.audiences.rules import InvalidRule
from serving.ledger import Ledger
from serving.pointer import current_id


@pytest.fixture(scope="module")
def workspace(small_workspace, tmp_path_factory):
    return open_workspace(shutil.copytree(small_workspace.root, tmp_path_factory.mktemp("cli") / "workspace"), environment={})


@pytest.fixture(scope="module")
def encore(workspace):
    def run(*words):
        done = CliRunner().invoke(app, ["audiences", *words, "--workspace", str(workspace.root)], env={"COLUMNS": "400"})
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_an_audience_from_preview_to_refresh(encore, workspace):
    seen = encore("preview", "-t", "repeat_order", "-c", "top_percent=20", "--where", "orders_count >= 3", "--margin", "18", "--contact-cost", "0.5")
    for word in ("size", "expected", "control", "smallest effect found", "recommended size", "by its"):  # its evidence came from the registry
        assert word in seen
    encore("save", "soon", "-t", "repeat_order", "-c", "top_percent=50")
    encore("save", "frozen", "--where", '{"feature": "orders_count", "at_least": 3}', "--kind", "snapshot", "--holdout", "0")
    listed = encore("list")
    assert "soon" in listed
    assert "control 10%" in listed
    everybody = encore("members", "soon").splitlines()
    parts = [encore("members", "soon", "--group", group).splitlines() for group in ("treatment", "control")]
    assert sorted(sum(parts, [])) == sorted(everybody)
    assert all(parts)
    refresh_published(workspace, current_id(workspace.releases))  # as a publication does
    assert sorted(encore("members", "soon", "--changed", "entries").splitlines()) == sorted(everybody)
    assert "soon" in encore("refresh")
    assert encore("members", "soon", "--changed", "exits") == ""
    assert "smallest effect found" in encore("power", "soon", "--effect", "0.05")
    assert Ledger(workspace.ledger_url).audience("soon").release == current_id(workspace.releases)


def test_power_without_an_audience(encore):
    told = encore("power", "--size", "100000", "--rate", "0.05", "--effect", "0.01")
    assert "+0.0067" in told
    assert "46,506 users" in told


def test_suggestions_say_what_they_lack(encore):
    told = encore("suggest")
    assert "super users" in told
    assert "no model answers `churn`" in told


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("preview", "-t", "repeat_order"), InvalidRule, "Give a cut"),
        (("preview", "-c", "top_n"), InvalidUse, "NAME=VALUE"),
        (("preview", "-t", "repeat_order", "-c", "top_m=3"), InvalidRule, "Did you mean 'top_n'"),
        (("save", "a/b", "-t", "repeat_order", "-c", "top_n=3"), InvalidUse, "Choose another name"),
        (("save", "x", "-t", "repeat_order", "-c", "top_n=3", "--kind", "liev"), InvalidUse, "Did you mean 'live'"),
        (("members", "soon", "--group", "contrl"), InvalidUse, "Did you mean 'control'"),
        (("power",), InvalidUse, "--size and --rate"),
    ],
)
def test_what_cannot_be_done_says_what_can(encore, words, error, said):
    with pytest.raises(error, match=said):
        encore(*words)
