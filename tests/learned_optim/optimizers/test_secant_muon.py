"""The optimizer with a slow momentum, secants and networks against its definition, written again in NumPy."""

import pathlib
import runpy
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_optim
from learned_optim.optimizers.adaptive_muon import TensorFeatures
from learned_optim.optimizers.secant_muon import NUM_FEATURES
from learned_optim.optimizers.secant_muon import SecantFeatures

_REFERENCE = pathlib.Path(__file__).parents[2] / "reference"
adam_parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "adam_parts.py")))
control_parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "control_parts.py")))
muon_parts = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "muon_parts.py")))
vanishing = types.SimpleNamespace(**runpy.run_path(str(_REFERENCE / "vanishing.py")))

SHAPES = {"bias": (4,), "large": (90, 70), "scale": (), "w": (3, 5)}  # "large" is sampled, and has two blocks
HIDDEN, STEP_HIDDEN = 3, 2


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


def _float32(values):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), values)


def _theta(scale=0.1):
    """Weights that are all non-zero and stay inside of their bounds."""
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
        "decay": {"base": np.log(0.05) + normal(), "skip": normal(NUM_FEATURES)},
        "direction_network": {
            "b": normal(HIDDEN),
            "gate": normal(NUM_FEATURES, HIDDEN),
            "w": 5.0 * normal(4, HIDDEN),
            "w_out": 3.0 * normal(HIDDEN),
        },
        "lookahead": -1.5 + normal(),
        "mix": {
            "exponent": {"base": normal(), "skip": 0.3 * normal(NUM_FEATURES)},
            "lookahead": normal(NUM_FEATURES),
            "slow": {"base": 0.4 + normal(), "skip": normal(NUM_FEATURES)},
        },
        "secants": 3.0 * normal(2),
        "step": normal(NUM_FEATURES),
        "step_network": {
            "b": normal(STEP_HIDDEN),
            "w": 3.0 * normal(NUM_FEATURES, STEP_HIDDEN),
            "w_out": 3.0 * normal(STEP_HIDDEN, 2),
        },
        "unknown_horizon": {"exponent": 0.7, "progress": np.array([0.2, -0.3])},
    }


def _size(param):
    floor = 0.1 / np.sqrt(np.prod(param.shape[:-1]))
    return 0.1 if param.ndim < 2 else max(adam_parts.rms(control_parts.sample(param)), floor)


def _usual(param):
    return _size(param) if param.ndim < 2 else max(_size(param), 1 / np.sqrt(np.prod(param.shape[:-1])))


def _log_blocks(shape):
    sides = (shape[-1], np.prod(shape[:-1])) if len(shape) > 1 else (1,)
    return 0.5 * np.log(np.ceil(min(sides) / 64))


class _Seen:
    """The averages of the gradients of a tensor, or of its sample."""

    def __init__(self, shape):
        self.m = self.n = self.v = np.zeros(shape)
        self.agreement, self.t = 0.0, 0

    def add(self, g):
        self.v = 0.99 * self.v + 0.01 * g**2
        product = np.mean(g * self.m) / np.mean(self.v) / max(1 - 0.9**self.t, 0.1)
        self.agreement = 0.99 * self.agreement + 0.01 * product
        self.m, self.n = 0.9 * self.m + 0.1 * g, 0.99 * self.n + 0.01 * g
        self.g, self.t = g, self.t + 1
        self.root = np.sqrt(self.v / (1 - 0.99**self.t))

    def nesterov(self, lookahead):
        ahead = ((1 - lookahead) * self.m + lookahead * self.g) / (1 - (1 - lookahead) * 0.9**self.t)
        return np.clip(ahead / self.root, -4, 4)

    def slow(self):
        return np.clip(self.n / (1 - 0.99**self.t) / self.root, -4, 4)


class _Secants:
    """The averages of a tensor along its steps, from samples."""

    def __init__(self, x):
        self.x, self.after, self.before, self.most = x, 0.0, 0.0, 0.0

    def add(self, g, m, x, t):
        moved = x - self.x
        self.after = 0.9 * self.after + 0.1 * np.sum(g * moved)
        self.before = 0.9 * self.before + 0.1 * np.sum(m / max(1 - 0.9**t, 0.1) * moved)
        self.most = 0.9 * self.most + 0.1 * np.linalg.norm(g) * np.linalg.norm(moved)
        self.x = x

    def features(self):
        if self.most == 0:
            return 0.0, 0.0
        straight = 0.0 if self.before == 0 else self.after / self.before
        return -self.after / self.most, np.clip(straight, -2, 2)


def _direction(theta, c, seen, sampled, p):
    """u."""
    mix, network = theta["mix"], theta["direction_network"]
    lookahead = 1 / (1 + np.exp(-theta["lookahead"] - c @ mix["lookahead"]))
    slow = np.clip(c @ mix["slow"]["skip"] + mix["slow"]["base"], -2, 2)
    exponent = np.clip(c @ mix["exponent"]["skip"] + mix["exponent"]["base"], -0.5, 0.5)
    relative = np.clip(seen.v / np.mean(sampled.v), np.exp(-10), np.exp(10)) ** exponent
    x = np.clip((seen.nesterov(lookahead) + slow * seen.slow()) * relative, -4, 4)
    inputs = [x, seen.slow(), np.clip(seen.g / seen.root, -4, 4), np.clip(p / _size(p), -4, 4)]
    gates, u = np.exp(np.clip(c @ network["gate"] + network["b"], -3, 3)), x
    for j in range(HIDDEN):
        hidden = gates[j] * sum(network["w"][i, j] * f for i, f in enumerate(inputs))
        u = u + network["w_out"][j] * np.clip(hidden, -1, 1)
    return np.clip(u, -4, 4)


def _defined_run(theta, grads, params, num_steps):
    """The updates of all tensors at successive gradients, in float64."""
    x, sample = dict(params), control_parts.sample
    states = {n: control_parts.begin(theta["control"], sample(p), _size(p), p.ndim < 2) for n, p in x.items()}
    seen = {name: _Seen(p.shape) for name, p in x.items()}
    rows = {name: _Seen(sample(p).shape) for name, p in x.items()}
    secants = {name: _Secants(sample(p)) for name, p in x.items()}
    lookahead = 1 / (1 + np.exp(-theta["lookahead"]))
    made = []
    for t, grad in enumerate(grads):
        unknown = theta["unknown_horizon"]
        (position, length, *_, known), gamma = adam_parts.progress(t, num_steps, [*unknown["progress"], 0.0])
        gamma = gamma if known else (1 + t / 100) ** -unknown["exponent"]
        updates = {}
        for name, p in x.items():
            secants[name].add(sample(grad[name]), rows[name].m, sample(p), t)
            onward, straight = secants[name].features()
            bias = theta["control"]["bias"] + theta["secants"] @ np.array([onward, straight])
            advised = theta["control"] | {"bias": bias}
            states[name], signal = control_parts.advance(advised, states[name], sample(grad[name]), sample(p))
            rows[name].add(sample(grad[name]))
            seen[name].add(grad[name])
            plain, slow = rows[name].nesterov(lookahead), rows[name].slow()
            c = np.array(
                [
                    position,
                    np.exp(-t / 20),
                    length,
                    np.log(gamma) / 2,
                    known,
                    np.log(adam_parts.rms(plain) + 1e-3) + 1,
                    np.log(np.clip(rows[name].agreement / (1 - 0.99 ** (t + 1)), 1e-3, 4)) / 2 + 1.5,
                    signal,
                    states[name].growth / 2,
                    np.clip(np.log(_size(p) / _usual(params[name])), -5, 5),
                    *muon_parts.shape_features(p.shape),
                    _log_blocks(p.shape),
                    onward,
                    straight,
                    np.sum(plain * slow) / np.sqrt(np.sum(plain**2) * np.sum(slow**2)),
                    np.log(adam_parts.rms(slow) + 0.01) + 2,
                ]
            )
            network = theta["step_network"]
            added = np.tanh(c @ network["w"] + network["b"]) @ network["w_out"]
            u = _direction(theta, c, seen[name], rows[name], p)
            step = states[name].distance * np.exp(np.clip(c @ theta["step"] + added[0], -5, 5))
            updates[name] = -gamma * step * (muon_parts.orthogonal(u, 64) if p.ndim > 1 else u)
            if p.ndim > 1:
                decay = theta["decay"]
                omega = np.exp(decay["base"] + np.clip(c @ decay["skip"] + added[1], -5, 5))
                updates[name] = updates[name] - gamma * omega * p
        made.append(updates)
        x = {name: x[name] + updates[name] for name in x}
    return made


def _transform(theta, num_steps):
    return learned_optim.secant_muon(HIDDEN, STEP_HIDDEN).transform(theta, num_steps=num_steps)


_init = jax.jit(lambda theta, num_steps, params: _transform(theta, num_steps).init(params))
_update = jax.jit(lambda theta, num_steps, *arguments: _transform(theta, num_steps).update(*arguments))


def _run(theta, params, grads, num_steps):
    """The updates at successive gradients."""
    num_steps = np.int32(num_steps or 0)  # 0: not known
    state, made = _init(theta, num_steps, params), []
    for grad in grads:
        updates, state = _update(theta, num_steps, grad, state, params)
        params = jax.tree.map(lambda a, b: np.asarray(a) + np.asarray(b), params, updates)
        made.append(updates)
    return made


@pytest.mark.parametrize("num_steps", [400, None])
def test_six_steps_equal_the_definition(num_steps):
    theta, params = _theta(), _tree(1)
    grads = [_tree(seed, 10.0 ** (1 - seed)) for seed in range(2, 8)]
    made = _run(_float32(theta), _float32(params), [_float32(grad) for grad in grads], num_steps)
    for have, want in zip(made, _defined_run(theta, grads, params, num_steps), strict=True):
        for name, update in want.items():
            np.testing.assert_allclose(have[name], update, rtol=0, atol=1e-3 * np.max(np.abs(update)), err_msg=name)


def test_before_meta_training_the_updates_are_those_of_adaptive_muon():
    params, grads = _float32(_tree(1)), [_float32(_tree(seed)) for seed in range(2, 6)]
    plain = learned_optim.adaptive_muon()
    tx = plain.transform(plain.init(jax.random.key(0)), num_steps=50)
    state, x, expected = tx.init(params), params, []
    update = jax.jit(tx.update)
    for grad in grads:
        updates, state = update(grad, state, x)
        x = jax.tree.map(jnp.add, x, updates)
        expected.append(updates)
    theta = learned_optim.secant_muon(HIDDEN, STEP_HIDDEN).init(jax.random.key(1))
    for have, want in zip(_run(theta, params, grads, 50), expected, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), have, want)


def test_the_networks_are_odd():
    """Gradients and parameters of opposite signs give opposite updates."""
    theta, params, grads = _float32(_theta()), _float32(_tree(1)), [_float32(_tree(seed)) for seed in (2, 3)]
    opposite = lambda tree: jax.tree.map(lambda x: -np.asarray(x), tree)
    have = _run(theta, opposite(params), [opposite(grad) for grad in grads], 20)
    for a, b in zip(have, _run(theta, params, grads, 20), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, -b, rtol=1e-5, atol=1e-7), a, b)


def test_the_state_tells_whether_steps_go_too_far():
    """On x², a step to the other side of the minimum turns the gradient around; a short one leaves it as it is."""
    theta, params = _float32(_theta()), {"w": np.full((2, 2), 1.0, np.float32)}
    for other_side, expected in ((-0.5, (-1.0, -0.5)), (0.9, (1.0, 0.9))):
        state = _init(theta, np.int32(0), params)
        _, state = _update(theta, np.int32(0), params, state, params)
        moved = {"w": np.full((2, 2), other_side, np.float32)}
        _, state = _update(theta, np.int32(0), moved, state, moved)
        secants = state.shared.secants
        onward, straight = -secants.after / secants.most, secants.after / secants.before
        np.testing.assert_allclose([onward[0], straight[0]], expected, rtol=1e-4)


def test_sampled_tensors_may_lie_on_several_devices():
    """A sampled matrix in parts on two devices: updates are those on one, and lie where the parameters do."""
    theta = _float32(_theta())
    some = lambda seed: {"large": jax.device_put(np.asarray(_tree(seed)["large"], np.float32))}
    expected = _run(theta, some(1), [some(2), some(3)], 10)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    place = lambda tree: jax.tree.map(lambda x: jax.device_put(x, jax.NamedSharding(mesh, jax.P("x"))), tree)
    with jax.set_mesh(mesh):
        params, grads = place(some(1)), [place(some(2)), place(some(3))]
        state = _init(theta, np.int32(10), params)
        for grad, want in zip(grads, expected, strict=True):
            updates, state = _update(theta, np.int32(10), grad, state, params)
            np.testing.assert_allclose(
                updates["large"], want["large"], rtol=0, atol=1e-4 * np.max(np.abs(want["large"]))
            )
            assert updates["large"].sharding.spec[0] == "x"
            params = jax.tree.map(jnp.add, params, updates)


def test_a_tensor_without_finite_gradients_leaves_others_alone():
    theta, params = _float32(_theta()), _float32(_tree(1))
    grads = [_float32(_tree(seed)) | {"bias": np.full(4, np.nan, np.float32)} for seed in (2, 3)]
    together = _run(theta, params, grads, 10)
    alone = _run(theta, {"large": params["large"]}, [{"large": grad["large"]} for grad in grads], 10)
    for have, want in zip(together, alone, strict=True):
        limit = 1e-5 * np.max(np.abs(want["large"]))
        np.testing.assert_allclose(have["large"], want["large"], rtol=0, atol=limit)


def test_derivatives_with_respect_to_theta_are_finite_where_gradients_or_parameters_vanish():
    made = vanishing.derivatives(learned_optim.secant_muon(HIDDEN, STEP_HIDDEN), _float32(_theta()))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(made))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves({**made[1.0][0], "unknown_horizon": jnp.ones(())}))


def test_without_networks_it_has_no_weights_of_theirs():
    small = learned_optim.secant_muon(0, 0).init(jax.random.key(0))
    whole = learned_optim.secant_muon().init(jax.random.key(0))
    assert set(whole) - set(small) == {"direction_network", "step_network"}
    assert sum(leaf.size for leaf in jax.tree.leaves(small)) == 101
    assert sum(leaf.size for leaf in jax.tree.leaves(whole)) == 605
    assert NUM_FEATURES == len(TensorFeatures._fields) + len(SecantFeatures._fields) == 17
