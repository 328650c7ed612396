"""Words of a store in progress: their ids, and the table that finds them again."""
