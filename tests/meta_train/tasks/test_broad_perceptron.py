"""Broad perceptrons learn, side by side in one program; masks of minibatch and network hold; evaluation stays out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import tasks
from meta_train.tasks import broad_examples
from meta_train.tasks import masked_perceptron
from meta_train.tasks import suites

BATCH, STEPS, EPISODES = 16, 60, 12


@functools.cache
def task():
    return tasks.broad_perceptron(width=8, max_depth=2, batch_size=BATCH)


@functools.cache
def episodes():
    """Episodes under vmap: config, first parameters, whether gradients stay inside, losses, held-out losses."""

    def run(key, data):
        sample_key, init_key, key = jax.random.split(key, 3)
        config = task().sample(sample_key)
        first = task().init(init_key, config)
        tx = optax.adam(1e-2)

        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(task().loss)(params, key, data, config)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss / task().loss_scale(config)

        (params, _), losses = jax.lax.scan(step, (first, tx.init(first)), jax.random.split(key, STEPS))
        return config, first, params, losses, [task().evaluate(p, key, data, config)["loss"] for p in (first, params)]

    run = jax.jit(jax.vmap(run, (0, None)))
    return jax.tree.map(np.asarray, run(jax.random.split(jax.random.key(0), EPISODES), task().data))


@pytest.mark.optax_promotion
def test_most_episodes_learn_and_begin_near_the_loss_of_a_constant():
    _, _, _, losses, held_out = episodes()
    assert np.isfinite(losses).all()
    assert 0.8 < np.median(losses[:, 0]) < 1.3
    assert 0.8 < np.median(held_out[0]) < 1.3
    improved = losses[:, -20:].mean(axis=1) < losses[:, :5].mean(axis=1)
    assert improved.mean() > 0.7
    assert np.median(held_out[1]) < np.median(held_out[0])
    assert len(np.unique(losses[:, 0])) == EPISODES


@pytest.mark.optax_promotion
def test_weights_outside_of_the_drawn_network_stay_zero_while_it_trains():
    (examples, network), first, trained, *_ = episodes()
    for params in (first, trained):
        units = np.arange(8) < network.widths[:, :1]  # of the first layer
        outputs = np.arange(10) < examples.num_outputs[:, None]
        w = params["layer_0"]["w"]
        assert not w[~((examples.input_scale != 0)[:, :, None] & units[:, None, :])].any()
        assert not params["layer_1"]["w"][network.depth == 1].any()
        assert not params["layer_2"]["w"][np.broadcast_to(~outputs[:, None, :], (EPISODES, 8, 10))].any()
    assert not trained["layer_0"]["b"][~units].any()
    assert {1, 2} == set(network.depth)


def test_the_loss_is_the_mean_over_the_part_of_the_minibatch_that_counts():
    data = jax.tree.map(jnp.asarray, task().data)

    @jax.jit
    def run(key, count):
        sample_key, init_key, key = jax.random.split(key, 3)
        examples, network = task().sample(sample_key)
        params = task().init(init_key, (examples, network))
        batch = broad_examples.minibatch(key, examples, data[0], BATCH)
        losses = broad_examples.loss(masked_perceptron.apply(params, batch.x, network), batch, examples)
        return task().loss(params, key, data, (examples._replace(batch=count), network)), losses

    for count in (4, 11, BATCH):
        loss, losses = run(jax.random.key(5), jnp.int32(count))
        assert float(loss) == pytest.approx(float(losses[:count].mean()), rel=1e-5)


def test_the_normalized_loss_is_relative_to_the_scale_of_the_episode():
    (examples, network), *_ = episodes()
    config = jax.tree.map(lambda leaf: leaf[0], (examples, network))
    scale = float(broad_examples.scale(config[0]))
    assert float(task().loss_scale(config)) == scale
    found = float(tasks.normalized_loss(task(), jnp.float32(0.5 * scale), config))
    assert found == pytest.approx(np.log(0.52), rel=1e-5)


def test_a_variation_scales_parameters_and_loss():
    varied = tasks.get("broad-perceptron-narrow", sampled=True)
    draw, config = jax.jit(varied.sample)(jax.random.key(0))
    scale = float(broad_examples.scale(config[0]))
    assert float(varied.loss_scale((draw, config))) == pytest.approx(float(draw.loss_scale) * scale)


def test_no_evaluation_task_trains_what_an_episode_could_draw():
    """Neither a data set that is kept for evaluation, nor widths of an evaluation task on a data set of the pool."""
    evaluation = [entry for entry in tasks.TASKS.values() if entry.suite in ("validation", "test", "full", "large")]
    broad = [entry for entry in tasks.TASKS.values() if entry.family is tasks.broad_perceptron]
    assert len(broad) == 4
    names = set(tasks.pool().names)
    training = {entry.source.name for entry in tasks.TASKS.values() if entry.suite == "meta-train" and entry.source}
    assert names - {"gaussian", "clusters"} <= training
    widths = [masked_perceptron.possible_widths(entry.options.get("width", 64)) for entry in broad]
    checked = 0
    for entry in evaluation:
        if entry.source is not None and entry.source.name in names and "hidden_sizes" in entry.options:
            checked += 1
            assert not any(set(entry.options["hidden_sizes"]) <= set(possible) for possible in widths)
        if entry.source is not None and entry.source.name in names:
            assert entry.family is not suites.softmax_regression
    assert checked >= 3


def test_arguments():
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        tasks.broad_perceptron(width=0)
    with pytest.raises(TypeError, match=r"batch_size must be a whole number, at least 1, got 1\.5"):
        tasks.broad_perceptron(batch_size=1.5)
    with pytest.raises(ValueError, match="nothing that batch could vary"):
        tasks.broad_perceptron(variation=tasks.Variation(batch=(0.5, 1.0)))
