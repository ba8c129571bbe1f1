"""The knowledge pack as FHIR."""
