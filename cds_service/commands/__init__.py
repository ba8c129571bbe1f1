"""The commands of ``cds-service``, by subject."""
