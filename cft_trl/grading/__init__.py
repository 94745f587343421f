"""Is an answer right: the benchmarks, and the two graders."""
