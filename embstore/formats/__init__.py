"""Formats that can be opened in place."""
