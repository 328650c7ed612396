"""Changes of a store: a new version that shares with the old one all files that stay the same."""
