"""The next version of a store: what changes, and what is taken over."""
