"""Baselines: what their names say, and the schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.evaluation import baselines
from meta_train.evaluation.baselines import BASELINES
from meta_train.evaluation.baselines import LEARNING_RATES
from meta_train.evaluation.baselines import TRIALS
from meta_train.evaluation.baselines import USUAL
from meta_train.evaluation.trials import Hyperparameters

pytestmark = pytest.mark.optax_promotion


def _updates(tx, count, grads=None, params=0.0):
    """Of gradients that are always 1 unless others are given, at a parameter that stays where it is."""
    params = jnp.asarray(params)
    update, state, made = jax.jit(tx.update), tx.init(params), []
    for number in range(count):
        grad = jnp.ones(()) if grads is None else jnp.asarray(grads[number])
        moved, state = update(grad, state, params)
        made.append(float(moved))
    return np.array(made)


def _point(rate=0.1, decay=0.0, warmup=0.0, beta2=0.999):
    return Hyperparameters(*map(jnp.float32, (rate, decay, warmup, beta2)))


def test_the_grid_has_three_rates_a_decade_and_reaches_beyond_one():
    np.testing.assert_allclose(np.diff(np.log10(LEARNING_RATES)), 1 / 3, atol=0.02)
    assert LEARNING_RATES[0] == 1e-5
    assert LEARNING_RATES[-1] == 10


def test_the_cosine_goes_from_the_rate_to_zero_at_the_horizon():
    made = _updates(BASELINES["adamw-cosine"].make(0.1, 10), 12)
    expected = 0.05 * (1 + np.cos(np.pi * np.minimum(np.arange(12) / 10, 1)))
    np.testing.assert_allclose(-made, expected, rtol=1e-4, atol=1e-9)


def test_constant_rates_know_no_horizon():
    for name, baseline in BASELINES.items():
        if not baseline.scheduled:
            np.testing.assert_array_equal(
                *(_updates(baseline.make(0.1, horizon), 3) for horizon in (5, 50)), err_msg=name
            )


def test_momentum_and_adam():
    np.testing.assert_allclose(_updates(BASELINES["momentum"].make(0.1, 9), 3), [-0.1, -0.19, -0.271], rtol=1e-5)
    np.testing.assert_allclose(_updates(BASELINES["adam"].make(0.1, 9), 2), [-0.1, -0.1], rtol=1e-4)
    np.testing.assert_allclose(_updates(BASELINES["adam-1e-3"].make(0.1, 9), 2), [-1e-3, -1e-3], rtol=1e-4)


@pytest.mark.parametrize("name", [name for name, baseline in BASELINES.items() if baseline.tuned])
def test_rates_may_be_traced(name):
    """The third update is in proportion to the rate: of Lion and SOAP the first is special, and AdEMAMix is slow."""
    baseline = BASELINES[name]

    @jax.jit
    def third(rate):
        tx, params = baseline.make(_point(rate) if baseline.by_trials else rate, 8), {"w": jnp.zeros((2, 2))}
        state = tx.init(params)
        for _ in range(3):
            updates, state = tx.update({"w": jnp.eye(2)}, state, params)
        return updates["w"]

    assert np.all(np.abs(np.diag(third(0.1))) > 1e-3)
    np.testing.assert_allclose(third(0.2), 2 * third(0.1), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["adam-trials", "adamw-trials", "muon-trials"])
def test_trials_set_warm_up_decay_and_beta2(name):
    """On vectors Muon is AdamW with Nesterov's momentum. The decay of Adam is a penalty."""
    make = lambda *values, num_steps=10: BASELINES[name].make(_point(*values), num_steps)
    steps = np.arange(12)
    falling = np.ones(12) if name == "adam-trials" else 0.5 * (1 + np.cos(np.pi * np.clip(steps / 8 - 0.25, 0, 1)))
    rising = np.minimum((steps + 1) / 2, 1)
    constant = _updates(make(0.1, num_steps=10**9), 12)
    np.testing.assert_allclose(_updates(make(0.1, 0.0, 0.2), 12), constant * rising * falling, rtol=1e-4, atol=1e-8)
    (decayed,) = _updates(make(0.1, 0.5), 1, grads=[-1.0], params=4.0)
    sign = 1 if name == "adam-trials" else -1  # of the gradient with the penalty, 1, and of the gradient alone
    np.testing.assert_allclose(decayed, sign * constant[0] - (name != "adam-trials") * 0.1 * 0.5 * 4.0, rtol=1e-4)
    spike = lambda beta2: _updates(make(0.1, 0.0, 0.0, beta2), 2, grads=[1.0, 100.0])[1]
    assert abs(spike(0.9)) < abs(spike(0.999)) * 0.999
    corrected = lambda beta2: (beta2 * 1.0 + 1e4) / (1 + beta2)  # average of the squares without bias
    np.testing.assert_allclose(spike(0.9) / spike(0.999), np.sqrt(corrected(0.999) / corrected(0.9)), rtol=1e-4)


def test_muon_makes_steps_of_one_size_on_matrices_and_filters():
    """Nearly orthogonal ones of a root mean square of .2; on vectors it is AdamW."""
    random = np.random.default_rng(0)
    grads = {
        name: jnp.asarray(random.normal(size=shape), jnp.float32)
        for name, shape in {"matrix": (6, 4), "filters": (3, 3, 2, 4), "vector": (5,)}.items()
    }
    tx = BASELINES["muon"].make(0.1, 1000)
    updates, _ = jax.jit(lambda grads: tx.update(grads, tx.init(grads), grads))(grads)
    for name, rows in (("matrix", 6), ("filters", 18)):
        values = np.linalg.svd(np.reshape(updates[name], (rows, 4)), compute_uv=False) / (0.1 * 0.2 * rows**0.5)
        assert np.all((values > 0.6) & (values < 1.3)), name
    adam = optax.nadamw(0.1, weight_decay=0.0)
    expected, _ = adam.update(grads["vector"], adam.init(grads["vector"]), grads["vector"])
    np.testing.assert_allclose(updates["vector"], expected, rtol=1e-5)


def test_lion_goes_by_signs_and_falls_to_zero():
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(4) / 4))
    np.testing.assert_allclose(-_updates(BASELINES["lion"].make(0.1, 4), 4), expected, rtol=1e-5)


def test_soap_and_prodigy_fall_to_zero():
    soap = -_updates(BASELINES["soap"].make(0.1, 4), 5)
    np.testing.assert_allclose(soap, [0, *(0.05 * (1 + np.cos(np.pi * np.arange(1, 5) / 4)))], rtol=1e-4, atol=1e-8)
    constant, falling = (-_updates(BASELINES[name].make(None, 4), 5) for name in ("prodigy", "prodigy-cosine"))
    np.testing.assert_allclose(falling[0], constant[0], rtol=1e-6)
    np.testing.assert_allclose(falling[2], 0.5 * constant[2], rtol=1e-4)
    assert falling[4] == 0 < constant[4]


def test_the_slow_average_of_ademamix_comes_in_over_the_run():
    """A restatement of the paper's equations, with both of its schedules."""
    grads, num_steps = np.random.default_rng(0).normal(size=6), 6
    fast, slow, square, expected = 0.0, 0.0, 0.0, []
    for step, grad in enumerate(grads):
        t, done = step + 1, step / num_steps
        beta3 = min(np.exp(np.log(0.9) * np.log(0.999) / ((1 - done) * np.log(0.999) + done * np.log(0.9))), 0.999)
        fast, slow = 0.9 * fast + 0.1 * grad, beta3 * slow + (1 - beta3) * grad
        square = 0.999 * square + 0.001 * grad**2
        direction = (fast / (1 - 0.9**t) + 5 * done * slow) / np.sqrt(square / (1 - 0.999**t))
        expected.append(-0.1 * 0.5 * (1 + np.cos(np.pi * step / num_steps)) * direction)
    made = _updates(BASELINES["ademamix"].make(0.1, num_steps), num_steps, grads.astype(np.float32))
    np.testing.assert_allclose(made, expected, rtol=1e-3)


@pytest.mark.parametrize("name", ["schedule-free", "schedule-free-tuned"])
def test_schedule_free_is_judged_at_its_average(name):
    """Gradients are taken between the average and the fast iterate."""
    baseline = BASELINES[name]
    tx, params = baseline.make(0.01, 9), jnp.ones(2)
    state = tx.init(params)
    for _ in range(5):
        updates, state = tx.update(params, state, params)
        params = optax.apply_updates(params, updates)
    average = baseline.judged(state, params)
    assert np.all(state.z < params)
    assert np.all(params < average)


def test_each_rate_tuned_alone_has_its_counterpart_and_names_are_told_apart():
    assert all(BASELINES[name].by_trials and not BASELINES[rate].by_trials for rate, name in TRIALS.items())
    assert {name for name, baseline in BASELINES.items() if baseline.by_trials} == {*TRIALS.values()}
    assert len({baseline.name for baseline in BASELINES.values()}) == len(BASELINES)
    assert set(USUAL) < set(BASELINES)
    assert baselines.with_trials(["muon", "muon-trials", "lion"]) == ("muon", "muon-trials", "lion")
    assert not any(BASELINES[name].by_trials for name in USUAL)
