"""Words given beside the rows of another source."""
