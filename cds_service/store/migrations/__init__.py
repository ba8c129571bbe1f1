"""Alembic's migrations, run by cds_service.store.schema_version."""
