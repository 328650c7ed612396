"""Stores on an object store: published, opened by range, and cached on a local disk."""
