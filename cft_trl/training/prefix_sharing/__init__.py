"""Rows that begin alike, computed once: packs, their layout and attention."""
