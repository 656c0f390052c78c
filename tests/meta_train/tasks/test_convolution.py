"""Convolution by patches equals Haiku's, in value and gradient."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.tasks.convolution import Conv2D


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [((6, 4), 3, 1), ((6, 4), 3, 2), ((7, 5), 3, 2), ((8, 8), 5, 4), ((4, 6), 1, 2)]
)
def test_equals_haiku(size, kernel, stride):
    ours, theirs = (
        hk.without_apply_rng(hk.transform(lambda x, make=make: make(x)))
        for make in (
            lambda x: Conv2D(4, kernel_size=kernel, stride=stride, name="conv2_d")(x),
            lambda x: hk.Conv2D(4, kernel, stride=stride, padding="SAME")(x),
        )
    )
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    params = theirs.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, ours.init(jax.random.key(1), x), params)
    params = jax.tree.map(lambda p: p + 0.1, params)  # a bias that is not zero
    np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), rtol=1e-4, atol=1e-5)

    def loss(model):
        return lambda params, x: jnp.sum(jnp.sin(model.apply(params, x)))

    grads = [jax.grad(loss(model), argnums=(0, 1))(params, x) for model in (ours, theirs)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *grads)
