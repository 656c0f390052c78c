"""What moves theta: outer optimizers that are learned themselves, safeguards, searches."""

from meta_train.outer import safeguards as safeguards
from meta_train.outer import search as search
from meta_train.outer import self_training as self_training

__all__ = ["safeguards", "search", "self_training"]
