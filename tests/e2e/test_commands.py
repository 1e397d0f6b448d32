"""The commands as a person and a scheduler meet them: help that helps, and exit codes that mean one thing each."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

import encore
from features import errors
from features.exit_codes import EXIT_CODES
from features.workspace import Workspace


def _leaves(commands: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Every command by all the words that it is called by."""
    found = {}
    for name, command in commands.items():
        found |= _leaves(command.commands, f"{above}{name} ") if hasattr(command, "commands") else {above + name: command}
    return found


COMMANDS = _leaves(typer.main.get_command(encore.app).commands)  # type: ignore[attr-defined]
SHOP = """
name = "Tiny shop"
zone = "UTC"
currency = "EUR"

[[sources]]
kind = "simulated"
users = 40
days = 60
"""

Call = Callable[..., int]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Arguments -> exit code, through `main` itself; `os._exit` would end the tests."""
    for name in ("ENCORE_WORKSPACE", "ENCORE_MLFLOW_URI", "ENCORE_LEDGER_URL"):
        monkeypatch.delenv(name, raising=False)
    log = logging.getLogger("encore")
    before = (log.handlers[:], log.level, log.propagate)  # what `main` sets up writes to this test's captured stderr

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["encore", *arguments])
        monkeypatch.setattr(encore.os, "_exit", sys.exit)
        with pytest.raises(SystemExit) as ended:
            encore.main()
        return int(ended.value.code or 0)

    yield run
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A workspace with a shop file and nothing ingested."""
    (tmp_path / "encore.toml").write_text(SHOP)
    return tmp_path


# --- help -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert len((command.help or "").split()) >= 4
    assert [option.name for option in command.params if not getattr(option, "help", None)] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_shown(name: str) -> None:
    shown = CliRunner().invoke(encore.app, [*name.split(), "--help"])
    assert shown.exit_code == 0
    assert f"encore {name}" in shown.output


def test_every_command_takes_a_workspace() -> None:
    assert [name for name, command in COMMANDS.items() if "workspace" not in {option.name for option in command.params}] == []


# --- exit codes -----------------------------------------------------------------------------------------------------


def test_an_unknown_option_is_a_usage_error(call: Call) -> None:
    assert call("build", "--asof", "2024-01-01") == 2


def test_a_missing_shop_file_is_a_usage_error_that_says_where_to_get_one(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ingest", "--workspace", str(tmp_path)) == 2
    assert "encore demo" in capsys.readouterr().err


def test_an_unknown_task_is_a_usage_error_that_names_the_nearest(call: Call, small_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "score"):
        assert call(command, "--workspace", str(small_workspace.root), "--task", "repeat_ordr") == 2
        assert "Did you mean 'repeat_order'?" in capsys.readouterr().err


def test_a_horizon_of_an_unknown_task_is_not_ignored(call: Call, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ingest", "--workspace", str(tiny)) == 0
    (tiny / "encore.toml").write_text(SHOP + "\n[horizons]\nrepeat_ordr = 14\n")
    assert call("train", "--workspace", str(tiny), "--task", "lookalike") == 2
    assert "Did you mean 'repeat_order'?" in capsys.readouterr().err


def test_an_empty_log_is_no_usable_data(call: Call, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("build", "--workspace", str(tiny)) == 6
    assert "encore ingest" in capsys.readouterr().err


def test_scoring_and_rolling_back_without_a_release_are_not_possible_yet(call: Call, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("score", "rollback"):
        assert call(command, "--workspace", str(tiny)) == 5
        assert "encore publish" in capsys.readouterr().err


def test_a_date_after_the_log_is_a_window_that_is_open(call: Call, small_workspace: Workspace) -> None:
    assert call("train", "--workspace", str(small_workspace.root), "--as-of", "2030-01-01") == 6


def test_every_error_of_encore_has_an_exit_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EncoreError)]
    codes = {kind: next(EXIT_CODES[above] for above in kind.__mro__ if above in EXIT_CODES) for kind in kinds}
    assert set(codes.values()) == {2, 3, 4, 5, 6}
    assert {code for code in codes.values() if f"{code} " not in str(encore.app.info.epilog)} == set()


def test_an_error_that_nobody_foresaw_is_exit_code_1_with_its_traceback(tiny: Path) -> None:
    code = "import encore, serving.commands as c; c.open_workspace = lambda place: 1 / 0; encore.main()"
    done = subprocess.run([sys.executable, "-c", code, "score"], cwd=tiny, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


# --- again ----------------------------------------------------------------------------------------------------------


def test_ingesting_twice_adds_nothing(call: Call, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ingest", "--workspace", str(tiny)) == 0
    first = json.loads(capsys.readouterr().err.splitlines()[0])
    files = sorted((path, path.read_bytes()) for path in (tiny / "log").rglob("*.parquet"))
    assert call("ingest", "--workspace", str(tiny)) == 0
    second = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (first["added"], first["duplicates"]) == (first["read"], 0)
    assert (second["added"], second["duplicates"]) == (0, first["read"])
    assert sorted((path, path.read_bytes()) for path in (tiny / "log").rglob("*.parquet")) == files


def test_retraining_again_is_already_done(call: Call, small_workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("retrain", "--workspace", str(small_workspace.root)) == 0
    assert "already done" in capsys.readouterr().err


def test_a_task_that_is_named_twice_is_scored_once(call: Call, small_workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    assert call("score", "--workspace", str(small_workspace.root), "--out", str(out), "-t", "repeat_order", "-t", "repeat_order") == 0
    users = pq.read_table(out)["user_id"].to_pylist()
    assert len(users) == len(set(users)) > 100


def test_the_workspace_can_come_from_the_environment(call: Call, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCORE_WORKSPACE", str(tiny))
    assert call("ingest") == 0
    assert (tiny / "log" / "manifest.json").exists()


def test_a_port_that_is_taken_is_exit_code_5_and_no_refusal_of_the_gate(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "encore", "serve", "--workspace", str(tmp_path), "--port", str(port)]
        (tmp_path / "encore.toml").write_text('name = "Shop"\nzone = "UTC"\ncurrency = "EUR"\n')
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, f"127.0.0.1:{port}" in done.stderr + done.stdout) == (5, True)
