"""The factored MLP against its published definition (adafac_mlp of Metz et al. 2022), written again in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim

SHAPES = {"bias": (4,), "kernel": (3, 2, 5, 4), "scale": (), "w": (3, 5)}


def _theta(hidden_sizes, decay_offset=0.02):
    random = np.random.RandomState(0)
    offsets = {"adafactor": 3, "momentum": 3, "rms": 1}
    theta = {"decays": {name: decay_offset * random.standard_normal(size) for name, size in offsets.items()}}
    for index, (num_in, num_out) in enumerate(itertools.pairwise((39, *hidden_sizes, 2))):
        name = f"linear_{index}" if index else "linear"
        theta[name] = {"b": random.standard_normal(num_out), "w": random.standard_normal((num_in, num_out))}
    return theta


def _tree(seed, scale=1.0):
    random = np.random.RandomState(seed)
    return {name: scale * random.standard_normal(shape) for name, shape in SHAPES.items()}


def _decay(beta, offset):
    return 1 - np.exp(10 * (np.log(1 - beta) / 10 + offset))


def _axes(shape):
    """The largest dimension, over which rows are means, and the second largest."""
    order = np.argsort(shape, kind="stable")
    return int(order[-1]), int(order[-2])


def _factored(x, r, c):
    """F(x) for one decay; r and c have x's rank."""
    row_mean = np.mean(r, axis=_axes(x.shape)[1], keepdims=True)
    return x / np.sqrt(np.maximum(r / (row_mean + 1e-9), 1e-9)) / np.sqrt(np.maximum(c, 1e-9))


def _published_updates(theta, grads, param):
    """The updates of one tensor at its successive gradients, in float64."""
    offsets = theta["decays"]
    betas = {
        "momentum": [_decay(beta, offsets["momentum"][i]) for i, beta in enumerate((0.9, 0.99, 0.999))],
        "adafactor": [_decay(beta, offsets["adafactor"][i]) for i, beta in enumerate((0.9, 0.99, 0.999))],
        "rms": _decay(0.999, offsets["rms"][0]),
    }
    ms, v, rs, cs, updates = [0.0] * 3, 0.0, [0.0] * 3, [0.0] * 3, []
    for step, g in enumerate(grads):
        ms = [b * m + (1 - b) * g for b, m in zip(betas["momentum"], ms, strict=True)]
        v = betas["rms"] * v + (1 - betas["rms"]) * g**2
        row, column = g**2, g**2
        if g.ndim > 1:
            row, column = (np.mean(g**2, axis=axis, keepdims=True) for axis in _axes(g.shape))
        rs = [b * r + (1 - b) * row for b, r in zip(betas["adafactor"], rs, strict=True)]
        cs = [b * c + (1 - b) * column for b, c in zip(betas["adafactor"], cs, strict=True)]
        if g.ndim > 1:
            f_grads = [_factored(g, r, c) for r, c in zip(rs, cs, strict=True)]
            f_momenta = [_factored(m, r, c) for m, r, c in zip(ms, rs, cs, strict=True)]
        else:
            f_grads = [g / np.sqrt(r + 1e-9) for r in rs]
            f_momenta = [m / np.sqrt(r + 1e-6) for m, r in zip(ms, rs, strict=True)]
        columns = [g, param, *ms, v, *[m / np.sqrt(v + 1e-6) for m in ms], 1 / np.sqrt(v + 1e-6), *f_grads]
        columns += [*rs, *cs, *[1 / np.sqrt(r + 1e-8) for r in rs], *[1 / np.sqrt(c + 1e-8) for c in cs], *f_momenta]
        columns = [np.broadcast_to(x, g.shape).ravel() for x in columns]
        columns = [x / np.sqrt(1e-5 + np.mean(x**2)) for x in columns]
        columns += [np.full(g.size, np.tanh(step / s - 1)) for s in (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)]
        hidden = np.stack(columns, axis=1)
        assert hidden.shape == (g.size, 39)
        for index, name in enumerate(sorted(name for name in theta if name != "decays")):
            hidden = (np.maximum(hidden, 0) if index else hidden) @ theta[name]["w"] + theta[name]["b"]
        direction, magnitude = hidden.T
        updates.append(np.reshape(-1e-3 * direction * np.exp(1e-3 * magnitude), g.shape))
        param = param + updates[-1]
    return updates


def _float32(tree):
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float32)), tree)


def _run(tx, params, grads):
    update_fn, state, made = jax.jit(tx.update), tx.init(params), []
    for grad in grads:
        updates, state = update_fn(grad, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        made.append(updates)
    return made, state


@pytest.mark.parametrize("hidden_sizes", [(4, 4), (3,), (20, 5, 18)])
def test_three_steps_equal_the_published_definition(hidden_sizes):
    """Layers wider than 16 take another path than narrow ones."""
    theta, params, grads = _theta(hidden_sizes), _tree(1), [_tree(seed, 10.0 ** (1 - seed)) for seed in (2, 3, 4)]
    tx = learned_optim.factored_mlp(hidden_sizes).transform(_float32(theta))
    made, _ = _run(tx, _float32(params), [_float32(grad) for grad in grads])
    for name in SHAPES:
        expected = _published_updates(theta, [grad[name] for grad in grads], params[name])
        for have, want in zip([updates[name] for updates in made], expected, strict=True):
            np.testing.assert_allclose(have, want, rtol=0, atol=1e-5 * np.max(np.abs(want)))


def test_offsets_of_zero_are_the_initial_decays_and_large_ones_are_clipped():
    """After one gradient of 1, a moving average holds 1 - decay."""
    params = {"w": jnp.ones((2, 2))}
    first_state = lambda theta: _run(learned_optim.factored_mlp((4,)).transform(theta), params, [params])[1]
    theta = _float32(_theta((4,), decay_offset=0.0))
    first_of = lambda state: [float(v.ravel()[0]) for v in jax.tree.leaves(state.slots)]
    moments = first_of(first_state(theta))
    np.testing.assert_allclose(moments, [0.1, 0.01, 0.001, 0.001] + [0.1, 0.01, 0.001] * 2, rtol=1e-4)
    for offset, expected in ((1.0, 1.0), (-20.0, 0.0)):
        theta["decays"] = jax.tree.map(lambda leaf, offset=offset: jnp.full_like(leaf, offset), theta["decays"])
        assert set(first_of(first_state(theta))) == {expected}


def test_multipliers_scale_direction_and_log_step():
    """A network whose outputs are its last biases: d = 2, a = 3."""
    theta = jax.tree.map(np.zeros_like, _theta((4,)))
    theta["linear_1"]["b"] = np.array([2.0, 3.0])
    tx = learned_optim.factored_mlp((4,), step_multiplier=0.1, magnitude_multiplier=0.5).transform(_float32(theta))
    (updates,), _ = _run(tx, jnp.ones((2, 3)), [jnp.ones((2, 3))])
    np.testing.assert_allclose(updates, np.full((2, 3), -0.1 * 2 * np.exp(0.5 * 3)), rtol=1e-6)


def test_mup_divides_updates_by_fan_in():
    """The same theta with and without: fan_in is 3 for a matrix [3, 5] and 30 for a kernel [3, 2, 5, 4]."""
    theta, fan_ins = _float32(_theta((4, 4))), {"bias": 1, "kernel": 30, "scale": 1, "w": 3}
    grads = [_float32(_tree(seed)) for seed in (2, 3)]
    made = {}
    for mup in (False, True):
        update_fn = jax.jit((tx := learned_optim.factored_mlp(mup=mup).transform(theta)).update)
        params, made[mup] = _float32(_tree(1)), []
        state = tx.init(params)
        for grad in grads:
            updates, state = update_fn(grad, state, params)
            made[mup].append(updates)
    for plain, scaled in zip(made[False], made[True], strict=True):
        for name, fan_in in fan_ins.items():
            np.testing.assert_allclose(scaled[name], plain[name] / fan_in, rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 3), (64, 3), (64, 64), (2, 2, 16, 3)])
def test_mup_moves_the_outputs_of_a_layer_equally_at_every_width(shape):
    """With inputs of 1 and a network of constant output, outputs move by -1e-3 d exp(1e-3 a)."""
    theta = jax.tree.map(np.zeros_like, _theta((4,)))
    theta["linear_1"]["b"] = np.array([2.0, 3.0])
    tx = learned_optim.factored_mlp((4,), mup=True).transform(_float32(theta))
    (updates,), _ = _run(tx, jnp.ones(shape), [jnp.ones(shape)])
    moved = np.sum(updates, axis=tuple(range(len(shape) - 1)))
    np.testing.assert_allclose(moved, np.full(shape[-1], -1e-3 * 2 * np.exp(1e-3 * 3)), rtol=1e-5)


def test_mup_for_some_layers_only():
    theta, params, grads = _float32(_theta((4, 4))), _float32(_tree(1)), _float32(_tree(2))
    scaled, plain = (learned_optim.factored_mlp(mup=mup).transform(theta) for mup in (True, False))
    labels = {"bias": "plain", "kernel": "plain", "scale": "plain", "w": "mup"}
    (updates,), _ = _run(optax.multi_transform({"plain": plain, "mup": scaled}, labels), params, [grads])
    (all_plain,), _ = _run(plain, params, [grads])
    np.testing.assert_allclose(updates["kernel"], all_plain["kernel"], rtol=1e-6)
    np.testing.assert_allclose(updates["w"], all_plain["w"] / 3, rtol=1e-6)


def test_mup_is_in_the_spec_when_set():
    assert learned_optim.factored_mlp(mup=True).spec == {**learned_optim.factored_mlp().spec, "mup": True}
    assert learned_optim.optimizers.build(learned_optim.factored_mlp(mup=True).spec).spec["mup"] is True


def test_defaults_are_the_paper_s():
    optimizer = learned_optim.factored_mlp()
    assert optimizer.spec == {
        "kind": "factored_mlp",
        "feature_version": 1,
        "hidden_sizes": [4, 4],
        "step_multiplier": 1e-3,
        "magnitude_multiplier": 1e-3,
    }
    theta = optimizer.init(jax.random.key(0))
    decays = theta.pop("decays")
    assert {name: offset.tolist() for name, offset in decays.items()} == {
        "adafactor": [0.0] * 3,
        "momentum": [0.0] * 3,
        "rms": [0.0],
    }
    assert [layer["w"].shape for layer in theta.values()] == [(39, 4), (4, 4), (4, 2)]


def test_state_of_a_matrix_is_four_copies_and_three_rows_and_columns():
    optimizer = learned_optim.factored_mlp()
    state = optimizer.transform(_float32(_theta((4, 4)))).init({"w": jnp.ones((20, 30))})
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 4 * 600 + 3 * 20 + 3 * 30 + 1


def test_derivatives_with_respect_to_theta_are_finite_where_gradients_vanish():
    """A row and a column of zeros, as behind dead units, and a vector without gradient."""
    grads = {"w": jnp.ones((3, 2)).at[0].set(0.0).at[:, 1].set(0.0), "b": jnp.zeros(2)}

    def total(theta):
        tx = learned_optim.factored_mlp((2,)).transform(theta)
        step = lambda state, _: tx.update(grads, state, grads)[::-1]
        _, updates = jax.lax.scan(step, tx.init(grads), None, length=3)
        return jnp.sum(updates["w"]) + jnp.sum(updates["b"])

    derivative = jax.jit(jax.grad(total))(_float32(_theta((2,))))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(derivative))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(derivative))


def test_features_are_never_stacked_in_memory():
    """A stack of them takes 28 times the memory of the parameters, and the step three times as long."""
    tx = learned_optim.factored_mlp().transform(_float32(_theta((4, 4))))
    params = jax.ShapeDtypeStruct((400, 300), jnp.float32)
    compiled = jax.jit(tx.update).lower(params, jax.eval_shape(tx.init, params), params).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * params.size * 4


@pytest.mark.parametrize("hidden_sizes", [(), [], (0,), (4, 0), (-1, 4), (4.5,)])
def test_bad_sizes_are_an_error(hidden_sizes):
    with pytest.raises(ValueError, match="hidden_sizes must be a non-empty sequence of whole numbers from 1 on"):
        learned_optim.factored_mlp(hidden_sizes)
