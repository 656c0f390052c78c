"""The contract that every architecture faces as part of a JAX program: traces, shapes alone, dtypes, meshes, debugging.

Shared with `test_contract.py`: the architectures at small sizes, their theta and the small problem.
"""

import contextlib
import functools
import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from learned_optim import optimizers

contract = types.SimpleNamespace(**runpy.run_path(str(pathlib.Path(__file__).parent / "test_contract.py")))
optimizer, theta, tx = contract.optimizer, contract.theta, contract.tx
shared_code = contract.shared_code
PARAMS, GRADS = contract.PARAMS, contract.GRADS

# Layouts on two axes: rows, columns and both of a matrix, a sharded axis of size 2 along which factored moments have
# size 1, a convolution kernel, an attention kernel of three axes, a vector and a number.
LAYOUTS = {
    "attention": ((4, 2, 6), ("x", "y", None)),
    "both": ((2, 6), ("x", "y")),
    "columns": ((6, 4), (None, "x")),
    "kernel": ((3, 3, 2, 4), (None, None, "y", "x")),
    "number": ((), ()),
    "rows": ((4, 3), ("x", None)),
    "vector": ((4,), ("x",)),
}


def _tree(seed):
    random = np.random.RandomState(seed)
    return {
        k: jax.device_put(np.asarray(random.standard_normal(shape), np.float32)) for k, (shape, _) in LAYOUTS.items()
    }


def _place(tree, mesh):
    return {k: jax.device_put(v, jax.NamedSharding(mesh, jax.P(*LAYOUTS[k][1]))) for k, v in tree.items()}


def _shapes(tree):
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def test_it_may_be_built_and_used_first_inside_a_trace(optimizer, theta):
    """And kept: what was built in a trace that has ended works as any other."""
    kept = []

    def start(params):
        kept.append(optimizer.transform(theta, num_steps=10))
        return kept[-1].init(params)

    first = jax.eval_shape(start, PARAMS)
    assert first == jax.eval_shape(optimizer.transform(theta, num_steps=10).init, PARAMS)
    assert jax.eval_shape(kept[0].update, GRADS[0], first, PARAMS) == (_shapes(PARAMS), first)


@shared_code
def test_what_was_built_inside_a_trace_computes_the_same(optimizer, theta):
    start = jax.jit(lambda params: optimizer.transform(theta, num_steps=10).init(params))
    contract._equal(start(PARAMS), jax.jit(optimizer.transform(theta, num_steps=10).init)(PARAMS))


def test_theta_may_be_numpy(optimizer, theta):
    made = optimizer.transform(jax.tree.map(np.asarray, theta))
    state = jax.eval_shape(made.init, PARAMS)
    assert jax.eval_shape(made.update, GRADS[0], state, PARAMS) == (_shapes(PARAMS), state)


def test_init_of_shapes_gives_shapes(tx):
    expected = jax.eval_shape(tx.init, PARAMS)
    contract._equal(tx.init(_shapes(PARAMS)), expected)
    contract._equal(jax.eval_shape(tx.init, _shapes(PARAMS)), expected)


@pytest.mark.parametrize("dtype", ["float16", "float64"])  # the contract looks at the others
def test_shapes_and_dtypes_stay_what_they_are(optimizer, theta, dtype):
    """Of the state from init to update, and of updates and parameters."""
    with jax.enable_x64(dtype == "float64"):
        tx = optimizer.transform(theta)
        params = _shapes(optax.tree.cast(PARAMS, dtype))
        state = jax.eval_shape(tx.init, params)
        updates, after = jax.eval_shape(tx.update, params, state, params)
    assert updates == params
    assert after == state
    assert contract._dtypes(state) <= {"float32", "int32"}


def test_parameters_beyond_two_to_the_31_are_only_larger(optimizer, theta):
    params = {"vector": jax.ShapeDtypeStruct((5,), jnp.float32), "w": jax.ShapeDtypeStruct((2**16, 2**16), jnp.float32)}
    tx = optimizer.transform(theta)
    state = jax.eval_shape(tx.init, params)
    updates, after = jax.eval_shape(tx.update, params, state, params)
    assert updates == params and after == state


def test_sharding_annotations_of_the_parameters_fit_the_state(tx):
    """`optax.tree_map_params` puts each parameter's sharding on what it says belongs to it, and all of it divides."""
    mesh = jax.make_mesh((2, 1), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    params = _place(_tree(0), mesh)
    state = jax.eval_shape(tx.init, params)
    shardings = optax.tree.map_params(
        tx,
        lambda leaf, param: param.sharding,
        state,
        params,
        transform_non_params=lambda leaf: jax.NamedSharding(mesh, jax.P()),
    )
    placed = jax.jit(tx.init, out_shardings=shardings)(params)
    for slot in contract._per_parameter(placed.slots):
        assert all(slot[k].sharding.is_equivalent_to(v.sharding, slot[k].ndim) for k, v in params.items())


def _explicit_mesh():
    return jax.make_mesh((2, 1), ("x", "y"), axis_types=(jax.sharding.AxisType.Explicit,) * 2)


def test_meshes_with_explicit_axes_settle_all_types(tx):
    """State and updates lie as the parameters do, from init on; what belongs to no parameter is on all devices."""
    mesh = _explicit_mesh()
    with jax.set_mesh(mesh):
        params = _place(_tree(0), mesh)
        state = jax.eval_shape(tx.init, params)
        updates, after = jax.eval_shape(tx.update, params, state, params)
        assert _types(updates) == _types(params)
        assert _types(after) == _types(state)


@pytest.mark.parametrize("context", [True, False], ids=["set_mesh", "arrays alone"])
@shared_code
def test_a_state_on_a_mesh_with_explicit_axes_has_the_types_of_its_trace(tx, context):
    """Elsewhere than in `jax.set_mesh`, a program without arguments knows no mesh, as with Adam."""
    mesh = _explicit_mesh()
    with jax.set_mesh(mesh) if context else contextlib.nullcontext():
        params = _place(_tree(0), mesh)
        state = tx.init(params)
        updates, after = jax.eval_shape(tx.update, params, state, params)
        assert _types(updates) == _types(params)
        assert _types(after) == _types(state)
        if context:
            assert _types(jax.eval_shape(tx.init, params)) == _types(state)


def _types(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding.spec), tree)


@shared_code
def test_meshes_with_explicit_axes_change_no_update(tx):
    mesh = _explicit_mesh()
    some = lambda seed: {name: _tree(seed)[name] for name in ("both", "kernel", "vector")}
    expected, _ = contract._run(tx, some(0), [some(1)])
    with jax.set_mesh(mesh):
        updates, _ = contract._run(tx, _place(some(0), mesh), [_place(some(1), mesh)])
    contract._close(updates, expected, rtol=1e-4)


@shared_code
def test_hyperparameters_may_be_injected(optimizer, theta):
    """All of them, or none; each then is an array in the state."""
    transform = functools.partial(optimizer.transform, theta)
    with jax.numpy_dtype_promotion("standard"):
        bare = optax.inject_hyperparams(transform)()
        assert bare.init(PARAMS).hyperparams == {}
        tx = optax.inject_hyperparams(transform)(num_steps=10, step_scale=0.5, weight_decay=1e-3)
        state = tx.init(PARAMS)
        updates, after = jax.eval_shape(tx.update, GRADS[0], state, PARAMS)
    assert set(state.hyperparams) == {"num_steps", "step_scale", "weight_decay"}
    assert updates == _shapes(PARAMS)
    assert _shapes(after) == _shapes(state)


def test_debugging_modes_find_nothing(tx):
    """No operation gives NaN where gradients and parameters vanish, and no array is broadcast to another rank."""
    params = {"b": jnp.zeros(3), "n": jnp.zeros(()), "w": jnp.zeros((130, 2))}
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(lambda params: tx.update(params, tx.init(params), params), params)
    del params["b"]  # each operation of each shape is compiled; the number is the harder case
    with jax.debug_nans(True):
        updates, _ = tx.update(params, tx.init(params), params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(updates))


@shared_code
@pytest.mark.parametrize(("leaf", "what"), [("relu", "is 'relu'"), (jnp.tanh, "is <"), (object(), "is <object")])
def test_leaves_that_are_no_arrays_are_named_in_the_error(tx, leaf, what):
    with pytest.raises(TypeError, match=rf"params\['activation'\] {what}.*Put None in its place"):
        tx.init({**PARAMS, "activation": leaf})


@shared_code
def test_the_advice_for_leaves_that_are_no_real_floats_works(tx):
    """The error says to put None in their place."""
    model = {**PARAMS, "steps": jnp.asarray(3), "activation": jnp.tanh}
    is_float = lambda leaf: isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
    params = jax.tree.map(lambda leaf: leaf if is_float(leaf) else None, model)
    grads = jax.grad(lambda params: jnp.sum(params["w"] ** 2) + jnp.sum(params["b"]))(params)
    updates, _ = contract._run(tx, params, [grads])
    assert updates[0]["steps"] is None and updates[0]["w"].shape == (2, 3)
    assert optax.apply_updates(params, updates[0])["activation"] is None


@shared_code
@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "complex64", "bool", "float23"])
def test_a_moment_dtype_that_is_not_float32_or_bfloat16_is_an_error(optimizer, theta, dtype):
    with pytest.raises(TypeError, match=f"moment_dtype must be jnp.float32, jnp.bfloat16 or None.*got '{dtype}'"):
        optimizer.transform(theta, moment_dtype=dtype)


@shared_code
def test_moment_dtype_none_is_float32(optimizer, theta):
    made = optimizer.transform(theta, moment_dtype=None)
    assert contract._dtypes(jax.eval_shape(made.init, PARAMS)) <= {"float32", "int32"}


@shared_code
@pytest.mark.parametrize("num_steps", [np.nan, np.inf, 0.5, 300.0, "300", True, np.ones(2)])
def test_a_horizon_that_is_not_a_whole_number_is_an_error(optimizer, theta, num_steps):
    with pytest.raises(TypeError, match=r"num_steps must be a whole number, at least 1, got .*round it, or pass None"):
        optimizer.transform(theta, num_steps=num_steps)


@shared_code
@pytest.mark.parametrize("num_steps", [2**31, 10**12, np.int64(7), np.uint8(7)])
def test_a_horizon_may_be_any_whole_number(optimizer, theta, num_steps):
    made = optimizer.transform(theta, num_steps=num_steps)
    state = made.init(_shapes(PARAMS))
    assert jax.eval_shape(made.update, PARAMS, state, PARAMS)[1] == state


def test_numbers_of_numpy_are_numbers(optimizer, theta, tmp_path):
    """As arguments of a constructor: the optimizer is the same, and can be saved."""
    as_numpy = lambda value: value if isinstance(value, (bool, str, type(None))) else np.asarray(value)[()]
    arguments = {name: as_numpy(value) for name, value in optimizer.spec.items()}
    kind, _ = arguments.pop("kind"), arguments.pop("feature_version")
    made = optimizers.KINDS[kind](**arguments)
    assert made.spec == optimizer.spec
    learned_optim.save(tmp_path / "a.safetensors", made, theta)
    assert learned_optim.load(tmp_path / "a.safetensors")[0].spec == optimizer.spec


@pytest.mark.parametrize("wrong", ["3", np.nan, None, [0.5]])
def test_arguments_of_a_constructor_that_are_no_numbers_are_an_error(optimizer, wrong):
    numbers = [k for k, v in optimizer.spec.items() if isinstance(v, (int, float)) and not isinstance(v, bool)]
    for name in numbers:
        if name == "feature_version" or (name, wrong) == ("vector_step_multiplier", None):
            continue
        with pytest.raises((TypeError, ValueError), match=f"{name} must be a"):
            optimizers.KINDS[optimizer.spec["kind"]](**{name: wrong})


def test_a_loop_inside_shard_map_carries_the_state(tx):
    """Each device updates its part; constants in the first state have the type of what differs between devices."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=jax.P("x"), out_specs=jax.P("x"))
    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(params, state, params, value=1.0)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), None, length=2)[0][0]

    params = {"b": jax.ShapeDtypeStruct((4,), jnp.float32), "w": jax.ShapeDtypeStruct((6, 2), jnp.float32)}
    assert jax.eval_shape(run, params) == params


@shared_code
def test_a_state_of_other_parameters_is_an_error(tx):
    """Broadcasting would hide the mistake, and change the shape of the state."""
    smaller = {"b": jnp.ones(1), "w": jnp.ones((1, 3))}
    state, other = tx.init(smaller), tx.init({"w": PARAMS["w"]})
    if any(np.size(leaf) > 1 for leaf in jax.tree.leaves(state)):  # learned_sgd keeps nothing of a parameter
        with pytest.raises(ValueError, match=r"state was made for other parameters: an array of it should have"):
            tx.update(GRADS[0], state, PARAMS)
        with pytest.raises(ValueError, match=r"state was made (by another optimizer or )?for other parameters"):
            tx.update(GRADS[0], other, PARAMS)
    for wrong in (None, optax.adam(1e-3).init(PARAMS)):
        with pytest.raises(ValueError, match=r"state was made by another optimizer.*Call tx\.init\(params\)"):
            tx.update(GRADS[0], wrong, PARAMS)


@shared_code
@pytest.mark.parametrize(
    ("value", "message"),
    [(jnp.ones(1), r"a scalar loss, got an array of shape \(1,\)"), ("a", "the loss, a number"), (1j, "a real loss")],
)
def test_a_loss_that_is_no_real_scalar_is_an_error(tx, value, message):
    with pytest.raises((TypeError, ValueError), match=f"value must be {message}"):
        tx.update(GRADS[0], tx.init(PARAMS), PARAMS, value=value)


@shared_code
@pytest.mark.parametrize("dtype", ["int32", "complex64", jax.dtypes.float0])
def test_gradients_that_are_no_real_floats_are_an_error(tx, dtype):
    wrong = np.zeros((2, 3), dtype)
    with pytest.raises(TypeError, match=r"real floating-point array: at \['w'\] it is of .*Differentiate a real loss"):
        tx.update({**GRADS[0], "w": wrong}, tx.init(PARAMS), PARAMS)
