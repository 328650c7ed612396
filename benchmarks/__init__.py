"""The full comparison of embstore with its peers: ``python -m benchmarks --help``."""
