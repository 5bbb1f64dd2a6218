"""What Alembic runs: the steps, on the connection that it was handed, or as SQL text.

The caller owns the transaction, so that a step that fails leaves nothing behind.
"""

from alembic import context

from flashsale_sql.schema import METADATA, revision

OPTIONS = {
    "target_metadata": METADATA,
    "version_table": revision.name,
    "transactional_ddl": True,
}

if context.is_offline_mode():
    context.configure(
        dialect_name=context.config.attributes["dialect"],
        literal_binds=True,
        **OPTIONS,  # type: ignore[arg-type]
    )
else:
    context.configure(
        connection=context.config.attributes["connection"],
        **OPTIONS,  # type: ignore[arg-type]
    )
with context.begin_transaction():
    context.run_migrations()
