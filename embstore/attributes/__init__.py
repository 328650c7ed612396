"""Attributes: named columns beside the words, with one number or string for each id."""
