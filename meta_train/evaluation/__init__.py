"""The evaluation of optimizers: runs, tuned baselines, verdicts, reports."""
