"""The HTML report of an audit log: gathered, drawn and laid out; what the log answers lives in `core.review`."""
