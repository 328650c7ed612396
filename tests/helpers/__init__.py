"""Helpers of several tests, one noun a file; `tests.campaigns` has those of damage and faults."""
