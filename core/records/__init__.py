"""The audit log: what a record is, and how it is kept; nothing here decides or acts."""
