"""The audit log: what a record is, how it is kept and read back; what it answers lives in `core.review`."""
