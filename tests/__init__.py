"""The tests: one file per module, against the real parts."""
