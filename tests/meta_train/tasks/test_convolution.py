"""Convolution by patches equals Haiku's and XLA's, in value and derivatives, also with a batch of filters."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.tasks.convolution import Conv2D
from meta_train.tasks.convolution import convolve


@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [((6, 4), 3, 1), ((6, 4), 3, 2), ((7, 5), 3, 2), ((8, 8), 5, 4), ((4, 6), 1, 2), ((7, 6), 4, 2)],
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
    first = [jax.jit(model.init)(jax.random.key(1), x) for model in (ours, theirs)]
    jax.tree.map(np.testing.assert_array_equal, *first)
    params = jax.tree.map(lambda p: np.asarray(p) + np.float32(0.1), first[0])  # a bias that is not zero

    def results(model):
        def loss(params, x):
            made = model.apply(params, x)
            return jnp.sum(jnp.sin(made)), made

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, x)

    (grads, made), (their_grads, expected) = results(ours), results(theirs)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), grads, their_grads)


def _by_xla(x, w, *, stride):
    return jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize(
    ("size", "stride", "inputs"), [((6, 4), 1, 3), ((7, 5), 2, 3), ((3, 1), 1, 3), ((1, 2), 2, 3), ((6, 5), 2, 1)]
)
def test_equals_xla_with_a_batch_of_filters(size, stride, inputs):
    x = jax.random.normal(jax.random.key(0), (2, *size, inputs))
    w = jax.random.normal(jax.random.key(1), (4, 3, 3, inputs, 5))
    values = []
    for conv in (convolve, _by_xla):

        def loss(w, x, conv=conv):
            return jnp.sum(jnp.sin(conv(x, w, stride=stride)))

        def slope(w, x, loss=loss):
            return jnp.sum(jnp.sin(jax.grad(loss)(w, x)))

        both = jax.jit(
            jax.vmap(lambda w, x, loss=loss, slope=slope: (loss(w, x), jax.grad(slope, (0, 1))(w, x)), (0, None))
        )
        values.append(both(w, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), *values)
