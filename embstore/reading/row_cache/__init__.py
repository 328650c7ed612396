"""Row caches: copies of the most wanted rows in memory."""
