"""The contract of every named task, and what holds between the suites."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import data
from meta_train import tasks
from meta_train.tasks.source import Source

EMBEDDED = [name for name in tasks.TASKS if tasks.is_embedded(name)]
get = functools.cache(tasks.get)
# Those whose model and loss stand among the others too, with other sizes or data: traced, and not trained. Of several
# sizes the one that compiles sooner is trained.
ALIKE = (
    "breast-cancer-mlp",
    "diabetes-deep",
    "digits-deep-tanh",
    "digits-mlp-large",
    "digits-mlp-narrow",
    "digits-mlp-sigmoid",
    "digits-mlp-tanh",
    "digits-resnet-small",
    "digits-vit-small",
    "digits-wide",
    "docs-gru",
    "docs-transformer",
    "docs-transformer-deep",
    "docs-transformer-wide",
    "photos-autoencoder",
    "photos-conv",
    "photos-vit",
    "quadratic-large",
)
# Episodes of the broad tasks differ too much for one threshold; their own tests train them.
TRAINED = [name for name in EMBEDDED if name not in ALIKE and tasks.TASKS[name].suite != "broad"]
# Mean first loss in units of the normaliser, where it is far from 1: images are bright, the output is dark.
FIRST = {"digits-autoencoder": (2, 5), "breast-cancer-softmax": (1, 2)}

PARTS = (Source("cifar2k", 8), Source("cifar2k", 16))


@functools.cache
def episodes(name):
    """Two episodes of fifty steps of Adam: losses, and metrics on held-out data before (with two keys) and after."""
    task = get(name)
    tx = optax.adam(1e-2 if jax.tree.leaves(task.data) else 1e-1)

    def run(key, data):
        sample_key, init_key, train_key, other_key = jax.random.split(key, 4)
        config = task.sample(sample_key)
        params = task.init(init_key, config)

        def step(carry, key):
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, key, data, config)
            updates, state = tx.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), loss / task.loss_scale(config)

        keys = jax.random.split(train_key, 50)
        (trained, _), losses = jax.lax.scan(step, (params, tx.init(params)), keys)
        evaluate = lambda args: task.evaluate(*args, data, config)
        many = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, params, trained)
        return losses, jax.lax.map(evaluate, (many, jnp.stack([key, other_key, key])))

    # Loops, which compile sooner than batches. The data are no constants of the program.
    episodes = jax.jit(lambda keys, data: jax.lax.map(functools.partial(run, data=data), keys))
    losses, metrics = jax.tree.map(np.asarray, episodes(jax.random.split(jax.random.key(0), 2), task.data))
    return losses, *({name: values[:, i] for name, values in metrics.items()} for i in range(3))


@pytest.mark.optax_promotion
@pytest.mark.parametrize("name", TRAINED)
def test_fifty_steps_of_adam_lower_the_loss(name):
    task = get(name)
    assert task.name == name
    losses, before, other, after = episodes(name)
    assert losses.dtype == np.float32
    assert np.all(np.isfinite(losses))
    assert losses[0, 0] != losses[1, 0]  # each episode draws its own
    assert np.all(losses[:, -10:].mean(axis=1) < 0.9 * losses[:, 0])
    assert np.all(after["loss"] < 0.95 * before["loss"])
    for metric, values in before.items():  # evaluation draws nothing
        np.testing.assert_array_equal(values, other[metric])
    if "accuracy" in after:
        assert np.all((after["accuracy"] > before["accuracy"]) & (after["accuracy"] <= 1))


@pytest.mark.optax_promotion
@pytest.mark.parametrize("name", [name for name in TRAINED if tasks.TASKS[name].source is not None])
def test_first_losses_are_about_what_tasks_are_normalised_by(name):
    losses, before, _, _ = episodes(name)
    scale = get(name).scale
    low, high = FIRST.get(name, (0.6, 1.7))
    assert low < losses[:, 0].mean() / scale < high
    assert 0.5 < before["loss"].mean() / losses[:, 0].mean() < 2


@pytest.mark.parametrize("name", EMBEDDED)
def test_normalize_is_finite_and_monotone(name):
    task = get(name)
    losses = task.scale * jnp.array([0.0, 1e-30, 1e-3, 0.1, 1.0, 3.0, 1e30, jnp.inf])
    normalized = np.asarray(task.normalize(losses))
    assert np.all(np.isfinite(normalized))
    assert np.all(np.diff(normalized) >= 0)
    assert np.all(np.diff(normalized[2:6]) > 0.04)
    np.testing.assert_array_equal(task.normalize(jnp.nan), normalized[-1])


def _made_up(source):
    """A data set of the form that the source has, without its files."""
    draw = np.random.default_rng(0)
    if source.name in ("names", "tiny_shakespeare", "sklearn_docs"):
        tokens = draw.integers(0, 30, 400).astype(np.int32)
        return data.Text(tokens, tokens, tuple(map(chr, range(30))))
    size = source.size or 28  # that of whole pictures of digits
    shape, classes = {
        "mnist": ((size, size, 1), 10),
        "fashion_mnist": ((size, size, 1), 10),
        "cifar10": ((size, size, 3), 10),
        "cifar2k": ((size, size, 3), 10),
    }.get(source.name, ((7,), None))
    x = draw.random((40, *shape), np.float32)
    y = x[:, 0].astype(np.float32) if classes is None else np.arange(40, dtype=np.int32) % classes
    return data.Dataset(x, y, x, y)


@functools.cache
def _built(name):
    """A task, and the shapes of its parameters; with made-up data where the real ones are files."""
    entry = tasks.TASKS[name]
    if tasks.is_embedded(name):
        task = get(name)
    else:
        task = entry.family(name, _made_up(entry.source), **entry.options)
    key = jax.eval_shape(jax.random.key, 0)
    config = jax.eval_shape(task.sample, key)
    return task, key, config, jax.eval_shape(task.init, key, config)


@pytest.mark.parametrize("name", [name for name in tasks.TASKS if name not in TRAINED])
def test_tasks_that_are_not_trained_fit_the_form_of_their_data(name):
    task, key, config, params = _built(name)
    assert task.name == name
    loss, grads = jax.eval_shape(jax.value_and_grad(task.loss), params, key, task.data, config)
    assert (loss.shape, loss.dtype) == ((), jnp.float32)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    metrics = jax.eval_shape(task.evaluate, params, key, task.data, config)
    assert {value.shape for value in metrics.values()} == {()}
    assert "loss" in metrics


def test_no_data_set_meets_the_same_architecture_in_two_suites():
    """Architectures count as the same if family and shapes of the parameters agree, whatever the activation."""
    suites = collections.defaultdict(set)
    for name, entry in tasks.TASKS.items():
        shapes = tuple(sorted(leaf.shape for leaf in jax.tree.leaves(_built(name)[3])))
        source = "drawn" if entry.source is None else entry.source.name  # of whatever size
        suites[source, entry.family.__name__, shapes].add(entry.suite)
    assert {key: found for key, found in suites.items() if len(found) > 1} == {}


def test_whole_data_sets_are_kept_for_the_test():
    used = collections.defaultdict(set)
    for entry in tasks.TASKS.values():
        if entry.source is not None:
            used[entry.suite].add(entry.source.name)
    only = used["test"] - used["meta-train"] - used["validation"]
    assert only == {"cifar2k", "tiny_shakespeare", "wine", "breast_cancer", "protein", "pol", "yacht"}
    assert "cifar10" not in used["meta-train"] | used["validation"]


def test_the_suite_full_has_the_tasks_on_a_part_of_cifar10_with_the_whole_of_it():
    parts = [name for name in tasks.suite("test") if tasks.TASKS[name].source in PARTS]
    assert len(parts) == 7
    assert [name.replace("cifar2k-", "cifar-") for name in parts] == list(tasks.suite("full"))
    for name in parts:
        part, whole = tasks.TASKS[name], tasks.TASKS[name.replace("cifar2k-", "cifar-")]
        assert (part.family, part.options) == (whole.family, whole.options)
        assert part.source._replace(name="cifar10") == whole.source


@pytest.mark.parametrize("name", EMBEDDED)
def test_every_task_has_a_sampled_form(name):
    """Of the same parameters and losses; what it draws is tested with `Variation`."""
    task, fixed = tasks.get(name, sampled=True), get(name)
    key = jax.eval_shape(jax.random.key, 0)
    config, fixed_config = (jax.eval_shape(of.sample, key) for of in (task, fixed))
    assert jax.tree.structure(config) != jax.tree.structure(fixed_config)
    params, fixed_params = (jax.eval_shape(of.init, key, c) for of, c in ((task, config), (fixed, fixed_config)))
    assert params == fixed_params
    loss = jax.eval_shape(task.loss, params, key, task.data, config)
    assert (loss.shape, loss.dtype) == ((), jnp.float32)


def test_there_are_enough_tasks_and_families_without_any_file():
    assert len(TRAINED) >= 25
    assert len({tasks.TASKS[name].family for name in TRAINED}) >= 12
    for suite in ("meta-train", "validation", "test"):
        assert len({tasks.TASKS[name].family for name in tasks.suite(suite)}) >= 9


def test_large_tasks_have_the_sizes_that_their_names_say():
    sizes = {
        name: sum(leaf.size for leaf in jax.tree.leaves(_params_at_full_size(name))) for name in tasks.suite("large")
    }
    assert sizes == {
        "mnist-mlp-2m": 1_863_690,  # 784·1024 + 1024² + 1024·10 and biases
        "cifar-resnet-370k": 373_130,
        "shakespeare-gru-500k": 527_505,
        "shakespeare-transformer-800k": 812_544,
        "shakespeare-transformer-11m": 10_702_848,
    }
    assert set(tasks.HUGE) == {name for name, size in sizes.items() if size > 5_000_000}


def _params_at_full_size(name):
    """Shapes of the parameters with as many characters as the real text has."""
    entry = tasks.TASKS[name]
    if entry.source.name == "tiny_shakespeare":
        tokens = np.zeros(400, np.int32)
        made_up = data.Text(tokens, tokens, tuple(map(chr, range(65))))
    else:
        made_up = _made_up(entry.source)
    task = entry.family(name, made_up, **entry.options)
    return jax.eval_shape(lambda key: task.init(key, task.sample(key)), jax.eval_shape(jax.random.key, 0))


def test_suites_part_the_tasks():
    suites = [tasks.suite(name) for name in tasks.SUITES]
    assert sorted(name for suite in suites for name in suite) == sorted(tasks.TASKS)
    embedded = [tasks.suite(name, embedded=True) for name in tasks.SUITES]
    assert sorted(name for suite in embedded for name in suite) == sorted(EMBEDDED)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no task 'digit-mlp'. Did you mean 'digits-mlp'\? Choose from digits-mlp, "):
        tasks.get("digit-mlp")
    with pytest.raises(ValueError, match=r"no task 'digit-mlp'"):
        tasks.is_embedded("digit-mlp")
    with pytest.raises(ValueError, match=r"no suite 'train'. Did you mean 'meta-train'\? Choose from meta-train, val"):
        tasks.suite("train")
