"""The parts of the view for code written for gensim."""
