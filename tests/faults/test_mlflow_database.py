"""MLflow's database of another version, or torn while it was made: said, left alone, and usable after the next step."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from mlflow.db import upgrade
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base as FirstTables

import encore
from features.errors import TrackingUnavailable
from features.files import sha256_of
from features.workspace import Workspace, open_workspace
from training.tracking import MIGRATIONS, Tracking

REPOSITORY = Path(encore.__file__).parent
# Real revisions, the latest first. The second has every table that the latest has; the twentieth lacks some, and MLflow
# would upgrade it without asking.
REVISIONS = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
UNKNOWN = "ffffffffffff"

# MLflow's own first opening of a database, killed at its n-th statement.
KILLED = """
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from features.workspace import open_workspace
from training.tracking import Tracking

seen = []

@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def count(*_):
    seen.append(1)
    if len(seen) == 400:
        os.kill(os.getpid(), signal.SIGKILL)

Tracking(open_workspace(Path(sys.argv[1]), environment={}), "Shop")
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the making of the database was killed."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9, done.stderr
    assert (folder / "mlflow" / ".mlflow.db.new").stat().st_size > 0
    assert not (folder / "mlflow" / "mlflow.db").exists()
    return folder


@pytest.fixture(scope="module")
def latest(killed: Path) -> Path:
    """A database that this MLflow has made, there, and a shop has used."""
    with Tracking(open_workspace(killed, environment={}), "Shop").alone(REPOSITORY / "encore.py"):
        pass
    return killed / "mlflow" / "mlflow.db"


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that an older MLflow has made, by that one's own migrations."""
    path = tmp_path_factory.mktemp("oldest") / "mlflow.db"
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    FirstTables.metadata.create_all(engine)
    config = _get_alembic_config(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, REVISIONS[19])
        connection.execute(sa.text("insert into experiments (name, artifact_location, lifecycle_stage) values ('Old shop', 'there', 'active')"))
    return path


def placed(database: Path, folder: Path, revision: str | None = None) -> Workspace:
    """A workspace with a copy of a database, which says that it is of a revision."""
    workspace = open_workspace(folder, environment={})
    (folder / "mlflow").mkdir()
    shutil.copy(database, folder / "mlflow" / "mlflow.db")
    if revision:
        with sqlite3.connect(folder / "mlflow" / "mlflow.db") as connection:
            connection.execute("update alembic_version set version_num = ?", (revision,))
        connection.close()
    return workspace


def test_a_retrain_on_an_older_database_exits_5_says_the_next_step_and_changes_nothing(oldest, tmp_path):
    workspace = placed(oldest, tmp_path)
    database = tmp_path / "mlflow" / "mlflow.db"
    workspace.shop_file.write_text('name = "Shop"\nzone = "UTC"\ncurrency = "EUR"\n')
    before = sha256_of(database)
    environment = {**os.environ, "ENCORE_WORKSPACE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "encore", "retrain"], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5, done.stderr
    said = " ".join(done.stderr.split())
    assert f"has the schema {REVISIONS[19]}, older than that of MLflow {mlflow.__version__} here ({REVISIONS[0]})" in said
    assert "Stop every writer" in said
    assert "back the database up" in said
    assert "mlflow db upgrade sqlite:///" in said
    assert sha256_of(database) == before


def test_after_the_command_that_the_message_names_the_older_database_works(oldest, tmp_path):
    workspace = placed(oldest, tmp_path)
    upgrade.callback(workspace.mlflow_uri)
    assert Tracking(workspace, "Shop").champions() == []


def test_an_older_database_with_every_table_is_refused_too(latest, tmp_path):
    workspace = placed(latest, tmp_path, REVISIONS[1])
    with pytest.raises(TrackingUnavailable, match=f"the schema {REVISIONS[1]}, older than"):
        Tracking(workspace, "Shop")


def test_a_newer_database_asks_for_a_newer_mlflow_here_and_not_for_an_upgrade(latest, tmp_path):
    workspace = placed(latest, tmp_path, UNKNOWN)
    before = sha256_of(tmp_path / "mlflow" / "mlflow.db")
    with pytest.raises(TrackingUnavailable, match=f"the schema {UNKNOWN}, which MLflow {mlflow.__version__} here does not know") as caught:
        Tracking(workspace, "Shop")
    assert "Install here the MLflow that the others use" in str(caught.value)
    assert "db upgrade" not in str(caught.value)
    assert sha256_of(tmp_path / "mlflow" / "mlflow.db") == before


def test_our_table_in_mlflows_database_is_none_of_mlflows_business(latest, tmp_path):
    workspace = placed(latest, tmp_path)

    def tables() -> set[str]:
        return set(sa.inspect(sa.create_engine(workspace.mlflow_uri, poolclass=sa.NullPool)).get_table_names())

    assert "encore_leases" in tables()
    before = tables()
    upgrade.callback(workspace.mlflow_uri)
    assert tables() == before
    assert Tracking(workspace, "Shop").champions() == []


def test_a_kill_while_the_database_is_made_leaves_none_and_the_next_call_makes_it(killed, latest):
    with sqlite3.connect(latest) as connection:
        assert connection.execute("select version_num from alembic_version").fetchall() == [(REVISIONS[0],)]
        assert connection.execute("select count(*) from experiments where name = 'Shop'").fetchone() == (1,)
    connection.close()
    assert not (killed / "mlflow" / ".mlflow.db.new").exists()
