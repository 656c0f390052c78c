"""What theta is: each file builds a `Problem` for one kind of meta-parameters."""

from meta_train.problems.architecture import architecture as architecture
from meta_train.problems.architecture import even_logits as even_logits
from meta_train.problems.cell import CellSpace as CellSpace
from meta_train.problems.cell import apply_cell as apply_cell
from meta_train.problems.cell import cell_space as cell_space
from meta_train.problems.cell import describe_cell as describe_cell
from meta_train.problems.cell import discretize as discretize
from meta_train.problems.cell import init_cell as init_cell
from meta_train.problems.cell import mixing_weights as mixing_weights
from meta_train.problems.cell import random_cells as random_cells
from meta_train.problems.cell_network import CellNetwork as CellNetwork
from meta_train.problems.cell_network import cell_network as cell_network
from meta_train.problems.cell_operations import Operation as Operation
from meta_train.problems.cell_operations import picture_operations as picture_operations
from meta_train.problems.controller import Controller as Controller
from meta_train.problems.controller import every_choice as every_choice
from meta_train.problems.controller import expected_loss as expected_loss
from meta_train.problems.controller import independent_controller as independent_controller
from meta_train.problems.data_weights import data_weights as data_weights
from meta_train.problems.gradient_distance import gradient_distance as gradient_distance
from meta_train.problems.gradient_flow import gradient_flow as gradient_flow
from meta_train.problems.head_flow import HeadFlowTheta as HeadFlowTheta
from meta_train.problems.head_flow import head_flow as head_flow
from meta_train.problems.hyperparameters import HyperTheta as HyperTheta
from meta_train.problems.hyperparameters import Schedules as Schedules
from meta_train.problems.hyperparameters import at_step as at_step
from meta_train.problems.hyperparameters import hyper_theta as hyper_theta
from meta_train.problems.hyperparameters import hyperparameters as hyperparameters
from meta_train.problems.hyperparameters import schedules as schedules
from meta_train.problems.imitation import imitation as imitation
from meta_train.problems.imitation import imitation_loss as imitation_loss
from meta_train.problems.initial_parameters import LearnedRates as LearnedRates
from meta_train.problems.initial_parameters import adaptation as adaptation
from meta_train.problems.initial_parameters import initial_parameters as initial_parameters
from meta_train.problems.initial_parameters import initial_theta as initial_theta
from meta_train.problems.instance_norm_network import instance_norm_network as instance_norm_network
from meta_train.problems.learned_augmentation import augmented as augmented
from meta_train.problems.learned_augmentation import augmenter_theta as augmenter_theta
from meta_train.problems.learned_augmentation import learned_augmentation as learned_augmentation
from meta_train.problems.learned_loss import learned_loss as learned_loss
from meta_train.problems.learned_loss import loss_theta as loss_theta
from meta_train.problems.learned_loss import loss_weights as loss_weights
from meta_train.problems.learned_loss import meta_weight_net as meta_weight_net
from meta_train.problems.learned_rotation import learned_rotation as learned_rotation
from meta_train.problems.learned_rotation import rotate as rotate
from meta_train.problems.lstm_controller import lstm_controller as lstm_controller
from meta_train.problems.momentum_descent import momentum_descent as momentum_descent
from meta_train.problems.optimizer_weights import optimizer_weights as optimizer_weights
from meta_train.problems.proximal import proximal as proximal
from meta_train.problems.sampled_choices import ChoiceLossFn as ChoiceLossFn
from meta_train.problems.sampled_choices import sampled_choices as sampled_choices
from meta_train.problems.sampled_coordinates import sampled_coordinates as sampled_coordinates
from meta_train.problems.smoothed import smoothed as smoothed
from meta_train.problems.softmax_flow import softmax_flow as softmax_flow
from meta_train.problems.synthetic_data import Synthetic as Synthetic
from meta_train.problems.synthetic_data import gradient_matching as gradient_matching
from meta_train.problems.synthetic_data import real_examples as real_examples
from meta_train.problems.synthetic_data import synthetic_loss as synthetic_loss
from meta_train.problems.synthetic_data import synthetic_training as synthetic_training
from meta_train.problems.task_bilevel import task_bilevel as task_bilevel
from meta_train.problems.trusted_data import TrustedData as TrustedData
from meta_train.problems.trusted_data import judged_by_trusted as judged_by_trusted
from meta_train.problems.trusted_data import trusted_data as trusted_data
from meta_train.problems.trusted_data import weighted_mean as weighted_mean
from meta_train.problems.unrolled import unrolled as unrolled
from meta_train.problems.weight_penalty import penalty_theta as penalty_theta
from meta_train.problems.weight_penalty import penalty_units as penalty_units
from meta_train.problems.weight_penalty import weight_penalty as weight_penalty

__all__ = [
    "CellNetwork",
    "CellSpace",
    "ChoiceLossFn",
    "Controller",
    "HeadFlowTheta",
    "HyperTheta",
    "LearnedRates",
    "Operation",
    "Schedules",
    "Synthetic",
    "TrustedData",
    "adaptation",
    "apply_cell",
    "architecture",
    "at_step",
    "augmented",
    "augmenter_theta",
    "cell_network",
    "cell_space",
    "data_weights",
    "describe_cell",
    "discretize",
    "even_logits",
    "every_choice",
    "expected_loss",
    "gradient_distance",
    "gradient_flow",
    "gradient_matching",
    "head_flow",
    "hyper_theta",
    "hyperparameters",
    "imitation",
    "imitation_loss",
    "independent_controller",
    "init_cell",
    "initial_parameters",
    "initial_theta",
    "instance_norm_network",
    "judged_by_trusted",
    "learned_augmentation",
    "learned_loss",
    "learned_rotation",
    "loss_theta",
    "loss_weights",
    "lstm_controller",
    "meta_weight_net",
    "mixing_weights",
    "momentum_descent",
    "optimizer_weights",
    "penalty_theta",
    "penalty_units",
    "picture_operations",
    "proximal",
    "random_cells",
    "real_examples",
    "rotate",
    "sampled_choices",
    "sampled_coordinates",
    "schedules",
    "smoothed",
    "softmax_flow",
    "synthetic_loss",
    "synthetic_training",
    "task_bilevel",
    "trusted_data",
    "unrolled",
    "weight_penalty",
    "weighted_mean",
]
