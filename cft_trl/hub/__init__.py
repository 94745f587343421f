"""The Hub: cards, runs, results, uploads and pulls."""
