"""A task as a bilevel problem: its own losses, and a refusal where episodes differ."""

import jax
import numpy as np
import pytest

from meta_train import problems
from meta_train import tasks


@pytest.mark.parametrize("held_out", [True, False])
def test_losses_are_the_task_s(held_out):
    task = tasks.get("digits-softmax")
    bilevel = problems.task_bilevel(task, held_out=held_out)
    init_key, key = jax.random.key(0), jax.random.key(1)
    params = bilevel.init(init_key, ())
    np.testing.assert_array_equal(bilevel.inner_loss(params, (), key, task.data), task.loss(params, key, task.data, ()))
    expected = task.evaluate(params, key, task.data, ())["loss"] if held_out else task.loss(params, key, task.data, ())
    np.testing.assert_array_equal(bilevel.outer_loss(params, (), key, task.data), expected)
    assert (bilevel.name, bilevel.data) == (task.name, task.data)


def test_a_task_that_varies_is_refused():
    task = tasks.get("digits-softmax")._replace(name="varied", sample=lambda key: jax.random.uniform(key))
    with pytest.raises(ValueError, match="varied draws a config in each episode"):
        problems.task_bilevel(task)
