"""What theta is: each file builds a `Problem` for one kind of meta-parameters."""

from meta_train.problems.gradient_flow import gradient_flow as gradient_flow
from meta_train.problems.head_flow import HeadFlowTheta as HeadFlowTheta
from meta_train.problems.head_flow import head_flow as head_flow
from meta_train.problems.hyperparameters import HyperTheta as HyperTheta
from meta_train.problems.hyperparameters import Schedules as Schedules
from meta_train.problems.hyperparameters import at_step as at_step
from meta_train.problems.hyperparameters import hyper_theta as hyper_theta
from meta_train.problems.hyperparameters import hyperparameters as hyperparameters
from meta_train.problems.hyperparameters import schedules as schedules
from meta_train.problems.initial_parameters import LearnedRates as LearnedRates
from meta_train.problems.initial_parameters import adaptation as adaptation
from meta_train.problems.initial_parameters import initial_parameters as initial_parameters
from meta_train.problems.initial_parameters import initial_theta as initial_theta
from meta_train.problems.momentum_descent import momentum_descent as momentum_descent
from meta_train.problems.optimizer_weights import optimizer_weights as optimizer_weights
from meta_train.problems.proximal import proximal as proximal
from meta_train.problems.sampled_coordinates import sampled_coordinates as sampled_coordinates
from meta_train.problems.softmax_flow import softmax_flow as softmax_flow
from meta_train.problems.task_bilevel import task_bilevel as task_bilevel
from meta_train.problems.unrolled import unrolled as unrolled
from meta_train.problems.weight_penalty import penalty_theta as penalty_theta
from meta_train.problems.weight_penalty import weight_penalty as weight_penalty

__all__ = [
    "HeadFlowTheta",
    "HyperTheta",
    "LearnedRates",
    "Schedules",
    "adaptation",
    "at_step",
    "gradient_flow",
    "head_flow",
    "hyper_theta",
    "hyperparameters",
    "initial_parameters",
    "initial_theta",
    "momentum_descent",
    "optimizer_weights",
    "penalty_theta",
    "proximal",
    "sampled_coordinates",
    "schedules",
    "softmax_flow",
    "task_bilevel",
    "unrolled",
    "weight_penalty",
]
