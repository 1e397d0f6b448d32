"""The revisions that a ledger lacks, by Alembic, without a settings file: it works from an installed wheel."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection


def settings() -> Config:
    """Alembic's settings: where the revisions lie."""
    config = Config()
    config.set_main_option("script_location", "serving:migrations")
    return config


def upgrade(connection: Connection, to: str = "head") -> None:
    """Apply revisions inside the connection's transaction, which the caller commits."""
    config = settings()
    config.attributes["connection"] = connection
    command.upgrade(config, to)
