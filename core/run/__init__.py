"""One run of a job, from what is opened for it to its closing record; the rules it applies live in `core.rules`."""
