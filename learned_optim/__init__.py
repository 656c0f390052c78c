"""Learned optimizers with pretrained weights, as optax transformations."""

from learned_optim.base import LearnedOptimizer
from learned_optim.checkpoint import load
from learned_optim.checkpoint import save
from learned_optim.optimizers import coordinatewise_lstm
from learned_optim.optimizers import mlp
from learned_optim.released import card
from learned_optim.released import learned_optimizer
from learned_optim.released import list_pretrained
from learned_optim.released import load_pretrained

__version__ = "0.1.0"

__all__ = [
    "LearnedOptimizer",
    "card",
    "coordinatewise_lstm",
    "learned_optimizer",
    "list_pretrained",
    "load",
    "load_pretrained",
    "mlp",
    "save",
]
