"""What recipes share: which losses count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from meta_train import estimators
from meta_train import tasks
from meta_train.outer import search
from meta_train.recipes import parts
from meta_train.unroll import truncation


@pytest.mark.parametrize("held_out", [False, True])
def test_losses_are_those_of_held_out_examples_if_so_wanted(monkeypatch, held_out):
    """The loss of one step, which is late and early at once: the weight is 1. Both are compressed alike."""
    problems, nres, name = [], estimators.nres, "diabetes-mlp"
    keep = lambda problem, **options: problems.append(problem) or nres(problem, **options)
    monkeypatch.setattr(estimators, "nres", keep)
    optimizer, horizon = learned_optim.learned_sgd(), truncation.power_law(100, 200, 1.5)
    options = {"num_pairs": 2, "horizon": horizon, "horizon_dropout": 0.25, "norm_power": 1.0}
    estimator = parts.nres_on_late_losses(optimizer, name, **options, held_out=held_out)
    assert estimator.name == (f"{name} held-out" if held_out else name)

    (problem,), task, key = problems, tasks.get(name, sampled=True), jax.random.key(3)
    theta = optimizer.init(key)
    before = problem.init(key, theta, jnp.asarray(1, jnp.int32))
    after, loss = jax.jit(problem.step)(key, theta, before, problem.data)
    evaluated = task.evaluate(after.inner.params, key, task.data, after.inner.config)["loss"]
    expected = tasks.power_normalizer(task.scale, power=0.3)(evaluated)
    assert np.isclose(loss, expected, rtol=1e-5) == held_out


@pytest.mark.parametrize("held_out", [False, True])
def test_final_losses_are_logs_of_the_loss_at_the_end(monkeypatch, held_out):
    """An episode of one step: its loss is that before the update, or the held-out loss after it, over the scale."""
    problems, episodes, name = [], search.episodes, "diabetes-mlp"
    keep = lambda problem, **options: problems.append(problem) or episodes(problem, **options)
    monkeypatch.setattr(search, "episodes", keep)
    optimizer, horizon = learned_optim.learned_sgd(), truncation.power_law(100, 200, 1.5)
    options = {"num_particles": 2, "horizon": horizon, "horizon_dropout": 0.25}
    estimator = parts.final_losses(optimizer, name, **options, held_out=held_out)
    assert estimator.name == (f"{name} held-out" if held_out else name) and estimator.num_particles == 2

    (problem,), task, key = problems, tasks.get(name, sampled=True), jax.random.key(3)
    theta = optimizer.init(key)
    before = problem.init(key, theta, jnp.asarray(1, jnp.int32))
    after, loss = jax.jit(problem.step)(key, theta, before, problem.data)
    if held_out:
        expected = task.evaluate(after.inner.params, key, task.data, after.inner.config)["loss"]
    else:
        expected = task.loss(before.inner.params, key, task.data, before.inner.config)
        expected = expected / task.loss_scale(before.inner.config)
    np.testing.assert_allclose(loss, np.log(expected / task.scale), rtol=1e-4)
