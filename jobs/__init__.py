"""The command line: one file per job, settings in, one run, exit code out; no rule lives here."""
