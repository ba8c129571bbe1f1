"""Alembic's entry: migrates over the connection that cds_service.store.schema_version has opened."""

from alembic import context

from cds_service.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
