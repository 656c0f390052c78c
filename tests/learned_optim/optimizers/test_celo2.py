"""The Celo2 optimizer against the paper's equations, written again in NumPy."""

import itertools
import pathlib
import runpy
import types

import jax
import numpy as np
import optax
import pytest

import learned_optim

_REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
reference = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "celo2_parts.py")))

# In the kernel the two largest dimensions, which have rows and columns, are not the last two, which are a matrix.
SHAPES = {"bias": (4,), "kernel": (5, 2, 4, 3), "scale": (), "w": (5, 3)}


def _theta(hidden_sizes):
    random = np.random.RandomState(0)
    sizes = [30, *hidden_sizes, 1]
    normal = random.standard_normal
    layers = [{"w": normal(shape), "b": normal(shape[1])} for shape in itertools.pairwise(sizes)]
    return {f"linear_{i}" if i else "linear": layer for i, layer in enumerate(layers)}


def _tree(seed):
    random = np.random.RandomState(seed)
    return {name: random.standard_normal(shape) for name, shape in SHAPES.items()}


def _float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


THETA = _theta((8, 8))
GRADS = [_tree(seed) for seed in (2, 3, 4)]
GRADS[0] = jax.tree.map(lambda leaf: 2e3 * leaf, GRADS[0])  # beyond the bound of 1000
PARAMS = [_tree(seed) for seed in (11, 12, 13)]


def _run(tx, params=PARAMS, grads=GRADS):
    """The updates at each step; the parameters are given."""
    update_fn, state, made = jax.jit(tx.update), tx.init(_float32(params[0])), []
    for grad, param in zip(grads, params, strict=True):
        updates, state = update_fn(_float32(grad), state, _float32(param))
        made.append(updates)
    return made


def _assert_equal(made, names=tuple(SHAPES), **options):
    """The library's updates, and those of the published definition with these options."""
    for name in names:
        series = [[tree[name] for tree in trees] for trees in (PARAMS, GRADS)]
        for have, want in zip(made, reference.updates(THETA, *series, **options), strict=True):
            np.testing.assert_allclose(have[name], want, rtol=0, atol=2e-5 * np.max(np.abs(want)))


@pytest.mark.parametrize(
    ("vectors", "newton_schulz_steps", "bias_correction"), [(None, 0, True), (None, 5, True), (20.0, 5, False)]
)
def test_three_steps_equal_the_published_definition(vectors, newton_schulz_steps, bias_correction):
    """Celo2-base, the same with orthogonalized directions, and Celo2 as its authors meta-trained it."""
    shared = {"newton_schulz_steps": newton_schulz_steps, "bias_correction": bias_correction, "step_size": 3e-3}
    optimizer = learned_optim.celo2(vector_step_multiplier=vectors, **shared)
    _assert_equal(_run(optimizer.transform(_float32(THETA))), vectors=vectors, **shared)


@pytest.mark.optax_promotion
def test_the_released_celo2_with_an_embedding():
    """docs/other-weights.md has such lines: AdamW updates vectors and embeddings, at 20 times the rate."""
    rate, decay, celo2 = 1e-3, 0.1, learned_optim.celo2(newton_schulz_steps=5)
    is_adam_s = lambda path, param: param.ndim < 2 or "embed" in jax.tree_util.keystr(path)
    label = lambda path, param: "adamw" if is_adam_s(path, param) else "celo2"
    transforms = {
        "adamw": optax.adamw(20 * rate, b2=0.95, weight_decay=decay),
        "celo2": celo2.transform(_float32(THETA), step_scale=rate / 1e-3, weight_decay=rate * decay),
    }
    rename = lambda trees: [{"embed": tree["w"], "kernel": tree["kernel"], "bias": tree["bias"]} for tree in trees]
    labels = lambda params: jax.tree_util.tree_map_with_path(label, params)
    params, grads = rename(PARAMS), rename(GRADS)
    made = _run(optax.multi_transform(transforms, labels), params, grads)
    for name in ("bias", "embed", "kernel"):
        ps, gs = ([tree[name] for tree in trees] for trees in (params, grads))
        if name == "kernel":
            expected = [-rate * decay * p for p in ps]
            moves = reference.updates(THETA, ps, gs, newton_schulz_steps=5)
        else:
            expected = [-20 * rate * decay * p for p in ps]
            moves = [-20 * rate * d for d in reference.adam(gs)]
        for have, move, decayed in zip(made, moves, expected, strict=True):
            want = move + decayed
            np.testing.assert_allclose(have[name], want, rtol=0, atol=2e-5 * np.max(np.abs(want)))


def test_every_matrix_moves_by_the_step_size_and_adam_by_twenty_times_that():
    made = _run(learned_optim.celo2(step_size=3e-3, newton_schulz_steps=8).transform(_float32(THETA)))
    size = lambda x: np.sqrt(np.mean(np.square(x), axis=(-2, -1)))
    for name in ("kernel", "w"):
        np.testing.assert_allclose(
            [size(updates[name]) for updates in made], 3e-3 * np.ones((3, *SHAPES[name][:-2])), rtol=1e-5
        )
    np.testing.assert_allclose(np.abs(made[0]["bias"]), 20 * 3e-3, rtol=1e-5)
    # The iteration's coefficients bring singular values between .7 and 1.2, up to the normalization that follows.
    for name in ("kernel", "w"):
        values = np.linalg.svd(np.asarray(made[-1][name]), compute_uv=False)
        assert np.all(values.max(axis=-1) / values.min(axis=-1) < 2)


@pytest.mark.parametrize("num_steps", [20, None])
def test_scheduled_steps_are_shares_of_the_size_that_decay(num_steps):
    """Directions are those of the plain optimizer, at any step size."""
    options = {"vector_step_multiplier": None, "newton_schulz_steps": 5}
    schedule = {"matrices": np.log(0.3), "vectors": np.log(0.02), "exponent": 0.7}
    optimizer = learned_optim.celo2(scheduled=True, **options)
    theta = {"network": _float32(THETA), "schedule": _float32(schedule)}
    assert jax.tree.structure(theta) == jax.tree.structure(optimizer.init(jax.random.key(0)))
    made = _run(optimizer.transform(theta, num_steps=num_steps))
    plain = _run(learned_optim.celo2(step_size=1.0, **options).transform(_float32(THETA)))
    for step, (updates, directions, params) in enumerate(zip(made, plain, PARAMS, strict=True)):
        decay = 1.0 - step / num_steps if num_steps else (1.0 + step / 100.0) ** -0.7
        for name, param in params.items():
            fan_in = np.prod(np.shape(param)[:-1])
            size = max(np.sqrt(np.mean(np.square(param))), 0.1 / np.sqrt(fan_in)) if np.ndim(param) > 1 else 0.1
            length = (0.3 if np.ndim(param) > 1 else 0.02) * size * decay
            np.testing.assert_allclose(updates[name], length * directions[name], rtol=2e-5, atol=1e-9)


def test_weights_from_before_there_was_a_schedule_keep_their_description():
    assert "scheduled" not in learned_optim.celo2().spec
    assert learned_optim.celo2(scheduled=True).spec["scheduled"] is True


def test_bad_arguments_are_an_error():
    with pytest.raises(ValueError, match="newton_schulz_steps must be at least 0, got -1"):
        learned_optim.celo2(newton_schulz_steps=-1)
    with pytest.raises(TypeError, match="bias_correction must be True or False, got 1"):
        learned_optim.celo2(bias_correction=1)
    with pytest.raises(TypeError, match="scheduled must be True or False, got 1"):
        learned_optim.celo2(scheduled=1)
    with pytest.raises(ValueError, match="hidden_sizes must be a non-empty sequence"):
        learned_optim.celo2(hidden_sizes=())
