"""Arrays: in memory, in files, in chunks, or of another library."""
