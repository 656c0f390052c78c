"""Averaging over particles, on one device and over shards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.estimators.base import check_particles
from meta_train.estimators.base import mean_over_particles

GRADIENTS = {
    "scalar": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], np.float32),
    "matrix": np.arange(36, dtype=np.float32).reshape(6, 2, 3),
}
LOSSES = np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0], np.float32)


def _spoil(loss_at=(), scalar_at=(), matrix_at=()):
    """The gradients and losses above with numbers that are not finite at the given particles."""
    gradients, losses = {name: array.copy() for name, array in GRADIENTS.items()}, LOSSES.copy()
    losses[list(loss_at)] = np.inf
    gradients["scalar"][list(scalar_at)] = -np.inf
    gradients["matrix"][list(matrix_at), 1, 2] = np.nan
    return gradients, losses


@jax.jit
def _on_one_axis(gradients, losses):
    return mean_over_particles(gradients, losses, 7, None)


_vmapped = jax.jit(jax.vmap(lambda g, x: mean_over_particles(g, x, 7, "shards"), axis_name="shards"))


def _on_vmapped_shards(gradients, losses):
    """Three shards of two particles."""
    shard = lambda x: x.reshape(3, 2, *x.shape[1:])
    gradient, info, keep = jax.device_get(_vmapped(jax.tree.map(shard, gradients), shard(losses)))
    for leaf in jax.tree.leaves((gradient, info)):
        np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[0], leaf.shape))  # the same on every shard
    return *jax.tree.map(lambda x: x[0], (gradient, info)), keep.ravel()


@jax.jit
def _on_devices(gradients, losses):
    """Two devices with three particles each."""
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:2]), ("devices",))
    run = jax.shard_map(
        lambda g, x: mean_over_particles(g, x, 7, "devices"),
        mesh=mesh,
        in_specs=(jax.P("devices"), jax.P("devices")),
        out_specs=(jax.P(), jax.P(), jax.P("devices")),
    )
    return run(gradients, losses)


@pytest.mark.parametrize("run", [_on_one_axis, _on_vmapped_shards, _on_devices])
@pytest.mark.parametrize(
    ("spoilt", "kept"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"loss_at": [1]}, [0, 2, 3, 4, 5]),
        ({"scalar_at": [2]}, [0, 1, 3, 4, 5]),
        ({"matrix_at": [5]}, [0, 1, 2, 3, 4]),
        ({"loss_at": [0, 1], "scalar_at": [1, 2], "matrix_at": [4]}, [3, 5]),
    ],
)
def test_mean_over_the_finite_particles(run, spoilt, kept):
    gradient, info, keep = run(*_spoil(**spoilt))
    np.testing.assert_array_equal(np.flatnonzero(keep), kept)
    for name, array in GRADIENTS.items():
        np.testing.assert_allclose(gradient[name], array[kept].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(info.loss, LOSSES[kept].mean(), rtol=1e-6)
    assert (int(info.dropped), int(info.inner_steps)) == (6 - len(kept), 6 * 7)


@pytest.mark.parametrize("run", [_on_one_axis, _on_vmapped_shards, _on_devices])
def test_no_finite_particle_gives_a_zero_gradient(run):
    gradient, info, keep = run(*_spoil(loss_at=range(6)))
    assert not np.any(keep)
    for name, array in GRADIENTS.items():
        np.testing.assert_array_equal(gradient[name], np.zeros(array.shape[1:]))
    assert np.isnan(info.loss)  # not a perfect loss
    assert int(info.dropped) == 6


@pytest.mark.parametrize("run", [_on_one_axis, _on_vmapped_shards, _on_devices])
@pytest.mark.parametrize("kept", [[0, 1, 2, 3, 4, 5], [0, 2, 5], [3]])
def test_noise_of_the_gradient(run, kept):
    """The sample variances of the kept particles over their number, their sum, and the gradient's square over it."""
    _, info, _ = run(*_spoil(loss_at=sorted(set(range(6)) - set(kept))))
    rows = np.concatenate([array[kept].reshape(len(kept), -1) for array in GRADIENTS.values()], axis=1)
    variances = np.concatenate([np.ravel(info.coordinate_variances[name]) for name in GRADIENTS])
    if len(kept) == 1:
        assert np.isnan(info.gradient_variance) and np.isnan(info.snr) and np.isnan(variances).all()
        return
    np.testing.assert_allclose(variances, np.var(rows, axis=0, ddof=1) / len(kept), rtol=1e-5)
    variance = np.var(rows, axis=0, ddof=1).sum() / len(kept)
    np.testing.assert_allclose(info.gradient_variance, variance, rtol=1e-5)
    np.testing.assert_allclose(info.snr, np.sum(rows.mean(axis=0) ** 2) / variance, rtol=1e-5)


def test_losses_by_step_are_means_over_those_that_made_the_step():
    gradients, losses = _spoil(loss_at=[0])
    by_step = np.array([[9, 9, 9, 9], [1, 2, 3, 4], [3, 4, 5, np.nan]] + 3 * [[2, np.nan, np.nan, np.nan]], np.float32)
    steps = np.array([4, 4, 3, 1, 1, 1], np.int32)
    shard = lambda x: x.reshape(3, 2, *x.shape[1:])
    on_shards = lambda g, x, n, s: mean_over_particles(g, x, n, "shards", s)[1]
    at_once = jax.jit(lambda g, x, n, s: mean_over_particles(g, x, n, None, s)[1])
    whole = at_once(gradients, losses, steps, by_step)
    shards = jax.jit(jax.vmap(on_shards, axis_name="shards"))(
        *(jax.tree.map(shard, x) for x in (gradients, losses, steps, by_step))
    )
    for info in (whole, jax.tree.map(lambda x: np.asarray(x)[1], shards)):
        np.testing.assert_allclose(info.step_losses, [2, 3, 4, 4])
        assert int(info.inner_steps) == 14  # those of particles that were dropped included
    nobody = at_once(gradients, losses, steps, np.where(steps[:, None] < 4, by_step, np.nan).astype(np.float32))
    np.testing.assert_allclose(nobody.step_losses, [2.25, 4, 5, np.nan])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtypes(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        gradient, info, _ = _on_one_axis(jax.tree.map(lambda x: x.astype(dtype), GRADIENTS), LOSSES.astype(dtype))
        assert {leaf.dtype for leaf in jax.tree.leaves((gradient, info.loss))} == {jnp.dtype(dtype)}
        assert info.dropped.dtype == info.inner_steps.dtype == jnp.int32
        np.testing.assert_allclose(np.asarray(gradient["scalar"]).astype(np.float32), 3.5, rtol=1e-2)


def test_at_least_one_particle():
    check_particles(1)
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        check_particles(0)
