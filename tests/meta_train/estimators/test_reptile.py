"""Reptile on quadratics, where the end of adaptation is known, and through `fit`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Bilevel
from meta_train import fit
from meta_train import problems
from meta_train.estimators import reptile

MATRIX, CENTRES = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -2.0], [0.0, 3.0]])
RATE, NUM_STEPS = 0.3, 4


def _quadratic(params, theta, key, centre):
    return 0.5 * (params - centre) @ jnp.asarray(MATRIX, params.dtype) @ (params - centre)


BILEVEL = Bilevel(
    inner_loss=_quadratic,
    outer_loss=_quadratic,
    init=lambda key, theta: theta["start"],
    data=CENTRES,
    sample=lambda key, data: jnp.asarray(data)[jax.random.randint(key, (), 0, 2)],
)


def test_the_way_to_where_adaptation_ends():
    """theta - phi_k = (I - (I - aA)^k) (theta - c), and zero for what `init` does not see."""
    with jax.enable_x64(True):
        theta = {"start": jnp.array([0.5, 0.25]), "other": jnp.zeros(3)}
        estimator = reptile(BILEVEL, inner_optimizer=optax.sgd(RATE), inner_steps=NUM_STEPS, num_particles=1)
        state, estimate, met = estimator.init(jax.random.key(0), theta), jax.jit(estimator.estimate), set()
        contraction = np.linalg.matrix_power(np.eye(2) - RATE * MATRIX, NUM_STEPS)
        ways = [(np.eye(2) - contraction) @ (theta["start"] - centre) for centre in CENTRES]
        for step in range(6):
            gradient, state, info = estimate(jax.random.key(step), theta, state, estimator.data)
            which = int(np.argmin([np.abs(gradient["start"] - way).max() for way in ways]))
            np.testing.assert_allclose(gradient["start"], ways[which], rtol=1e-10)
            end = theta["start"] - ways[which] - CENTRES[which]
            np.testing.assert_allclose(info.loss, 0.5 * end @ MATRIX @ end, rtol=1e-10)
            assert not gradient["other"].any()
            met.add(which)
        assert met == {0, 1}
        assert int(info.inner_steps) == NUM_STEPS


def test_particles_are_averaged_and_fit_finds_the_mean_of_the_centres():
    """Both episodes have the same matrix, so that the ways add up to zero at the mean of their centres."""
    estimator = reptile(
        BILEVEL._replace(init=lambda key, theta: theta, data=CENTRES.astype(np.float32)),
        inner_optimizer=optax.sgd(RATE),
        inner_steps=NUM_STEPS,
        num_particles=64,
    )
    result = fit(estimator, np.zeros(2, np.float32), optax.sgd(0.2), num_steps=60, clip_norm=None, progress=False)
    np.testing.assert_allclose(result.theta, CENTRES.mean(axis=0), atol=0.4)
    assert result.metrics[-1]["inner_steps"] == 64 * NUM_STEPS


def test_refusals():
    arguments = {"inner_optimizer": optax.sgd(RATE), "inner_steps": 1, "num_particles": 1}
    with pytest.raises(ValueError, match="reptile needs a problem with the structure `bilevel`"):
        reptile(problems.unrolled(BILEVEL, optax.sgd), **arguments)
    with pytest.raises(ValueError, match="inner_steps must be at least 1, got 0"):
        reptile(BILEVEL, **arguments | {"inner_steps": 0})
    with pytest.raises(ValueError, match="num_particles must be at least 1, got 0"):
        reptile(BILEVEL, **arguments | {"num_particles": 0})
