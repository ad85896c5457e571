"""Alembic's entry, run by `shared.database.migrate` alone, which hands over a connection inside a transaction that holds the lock."""

from __future__ import annotations

from alembic import context

from shared.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
