"""The lifecycle library under the jobs: what a sweep is made of; no command line here."""
