"""Models that write texts: in this process, behind an endpoint or a vLLM server of ours, or as a batch."""
