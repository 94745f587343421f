"""A model's folder: where it is, what it is, its template, and what other tools read of it."""
