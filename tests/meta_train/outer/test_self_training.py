"""Self-training: learned optimizers as outer optimizers, frozen, live, and in a population."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from learned_optim import base
from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train import tasks
from meta_train.outer import safeguards
from meta_train.outer import self_training
from meta_train.unroll import truncation

NUM_STEPS = 20
SGD = learned_optim.learned_sgd(0.001)
PROBLEM = problems.optimizer_weights(SGD, tasks.get("quadratic"))


def _log_rate(value):
    return {"log_learning_rate": jnp.asarray(value, jnp.float32)}


def _estimator(num_particles=8):
    """The exact gradient of the mean loss of whole training runs."""
    return estimators.full_backprop(PROBLEM, num_particles=num_particles, horizon=truncation.constant(NUM_STEPS))


@jax.jit
@jax.vmap
def meta_loss(log_rate):
    """Mean loss of 64 training runs of 20 steps, the same for all rates, float32[]."""

    def episode(key):
        init_key, *keys = jax.random.split(key, NUM_STEPS + 1)
        theta = {"log_learning_rate": log_rate}
        state = PROBLEM.init(init_key, theta, NUM_STEPS)
        step = lambda state, key: PROBLEM.step(key, theta, state, PROBLEM.data)
        return jnp.mean(jax.lax.scan(step, state, jnp.stack(keys))[1])

    return jnp.mean(jax.vmap(episode)(jax.random.split(jax.random.key(5), 64)))


def test_a_live_learning_rate_finds_the_optimum_that_a_grid_search_finds():
    """Theta is the log learning rate of SGD on quadratics, and moves itself by a step of that rate."""
    grid = jnp.linspace(-7.0, 0.5, 76)
    losses = np.array(meta_loss(grid))
    losses[~np.isfinite(losses)] = np.inf
    optimum, least = float(grid[np.argmin(losses)]), np.min(losses)
    for start, num_steps in ((-6.0, 2500), (-4.0, 800)):  # rates of 1/400 and 1/55
        result = fit(
            _estimator(),
            _log_rate(start),
            self_training.live(SGD),
            num_steps=num_steps,
            steps_per_dispatch=200,
            progress=False,
        )
        found = float(result.theta["log_learning_rate"])
        assert abs(found - optimum) < 0.3, (found, optimum)
        (loss,) = meta_loss(jnp.array([found]))
        (before,) = meta_loss(jnp.array([start]))
        assert loss - least < 0.1 * (before - least), (loss, least, before)


def test_live_steps_by_hand_and_the_trainer_is_refreshed_every_few_steps():
    for refresh_every in (1, 3):
        tx = self_training.live(SGD, refresh_every=refresh_every)
        theta, update = _log_rate(-1.0), jax.jit(tx.update)
        state, expected, trainer = tx.init(theta), -1.0, -1.0
        for step, gradient in enumerate([0.5, -1.0, 0.25, 2.0, 1.0]):
            trainer = expected if step % refresh_every == 0 else trainer
            expected -= np.exp(trainer) * gradient
            updates, state = update(_log_rate(gradient), state, theta)
            theta = optax.apply_updates(theta, updates)
            np.testing.assert_allclose(theta["log_learning_rate"], expected, rtol=1e-5)


def test_the_outer_state_is_carried_over_when_theta_changes():
    """A live learned Adam: its moments are those of all meta-gradients, its rate the newest."""
    optimizer = learned_optim.learned_adam(0.1)
    tx, theta = self_training.live(optimizer), optimizer.init(jax.random.key(0))
    state = tx.init(theta)
    gradient = jax.tree.map(jnp.ones_like, theta)
    for _ in range(4):
        by_hand, inner = optimizer.transform(theta).update(gradient, state.inner, theta)
        updates, state = tx.update(gradient, state, theta)
        jax.tree.map(np.testing.assert_array_equal, (updates, state.inner), (by_hand, inner))
        theta = optax.apply_updates(theta, updates)
    assert state.inner.step == 4


def test_a_scale_on_the_outer_steps_is_for_all_three():
    """The state of a scaled optimizer has another structure, from its first step on."""
    gradient, theta = _log_rate(2.0), _log_rate(np.log(0.5))
    for make in (self_training.frozen, self_training.live):
        arguments = (SGD, theta) if make is self_training.frozen else (SGD,)
        tx = make(*arguments, step_scale=optax.linear_schedule(0.5, 0.25, 1))
        state, steps = tx.init(theta), []
        for _ in range(2):
            updates, state = tx.update(gradient, state, theta)
            steps.append(float(updates["log_learning_rate"]))
        np.testing.assert_allclose(steps, [-0.5, -0.25], rtol=1e-6)
    strategy = _population(interval=10, step_scale=0.1)
    state = jax.jit(strategy.init)(jax.random.key(0), theta)
    told = jax.jit(strategy.tell)(jax.random.key(1), state, state.members.theta, jnp.zeros(4), _log_rate(jnp.ones(4)))
    steps = told.members.theta["log_learning_rate"] - state.members.theta["log_learning_rate"]
    np.testing.assert_allclose(steps, -0.1 * np.exp(np.arange(-6.0, -2.0)), rtol=1e-3)


def test_frozen_steps_are_those_of_the_learned_optimizer_and_it_sees_the_meta_loss():
    """The optimizer need not be of the architecture that it trains. `celo` moves with the loss."""
    plain = fit(_estimator(), _log_rate(-4.0), optax.sgd(0.1), num_steps=20, clip_norm=None, progress=False)
    outer = self_training.frozen(SGD, _log_rate(np.log(0.1)))
    frozen = fit(_estimator(), _log_rate(-4.0), outer, num_steps=20, clip_norm=None, progress=False)
    np.testing.assert_allclose(frozen.theta["log_learning_rate"], plain.theta["log_learning_rate"], rtol=1e-5)

    seen = []

    def look(updates, state, params=None, *, value, **extra):
        jax.debug.callback(seen.append, value)
        return updates, state

    watching = optax.GradientTransformationExtraArgs(lambda theta: (), look)
    result = fit(_estimator(), _log_rate(-4.0), optax.chain(watching, outer), num_steps=3, progress=False)
    jax.effects_barrier()
    losses = [row["loss"] for row in result.metrics]
    assert {float(value) for value in seen} == {np.float32(loss) for loss in losses}


@pytest.mark.parametrize("kind", ["live", "population"])
def test_a_resumed_run_is_the_run_that_was_not_interrupted(kind, tmp_path):
    outer = self_training.live(SGD, refresh_every=4)
    if kind == "population":
        outer = _population(interval=3)
    arguments = {"steps_per_dispatch": 5, "progress": False}
    whole = fit(_estimator(2), _log_rate(-4.0), outer, num_steps=25, **arguments)
    fit(_estimator(2), _log_rate(-4.0), outer, num_steps=13, run_dir=tmp_path, **arguments)
    resumed = fit(_estimator(2), _log_rate(-4.0), outer, num_steps=25, run_dir=tmp_path, resume=True, **arguments)
    jax.tree.map(np.testing.assert_array_equal, resumed.theta, whole.theta)
    assert [row["loss"] for row in resumed.metrics] == [row["loss"] for row in whole.metrics]
    if kind == "population":
        (line, *_) = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert len(json.loads(line)["outer/member_loss"]) == 4


def _population(interval, num_members=4, **arguments):
    """Members begin at log rates -6, -5, -4, …"""
    start = lambda key, index, theta: jax.tree.map(lambda x: index.astype(jnp.float32) - 6.0, theta)
    return self_training.population(
        SGD, num_members=num_members, interval=interval, share=0.25, **{"start": start} | arguments
    )


def test_members_train_themselves_until_they_draw_another_trainer():
    strategy = _population(interval=1000)
    state = jax.jit(strategy.init)(jax.random.key(0), _log_rate(0.0))
    np.testing.assert_array_equal(state.members.theta["log_learning_rate"], [-6, -5, -4, -3])
    outer = state.members.outer_state._replace(trainer=jnp.array([-1, 3, -1, 0], jnp.int32))
    state = state._replace(members=state.members._replace(outer_state=outer))
    gradients = _log_rate([1.0, 2.0, 3.0, 4.0])
    told = jax.jit(strategy.tell)(jax.random.key(1), state, state.members.theta, jnp.zeros(4), gradients)
    rates = np.exp([-6.0, -3.0, -4.0, -6.0])
    expected = np.arange(-6, -2) - rates * np.arange(1, 5)
    np.testing.assert_allclose(told.members.theta["log_learning_rate"], expected, rtol=1e-6)
    np.testing.assert_array_equal(told.members.outer_state.trainer, [-1, 3, -1, 0])


def test_who_is_replaced_copies_theta_outer_state_and_half_of_the_time_the_trainer():
    adam = learned_optim.learned_adam(0.01)
    strategy = self_training.population(adam, num_members=4, interval=1, share=0.25, noise=0.0)
    state = jax.jit(strategy.init)(jax.random.key(0), adam.init(jax.random.key(0)))
    outer = state.members.outer_state._replace(trainer=jnp.array([-1, 2, -1, -1], jnp.int32))
    state = state._replace(members=state.members._replace(outer_state=outer))
    gradients = jax.tree.map(lambda x: jnp.arange(1.0, 5.0), state.members.theta)
    tell, trainers = jax.jit(strategy.tell), []
    for seed in range(40):
        losses = jnp.array([3.0, 1.0, 2.0, jnp.nan])  # the second is copied to the fourth
        told = tell(jax.random.key(seed), state, state.members.theta, losses, gradients)
        is_equal = lambda x: np.testing.assert_array_equal(x[3], x[1])
        jax.tree.map(is_equal, (told.members.theta, told.members.outer_state.inner))
        assert told.members.outer_state.inner.step.tolist() == [1, 1, 1, 1]
        trainers.append(int(told.members.outer_state.trainer[3]))
        np.testing.assert_array_equal(told.members.outer_state.trainer[:3], [-1, 2, -1])
    counts = np.bincount(trainers, minlength=4)
    assert counts.sum() == 40 and counts[2] > 15 and np.all(counts[[0, 1, 3]] > 0)  # 2: kept, or drawn again


def test_a_new_trainer_is_drawn_under_any_safeguard():
    guard = lambda tx: optax.chain(safeguards.safeguarded(tx, max_step=1.0, max_rise=1.0), optax.identity())
    strategy = _population(interval=1, noise=0.0, safeguard=guard)
    state = jax.jit(strategy.init)(jax.random.key(0), _log_rate(0.0))
    tell, drawn = jax.jit(strategy.tell), set()
    for seed in range(30):
        losses = jnp.array([0.0, 1.0, 2.0, 3.0])
        told = tell(jax.random.key(seed), state, state.members.theta, losses, _log_rate(jnp.zeros(4)))
        guarded = told.members.outer_state[0]
        drawn.add(int(guarded.inner.trainer[3]))
        np.testing.assert_array_equal(guarded.best_inner.trainer, guarded.inner.trainer)
    assert drawn == {-1, 0, 1, 2, 3}


def test_noise_is_relative_to_the_size_of_each_tensor():
    slow = base.per_tensor((), lambda grad, param, slots, step: (-0.1 * grad, slots))
    draw = lambda key: {"bias": jnp.zeros(3), "small": jnp.full(300, 0.01), "w": jax.random.normal(key, (30, 20))}
    optimizer = base.define({"kind": "slow", "feature_version": 1}, draw, lambda theta, horizon: slow)
    strategy = self_training.population(optimizer, num_members=2, interval=1, share=0.5, noise=0.1)
    theta = optimizer.init(jax.random.key(0))
    state = jax.jit(strategy.init)(jax.random.key(0), theta)
    still = jax.tree.map(jnp.zeros_like, state.members.theta)
    told = jax.jit(strategy.tell)(jax.random.key(1), state, still, jnp.array([0.0, 1.0]), still)
    kept, replaced = (jax.tree.map(lambda x, i=i: np.asarray(x[i]), told.members.theta) for i in (0, 1))
    for before, after in zip(jax.tree.leaves(kept), jax.tree.leaves(replaced), strict=True):
        scale = np.sqrt(np.mean(before**2))
        if before.size > 100:
            assert 0.07 * scale < np.std(after - before) < 0.13 * scale
        if scale == 0:
            np.testing.assert_array_equal(after, before)


def test_by_default_members_are_draws_of_the_optimizer():
    optimizer = learned_optim.mlp((4,))
    strategy = self_training.population(optimizer, num_members=3)
    members = jax.jit(strategy.init)(jax.random.key(0), optimizer.init(jax.random.key(0))).members.theta
    largest = max(jax.tree.leaves(members), key=lambda leaf: leaf.size)
    assert len(np.unique(np.asarray(largest), axis=0)) == 3


def test_a_population_improves_on_all_of_its_initialisations_and_replaces_one_that_diverges():
    """The first of four begins with NaN."""
    rate = lambda index: jnp.where(index == 0, jnp.nan, index - 6.0)
    strategy = _population(
        interval=10,
        start=lambda key, index, theta: jax.tree.map(lambda x: rate(index.astype(jnp.float32)), theta),
        safeguard=lambda tx: safeguards.safeguarded(tx, max_step=0.5),
    )
    result = fit(_estimator(4), _log_rate(0.0), strategy, num_steps=150, steps_per_dispatch=50, progress=False)
    initial = meta_loss(jnp.arange(-5.0, -2.0))
    (final,) = meta_loss(result.theta["log_learning_rate"][None])
    assert final < jnp.min(initial)
    first, replaced = result.metrics[0], result.metrics[11]
    assert [loss is None for loss in first["outer/member_loss"]] == [True, False, False, False]
    assert len(replaced["outer/member_loss"]) == len(replaced["outer/step_norm"]) == 4
    assert None not in replaced["outer/member_loss"]


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="refresh_every must be at least 1 outer step, got 0"):
        self_training.live(SGD, refresh_every=0)
    with pytest.raises(ValueError, match=r"noise must be at least 0, got -0\.1"):
        self_training.population(SGD, noise=-0.1)
    with pytest.raises(ValueError, match="num_candidates must be at least 2"):
        self_training.population(SGD, num_members=1)
