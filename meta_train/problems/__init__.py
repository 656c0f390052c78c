"""What theta is: each file builds a `Problem` for one kind of meta-parameters."""

from meta_train.problems.gradient_flow import gradient_flow as gradient_flow
from meta_train.problems.head_flow import HeadFlowTheta as HeadFlowTheta
from meta_train.problems.head_flow import head_flow as head_flow
from meta_train.problems.momentum_descent import momentum_descent as momentum_descent
from meta_train.problems.optimizer_weights import optimizer_weights as optimizer_weights
from meta_train.problems.proximal import proximal as proximal
from meta_train.problems.softmax_flow import softmax_flow as softmax_flow
from meta_train.problems.unrolled import unrolled as unrolled

__all__ = [
    "HeadFlowTheta",
    "gradient_flow",
    "head_flow",
    "momentum_descent",
    "optimizer_weights",
    "proximal",
    "softmax_flow",
    "unrolled",
]
