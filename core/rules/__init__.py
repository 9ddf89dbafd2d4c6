"""The rules, pure: values in, decisions out, the caller brings the clock; no I/O and no third-party library here."""
