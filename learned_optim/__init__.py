"""Learned optimizers with pretrained weights, as optax transformations."""

from learned_optim import optimizers
from learned_optim.base import LearnedOptimizer
from learned_optim.checkpoint import load
from learned_optim.checkpoint import save
from learned_optim.optimizers import *  # noqa: F403 (the architectures: their list is kept in one place)
from learned_optim.optimizers import register_architecture
from learned_optim.released import card
from learned_optim.released import learned_optimizer
from learned_optim.released import list_pretrained
from learned_optim.released import load_pretrained

__version__ = "0.1.0"

__all__ = [
    *optimizers.KINDS,
    "LearnedOptimizer",
    "card",
    "learned_optimizer",
    "list_pretrained",
    "load",
    "load_pretrained",
    "register_architecture",
    "save",
]
