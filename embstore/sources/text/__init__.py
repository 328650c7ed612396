"""Vectors as text, in any dialect."""
