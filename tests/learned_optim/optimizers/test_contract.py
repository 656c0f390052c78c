"""The contract that every architecture faces, at small sizes. A new one needs a golden trajectory.

Compilation is nearly all of the time. So the tests of an architecture share the programs of `run`, and use
`jax.eval_shape` where shapes and dtypes decide. A test with the mark `shared_code` looks at what `learned_optim.base`
and `learned_optim.transformation` do for all architectures: the update of a rule gets lists of float32 arrays, and sees
no trees, wrappers, meshes or dtypes. Such a test compiles the programs of a few architectures only.
"""

import functools
import inspect
import json
import pathlib
import re
import runpy
import types
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

import learned_optim
from learned_optim import base
from learned_optim import optimizers

# Small values of constructor arguments, by the names that all architectures give them.
_SMALL = {"bank_multiplier": 1.0, "hidden_size": 3, "hidden_sizes": (4, 3), "lstm_size": 4, "num_networks": 5}


def _small(constructor):
    known = inspect.signature(constructor).parameters
    return constructor(**{name: value for name, value in _SMALL.items() if name in known})


OPTIMIZERS = {kind: _small(constructor) for kind, constructor in sorted(optimizers.KINDS.items())}

_GOLDENS = pathlib.Path(__file__).parents[2] / "goldens"
goldens = types.SimpleNamespace(**runpy.run_path(str(_GOLDENS / "regenerate.py")))


class _Slots(NamedTuple):
    average: Any  # of gradients
    squares: Any  # sum of squared gradients
    size: Any  # one number for each tensor
    ends: Any  # two numbers for each tensor


def _everything():
    """Simple arithmetic with all that a rule may use: each kind of state, the horizon and the loss."""

    def rule(theta, horizon):
        def update(grads, params, slots, shared, step, loss):
            shared = {"loss": shared["loss"] if loss is None else loss}
            progress = jnp.where(horizon > 0, step / jnp.maximum(horizon, 1.0), 0.1 * step)
            rate = jnp.exp(theta["rate"] - progress) * (1 + jnp.square(shared["loss"]))
            made = [step_of(rate, *tensor) for tensor in zip(grads, params, slots, strict=True)]
            return [update for update, _ in made], [slots for _, slots in made], shared

        def step_of(rate, grad, param, slots):
            ends = slots.ends + jnp.stack([jnp.min(grad), jnp.max(grad)])
            size = slots.size + jnp.mean(jnp.abs(param)) + ends[1] - ends[0]
            new = _Slots(0.5 * slots.average + grad, slots.squares + jnp.square(grad), size, ends)
            return -rate * (new.average + 0.1 * size * param) / (1 + new.squares), new

        two = base.TensorSlot(lambda param: jnp.zeros(2))
        start = lambda params: {"loss": jnp.zeros(())}
        return base.Rule(_Slots(base.momentum, base.zeros, base.number, two), update, start)

    return base.define({"kind": "everything", "feature_version": 1}, lambda key: {"rate": jnp.zeros(())}, rule)


# A momentum alone; numbers of each tensor and matrix products; all that a rule may use.
REPRESENTATIVES = ("learned_momentum", "adaptive_muon", "everything")
_FACED = {**OPTIMIZERS, "everything": _everything()}
shared_code = pytest.mark.parametrize("optimizer", REPRESENTATIVES, indirect=True)


@pytest.fixture(scope="module", params=OPTIMIZERS)
def optimizer(request):
    return _FACED[request.param]


@pytest.fixture(scope="module")
def theta(optimizer):
    return _made(optimizer.spec["kind"])[0]


@pytest.fixture(scope="module")
def tx(optimizer):
    """One object for all tests, so that those with the same shapes share one compiled update."""
    return _made(optimizer.spec["kind"])[1]


@pytest.fixture(scope="module")
def run(optimizer):
    """Like `_run`, with the programs that all tests share: theta and the horizon are arguments of them."""
    return _made(optimizer.spec["kind"])[2]


@functools.cache
def _made(kind):
    theta = goldens.fixed_theta(_FACED[kind])
    return theta, _FACED[kind].transform(theta), Programs(_FACED[kind], theta)


class Programs:
    """An architecture's first state and update, each compiled once for all thetas and horizons."""

    def __init__(self, optimizer, theta):
        transform = lambda theta, num_steps: optimizer.transform(theta, num_steps=num_steps)
        self._theta = theta
        self._init = jax.jit(lambda theta, num_steps, params: transform(theta, num_steps).init(params))
        self._update = jax.jit(
            lambda theta, num_steps, *args, **kwargs: transform(theta, num_steps).update(*args, **kwargs)
        )

    def init(self, params, *, num_steps=0, theta=None):
        return self._init(self._theta if theta is None else theta, np.int32(num_steps), params)

    def update(self, grads, state, params, *, num_steps=0, theta=None, **loss):
        return self._update(self._theta if theta is None else theta, np.int32(num_steps), grads, state, params, **loss)

    def __call__(self, params, grads, *, losses=None, **options):
        """The updates of each gradient in turn, and the last state. A horizon of 0 is an unknown one."""
        state, made = self.init(params, **options), []
        for i, grad in enumerate(grads):
            loss = {} if losses is None else {"value": np.float32(losses[i])}
            updates, state = self.update(grad, state, params, **options, **loss)
            made.append(updates)
        return made, state


def _normal(seed, *shape):
    return jax.device_put(np.asarray(np.random.RandomState(seed).standard_normal(shape), np.float32))


def _tree(seed):
    return {"b": _normal(seed, 3), "w": _normal(seed + 100, 2, 3)}


PARAMS = _tree(0)
GRADS = [_tree(1), _tree(2)]


def _run(tx, params, grads, **extra_args):
    """The updates of each gradient in turn, and the last state; params stay where they are."""
    update, state, made = jax.jit(tx.update), tx.init(params), []
    for grad in grads:
        updates, state = update(grad, state, params, **extra_args)
        made.append(updates)
    return made, state


# One tensor compiles in half the time of two: for what is the same for all tensors.
W = {"w": PARAMS["w"]}
W_GRADS = [{"w": grads["w"]} for grads in GRADS]


def _run_w_alone(tx):
    return _run(tx, W, W_GRADS)[0]


def _equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)


def _close(actual, expected, rtol=1e-5):
    """Leaves agree to rtol of their largest entry: what the order of float32 sums may change."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * float(np.max(np.abs(want), initial=0.0)))


def _per_parameter(slots):
    """The trees among the slots that have the structure of the parameters; the others are vectors."""
    is_tree = lambda node: isinstance(node, dict)
    return [tree for tree in jax.tree.leaves(slots, is_leaf=is_tree) if is_tree(tree)]


def _abstract(tree, dtype):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), tree)


def _avals(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


def _dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


@pytest.mark.optimized
def test_golden_trajectory(request, optimizer, theta):
    golden, name = goldens.read(_GOLDENS / "optimizers.json"), request.node.callspec.id
    assert name in golden, f"no golden yet: run `{goldens.COMMAND}`"
    # Random weights make some paths unstable: the rounding of another processor can move them by 1e-3.
    actual = goldens.trajectory(optimizer, theta, goldens.START)
    goldens.assert_matches(actual, golden[name], name, tolerance=5e-3)


def test_init_gives_float32_that_depend_on_the_key_alone(optimizer):
    init = jax.jit(optimizer.init)
    first, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    assert _dtypes(first) == {"float32"}
    _equal(first, again)
    # Networks are drawn at random. Architectures that learn nothing but hyperparameters start from given values.
    if any(leaf.ndim > 1 for leaf in jax.tree.leaves(first)):
        assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True))


def test_spec_is_json_and_builds_the_same_optimizer_after_save_and_load_bit_for_bit(optimizer, theta, tmp_path):
    """The same theta, and the same program down to each constant."""
    spec = json.loads(json.dumps(optimizer.spec))
    assert optimizers.build(spec).spec == optimizer.spec == spec
    learned_optim.save(tmp_path / "a.safetensors", optimizer, theta)
    loaded, loaded_theta = learned_optim.load(tmp_path / "a.safetensors")
    _equal(loaded_theta, theta)
    assert loaded.spec == spec
    (text, constants), (expected, expected_constants) = _program(loaded, theta), _program(optimizer, theta)
    assert text == expected
    _equal(constants, expected_constants)


def _program(optimizer, theta):
    """Text and constants of the program of a first state and an update; the text without addresses of functions."""

    def first_update(theta, params, grads):
        tx = optimizer.transform(theta, num_steps=10)
        return tx.update(grads, tx.init(params), params, value=1.0)

    made = jax.make_jaxpr(first_update)(theta, PARAMS, GRADS[0])
    return re.sub("0x[0-9a-f]+", "", str(made)), made.consts


def test_its_transformation_is_the_one_that_all_architectures_share(optimizer):
    """Tests with the mark `shared_code` rest on this."""
    shared = base.define({"kind": "any", "feature_version": 1}, optimizer.init, lambda theta, horizon: None)
    assert optimizer.transform.__code__ is shared.transform.__code__


def test_update_traces_once(tx):
    traces = []

    @jax.jit
    def step(params, state):
        traces.append(1)
        updates, state = tx.update(jax.tree.map(jnp.sin, params), state, params)
        return optax.apply_updates(params, updates), state

    carry = (PARAMS, jax.eval_shape(tx.init, PARAMS))
    for _ in range(4):  # shapes, dtypes and weak types decide on another trace
        carry = jax.eval_shape(step, *carry)
    assert len(traces) == 1


DTYPES = pytest.mark.parametrize(
    ("dtype", "grad_dtype"), [("float32", "bfloat16"), ("bfloat16", "bfloat16"), ("bfloat16", "float32")]
)


@DTYPES
def test_updates_have_the_dtype_of_their_parameter_and_state_is_float32(tx, dtype, grad_dtype):
    params, grads = _abstract(PARAMS, dtype), _abstract(GRADS[0], grad_dtype)
    state = jax.eval_shape(tx.init, params)
    assert jax.eval_shape(tx.update, grads, state, params) == (params, state)
    assert _dtypes(state) <= {"float32", "int32"}


def test_the_first_state_of_bfloat16_parameters_is_that_of_the_same_values_in_float32(run):
    params = optax.tree.cast(PARAMS, "bfloat16")
    _equal(run.init(params), run.init(optax.tree.cast(params, "float32")))


@DTYPES
@shared_code
def test_updates_of_other_dtypes_are_those_of_the_same_values_in_float32(tx, run, dtype, grad_dtype):
    params, grads = optax.tree.cast(PARAMS, dtype), optax.tree.cast(GRADS, grad_dtype)
    updates, _ = _run(tx, params, grads)
    same, _ = run(optax.tree.cast(params, "float32"), optax.tree.cast(grads, "float32"))
    _close(optax.tree.cast(updates, "float32"), same, rtol=max(1e-6, float(jnp.finfo(dtype).eps)))


def test_float64_mode_keeps_theta_float32(optimizer):
    with jax.enable_x64(True):
        drawn = jax.eval_shape(optimizer.init, jax.random.key(0))
    assert _dtypes(drawn) == {"float32"}


def test_leaves_of_every_rank_and_none(run):
    shapes = [(), (0, 3), (2, 1, 3), (1, 2, 1, 1, 3)]  # one axis and two are in every other test
    params = {"none": None, "some": [_normal(i, *shape) for i, shape in enumerate(shapes)]}
    grads = {"none": None, "some": [_normal(i + 50, *shape) for i, shape in enumerate(shapes)]}
    (_, updates), _ = run(params, [grads, grads])
    assert updates["none"] is None
    assert [leaf.shape for leaf in updates["some"]] == shapes
    assert all(np.all(np.isfinite(update) & (update != 0)) for update in updates["some"])


@shared_code
def test_none_leaves_change_nothing_for_the_others(tx):
    updates, _ = _run(tx, {**PARAMS, "frozen": None}, [{**grads, "frozen": None} for grads in GRADS])
    _equal(updates, [{**plain, "frozen": None} for plain in _run(tx, PARAMS, GRADS)[0]])


def test_params_may_be_empty(tx):
    state = jax.eval_shape(tx.init, {})
    assert jax.eval_shape(tx.update, {}, state, {}) == ({}, state)


@shared_code
def test_params_may_be_one_array(tx):
    assert _run(tx, {}, [{}, {}])[0] == [{}, {}]
    updates, _ = _run(tx, PARAMS["w"], [grads["w"] for grads in GRADS])
    _equal([{"w": update} for update in updates], _run_w_alone(tx))


@shared_code
def test_unknown_extra_arguments_are_ignored(tx):
    plain = _run(tx, PARAMS, GRADS)
    _equal(_run(tx, PARAMS, GRADS, epoch=3, batch=jnp.ones(4), nothing=None), plain)


def test_the_loss_may_be_a_number_or_an_array_and_missing_later(tx, run):
    _, state = run(PARAMS, GRADS, num_steps=50, losses=[2.5, 2.5])
    from_float = jax.eval_shape(tx.update, GRADS[0], state, PARAMS, value=2.5)
    assert from_float == jax.eval_shape(tx.update, GRADS[0], state, PARAMS, value=jnp.asarray(2.5))
    made = run.update(GRADS[1], state, PARAMS, num_steps=50)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(made))


@shared_code
def test_the_loss_may_be_bfloat16(optimizer, theta):
    tx = optimizer.transform(theta, num_steps=50)
    expected = _run(tx, W, W_GRADS, value=jnp.asarray(2.5))
    _close(_run(tx, W, W_GRADS, value=jnp.asarray(2.5, jnp.bfloat16)), expected)


def test_a_loss_that_is_not_finite_counts_as_the_last_one_that_was(run):
    """So the state stays finite, and if there was none, the loss counts as not given."""
    after = lambda *losses: run(PARAMS, [*GRADS, *GRADS], num_steps=10, losses=losses)
    expected = after(2.0, 1.0, 1.0, 0.5)
    for value in (np.nan, np.inf, -np.inf):
        _equal(after(2.0, 1.0, value, 0.5), expected)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(after(value, 1.0, 0.5, value)))


WRAPPERS = {
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, max_consecutive_errors=5),
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(0.5), tx, optax.scale(2.0)),
    "inject_hyperparams": lambda tx: optax.inject_hyperparams(lambda scale: optax.chain(tx, optax.scale(scale)))(0.5),
    "masked": lambda tx: optax.masked(tx, {"b": False, "w": True}),
    "multi_steps": lambda tx: optax.MultiSteps(tx, every_k_schedule=2),
    "multi_transform": lambda tx: optax.multi_transform({"x": tx, "y": optax.sgd(0.5)}, {"b": "y", "w": "x"}),
}


@pytest.mark.optax_promotion
def test_types_do_not_change_inside_wrappers_of_optax(tx):
    """They branch on conditions, and put other leaves into the trees; `shared_code` looks at the values below."""
    traced_once = optax.GradientTransformationExtraArgs(tx.init, jax.jit(tx.update))
    for wrapper in WRAPPERS.values():
        wrapped = wrapper(traced_once)
        state = jax.eval_shape(wrapped.init, PARAMS)
        updates, after = jax.eval_shape(wrapped.update, GRADS[0], state, PARAMS)
        assert updates == _abstract(PARAMS, "float32")
        assert _avals(after) == _avals(state)


@shared_code
def test_chain(tx):
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(GRADS[0])))
    clipped = jax.tree.map(lambda leaf: leaf * (0.5 / norm), GRADS[0])
    updates, _ = _run(optax.chain(optax.clip_by_global_norm(0.5), tx, optax.scale(2.0)), PARAMS, GRADS[:1])
    _close(updates, jax.tree.map(lambda leaf: 2.0 * leaf, _run(tx, PARAMS, [clipped])[0]))


@shared_code
def test_masked(tx):
    updates, _ = _run(optax.masked(tx, {"b": False, "w": True}), PARAMS, GRADS)
    _close([{"w": u["w"]} for u in updates], _run_w_alone(tx))
    _equal([u["b"] for u in updates], [grads["b"] for grads in GRADS])


@shared_code
def test_multi_transform(tx):
    both = optax.multi_transform({"learned": tx, "sgd": optax.sgd(0.5)}, {"b": "sgd", "w": "learned"})
    updates, _ = _run(both, PARAMS, GRADS)
    _close([{"w": u["w"]} for u in updates], _run_w_alone(tx))
    _equal([u["b"] for u in updates], [-0.5 * grads["b"] for grads in GRADS])


@shared_code
@pytest.mark.optax_promotion
def test_multi_steps(tx):
    first, second = W_GRADS
    updates, _ = _run(optax.MultiSteps(tx, every_k_schedule=2), W, [first, second, second, second])
    mean = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    expected, _ = _run(tx, W, [mean, second])
    _equal(updates[::2], jax.tree.map(np.zeros_like, expected))
    _close(updates[1::2], expected)


@shared_code
@pytest.mark.optax_promotion
def test_inject_hyperparams(tx):
    scaled = optax.inject_hyperparams(lambda scale: optax.chain(tx, optax.scale(scale)))(scale=0.5)
    update = jax.jit(scaled.update)
    plain = _run_w_alone(tx)
    updates, state = update(W_GRADS[0], scaled.init(W), W)
    _close(updates, jax.tree.map(lambda leaf: 0.5 * leaf, plain[0]))
    state.hyperparams["scale"] = jnp.asarray(3.0)
    updates, state = update(W_GRADS[1], state, W)
    _close(updates, jax.tree.map(lambda leaf: 3.0 * leaf, plain[1]))


@shared_code
@pytest.mark.optax_promotion
def test_apply_if_finite_skips_a_nan_gradient(tx):
    finite = optax.apply_if_finite(tx, max_consecutive_errors=5)
    bad = {**GRADS[1], "w": GRADS[1]["w"].at[0, 1].set(jnp.nan)}
    _, before = _run(finite, PARAMS, GRADS[:1])
    updates, after = _run(finite, PARAMS, [GRADS[0], bad])
    _equal(updates[1], jax.tree.map(np.zeros_like, PARAMS))
    _equal(after.inner_state, before.inner_state)
    assert int(after.total_notfinite) == 1


def test_a_nan_gradient_gives_nan_updates_for_its_tensor(run):
    """And for no other, unless the architecture mixes tensors: then another's gradient changes what this one gets."""
    bad = {**GRADS[0], "w": GRADS[0]["w"].at[0, 1].set(jnp.nan)}
    usual, other, updates = (run(PARAMS, [g])[0][0] for g in (GRADS[0], {**GRADS[0], "w": GRADS[1]["w"]}, bad))
    assert np.isnan(updates["w"][0, 1])
    mixes = np.any(usual["b"] != other["b"])
    assert mixes or np.array_equal(updates["b"], usual["b"])


def test_map_params_finds_the_slots(tx, run):
    state = run.init(PARAMS)
    fits = lambda leaf, param: leaf.shape[: param.ndim] == param.shape
    mapped = optax.tree.map_params(tx, fits, state, PARAMS, transform_non_params=lambda leaf: "other")
    found = jax.tree.leaves(mapped)
    assert len(found) == len(jax.tree.leaves(state))
    assert set(found) <= {True, "other"} and found.count(True) >= len(PARAMS) * len(_per_parameter(state.slots))


def _scaled(tree, scale):
    return jax.tree.map(lambda leaf: np.asarray(leaf) * np.float32(scale), tree)


@pytest.mark.parametrize("scaled", ["gradients", "parameters", "loss"])
def test_values_of_any_scale_give_finite_updates(run, scaled):
    for scale in (0.0, 1e-20, 1e-10, 1e10, 1e20):
        params = _scaled(PARAMS, scale) if scaled == "parameters" else PARAMS
        grads = _scaled(GRADS, scale) if scaled == "gradients" else GRADS
        losses = [3.0 * scale if scaled == "loss" else 1.0] * 4
        made = run(params, [*grads, *grads], losses=losses)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(made)), f"scale {scale}"


@pytest.mark.parametrize("num_steps", [0, 2])
def test_a_horizon_may_be_traced_unknown_and_passed(run, num_steps):
    """Four updates, the horizon passed half-way; 0 means that it is not known."""
    updates, _ = run(PARAMS, [*GRADS, *GRADS], num_steps=num_steps)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(updates))


@pytest.mark.parametrize("num_steps", [None, 2])
@shared_code
def test_a_horizon_that_is_a_number_gives_what_a_traced_one_does(optimizer, theta, run, num_steps):
    grads = [*GRADS, *GRADS]
    updates, _ = _run(optimizer.transform(theta, num_steps=num_steps), PARAMS, grads)
    _close(run(PARAMS, grads, num_steps=num_steps or 0)[0], updates, rtol=1e-4)  # XLA folds what is constant


@shared_code
@pytest.mark.parametrize("num_steps", [0, -3, np.int32(0)])
def test_a_horizon_below_one_is_an_error(optimizer, theta, num_steps):
    with pytest.raises(ValueError, match=f"num_steps must be at least 1, got {int(num_steps)}. It is"):
        optimizer.transform(theta, num_steps=num_steps)


@shared_code
def test_step_scale_and_weight_decay(optimizer, theta, tx):
    """`scale(count) * (update - decay * param)`, and the decay only where the mask says so."""
    schedule = lambda count: jnp.where(count == 0, 0.5, 0.05)
    mask = {"b": False, "w": True}
    made = optimizer.transform(theta, step_scale=schedule, weight_decay=0.2, mask=mask)
    updates, _ = _run(made, PARAMS, GRADS)
    for scale, have, plain in zip((0.5, 0.05), updates, _run(tx, PARAMS, GRADS)[0], strict=True):
        expected = {"b": scale * plain["b"], "w": scale * (plain["w"] - 0.2 * PARAMS["w"])}
        _close(have, expected)
    constant = _run_w_alone(optimizer.transform(theta, step_scale=0.5))
    _close(constant, jax.tree.map(lambda leaf: 0.5 * leaf, _run_w_alone(tx)))


@shared_code
def test_a_mask_without_weight_decay_is_an_error(optimizer, theta):
    with pytest.raises(ValueError, match="mask says which parameters decay, so it needs weight_decay"):
        optimizer.transform(theta, mask={"b": False, "w": True})


def test_momenta_may_be_rounded_to_bfloat16(optimizer, theta, run):
    """Those slots shrink and no others, and the updates stay near those of float32 moments."""
    made = optimizer.transform(theta, moment_dtype=jnp.bfloat16)
    stored = jax.eval_shape(made.init, PARAMS)
    assert jax.eval_shape(made.update, GRADS[0], stored, PARAMS) == (_abstract(PARAMS, "float32"), stored)
    assert _dtypes(stored.slots) <= {"bfloat16", "float32"}
    _, state = run(PARAMS, GRADS[:1])
    assert jax.tree.map(jnp.shape, stored) == jax.tree.map(jnp.shape, state)
    rounded = jax.tree.map(lambda leaf, like: np.asarray(leaf).astype(like.dtype).astype(leaf.dtype), state, stored)
    _close(run.update(GRADS[1], rounded, PARAMS)[0], run(PARAMS, GRADS)[0][1], rtol=0.1)


@shared_code
def test_momenta_are_stored_in_bfloat16(optimizer, theta, run):
    """One update, and a second from its state: that of the rounded state in float32."""
    (_, updates), state = _run(optimizer.transform(theta, moment_dtype=jnp.bfloat16), PARAMS, GRADS)
    _, first = run(PARAMS, GRADS[:1])
    stored = jax.eval_shape(optimizer.transform(theta, moment_dtype=jnp.bfloat16).init, PARAMS)
    assert _dtypes(state.slots) == _dtypes(stored.slots) and "bfloat16" in _dtypes(state.slots)
    rounded = jax.tree.map(lambda leaf, like: np.asarray(leaf).astype(like.dtype).astype(leaf.dtype), first, stored)
    _close(updates, run.update(GRADS[1], rounded, PARAMS)[0], rtol=1e-4)


def test_sharded_parameters_keep_their_sharding(tx, run):
    """On two devices: whatever has the shape of a parameter is laid out as it is, in the state and in the update."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("x",))
    layout = {"b": jax.P(None), "w": jax.P("x", None)}
    place = lambda tree: {k: jax.device_put(v, jax.sharding.NamedSharding(mesh, layout[k])) for k, v in tree.items()}
    params = place(PARAMS)
    state = tx.init(params)
    updates, state_after = run.update(place(GRADS[0]), state, params)
    _close(updates, run(PARAMS, GRADS[:1])[0][0])
    for tree in (*_per_parameter(state.slots), *_per_parameter(state_after.slots), updates):
        for path, leaf in jax.tree.leaves_with_path(tree):
            param = params[path[-1].key]
            if leaf.shape[: param.ndim] == param.shape:
                assert leaf.sharding.is_equivalent_to(
                    jax.sharding.NamedSharding(mesh, layout[path[-1].key]), leaf.ndim
                ), jax.tree_util.keystr(path)


def test_no_buffer_of_the_state_is_there_twice_or_belongs_to_another(theta, tx, run):
    """So that the state may be donated: neither at first nor after an update is it theta, parameters or gradients."""
    for state in (tx.init(PARAMS), run(PARAMS, GRADS[:1])[1]):
        leaves = jax.tree.leaves((state, theta, PARAMS, GRADS))
        buffers = [leaf.unsafe_buffer_pointer() for leaf in leaves if leaf.size]
        assert len(set(buffers)) == len(buffers)


@shared_code
def test_the_state_may_be_donated(tx):
    """Theta and the parameters are whole afterwards."""
    update = jax.jit(tx.update, donate_argnums=1)
    for _ in range(2):
        state = tx.init(PARAMS)
        for grads in GRADS:
            updates, state = update(grads, state, PARAMS)
    _equal(updates, _run(tx, PARAMS, GRADS)[0][1])


def test_state_survives_an_orbax_round_trip(tx, run, tmp_path):
    """Bit for bit, with the types that decide on another trace."""
    _, state = run(PARAMS, GRADS[:1])
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", jax.eval_shape(tx.init, PARAMS))
    _equal(restored, state)
    assert _avals(restored) == _avals(state)


def test_permuting_coordinates_permutes_the_updates(run):
    """Along any axis of a tensor; the order of coordinates carries no meaning."""
    permute = lambda tree: {"b": tree["b"][np.array([2, 0, 1])], "w": tree["w"][::-1][:, np.array([1, 2, 0])]}
    updates, _ = run(permute(PARAMS), [permute(grads) for grads in GRADS])
    _close(updates, [permute(u) for u in run(PARAMS, GRADS)[0]])


def test_vmap_over_theta_and_params_equals_a_loop(optimizer, run):
    thetas = [goldens.fixed_theta(optimizer, seed) for seed in (3, 4)]
    many_params = [_tree(5), _tree(6)]
    stack = lambda trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)

    def two_updates(theta, params):
        tx = optimizer.transform(theta)
        step = lambda state, grads: tx.update(grads, state, params)[::-1]
        return jax.lax.scan(step, tx.init(params), stack(GRADS))[1]

    loop = [stack(run(params, GRADS, theta=theta)[0]) for theta, params in zip(thetas, many_params, strict=True)]
    _close(jax.jit(jax.vmap(two_updates))(stack(thetas), stack(many_params)), stack(loop))


@shared_code
def test_update_without_params_is_an_error(tx):
    with pytest.raises(ValueError, match=r"params=None: call tx\.update\(grads, state, params\)"):
        tx.update(GRADS[0], tx.init(PARAMS))


@shared_code
@pytest.mark.parametrize("grads", [{"b": GRADS[0]["b"]}, {**GRADS[0], "w": None}, list(GRADS[0].values())])
def test_gradients_of_another_structure_are_an_error(tx, grads):
    with pytest.raises(ValueError, match="gradients and params must have the same structure"):
        tx.update(grads, tx.init(PARAMS), PARAMS)


@shared_code
@pytest.mark.parametrize("shape", [(3, 2), (1, 3), (3,), (7, 2, 3)])
def test_gradients_of_another_shape_are_an_error(tx, shape):
    with pytest.raises(ValueError, match=r"'w'.*gradient has shape.*the parameter \(2, 3\)"):
        tx.update({**GRADS[0], "w": jnp.ones(shape)}, tx.init(PARAMS), PARAMS)


@shared_code
@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64"])
def test_parameters_that_are_not_real_floats_are_an_error(tx, dtype):
    with pytest.raises(TypeError, match=rf"params\['index'\] has dtype {dtype}.*Put None in its place"):
        tx.init({**PARAMS, "index": jnp.zeros(3, dtype)})


@shared_code
def test_theta_of_other_sizes_or_another_architecture_is_an_error(optimizer, theta):
    doubled = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), theta)
    others = [goldens.fixed_theta(other) for other in OPTIMIZERS.values() if other is not optimizer]
    for wrong in (doubled, {}, *others):
        with pytest.raises(ValueError, match=rf"theta must come from the init of this '{optimizer.spec['kind']}'"):
            optimizer.transform(wrong)


def test_every_constructor_is_exported():
    """`learned_optim` exports each architecture of the registry by name, for readers and for type checkers."""
    for kind, constructor in optimizers.KINDS.items():
        assert getattr(learned_optim, kind, None) is constructor, f"import {kind} in learned_optim/__init__.py"
        assert kind in learned_optim.__all__, f"add {kind} to __all__ in learned_optim/__init__.py"


def test_no_file_but_the_registry_and_the_exports_names_the_architectures_one_by_one():
    """An architecture is a file, an entry in the registry and an export. No other file has to list architectures."""
    root = pathlib.Path(__file__).parents[3]
    lists = {root / "learned_optim" / "__init__.py", root / "learned_optim" / "optimizers" / "__init__.py"}
    count = lambda path: sum(
        bool(re.search(rf"\b{kind}\b", path.read_text(encoding="utf-8"))) for kind in optimizers.KINDS
    )
    assert {count(path) for path in lists} == {len(optimizers.KINDS)}
    rooms = ("learned_optim", "meta_train", "benchmarks", "tests")
    sources = [path for room in rooms for path in (root / room).rglob("*.py")]
    assert len(sources) > 50
    assert {path for path in sources if count(path) > len(optimizers.KINDS) // 2} == lists
