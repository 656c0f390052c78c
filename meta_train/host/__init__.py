"""The host: cores, processes, threads and caches, and progress bars for its user. Knows nothing of meta-training."""
