"""The optimizer with Muon's directions and controlled step sizes against its definition, written again in NumPy."""

import math
import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from learned_optim.optimizers.adaptive_muon import TensorFeatures

_REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
adam_parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "adam_parts.py")))
control_parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "control_parts.py")))
muon_parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "muon_parts.py")))

# "large" has more coordinates than are sampled, and three blocks of rows.
SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "large": (90, 70), "long": (5000,), "scale": (), "w": (3, 5)}


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


def _float32(values):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), values)


def _theta(scale=0.2):
    """Weights that are all non-zero and keep log step sizes, log decay and directions inside of their bounds."""
    random = np.random.RandomState(0)
    normal = lambda *shape: scale * random.standard_normal(shape)
    return {
        "direction": {"constant": normal(3) + np.array([0.7, 0, 0]), "lookahead": -1.5 + normal(), "slope": normal(3)},
        "control": {
            "first": np.log(0.1) + normal(2),
            "rates": np.log([1.5, 0.3]) + normal(2),
            "gain": normal(),
            "bias": 0.3 + normal(),
            "onset": np.log(10.0) + normal(),
        },
        "step": normal(12),
        "decay": {"base": np.log(0.05) + normal(), "skip": normal(12)},
        "unknown_horizon": {"exponent": 0.7, "progress": np.array([0.2, -0.3])},
    }


def _defined_run(theta, grads, params, num_steps):
    """The updates of all tensors at successive gradients, and log(D / initial D), in float64."""
    x, first_sizes = dict(params), {name: adam_parts.size(param) for name, param in params.items()}
    states = {name: control_parts.begin(theta["control"], param) for name, param in params.items()}
    lookahead = 1 / (1 + np.exp(-theta["direction"]["lookahead"]))
    made, growths = [], []
    for t in range(len(grads)):
        unknown = theta["unknown_horizon"]
        (position, length, *_, known), gamma = adam_parts.progress(t, num_steps, unknown["progress"])
        gamma = gamma if known else (1 + t / 100) ** -unknown["exponent"]
        updates = {}
        for name, p in x.items():
            candidates, observed = muon_parts.directions([grad[name] for grad in grads[: t + 1]], lookahead, 32)
            states[name], signal = control_parts.advance(theta["control"], states[name], grads[t][name], p)
            expansion = np.clip(np.log(adam_parts.size(p) / first_sizes[name]), -5, 5)
            c = [position, np.exp(-t / 20), length, np.log(gamma) / 2, known, *observed, signal]
            c = np.array([*c, states[name].growth / 2, expansion, *muon_parts.shape_features(p.shape)])
            weights = theta["direction"]["constant"] + position * theta["direction"]["slope"]
            direction = np.clip(sum(w * each for w, each in zip(weights, candidates, strict=True)), -8, 8)
            if p.ndim > 1:
                omega = np.exp(theta["decay"]["base"] + np.clip(c @ theta["decay"]["skip"], -5, 5))
                direction = direction + omega * p / first_sizes[name]
            step_size = states[name].distance * np.exp(np.clip(c @ theta["step"], -5, 5)) * gamma
            updates[name] = -step_size * direction
        made.append(updates)
        growths.append([states[name].growth for name in sorted(x)])
        x = {name: x[name] + updates[name] for name in x}
    return made, growths


def _run(tx, params, grads):
    """The updates of a transformation at successive gradients, and log(D / initial D) of each tensor."""
    update, state, made, growths = jax.jit(tx.update), tx.init(params), [], []
    for grad in grads:
        updates, state = update(grad, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        made.append(updates)
        growths.append(state.slots.control.growth)
    return made, growths


def _assert_close(actual, expected, rtol):
    """Leaves agree to rtol of their largest entry."""
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * np.max(np.abs(want)))


@pytest.mark.parametrize("num_steps", [400, None, 3])
def test_five_steps_equal_the_definition(num_steps):
    """The scale of the gradients falls from 1 to 1e-4; the horizon of 3 is passed."""
    theta, params = _theta(), _tree(1)
    grads = [_tree(seed, 10.0 ** (2 - seed)) for seed in range(2, 7)]
    tx = learned_optim.adaptive_muon().transform(_float32(theta), num_steps=num_steps)
    made, growths = _run(tx, _float32(params), [_float32(grad) for grad in grads])
    expected, expected_growths = _defined_run(theta, grads, params, num_steps)
    _assert_close(made, expected, rtol=3e-4)
    np.testing.assert_allclose(growths, expected_growths, rtol=0, atol=1e-5)


def test_thirty_steps_equal_the_definition_while_step_sizes_rise_and_fall():
    """The gradients agree for ten steps and then point back."""
    theta, params, random = _theta(0.05), _tree(1), np.random.RandomState(3)
    draw = lambda sign: {name: sign + 0.3 * random.standard_normal(x.shape) for name, x in params.items()}
    grads = [draw(1.0 if step < 10 else -2.0) for step in range(30)]
    tx = learned_optim.adaptive_muon().transform(_float32(theta), num_steps=1000)
    made, growths = _run(tx, _float32(params), [_float32(grad) for grad in grads])
    expected, expected_growths = _defined_run(theta, grads, params, 1000)
    changes = np.diff(expected_growths, axis=0)
    assert np.all(np.max(changes, axis=0) > 0.02) and np.all(np.min(changes, axis=0) < -0.002)
    np.testing.assert_allclose(growths, expected_growths, rtol=0, atol=1e-3)
    _assert_close(made[-1], expected[-1], rtol=1e-2)


def test_direction_step_and_decay_are_clipped():
    """A direction of 12 times ±1 goes to ±8, a log step of 100 to 5, and a log ω of log .01 - 100 to log .01 - 5."""
    optimizer = learned_optim.adaptive_muon()
    known = TensorFeatures._fields.index("known")
    theta = optimizer.init(jax.random.key(0))
    theta["direction"]["constant"] = jnp.array([0.0, 12.0, 0.0])
    theta["step"] = theta["step"].at[known].set(100.0)
    params = {"w": jnp.array([[1.0, -1.0]])}
    distance = 0.1 * math.exp(1.5 * math.tanh(0.3) / 10)
    for sign in (1.0, -1.0):
        theta["decay"]["skip"] = jnp.zeros(12).at[known].set(100.0 * sign)
        ((updates,), _) = _run(optimizer.transform(theta, num_steps=10), params, [params])
        expected = distance * math.exp(5) * (8 + 0.01 * math.exp(5 * sign))
        np.testing.assert_allclose(updates["w"], [[-expected, expected]], rtol=1e-5)


def test_before_meta_training_the_first_step_is_a_tenth_of_the_size_along_the_signs():
    """Ones have the directions of ones; D has grown by one step of the controller, and decay adds .01 of the size."""
    optimizer = learned_optim.adaptive_muon()
    tx = optimizer.transform(optimizer.init(jax.random.key(0)), num_steps=10)
    params = {"b": jnp.full(3, 5.0), "w": jnp.full((3, 2), 5.0)}
    ((updates,), _) = _run(tx, params, [jax.tree.map(jnp.ones_like, params)])
    grown = math.exp(1.5 * math.tanh(0.3) / 10)
    np.testing.assert_allclose(updates["b"], np.full(3, -0.01 * grown), rtol=1e-4)
    np.testing.assert_allclose(updates["w"], np.full((3, 2), -0.5 * grown * 1.01), rtol=1e-4)


@pytest.mark.parametrize("num_steps", [4, None])
def test_without_gradients_matrices_shrink_by_a_known_factor_and_vectors_stay(num_steps):
    """At gradients of zero D stays at .1 s₀, so that each step multiplies a matrix by 1 - .1 γ ω."""
    optimizer, omega = learned_optim.adaptive_muon(), 0.5
    theta = optimizer.init(jax.random.key(0))
    theta["decay"]["base"] = jnp.asarray(math.log(omega))
    tx = optimizer.transform(theta, num_steps=num_steps)
    params = {"b": jnp.full(3, 2.0), "k": jnp.full((2, 2, 3), -7.0), "n": jnp.asarray(3.0), "w": jnp.full((3, 2), 5.0)}
    grads = [jax.tree.map(jnp.zeros_like, params)] * 5
    made, growths = _run(tx, params, grads)
    np.testing.assert_array_equal(growths, np.zeros((5, 4)))
    factor = 1.0
    for step, updates in enumerate(made):
        gamma = (1 + step / 100) ** -0.5 if num_steps is None else max(1 - step / num_steps, 0.01)
        for name in ("k", "w"):
            np.testing.assert_allclose(updates[name], -0.1 * gamma * omega * factor * params[name], rtol=1e-5)
        for name in ("b", "n"):
            np.testing.assert_array_equal(updates[name], jnp.zeros_like(params[name]))
        factor *= 1 - 0.1 * gamma * omega


def test_the_learned_decay_follows_features_of_the_tensor():
    """q at `squareness`: the decay of a matrix 4 × 1 is (1/4)^(1/2) of that of a square one."""
    optimizer = learned_optim.adaptive_muon()
    theta = optimizer.init(jax.random.key(0))
    theta["decay"]["skip"] = jnp.zeros(12).at[TensorFeatures._fields.index("squareness")].set(1.0)
    params = {"long": jnp.ones((4, 1)), "square": jnp.ones((2, 2))}
    ((updates,), _) = _run(optimizer.transform(theta), params, [jax.tree.map(jnp.zeros_like, params)])
    np.testing.assert_allclose(updates["square"], np.full((2, 2), -0.001), rtol=1e-5)
    np.testing.assert_allclose(updates["long"], np.full((4, 1), -0.0005), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-8, 1e6, 1e14])
def test_the_scale_of_gradients_does_not_matter(scale):
    grads = [_float32(_tree(seed)) for seed in (2, 3, 4)]
    tx, params = learned_optim.adaptive_muon().transform(_float32(_theta()), num_steps=10), _float32(_tree(1))
    scaled = [jax.tree.map(lambda leaf: leaf * scale, grad) for grad in grads]
    _assert_close(_run(tx, params, scaled)[0], _run(tx, params, grads)[0], rtol=1e-3)


def test_steps_of_matrices_grow_with_their_size():
    """A matrix and its updates a thousand times as large; also those of the decay."""
    tx = learned_optim.adaptive_muon().transform(_float32(_theta()), num_steps=10)
    grads = [{"w": jnp.asarray(_tree(seed)["w"], jnp.float32)} for seed in (2, 3, 4)]
    params = {"w": jnp.asarray(3.0 + _tree(1)["w"], jnp.float32)}
    large = jax.tree.map(lambda x: 1000.0 * x, params)
    expected = jax.tree.map(lambda x: 1000.0 * x, _run(tx, params, grads)[0])
    _assert_close(_run(tx, large, grads)[0], expected, rtol=1e-4)


def test_tensors_do_not_depend_on_one_another():
    tx, params = learned_optim.adaptive_muon().transform(_float32(_theta())), _float32(_tree(1))
    grads = [_float32(_tree(seed)) for seed in (2, 3, 4)]
    together = _run(tx, params, grads)[0]
    for name in ("kernel", "long"):
        alone = _run(tx, {name: params[name]}, [{name: grad[name]} for grad in grads])[0]
        _assert_close(alone, [{name: updates[name]} for updates in together], rtol=1e-5)


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto], ids=str)
def test_sampled_tensors_may_lie_on_several_devices(kind):
    """The sample is of the whole tensor, not of the part on a device, and it alone is exchanged."""
    names, tx = ("large", "long"), learned_optim.adaptive_muon().transform(_float32(_theta()), num_steps=10)
    some = lambda seed: {name: jnp.asarray(_tree(seed)[name], jnp.float32) for name in names}
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    place = lambda tree: {name: jax.device_put(x, jax.NamedSharding(mesh, jax.P("x"))) for name, x in tree.items()}
    expected, growths = _run(tx, some(1), [some(2), some(3)])
    with jax.set_mesh(mesh):
        made, placed_growths = _run(tx, place(some(1)), [place(some(2)), place(some(3))])
        lowered = jax.jit(tx.update).lower(place(some(2)), tx.init(place(some(1))), place(some(1)))
    _assert_close(made, expected, rtol=1e-4)
    np.testing.assert_allclose(placed_growths, growths, rtol=1e-4)
    assert made[0]["large"].sharding.spec[0] == "x"
    gathered = [line for line in lowered.compile().as_text().splitlines() if " all-gather(" in line]
    sizes = [math.prod(map(int, line.split("[")[1].split("]")[0].split(","))) for line in gathered]
    assert sizes and max(sizes) <= 4096


def test_derivatives_with_respect_to_theta_are_finite_where_gradients_or_parameters_vanish():
    """A row and a column of zeros, as behind dead units; a matrix at zero; a vector without gradient."""
    optimizer = learned_optim.adaptive_muon()
    grads = {"w": jnp.ones((3, 2)).at[0].set(0.0).at[:, 1].set(0.0), "b": jnp.zeros(2)}

    def total(theta, grads):
        tx = optimizer.transform(theta, num_steps=2)

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(grads, state, params)
            return (jax.tree.map(jnp.add, params, updates), state), None

        params = jax.tree.map(jnp.zeros_like, grads)
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), None, length=3)
        return jnp.sum(params["w"]) + jnp.sum(params["b"])

    derivative, theta = jax.jit(jax.grad(total)), _float32(_theta())
    scaled = lambda scale: derivative(theta, jax.tree.map(lambda x: x * scale, grads))
    some, none, tiny = scaled(1.0), scaled(0.0), scaled(1e-25)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((some, none, tiny)))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves({**some, "unknown_horizon": jnp.ones(())}))


def test_memory_beyond_arguments_and_results_is_bounded():
    tx = learned_optim.adaptive_muon().transform(_float32(_theta()), num_steps=10)
    params = jax.ShapeDtypeStruct((400, 300), jnp.float32)
    compiled = jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params), params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4.5 * params.size * 4


def test_spec_weights_and_state():
    """Momentum and v; two numbers a sampled coordinate; agreement, first size, r and growth; the step counter."""
    optimizer = learned_optim.adaptive_muon()
    assert optimizer.spec == {"kind": "adaptive_muon", "feature_version": 1}
    theta = optimizer.init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == 42
    sizes = lambda params: sum(leaf.size for leaf in jax.tree.leaves(optimizer.transform(theta).init(params)))
    assert sizes({"w": jnp.ones((3, 2)), "b": jnp.ones(5)}) == 2 * 11 + 2 * 11 + 2 * 4 + 1
    assert sizes({"w": jnp.ones((300, 300))}) == 2 * 90_000 + 2 * 3400 + 4 + 1
