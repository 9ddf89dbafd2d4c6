"""The audit log: what a record is, how it is kept and read back, and what it answers; nothing here acts."""
