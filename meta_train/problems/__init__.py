"""What theta is: each file builds a `Problem` for one kind of meta-parameters."""

from meta_train.problems.optimizer_weights import optimizer_weights
from meta_train.problems.unrolled import unrolled

__all__ = ["optimizer_weights", "unrolled"]
