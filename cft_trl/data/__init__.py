"""The row and its files: layouts, verdicts, prompts, folders, digests."""
