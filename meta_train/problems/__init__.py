"""What theta is: each file builds a `Problem` for one kind of meta-parameters."""

from meta_train.problems.gradient_flow import gradient_flow as gradient_flow
from meta_train.problems.head_flow import HeadFlowTheta as HeadFlowTheta
from meta_train.problems.head_flow import head_flow as head_flow
from meta_train.problems.initial_parameters import LearnedRates as LearnedRates
from meta_train.problems.initial_parameters import adaptation as adaptation
from meta_train.problems.initial_parameters import initial_parameters as initial_parameters
from meta_train.problems.initial_parameters import initial_theta as initial_theta
from meta_train.problems.momentum_descent import momentum_descent as momentum_descent
from meta_train.problems.optimizer_weights import optimizer_weights as optimizer_weights
from meta_train.problems.proximal import proximal as proximal
from meta_train.problems.sampled_coordinates import sampled_coordinates as sampled_coordinates
from meta_train.problems.softmax_flow import softmax_flow as softmax_flow
from meta_train.problems.unrolled import unrolled as unrolled

__all__ = [
    "HeadFlowTheta",
    "LearnedRates",
    "adaptation",
    "gradient_flow",
    "head_flow",
    "initial_parameters",
    "initial_theta",
    "momentum_descent",
    "optimizer_weights",
    "proximal",
    "sampled_coordinates",
    "softmax_flow",
    "unrolled",
]
