"""A cell of a convolutional network for digits, whose operations are searched by DARTS: an architecture as theta.

Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", https://arxiv.org/abs/1806.09055
"""

import numpy as np
import optax

from meta_train import data
from meta_train import estimators
from meta_train import problems
from meta_train.recipes import Recipe


def recipe(num_steps: int = 200, seed: int = 0) -> Recipe:
    """Logits of the operations on each edge, by the first order; half of the training digits to validate."""
    digits = data.load("digits")
    halves = problems.trusted_data(digits, num_trusted=len(digits.train_x) // 2, seed=seed)
    space = problems.cell_space(problems.picture_operations(), num_nodes=2)
    network = problems.cell_network(space, 10, channels=8, num_cells=1)
    bilevel = problems.architecture(halves, network, batch_size=32)
    return Recipe(
        optimizer=None,
        theta=np.asarray(problems.even_logits(space)),
        estimators=(estimators.darts(bilevel, inner_optimizer=optax.adam(0.01), rate=0.0),),
        outer_optimizer=optax.adam(0.02, b1=0.5),
        num_steps=num_steps,
        seed=seed,
        clip_norm=None,
    )
