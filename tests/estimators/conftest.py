"""Influence balancing, the problem on which the estimators' right and wrong answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from meta_train import Problem

SIZE, NUM_POSITIVE = 23, 10


def _init(key, theta, num_steps):
    del key, num_steps
    return jnp.ones(SIZE, theta.dtype)


def _step(key, theta, state, data):
    del key
    matrix, signs = (array.astype(theta.dtype) for array in data)
    state = matrix @ state + theta * signs
    return state, 0.5 * (state[0] - 1) ** 2


@pytest.fixture
def influence_balancing():
    """s' = A s + theta sigma with loss (s'_1 - 1)^2 / 2, in the dtype of theta.

    Raising theta pushes the first ten components up at once and, through the thirteen others, down later on. An
    estimator that sees a short window only gets the sign wrong. Vicol et al. 2021, https://arxiv.org/abs/2112.13835
    """
    matrix = 0.5 * (np.eye(SIZE) + np.eye(SIZE, k=1))
    signs = np.where(np.arange(SIZE) < NUM_POSITIVE, 1.0, -1.0)
    return Problem(_init, _step, (matrix, signs), "influence-balancing")
