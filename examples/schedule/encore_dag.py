"""Encore on Airflow 3: each night what is new and how earlier scores did, each Sunday a retrain, then into service and kept to be judged.

Put your folders into the two constants and the file into the `dags` folder. The worker must see the workspace.
"""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk import dag, task

ENCORE = "/opt/encore/.venv/bin/encore"
WORKSPACE = "/srv/encore/shop"

MEANINGS = {
    1: "a fault of Encore itself",
    2: "usage: an option, encore.toml or an installation",
    3: "the gate kept the champion, or quality is below what was promised",
    4: "another retrain of this workspace runs",
    5: "infrastructure: MLflow or the disk",
    6: "no usable data",
}
AGAIN = {"retries": 3, "retry_delay": timedelta(minutes=10), "retry_exponential_backoff": True}


def encore(command: str, skip_on: tuple[int, ...] = ()) -> None:
    """Run a command. Codes to skip on end the task as skipped, what repeating cannot mend as failed, the rest is tried again."""
    code = subprocess.run([ENCORE, command, "--workspace", WORKSPACE], check=False).returncode  # noqa: S603 - our own command
    said = f"encore {command}: exit code {code}, {MEANINGS.get(code, 'killed')}"
    if code in skip_on:
        raise AirflowSkipException(said)
    if code in (1, 2, 3, 6):
        raise AirflowFailException(said)
    if code:
        raise AirflowException(said)


@task(**AGAIN)
def ingest() -> None:
    encore("ingest")  # 6 is a file that was refused: somebody has to look at it


@task(**AGAIN)
def retrain() -> None:
    encore("retrain", skip_on=(3, 4, 6))


@task(**AGAIN, trigger_rule="none_failed")  # a skipped retrain leaves champions to publish with the new data
def publish() -> None:
    encore("publish")


@task(**AGAIN)
def score() -> None:
    encore("score")  # keeps what everybody is told; nothing deletes it


@task(**AGAIN)
def quality() -> None:
    encore("quality")  # 3 is an alarm: it says what to do


@dag(schedule="30 1 * * 1-6", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=1)
def encore_nightly() -> None:
    ingest() >> publish() >> quality()


@dag(schedule="15 4 * * 0", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=1)
def encore_weekly() -> None:
    ingest() >> retrain() >> publish() >> score()


encore_nightly()
encore_weekly()
