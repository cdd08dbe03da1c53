"""Alembic's entry point: the connection is handed in by `embedq.store.schema`, which also takes the lock."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="embedq_schema_version",
    # Named, so that another copy of embedq further down the search path is not taken for this one.
    version_table_schema=connection.exec_driver_sql("SELECT current_schema()").scalar(),
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
