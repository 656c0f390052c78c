"""What moves theta: outer optimizers that are learned themselves, safeguards, searches."""
