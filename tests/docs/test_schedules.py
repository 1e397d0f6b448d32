"""The schedules in examples/schedule: each is what its scheduler reads, and does with every exit code what its page says."""

from __future__ import annotations

import ast
import configparser
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml

import encore
from features.exit_codes import EXIT_CODES, FAULT
from training.heartbeat import HELP, STATES

PROJECT = Path(encore.__file__).parent
FOLDER = PROJECT / "examples" / "schedule"
PAGE = (FOLDER / "README.md").read_text()
COMMANDS: dict[str, Any] = typer.main.get_command(encore.app).commands  # type: ignore[attr-defined]
INSTALLED = Path(sys.executable).with_name("encore")
CODES = sorted({0, FAULT, *EXIT_CODES.values()})
CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
Call = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def sh(tmp_path: Path) -> Call:
    """Run a shell line in which every `encore` ends with a code."""

    def run(line: str, code: int, *calls: str) -> subprocess.CompletedProcess[str]:
        stand_in(tmp_path, code)
        settings = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ENCORE_WORKSPACE": str(tmp_path)}
        return subprocess.run(["/bin/sh", "-c", line], env=settings, capture_output=True, text=True, timeout=10, check=False)

    return run


def stand_in(folder: Path, code: int) -> Path:
    """An `encore` that writes down what it was given, says something as the real one does, and ends with a code."""
    script = folder / "encore"
    script.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/seen"\necho said >&2\nexit {code}\n')
    script.chmod(0o755)
    return script


def encore_words(line: str) -> list[list[str]]:
    """The words of each call of `encore` in a shell line, up to the next operator."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    calls: list[list[str]] = []
    for word in lexer:
        if word in ("encore", "}") or set(word) <= set("|&;<>()"):
            calls.append([])
        elif calls:
            calls[-1].append(word)
    return [call for call in calls if call and call[0] in COMMANDS]


def assert_is_a_command(words: list[str]) -> None:
    command, *arguments = words
    COMMANDS[command].make_context(command, arguments)  # raises on an option that does not exist


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_says_every_exit_code_and_no_other() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == CODES


def test_the_page_says_every_metric_and_every_state() -> None:
    assert set(re.findall(r"`(encore_\w+)`", PAGE)) == set(HELP)
    assert [state for state in STATES if f"`{state}`" not in PAGE] == []


def test_every_schedule_is_on_the_page() -> None:
    assert [path.name for path in FOLDER.iterdir() if path.is_file() and path.name != "README.md" and f"]({path.name})" not in PAGE] == []


def test_the_entries_for_mlflow_exist() -> None:
    entries = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
    lines = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("mlflow run")]
    assert lines
    for words in lines:
        entry = entries[words[words.index("-e") + 1]]
        assert words[words.index("-P") + 1].split("=")[0] in entry["parameters"]


# --- cron -----------------------------------------------------------------------------------------------------------

CRONTAB = [line for line in (FOLDER / "encore.crontab").read_text().splitlines() if line and not line.startswith("#")]
SETTINGS = dict(line.split("=", 1) for line in CRONTAB if re.match(r"[A-Z_]+=", line))
JOBS = [line.split(maxsplit=5) for line in CRONTAB if not re.match(r"[A-Z_]+=", line)]
RETRAIN = next(job[5] for job in JOBS if "retrain" in job[5])
NIGHTLY = next(job[5] for job in JOBS if "ingest" in job[5])


def test_the_crontab_has_five_fields_of_times_and_a_command() -> None:
    assert len(JOBS) == 3
    for *fields, command in JOBS:
        for field, (low, high) in zip(fields, CRON_RANGES, strict=True):
            assert field == "*" or low <= int(field) <= high
        assert "%" not in command  # cron would make a new line of it
    assert {"SHELL", "PATH", "ENCORE_WORKSPACE", "MAILTO"} == set(SETTINGS)


def test_the_commands_of_the_crontab_exist() -> None:
    calls = [words for *_, line in JOBS for words in encore_words(line)]
    assert [words[0] for words in calls] == ["ingest", "publish", "quality", "retrain", "score"]
    for words in calls:
        assert_is_a_command(words)


def test_the_very_command_answers_to_help() -> None:
    (words,) = encore_words(RETRAIN)
    done = subprocess.run([INSTALLED, *words, "--help"], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    assert "--wait" in done.stdout


@pytest.mark.parametrize("code", [*CODES, 137])
def test_cron_mails_only_what_a_person_has_to_act_on(sh: Call, tmp_path: Path, code: int) -> None:
    done = sh(RETRAIN, code)
    silent = code in (0, 3, 4)
    assert done.stdout.startswith("" if silent else f"encore retrain: exit code {code}; see ")
    assert (not done.stdout, done.stderr) == (silent, "")
    assert (tmp_path / "encore.log").read_text() == "said\n"


@pytest.mark.parametrize("code", [0, 6])
def test_at_night_nothing_is_published_over_a_file_that_was_refused(sh: Call, tmp_path: Path, code: int) -> None:
    done = sh(NIGHTLY, code)
    assert (tmp_path / "seen").read_text().split() == (["ingest"] if code else ["ingest", "publish", "quality"])
    assert bool(done.stdout) == bool(code)


# --- systemd --------------------------------------------------------------------------------------------------------


def unit(name: str) -> configparser.ConfigParser:
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string((FOLDER / name).read_text())
    return read


def test_the_service_treats_the_codes_as_the_page_says() -> None:
    service = unit("encore-retrain.service")["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name == INSTALLED.name
    assert_is_a_command(words)
    assert service["Type"] == "oneshot"
    assert service["SuccessExitStatus"].split() == ["3", "4"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"].split() == ["1", "2", "6"]
    assert unit("encore-retrain.timer")["Timer"]["Persistent"] == "true"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here; the units are read above all the same")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for name in ("encore-retrain.service", "encore-retrain.timer"):
        (tmp_path / name).write_text((FOLDER / name).read_text().replace("/opt/encore/.venv/bin/encore", str(INSTALLED)))
    units = [str(tmp_path / "encore-retrain.service"), str(tmp_path / "encore-retrain.timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60, check=False)
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd cannot be asked here; the units are read above all the same")
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line or "encore" in line]) == (0, [])
    when = unit("encore-retrain.timer")["Timer"]["OnCalendar"]
    assert subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, timeout=60, check=False).returncode == 0


# --- Kubernetes -----------------------------------------------------------------------------------------------------

CRONJOB = yaml.safe_load((FOLDER / "encore-retrain.cronjob.yaml").read_text())
JOB = CRONJOB["spec"]["jobTemplate"]["spec"]
POD = JOB["template"]["spec"]
CONTAINER = POD["containers"][0]


def test_the_cronjob_runs_one_at_a_time_and_gives_up() -> None:
    assert (CRONJOB["apiVersion"], CRONJOB["kind"]) == ("batch/v1", "CronJob")
    assert CRONJOB["spec"]["concurrencyPolicy"] == "Forbid"
    assert (JOB["backoffLimit"], POD["restartPolicy"]) == (2, "Never")  # a failure policy wants "Never"
    assert len(CRONJOB["spec"]["schedule"].split()) == 5


def test_what_does_not_change_by_repetition_fails_the_job_at_once() -> None:
    rule = next(rule for rule in JOB["podFailurePolicy"]["rules"] if "onExitCodes" in rule)
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {"containerName": CONTAINER["name"], "operator": "In", "values": [1, 2, 6]}


def test_the_workspace_is_a_volume_and_the_settings_are_ours() -> None:
    settings = {setting["name"]: setting["value"] for setting in CONTAINER["env"]}
    mounted = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    claims = {volume["name"] for volume in POD["volumes"] if "persistentVolumeClaim" in volume}
    assert mounted[settings["ENCORE_WORKSPACE"]] in claims
    source = (PROJECT / "features" / "workspace.py").read_text()
    assert [name for name in settings if name.startswith("ENCORE_") and f'"{name}"' not in source] == []
    assert POD["securityContext"]["runAsNonRoot"]


@pytest.mark.parametrize("code", [*CODES, 137])
def test_the_container_passes_on_every_code_but_those_of_work_that_is_done(sh: Call, code: int) -> None:
    assert CONTAINER["command"] == ["/bin/sh", "-c"]
    (line,) = CONTAINER["args"]
    (words,) = encore_words(line)
    assert_is_a_command(words)
    assert sh(line, code).returncode == (0 if code in (3, 4) else code)


# --- Airflow --------------------------------------------------------------------------------------------------------


class Skipped(Exception):
    """In the place of AirflowSkipException."""


class Failed(Exception):
    """In the place of AirflowFailException: no further attempt."""


class Again(Exception):
    """In the place of AirflowException."""


class Node:
    """A task of a DAG; `a >> b` is written down."""

    def __init__(self, name: str, edges: list[tuple[str, str]]) -> None:
        self.name, self.edges = name, edges

    def __rshift__(self, after: Node) -> Node:
        self.edges.append((self.name, after.name))
        return after


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The DAG file, run with the few names of Airflow that it uses: its globals, `edges`, `tasks` and `dags`."""
    edges: list[tuple[str, str]] = []
    tasks: dict[str, dict[str, Any]] = {}
    dags: dict[str, dict[str, Any]] = {}

    def task(**settings: Any) -> Callable[..., Any]:
        def decorate(work: Callable[[], None]) -> Callable[[], Node]:
            tasks[work.__name__] = {"work": work, **settings}
            return lambda: Node(work.__name__, edges)

        return decorate

    def dag(**settings: Any) -> Callable[..., Any]:
        def decorate(make: Callable[[], None]) -> Callable[[], None]:
            dags[make.__name__] = settings
            return make

        return decorate

    exceptions, sdk = ModuleType("airflow.exceptions"), ModuleType("airflow.sdk")
    vars(exceptions).update(AirflowException=Again, AirflowFailException=Failed, AirflowSkipException=Skipped)
    vars(sdk).update(dag=dag, task=task)
    for module in (ModuleType("airflow"), exceptions, sdk):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return {**runpy.run_path(str(FOLDER / "encore_dag.py")), "edges": edges, "tasks": tasks, "dags": dags}


def test_the_dags_run_one_at_a_time_and_publish_after_a_skipped_retrain(airflow: dict[str, Any]) -> None:
    assert airflow["edges"] == [("ingest", "publish"), ("publish", "quality"), ("ingest", "retrain"), ("retrain", "publish"), ("publish", "score")]
    assert set(airflow["dags"]) == {"encore_nightly", "encore_weekly"}
    for settings in airflow["dags"].values():
        assert (settings["max_active_runs"], settings["catchup"], len(settings["schedule"].split())) == (1, False, 5)
    assert airflow["tasks"]["publish"]["trigger_rule"] == "none_failed"
    assert set(airflow["MEANINGS"]) == set(CODES) - {0}


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, None), (1, Failed), (2, Failed), (3, Skipped), (4, Skipped), (5, Again), (6, Skipped), (137, Again)],
    ids=lambda value: str(value),
)
def test_a_retrain_on_airflow_ends_as_the_page_says(airflow: dict[str, Any], tmp_path: Path, code: int, expected: type[Exception] | None) -> None:
    work = airflow["tasks"]["retrain"]["work"]
    work.__globals__["ENCORE"] = str(stand_in(tmp_path, code))
    if expected is None:
        work()
    else:
        with pytest.raises(expected, match=f"encore retrain: exit code {code}, "):
            work()
    assert_is_a_command((tmp_path / "seen").read_text().split())


def test_on_airflow_an_alarm_of_quality_is_told_and_not_tried_again(airflow: dict[str, Any], tmp_path: Path) -> None:
    work = airflow["tasks"]["quality"]["work"]
    work.__globals__["ENCORE"] = str(stand_in(tmp_path, 3))
    with pytest.raises(Failed, match="quality is below"):
        work()
    assert_is_a_command((tmp_path / "seen").read_text().split())


def test_on_airflow_a_refused_file_is_a_failure_and_not_a_skip(airflow: dict[str, Any], tmp_path: Path) -> None:
    work = airflow["tasks"]["ingest"]["work"]
    work.__globals__["ENCORE"] = str(stand_in(tmp_path, 6))
    with pytest.raises(Failed):
        work()


def test_the_dag_file_imports_nothing_but_airflow_and_the_standard_library() -> None:
    tree = ast.parse((FOLDER / "encore_dag.py").read_text())
    modules = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert modules - set(sys.stdlib_module_names) == {"airflow"}


# --- alerts ---------------------------------------------------------------------------------------------------------


def test_the_alerts_ask_for_metrics_and_labels_that_there_are() -> None:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    asked = "\n".join(rule["expr"] for rule in group["rules"])
    assert set(re.findall(r"encore_\w+", asked)) == set(HELP)
    assert set(re.findall(r'state="([^"]+)"', asked)) <= set(STATES)
    assert all(rule["alert"].startswith("Encore") and rule["annotations"]["summary"] for rule in group["rules"])
