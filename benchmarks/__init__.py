"""Measurements of the program as whole processes, beside floors and peers; nothing here is a test."""
