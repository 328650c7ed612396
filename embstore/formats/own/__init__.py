"""Embstore's own format: a Zarr v3 group that `embstore.formats.own.spec` specifies."""
