"""A weighted sum of estimators: each part alone at the ends, the mix between, and no cost where a weight is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Problem
from meta_train import estimators
from meta_train import fit
from meta_train.unroll import truncation


def _linear(kind, slope, num_particles=2, **options):
    """The loss is slope * theta + the steps made, whatever the estimator."""
    step = lambda key, theta, state, data: (state + 1.0, slope * theta + state)
    problem = Problem(lambda key, theta, num_steps: jnp.zeros(()), step, name=f"{slope:g}")
    return kind(
        problem, num_particles=num_particles, unroll_length=3, horizon=truncation.constant(12), stagger=False, **options
    )


def test_each_part_at_the_ends_and_the_mix_between():
    """Weights (1, 0), (0, 1), (1/4, 3/4): the parts run by themselves whenever they have a weight."""
    parts = [_linear(estimators.truncated_backprop, 1.0, 6), _linear(estimators.pes, -2.0, 4, std=0.1)]
    shares = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]])
    estimator = estimators.weighted_sum(parts, [lambda step: shares[step, 0], lambda step: shares[step, 1]])
    assert (estimator.num_particles, estimator.name) == (2, "1")
    theta, init_key = jnp.zeros(()), jax.random.key(0)

    @jax.jit
    def both(key, state):
        results = [
            part.estimate(jax.random.fold_in(key, i), theta, inner, part.data)
            for i, (part, inner) in enumerate(zip(parts, state.states, strict=True))
        ]
        return estimator.estimate(key, theta, state, estimator.data), results

    state = estimator.init(init_key, theta)
    for i, part in enumerate(parts):
        alone = part.init(jax.random.fold_in(init_key, i), theta)
        jax.tree.map(np.testing.assert_array_equal, state.states[i], alone)
    for step, weights in enumerate(np.asarray(shares)):
        (gradient, following, info), results = both(jax.random.key(step), state)
        for i, weight in enumerate(weights):
            expected = results[i][1] if weight else state.states[i]
            jax.tree.map(np.testing.assert_array_equal, following.states[i], expected)
        ran = [result for weight, result in zip(weights, results, strict=True) if weight]
        pairs = lambda values, weights=weights: [(w, np.asarray(v)) for w, v in zip(weights, values, strict=True) if w]
        total = lambda values, power=1, pairs=pairs: sum(w**power * v for w, v in pairs(values))
        if step < 2:
            np.testing.assert_array_equal(gradient, ran[0][0])
        np.testing.assert_allclose(gradient, total([g for g, _, _ in results]), rtol=1e-6)
        infos = [part_info for _, _, part_info in results]
        np.testing.assert_allclose(info.loss, total([part.loss for part in infos]), rtol=1e-6)
        variance = total([part.gradient_variance for part in infos], 2)
        np.testing.assert_allclose(info.gradient_variance, variance, rtol=1e-6)
        np.testing.assert_allclose(info.coordinate_variances, variance, rtol=1e-6)
        if weights[1]:
            np.testing.assert_allclose(info.snr, gradient**2 / variance, rtol=1e-5)
        assert int(info.inner_steps) == sum(int(part.inner_steps) for _, _, part in ran)
        assert int(info.dropped) == 0
        state = following
    assert state.step.tolist() == [3, 3]


def test_a_run_on_several_devices_resumes(tmp_path):
    """SGD with rate 1 goes down by the weighted slopes. The first fades from outer step 1 to 3."""
    parts = [_linear(estimators.truncated_backprop, slope) for slope in (1.0, 3.0)]
    estimator = estimators.weighted_sum(parts, [optax.linear_schedule(1.0, 0.0, 2, 1), 0.5])

    def run(num_steps, **arguments):
        return fit(
            estimator, jnp.zeros(()), optax.sgd(1.0), num_steps=num_steps, clip_norm=None, progress=False, **arguments
        )

    np.testing.assert_allclose(run(5).theta, -(1.0 + 1.0 + 0.5) - 5 * 1.5)
    run(2, run_dir=tmp_path)
    np.testing.assert_allclose(run(5, run_dir=tmp_path, resume=True).theta, -10)


def test_what_does_not_fit():
    part = _linear(estimators.truncated_backprop, 1.0)
    with pytest.raises(ValueError, match="got 1 estimators and 2 weights"):
        estimators.weighted_sum([part], [1.0, 2.0])
    with pytest.raises(ValueError, match="got 0 estimators and 0 weights"):
        estimators.weighted_sum([], [])
    problem = Problem(lambda key, theta, num_steps: (), lambda key, theta, state, data: (state, theta))
    losses = estimators.episode_losses(problem, num_particles=2, horizon=truncation.constant(2))
    estimator = estimators.weighted_sum([part, losses], [1.0, 1.0])
    estimate = lambda key, theta: estimator.estimate(key, theta, estimator.init(key, theta), estimator.data)
    with pytest.raises(ValueError, match="adds gradients, and estimator 1 gives losses only"):
        jax.eval_shape(estimate, jax.random.key(0), jnp.zeros(()))
