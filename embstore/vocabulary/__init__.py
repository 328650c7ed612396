"""The words of a store: words to ids, ids to words, and spellings near a missing word."""

from embstore.vocabulary.vocabulary import Vocabulary, open_vocabulary

__all__ = ["Vocabulary", "open_vocabulary"]
