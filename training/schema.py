"""MLflow's database: made whole or not at all, and never upgraded behind the backs of those who share it.

MLflow upgrades a database that lacks a table of its own version as soon as it opens it, and a kill while it makes a new
SQLite file leaves one that no version can open. So both are looked after before it is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from features.errors import TrackingUnavailable
from features.files import exclusive


def make_sqlite(path: Path, fill: Callable[[str], object]) -> None:
    """Let `fill` (given a URL) make a new SQLite file beside `path` and move it there; an existing file is left alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with exclusive(path.with_name(f".{path.name}.lock"), f"The making of {path}", wait=True):
        if not path.exists():
            beside.unlink(missing_ok=True)  # of a process that was killed
            beside.with_name(f"{beside.name}-journal").unlink(missing_ok=True)
            fill(f"sqlite:///{beside}")
            beside.replace(path)


def check_schema(url: str, migrations: Path, version: str) -> None:
    """Compare the schema of MLflow's database with the installed MLflow's; a new database is left for MLflow to fill.

    Args:
        migrations: the folder of MLflow's migrations. version: of MLflow, for the message.

    Raises:
        TrackingUnavailable: the schema is older or newer, with the next step. Nothing was changed.
    """
    from alembic.migration import MigrationContext  # half a second that a tracking server does without
    from alembic.script import ScriptDirectory

    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("experiments"):
            return
        found = MigrationContext.configure(connection).get_current_revision()
        # MLflow's first act in a finished database is an experiment: without one it was interrupted and may go on.
        is_used = connection.execute(sa.text("select 1 from experiments limit 1")).first() is not None
    scripts = ScriptDirectory(str(migrations))
    wanted = scripts.get_current_head()
    if found == wanted:
        return
    shown = sa.make_url(url).render_as_string()
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise TrackingUnavailable(
            f"The database {shown} has the schema {found}, which MLflow {version} here does not know: a newer MLflow has upgraded it. "
            "Nothing was changed. Install here the MLflow that the others use (`mlflow --version` there), or name another database in "
            "ENCORE_MLFLOW_URI. A schema has no way back but the back-up from before the upgrade."
        )
    if is_used:
        argument = url if url.startswith("sqlite:") else '"$ENCORE_MLFLOW_URI"'
        raise TrackingUnavailable(
            f"The database {shown} has the schema {found}, older than that of MLflow {version} here ({wanted}). Nothing was changed: "
            "others may be using it. Stop every writer (retrains, MLflow servers), back the database up, then run: "
            f"mlflow db upgrade {argument} and after it the same command again. Writers with an older MLflow have to be brought to {version} too."
        )
