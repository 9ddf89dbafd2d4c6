"""The tests: one file per room, against the real parts."""
