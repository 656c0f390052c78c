"""Learned optimizers with pretrained weights, as optax transformations."""

from learned_optim import convert as convert
from learned_optim import optimizers as optimizers
from learned_optim.base import LearnedOptimizer as LearnedOptimizer
from learned_optim.checkpoint import load as load
from learned_optim.checkpoint import save as save
from learned_optim.optimizers import adam_residual as adam_residual
from learned_optim.optimizers import adaptive_muon as adaptive_muon
from learned_optim.optimizers import celo as celo
from learned_optim.optimizers import celo2 as celo2
from learned_optim.optimizers import coordinatewise_lstm as coordinatewise_lstm
from learned_optim.optimizers import factored_mlp as factored_mlp
from learned_optim.optimizers import hierarchical_mlp as hierarchical_mlp
from learned_optim.optimizers import learned_adam as learned_adam
from learned_optim.optimizers import learned_momentum as learned_momentum
from learned_optim.optimizers import learned_schedule as learned_schedule
from learned_optim.optimizers import learned_sgd as learned_sgd
from learned_optim.optimizers import mlp as mlp
from learned_optim.optimizers import prodigy_muon as prodigy_muon
from learned_optim.optimizers import prodigy_residual as prodigy_residual
from learned_optim.optimizers import register_architecture as register_architecture
from learned_optim.optimizers import rnnprop as rnnprop
from learned_optim.optimizers import secant_muon as secant_muon
from learned_optim.optimizers import star as star
from learned_optim.optimizers import velo as velo
from learned_optim.packing import pack as pack
from learned_optim.released import card as card
from learned_optim.released import learned_optimizer as learned_optimizer
from learned_optim.released import list_pretrained as list_pretrained
from learned_optim.released import load_pretrained as load_pretrained

__version__ = "0.1.0"

__all__ = [
    "LearnedOptimizer",
    "adam_residual",
    "adaptive_muon",
    "card",
    "celo",
    "celo2",
    "coordinatewise_lstm",
    "factored_mlp",
    "hierarchical_mlp",
    "learned_adam",
    "learned_momentum",
    "learned_optimizer",
    "learned_schedule",
    "learned_sgd",
    "list_pretrained",
    "load",
    "load_pretrained",
    "mlp",
    "pack",
    "prodigy_muon",
    "prodigy_residual",
    "register_architecture",
    "rnnprop",
    "save",
    "secant_muon",
    "star",
    "velo",
]
