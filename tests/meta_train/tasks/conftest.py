"""What image tasks see: their losses on pictures that were changed."""

import jax
import pytest


def _losses(task, changes):
    params = task.init(jax.random.key(0), ())
    keys = iter(jax.random.split(jax.random.key(1), 100))
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(next(keys), p.shape), params)
    image = task.data.test_x[:1]
    loss = jax.jit(
        lambda x: task.evaluate(params, None, task.data._replace(test_x=x, test_y=task.data.test_y[:1]), ())["loss"]
    )
    return [float(loss(change(image))) for change in (lambda x: x, *changes)]


@pytest.fixture
def losses_of_changed_images():
    """`(task, changes)`: held-out losses of one image as it is, and changed by each of the functions."""
    return _losses
