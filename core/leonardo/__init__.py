"""Leonardo's HTTP, JSON and credentials; nothing here decides what becomes of a runtime."""
