"""Convolution by patches equals XLA's, in value and derivatives, also with a batch of filters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.few_shot.convolution import conv3x3


def _by_xla(x, w, *, stride):
    return jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize(
    ("size", "stride", "inputs"), [((6, 4), 1, 3), ((7, 5), 2, 3), ((3, 1), 1, 3), ((1, 2), 2, 3), ((6, 5), 2, 1)]
)
def test_equals_xla(size, stride, inputs):
    x = jax.random.normal(jax.random.key(0), (2, *size, inputs))
    w = jax.random.normal(jax.random.key(1), (4, 3, 3, inputs, 5))
    values = []
    for conv in (conv3x3, _by_xla):

        def loss(w, x, conv=conv):
            return jnp.sum(jnp.sin(conv(x, w, stride=stride)))

        def slope(w, x, loss=loss):
            return jnp.sum(jnp.sin(jax.grad(loss)(w, x)))

        both = jax.jit(
            jax.vmap(lambda w, x, loss=loss, slope=slope: (loss(w, x), jax.grad(slope, (0, 1))(w, x)), (0, None))
        )
        values.append(both(w, x))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), *values)
