"""Corpora of other domains than mathematics, made on the spot: code to review, and texts to grade by a rubric."""
