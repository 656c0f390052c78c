"""How optimizers are judged: runs, tuned baselines, verdicts, reports."""
