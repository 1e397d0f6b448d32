"""MLproject: every entry point is a command that exists, and one of them runs for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import encore
from features.workspace import Workspace

PROJECT = Path(encore.__file__).parent
ENTRIES: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
COMMANDS = typer.main.get_command(encore.app).commands  # type: ignore[attr-defined]


def test_the_promised_entries_are_there() -> None:
    assert {"features", "train", "retrain", "score", "serve"} <= set(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_every_parameter_has_a_default_and_is_used(name: str) -> None:
    for parameter, declared in ENTRIES[name]["parameters"].items():
        assert "default" in declared
        assert "{" + parameter + "}" in ENTRIES[name]["command"]


@pytest.mark.parametrize("as_of", ["", "2024-12-01"])
@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_is_one_existing_command_with_options_it_knows(name: str, as_of: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    stand_in = tmp_path / "encore"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{seen}"\n')
    stand_in.chmod(0o755)
    given = {"workspace": "'a folder'", "as_of": f"'{as_of}'", "port": "'8000'"}  # quoted as MLflow quotes them
    line = ENTRIES[name]["command"].format(**given)
    subprocess.run(["bash", "-c", line], check=True, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})

    command, *arguments = seen.read_text().splitlines()
    context = COMMANDS[command].make_context(command, arguments)  # raises on an option that does not exist
    assert context.params["workspace"] == Path("a folder")
    if "as_of" in ENTRIES[name]["parameters"]:
        assert (str(context.params["as_of"].date()) if context.params["as_of"] else "") == as_of


def test_mlflow_runs_an_entry(small_workspace: Workspace, tmp_path: Path) -> None:
    scripts = Path(sys.executable).parent
    shutil.copy(small_workspace.root / "mlflow" / "mlflow.db", tmp_path / "calls.db")  # to make its tables takes longer than the rest
    place = {"PATH": f"{scripts}:{os.environ['PATH']}", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'calls.db'}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    shop = os.path.relpath(small_workspace.root, tmp_path)  # relative to where one stands, not to the project
    call = [sys.executable, "-m", "mlflow", "run", str(PROJECT), "-e", "features", "--env-manager", "local", "-P", f"workspace={shop}"]
    done = subprocess.run(call, cwd=tmp_path, env={**os.environ, **place}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert '"message": "snapshot"' in done.stderr
    assert "succeeded" in done.stderr
    assert not (PROJECT / "mlflow.db").exists()
