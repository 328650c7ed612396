"""Input files: what they are, and their bytes, taken out of archives and decompressed."""
