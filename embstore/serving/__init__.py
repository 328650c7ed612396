"""Rows over the wire, by Arrow Flight: a server of a store, and a store of several servers."""
