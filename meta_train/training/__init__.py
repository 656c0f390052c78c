"""The meta-training loop: `fit`, its compiled engine, and the folder of a run."""
