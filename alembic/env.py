"""Runs migrations on the connection that `vmtrak.schema` hands over, inside its transaction."""

from alembic import context

from vmtrak.schema import belongs_to_models, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata(),
    include_object=belongs_to_models,
    compare_type=True,
    render_as_batch=True,
    transactional_ddl=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
