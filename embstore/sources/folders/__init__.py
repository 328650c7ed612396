"""Folders: which of their files are one table, and in which order."""
