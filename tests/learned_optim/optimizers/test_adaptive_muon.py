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
from learned_optim.optimizers.adaptive_muon import NUM_FEATURES
from learned_optim.optimizers.adaptive_muon import TensorFeatures

_REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
adam_parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "adam_parts.py")))
control_parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "control_parts.py")))
muon_parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "muon_parts.py")))
vanishing = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "vanishing.py")))

# "large", "long" and "deep" have more coordinates than are sampled. "large" has three blocks of 24 rows, of which the
# last has two rows of zeros; "tall" has two of its columns.
SHAPES = {
    "bias": (4,),
    "deep": (3, 3, 8, 33),
    "kernel": (3, 2, 5, 4),
    "large": (90, 70),
    "long": (5000,),
    "scale": (),
    "tall": (50, 40),
    "w": (3, 5),
}


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


def _float32(values):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), values)


def _theta(scale=0.2):
    """Weights that are all non-zero and keep log step sizes and log decay inside of their bounds."""
    random = np.random.RandomState(0)
    normal = lambda *shape: scale * random.standard_normal(shape)
    return {
        "control": {
            "first": np.log(0.1) + normal(2),
            "rates": np.log([1.5, 0.3]) + normal(2),
            "gain": normal(),
            "bias": 0.3 + normal(),
            "onset": np.log(10.0) + normal(),
        },
        "decay": {"base": np.log(0.05) + normal(), "skip": normal(13)},
        "lookahead": -1.5 + normal(),
        "step": normal(13),
        "unknown_horizon": {"exponent": 0.7, "progress": np.array([0.2, -0.3])},
    }


def _size(param):
    """The size of a tensor, from its sample."""
    floor = 0.1 / np.sqrt(np.prod(param.shape[:-1]))
    return 0.1 if param.ndim < 2 else max(adam_parts.rms(control_parts.sample(param)), floor)


def _usual(param):
    """The size of a tensor before the first update, for matrices at least 1 / √fan_in."""
    return _size(param) if param.ndim < 2 else max(_size(param), 1 / np.sqrt(np.prod(param.shape[:-1])))


def _log_blocks(shape):
    """½ log of how many blocks of up to 64 rows the shorter side of a matrix makes."""
    sides = (shape[-1], np.prod(shape[:-1])) if len(shape) > 1 else (1,)
    return 0.5 * np.log(np.ceil(min(sides) / 64))


def _averages(grads):
    """After the last of the gradients: m and v, and the agreement, which is an average of bias-corrected products."""
    m, v, agreement = np.zeros_like(grads[0]), np.zeros_like(grads[0]), 0.0
    for number, g in enumerate(grads):
        v = 0.99 * v + 0.01 * g**2
        agreement = 0.99 * agreement + 0.01 * np.mean(g * m) / np.mean(v) / max(1 - 0.9**number, 0.1)
        m = 0.9 * m + 0.1 * g
    return m, v, agreement / (1 - 0.99 ** len(grads))


def _nesterov(grads, lookahead):
    """u."""
    (m, v, _), t = _averages(grads), len(grads)
    ahead = ((1 - lookahead) * m + lookahead * grads[-1]) / (1 - (1 - lookahead) * 0.9**t)
    return np.clip(ahead / np.sqrt(v / (1 - 0.99**t)), -4, 4)


def _defined_run(theta, grads, params, num_steps):
    """The updates of all tensors at successive gradients, and log(D / initial D), in float64."""
    x, sample, states = dict(params), control_parts.sample, {}
    for name, p in params.items():
        states[name] = control_parts.begin(theta["control"], sample(p), _size(p), p.ndim < 2)
    lookahead = 1 / (1 + np.exp(-theta["lookahead"]))
    made, growths = [], []
    for t in range(len(grads)):
        unknown = theta["unknown_horizon"]
        (position, length, *_, known), gamma = adam_parts.progress(t, num_steps, [*unknown["progress"], 0.0])
        gamma = gamma if known else (1 + t / 100) ** -unknown["exponent"]
        updates = {}
        for name, p in x.items():
            seen = [grad[name] for grad in grads[: t + 1]]
            sampled = [sample(grad) for grad in seen]
            states[name], signal = control_parts.advance(theta["control"], states[name], sampled[-1], sample(p))
            c = {
                "position": position,
                "early": np.exp(-t / 20),
                "length": length,
                "decay": np.log(gamma) / 2,
                "known": known,
                "size": np.log(adam_parts.rms(_nesterov(sampled, lookahead)) + 1e-3) + 1,
                "certain": np.log(np.clip(_averages(sampled)[-1], 1e-3, 4)) / 2 + 1.5,
                "signal": signal,
                "growth": states[name].growth / 2,
                "expansion": np.clip(np.log(_size(p) / _usual(params[name])), -5, 5),
            }
            c = np.array([*c.values(), *muon_parts.shape_features(p.shape), _log_blocks(p.shape)])
            u = _nesterov(seen, lookahead)
            step_size = states[name].distance * np.exp(np.clip(c @ theta["step"], -5, 5))
            updates[name] = -gamma * step_size * (muon_parts.orthogonal(u, 64) if p.ndim > 1 else u)
            if p.ndim > 1:
                omega = np.exp(theta["decay"]["base"] + np.clip(c @ theta["decay"]["skip"], -5, 5))
                updates[name] = updates[name] - gamma * omega * p
        made.append(updates)
        growths.append([states[name].growth for name in sorted(x)])
        x = {name: x[name] + updates[name] for name in x}
    return made, growths


def _transform(theta, num_steps):
    return learned_optim.adaptive_muon().transform(theta, num_steps=num_steps)


# One program for all thetas and horizons.
_init = jax.jit(lambda theta, num_steps, params: _transform(theta, num_steps).init(params))
_update = jax.jit(lambda theta, num_steps, *arguments: _transform(theta, num_steps).update(*arguments))


def _run(theta, params, grads, num_steps=None):
    """The updates at successive gradients, and log(D / initial D) of each tensor."""
    num_steps = np.int32(num_steps or 0)  # 0: not known
    state, made, growths = _init(theta, num_steps, params), [], []
    for grad in grads:
        updates, state = _update(theta, num_steps, grad, state, params)
        params = jax.tree.map(_add, params, updates)
        made.append(updates)
        growths.append(np.asarray(state.shared.control.growth))
    return made, growths


def _add(a, b):
    """Without a program, unless there are several devices."""
    return a + b if len(b.devices()) > 1 else np.asarray(a) + np.asarray(b)


def _assert_close(actual, expected, rtol):
    """Leaves agree to rtol of their largest entry."""
    for have, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=rtol * np.max(np.abs(want)))


def _with(theta, name, **entries):
    """Weights of the features of `step` or of the decay, with entries changed, by the names of features."""
    weights = jnp.zeros(NUM_FEATURES)
    for feature, value in entries.items():
        weights = weights.at[TensorFeatures._fields.index(feature)].set(value)
    return theta | ({"step": weights} if name == "step" else {"decay": theta["decay"] | {"skip": weights}})


@pytest.mark.parametrize("num_steps", [400, None, 3])
def test_five_steps_equal_the_definition(num_steps):
    """The scale of the gradients falls from 1 to 1e-4; the horizon of 3 is passed."""
    theta, params = _theta(), _tree(1)
    grads = [_tree(seed, 10.0 ** (2 - seed)) for seed in range(2, 7)]
    made, growths = _run(_float32(theta), _float32(params), [_float32(grad) for grad in grads], num_steps)
    expected, expected_growths = _defined_run(theta, grads, params, num_steps)
    _assert_close(made, expected, rtol=3e-4)
    np.testing.assert_allclose(growths, expected_growths, rtol=0, atol=1e-5)


def test_thirty_steps_equal_the_definition_while_step_sizes_rise_and_fall():
    """The gradients agree for ten steps and then point back."""
    theta, params, random = _theta(0.05), _tree(1), np.random.RandomState(3)
    draw = lambda sign: {name: sign + 0.3 * random.standard_normal(x.shape) for name, x in params.items()}
    grads = [draw(1.0 if step < 10 else -2.0) for step in range(30)]
    made, growths = _run(_float32(theta), _float32(params), [_float32(grad) for grad in grads], 1000)
    expected, expected_growths = _defined_run(theta, grads, params, 1000)
    changes = np.diff(expected_growths, axis=0)
    assert np.all(np.max(changes, axis=0) > 0.02) and np.all(np.min(changes, axis=0) < -0.002)
    np.testing.assert_allclose(growths, expected_growths, rtol=0, atol=1e-3)
    _assert_close(made[-1], expected[-1], rtol=1e-2)


def test_log_step_and_decay_are_clipped():
    """A log step of ±100 to ±5, and so is what is added to log ω."""
    optimizer, params = learned_optim.adaptive_muon(), {"w": jnp.array([[1.0, -1.0]])}
    distance = 0.14 * math.exp(0.3 * math.tanh(-0.1) / 6)
    for sign in (1.0, -1.0):
        theta = optimizer.init(jax.random.key(0))
        theta = _with(_with(theta, "step", known=100.0 * sign), "decay", known=100.0 * sign)
        ((updates,), _) = _run(theta, params, [params], 10)
        expected = (distance + 2e-3) * math.exp(5 * sign)
        np.testing.assert_allclose(updates["w"], [[-expected, expected]], rtol=1e-5)


def test_the_direction_is_clipped():
    """With λ = 1, a coordinate whose gradient first appears at the 300th step has u = g / √(.01 g²), 10 or so."""
    optimizer = learned_optim.adaptive_muon()
    theta = _with(optimizer.init(jax.random.key(0)), "step") | {"lookahead": jnp.asarray(20.0)}
    theta["control"]["bias"] = jnp.asarray(0.0)
    grads = [{"b": np.array([1.0, step == 299], np.float32)} for step in range(300)]
    made, growths = _run(theta, {"b": np.zeros(2, np.float32)}, grads, 10_000)
    step_size = 0.014 * np.exp(growths[-1]) * (1 - 299 / 10_000)
    np.testing.assert_allclose(made[-1]["b"], -step_size * [1.0, 4.0], rtol=1e-2)


def test_before_meta_training_the_first_step_is_a_share_of_the_size_along_the_signs():
    """Ones have the directions of ones, of size 1; D has shrunk by one step of the controller, whose signal counts.

    Decay subtracts .002 (10 / 400)^-½ of matrices. A matrix of two blocks moves less by a factor of √2. One that is
    far below 1 / √fan_in moves more and decays less, as if it had shrunk.
    """
    optimizer = learned_optim.adaptive_muon()
    shapes = {"b": (3,), "large": (128, 128), "small": (4, 2), "w": (3, 2)}
    fill = {"b": 5.0, "large": 5.0, "small": 0.1, "w": 5.0}
    params = {name: np.full(shape, fill[name], np.float32) for name, shape in shapes.items()}
    ((updates,), _) = _run(optimizer.init(jax.random.key(0)), params, [jax.tree.map(np.ones_like, params)], 10)
    signal = math.tanh(-0.1)
    share = 0.14 * math.exp(0.3 * signal / 6 + 0.3 * signal - 0.5 * (math.log(1.001) + 1.0))
    omega = 2e-3 * math.sqrt(400 / 10) * math.exp(-3.0 * 0.5 * 0.3 * signal / 6)
    for name, expected in (
        ("b", 0.1 * share),
        ("large", 5.0 * (share / math.sqrt(2.0) + omega)),
        ("small", 0.1 * (share * 5.0**0.3 + omega * 0.2**3)),  # a fifth of its usual size, .5
        ("w", 5.0 * (share + omega)),
    ):
        np.testing.assert_allclose(updates[name], np.full(shapes[name], -expected), rtol=1e-4)


@pytest.mark.parametrize(("fill", "sizes"), [(2.0, [2.0, 2.0]), (-0.01, [0.05, 0.1 / 6]), (0.0, [0.05, 0.1 / 6])])
def test_the_size_of_a_matrix_has_a_floor_and_that_of_a_vector_is_a_tenth(fill, sizes):
    """The floor is .1 / √fan_in, for a matrix of four rows and for a kernel with 36 coordinates for each output."""
    shapes = {"a": (4, 3), "b": (3, 3, 4, 80), "c": (5,), "d": ()}  # one of them sampled
    params = {name: np.full(shape, fill, np.float32) for name, shape in shapes.items()}
    first_size = _init(_float32(_theta()), 0, params).shared.control.first_size
    np.testing.assert_allclose(np.exp(first_size), [*sizes, 0.1, 0.1], rtol=1e-5)


@pytest.mark.parametrize("num_steps", [4, None])
def test_without_gradients_matrices_shrink_by_a_known_factor_and_vectors_stay(num_steps):
    """At gradients of zero D stays, and each step multiplies a matrix by 1 - γ ω."""
    optimizer, omega = learned_optim.adaptive_muon(), 0.05
    theta = _with(optimizer.init(jax.random.key(0)), "decay")
    theta["decay"]["base"] = jnp.asarray(math.log(omega))
    full = lambda value, *shape: np.full(shape, value, np.float32)
    params = {"b": full(2.0, 3), "k": full(-7.0, 2, 2, 3), "n": full(3.0), "w": full(5.0, 3, 2)}
    made, growths = _run(theta, params, [jax.tree.map(np.zeros_like, params)] * 5, num_steps)
    np.testing.assert_array_equal(growths, np.zeros((5, 4)))
    factor = 1.0
    for step, updates in enumerate(made):
        gamma = (1 + step / 100) ** -0.8 if num_steps is None else max(1 - step / num_steps, 0.01)
        for name in ("k", "w"):
            np.testing.assert_allclose(updates[name], -gamma * omega * factor * params[name], rtol=1e-5)
        for name in ("b", "n"):
            np.testing.assert_array_equal(updates[name], np.zeros_like(params[name]))
        factor *= 1 - gamma * omega


def test_the_learned_decay_follows_features_of_the_tensor():
    """q at `squareness`: the decay of a matrix 4 × 1 is (1/4)^(1/2) of that of a square one; both have usual sizes."""
    optimizer = learned_optim.adaptive_muon()
    theta = _with(optimizer.init(jax.random.key(0)), "decay", squareness=1.0)
    params = {"long": np.ones((4, 1), np.float32), "square": np.ones((2, 2), np.float32)}
    ((updates,), _) = _run(theta, params, [jax.tree.map(np.zeros_like, params)])
    np.testing.assert_allclose(updates["square"], np.full((2, 2), -0.002), rtol=1e-5)
    np.testing.assert_allclose(updates["long"], np.full((4, 1), -0.001), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-8, 1e6, 1e13])
def test_the_scale_of_gradients_does_not_matter(scale):
    """Entries from .1 to about 5, times the scale."""
    away = lambda tree: {name: x + 0.1 * np.sign(x) for name, x in tree.items()}
    grads = [_float32(away(_tree(seed))) for seed in (2, 3, 4)]
    theta, params = _float32(_theta()), _float32(_tree(1))
    scaled = [jax.tree.map(lambda leaf: np.float32(scale) * np.asarray(leaf), grad) for grad in grads]
    _assert_close(_run(theta, params, scaled, 10)[0], _run(theta, params, grads, 10)[0], rtol=1e-3)


def test_steps_of_matrices_grow_with_their_size():
    """A matrix and its updates a thousand times as large; also those of the decay."""
    theta, thousand = _float32(_theta()), np.float32(1000.0)
    grads = [{"w": np.asarray(_tree(seed)["w"], np.float32)} for seed in (2, 3, 4)]
    params = {"w": np.asarray(3.0 + _tree(1)["w"], np.float32)}
    large = jax.tree.map(lambda x: thousand * x, params)
    expected = jax.tree.map(lambda x: thousand * np.asarray(x), _run(theta, params, grads, 10)[0])
    _assert_close(_run(theta, large, grads, 10)[0], expected, rtol=1e-4)


def test_tensors_do_not_depend_on_one_another():
    """Also if another's gradients are NaN, and if its sample is longer."""
    theta, params = _float32(_theta()), _float32(_tree(1))
    bad = {name: np.full(SHAPES[name], np.nan, np.float32) for name in ("bias", "large")}
    grads = [_float32(_tree(seed)) | bad for seed in (2, 3, 4)]
    together = _run(theta, params, grads)[0]
    for name in ("kernel", "scale", "tall"):  # a small matrix, a number, a sampled matrix
        alone = _run(theta, {name: params[name]}, [{name: grad[name]} for grad in grads])[0]
        _assert_close(alone, [{name: updates[name]} for updates in together], rtol=1e-5)


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto], ids=str)
def test_sampled_tensors_may_lie_on_several_devices(kind):
    """The sample is of the whole tensor, not of the part on a device, and it alone is exchanged."""
    names, theta = ("large", "long"), _float32(_theta())
    some = lambda seed: {name: jax.device_put(np.asarray(_tree(seed)[name], np.float32)) for name in names}
    mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
    place = lambda tree: {name: jax.device_put(x, jax.NamedSharding(mesh, jax.P("x"))) for name, x in tree.items()}
    expected, growths = _run(theta, some(1), [some(2), some(3)], 10)
    with jax.set_mesh(mesh):
        made, placed_growths = _run(theta, place(some(1)), [place(some(2)), place(some(3))], 10)
        state = _init(theta, np.int32(10), place(some(1)))
        lowered = _update.lower(theta, np.int32(10), place(some(2)), state, place(some(1)))
    _assert_close(made, expected, rtol=1e-4)
    np.testing.assert_allclose(placed_growths, growths, rtol=1e-4)
    assert made[0]["large"].sharding.spec[0] == "x"
    program = lowered.compile().as_text()
    assert " all-reduce(" in program and " all-gather(" not in program and " collective-permute(" not in program


def test_derivatives_with_respect_to_theta_are_finite_where_gradients_or_parameters_vanish():
    made = vanishing.derivatives(learned_optim.adaptive_muon(), _float32(_theta()))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(made))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves({**made[1.0][0], "unknown_horizon": jnp.ones(())}))


def test_updates_are_vectorized_and_differentiated_forwards():
    """Two thetas at once, as meta-training has them; and the derivative along a direction is the same either way."""
    optimizer, params, grads = learned_optim.adaptive_muon(), _float32(_tree(1)), _float32(_tree(2))
    params, grads = ({name: tree[name] for name in ("bias", "kernel")} for tree in (params, grads))

    def total(theta):
        tx = optimizer.transform(theta, num_steps=5)
        updates, _ = tx.update(grads, tx.init(params), params)
        return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(updates)), updates

    thetas = [_float32(_theta(scale)) for scale in (0.1, 0.2)]
    _, together = jax.jit(jax.vmap(total))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *thetas))
    for i, theta in enumerate(thetas):
        _assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], together), jax.jit(total)(theta)[1], rtol=1e-5)
    only = lambda theta: total(theta)[0]
    _, forwards = jax.jit(lambda theta: jax.jvp(only, (theta,), (thetas[0],)))(thetas[1])
    backwards = jax.tree.map(jnp.vdot, jax.jit(jax.grad(only))(thetas[1]), thetas[0])
    assert abs(float(forwards)) > 0.01
    np.testing.assert_allclose(sum(jax.tree.leaves(backwards)), forwards, rtol=1e-4)


def test_memory_beyond_arguments_and_results_is_bounded():
    tx = learned_optim.adaptive_muon().transform(_float32(_theta()), num_steps=10)
    params = jax.ShapeDtypeStruct((400, 300), jnp.float32)
    compiled = jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params), params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4.5 * params.size * 4


def test_spec_weights_and_state():
    """m and v; four numbers for each coordinate of the longest sample, and four more, for each tensor; the counter."""
    optimizer = learned_optim.adaptive_muon()
    assert optimizer.spec == {"kind": "adaptive_muon", "feature_version": 1}
    theta = optimizer.init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == 38
    sizes = lambda params: sum(leaf.size for leaf in jax.tree.leaves(optimizer.transform(theta).init(params)))
    assert sizes({"w": jnp.ones((3, 2)), "b": jnp.ones(5)}) == 2 * 11 + 2 * 4 * 6 + 2 * 4 + 1
    assert sizes({"w": jnp.ones((300, 300))}) == 2 * 90_000 + 4 * 34 * 34 + 4 + 1
