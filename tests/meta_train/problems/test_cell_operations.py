"""Operations of cells, against sums and maxima by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from meta_train import problems

OPERATIONS = {operation.name: operation for operation in problems.picture_operations()}
PICTURES = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype(np.float32)


def _windows(outside):
    """The nine pixels around each pixel, [9, 2, 4, 3, 2]."""
    padded = np.pad(PICTURES, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=outside)
    return np.stack([padded[:, i : i + 4, j : j + 3] for i in range(3) for j in range(3)])


def _apply(name, params=()):
    return OPERATIONS[name].apply(params, jnp.asarray(PICTURES))


def test_pooling_keeps_the_shape():
    np.testing.assert_array_equal(_apply("max3x3"), _windows(-np.inf).max(axis=0))
    np.testing.assert_allclose(_apply("mean3x3"), _windows(0).sum(axis=0) / 9, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(_apply("identity"), PICTURES)


def test_convolutions_of_the_relu():
    filters, matrix = (
        np.asarray(OPERATIONS[name].init(jax.random.key(0), channels=2)) for name in ("conv3x3", "conv1x1")
    )
    expected = np.einsum("knhwi,kio->nhwo", np.maximum(_windows(0), 0), filters.reshape(9, 2, 2))
    np.testing.assert_allclose(_apply("conv3x3", jnp.asarray(filters)), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        _apply("conv1x1", jnp.asarray(matrix)), np.maximum(PICTURES, 0) @ matrix, rtol=1e-4, atol=1e-5
    )
