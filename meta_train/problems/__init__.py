"""What theta is: each file builds a `Problem` for one kind of meta-parameters."""

from meta_train.problems.gradient_flow import gradient_flow as gradient_flow
from meta_train.problems.momentum_descent import momentum_descent as momentum_descent
from meta_train.problems.optimizer_weights import optimizer_weights as optimizer_weights
from meta_train.problems.unrolled import unrolled as unrolled

__all__ = ["gradient_flow", "momentum_descent", "optimizer_weights", "unrolled"]
