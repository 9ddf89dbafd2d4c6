"""The lifecycle library under the jobs: what runs, records and their review are made of; no command line here."""

__version__ = "0.1.0"
"""The one place: the build reads it here, and a run does without 8 ms of searching for its own metadata."""
