"""Read by Alembic: applies revisions on the connection that it was given."""

from __future__ import annotations

from alembic import context

from serving.migrations import VERSION, all_tables

# Alembic says that SQLite cannot undo a change of tables. It can, once the transaction was begun as `_alone` begins it.
context.configure(connection=context.config.attributes["connection"], target_metadata=all_tables(), version_table=VERSION.name, transactional_ddl=True)
context.run_migrations()
