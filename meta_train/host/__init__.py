"""The machine and the person before it: cores, processes, caches, progress bars. Knows nothing of meta-training."""
