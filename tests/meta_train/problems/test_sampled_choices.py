"""REINFORCE against exact gradients, and searches for the best entry of a table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train import truncation
from meta_train.outer import search

# Each place has its effect, and the three together another one.
TABLE = (
    5 + sum(np.ix_([0.0, 0.6], [0.5, 0.0, 0.9], [0.8, 1.1, 0.4, 0.0])) + np.random.default_rng(0).random((2, 3, 4)) / 5
)
CONTROLLERS = {
    "softmaxes": problems.independent_controller(TABLE.shape),
    "LSTM": problems.lstm_controller(TABLE.shape, hidden_size=3),
}


def _problem(kind, **options):
    lookup = lambda choices, key, table: table[choices[0], choices[1], choices[2]]
    return problems.sampled_choices(CONTROLLERS[kind], lookup, TABLE.astype(np.float32), **options)


def _reinforce(problem, num_particles=1):
    return estimators.truncated_backprop(
        problem, num_particles=num_particles, unroll_length=1, horizon=truncation.constant(1000), stagger=False
    )


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_reinforce_has_the_exact_gradient_as_its_mean_and_the_baseline_lowers_the_variance(kind):
    """The gradient at the third step, whose baseline is the mean of the losses of two steps."""
    with jax.enable_x64(True):
        random = np.random.default_rng(1)
        theta = jax.eval_shape(CONTROLLERS[kind].init, jax.random.key(0))
        theta = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape)), theta)
        table = jnp.asarray(TABLE)
        exact = jax.jit(jax.grad(lambda theta: problems.expected_loss(CONTROLLERS[kind], theta, table)))(theta)
        problem = _problem(kind)

        @jax.jit
        def sample(key):
            keys = jax.random.split(key, 3)
            state = problem.init(keys[0], theta, jnp.asarray(3))
            slope = jax.grad(lambda theta, key, state: problem.step(key, theta, state, table)[::-1], has_aux=True)
            first, state = slope(theta, keys[0], state)
            _, state = slope(theta, keys[1], state)
            return first, slope(theta, keys[2], state)[0]

        found = jax.lax.map(sample, jax.random.split(jax.random.key(2), 6000), batch_size=1000)
    flat = lambda tree: np.concatenate([np.asarray(x).reshape(-1) for x in jax.tree.leaves(tree)])
    rows = lambda tree: np.concatenate([np.asarray(x).reshape(6000, -1) for x in jax.tree.leaves(tree)], axis=1)
    without, with_baseline = (rows(each) for each in found)
    error = with_baseline.std(axis=0, ddof=1) / np.sqrt(len(with_baseline))
    distance = np.abs(with_baseline.mean(axis=0) - flat(exact))
    assert np.all(distance <= 4 * error + 1e-12)
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(flat(exact))  # so that a wrong gradient would be seen
    assert with_baseline.var(axis=0).sum() < 0.2 * without.var(axis=0).sum()


def test_the_baseline_is_the_decayed_mean_of_earlier_losses_and_the_value_the_loss():
    problem = _problem("softmaxes", num_samples=2, baseline_decay=0.5)
    theta, state, losses = jnp.zeros((3, 4)), problem.init(jax.random.key(0), jnp.zeros((3, 4)), jnp.asarray(3)), []
    for i in range(3):
        state, loss = problem.step(jax.random.key(i), theta, state, jnp.asarray(problem.data))
        losses.append(float(loss))
    assert float(state.total / state.weight) == pytest.approx(np.dot([0.25, 0.5, 1], losses) / 1.75, rel=1e-5)
    assert TABLE.min() < losses[0] < TABLE.max()


SEARCHES = {
    "REINFORCE, softmaxes": ("softmaxes", _reinforce, optax.adam(0.3), 8),
    "REINFORCE, LSTM": ("LSTM", _reinforce, optax.adam(0.1), 8),
    "evolution strategy": (
        "softmaxes",
        functools.partial(estimators.full_es, num_particles=8, horizon=truncation.constant(1), std=0.5),
        optax.adam(0.3),
        1,
    ),
    "elite evolution strategy": (
        "softmaxes",
        functools.partial(search.episodes, num_particles=1, horizon=truncation.constant(1)),
        search.elite_es(num_candidates=32, num_elites=8, std=3.0),
        1,
    ),
}


@pytest.mark.optax_promotion
@pytest.mark.parametrize("name", SEARCHES)
def test_the_best_entry_of_the_table_is_found(name, tmp_path):
    kind, make, outer, num_samples = SEARCHES[name]
    controller, estimator = CONTROLLERS[kind], make(_problem(kind, num_samples=num_samples))
    theta = jax.tree.map(np.asarray, controller.init(jax.random.key(0)))

    def run(num_steps, **arguments):
        return fit(estimator, theta, outer, num_steps=num_steps, steps_per_dispatch=50, progress=False, **arguments)

    found = run(100)
    choices = problems.every_choice(controller)
    likely = jax.vmap(lambda choices: controller.log_probability(found.theta, choices))(choices)
    assert tuple(choices[np.argmax(likely)]) == np.unravel_index(TABLE.argmin(), TABLE.shape)
    assert np.mean([record["loss"] for record in found.metrics[-10:]]) < TABLE.min() + 0.4
    if name == "REINFORCE, softmaxes":
        run(50, run_dir=tmp_path)
        resumed = run(100, run_dir=tmp_path, resume=True)
        np.testing.assert_array_equal(resumed.theta, found.theta)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        _problem("LSTM", num_samples=0)
    with pytest.raises(ValueError, match=r"baseline_decay must lie between 0 and 1, 1 excluded, got 1\.0"):
        _problem("LSTM", baseline_decay=1.0)
