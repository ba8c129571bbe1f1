"""One module per revision; cds_service.store.schema.REVISIONS lists them in order."""
