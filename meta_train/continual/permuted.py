"""Permuted images: tasks of one data set whose pixels are shuffled, in each task in another way."""

import numpy as np


def permutations(num_tasks: int, num_inputs: int, *, seed: int = 0) -> np.ndarray:
    """Orders of the inputs, one for each task. The first one leaves them as they are.

    Args:
      num_tasks: how many tasks.
      num_inputs: pixels of an image.
      seed: of the others.

    Returns:
      int32[num_tasks, num_inputs].

    Raises:
      ValueError: if num_tasks or num_inputs is below 1.

    Example:
      >>> permutations(2, 4)[0].tolist(), sorted(permutations(2, 4)[1].tolist())
      ([0, 1, 2, 3], [0, 1, 2, 3])

    References:
      Goodfellow et al. 2013, https://arxiv.org/abs/1312.6211
    """
    if num_tasks < 1 or num_inputs < 1:
        raise ValueError(f"permutations need a task and an input, got num_tasks={num_tasks}, num_inputs={num_inputs}.")
    random = np.random.default_rng(seed)
    orders = [np.arange(num_inputs), *(random.permutation(num_inputs) for _ in range(num_tasks - 1))]
    return np.stack(orders).astype(np.int32)
