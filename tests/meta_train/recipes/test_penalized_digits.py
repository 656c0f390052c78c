"""Penalties for each weight of a linear model: that the recipe's first steps fit the validation digits."""

import numpy as np
import pytest

from meta_train import recipes


@pytest.mark.optax_promotion
def test_the_first_steps_lower_the_validation_loss(tmp_path):
    recipe = recipes.get("penalized_digits", num_steps=25)
    result = recipes.run(recipe, run_dir=tmp_path, progress=False)
    losses = [row["loss"] for row in result.metrics]
    assert losses[-1] < 0.225 < 0.8 < losses[0]  # with the first penalties the inner training ends at 0.268
    logs = np.concatenate([leaf.ravel() for leaf in result.theta["head"].values()])
    assert logs.min() < np.log(1e-3) - 1 < np.log(1e-3) + 1 < logs.max()
