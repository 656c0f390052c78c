"""The released optimizers: their names, cards and weights, and the command line that shows them."""

import hashlib
import importlib.resources
import json
import pathlib
import re
import runpy
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_optim
from learned_optim import __main__ as command_line
from learned_optim import installed
from learned_optim import released

_GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
goldens = types.SimpleNamespace(**runpy.run_path(str(_GOLDENS / "regenerate.py")))

every_name = pytest.mark.parametrize("name", released.released_names())


@pytest.fixture
def unwarned(monkeypatch):
    """No horizon warning has been given yet."""
    monkeypatch.setattr(released, "_warned", set())


def _row(name, key):
    """The value of a row `| key | value |` of a card, which must have exactly one."""
    values = re.findall(rf"^\| {key} \| (\S.*) \|$", learned_optim.card(name), re.MULTILINE)
    assert len(values) == 1, f"the card of {name} must have one row '| {key} | … |', it has {len(values)}"
    return values[0]


def _horizon(name):
    low, _, high = _row(name, "trained horizon").removesuffix(" steps").partition("–")
    return int(low), int(high or low)


# The tests of `every_name` are one for each released optimizer: without one they would not exist.
def test_something_is_released_and_the_default_is_among_it():
    names = released.released_names()
    assert released.DEFAULT in names
    assert list(names) == sorted(names)
    assert learned_optim.list_pretrained()[: len(names)] == names


@every_name
def test_name_is_kind_what_and_version(name):
    kind = learned_optim.load_pretrained(name)[0].spec["kind"].replace("_", "-")
    assert re.fullmatch(rf"{kind}-[a-z0-9-]+-v[1-9]\d*", name)


@every_name
def test_card_has_the_hash_of_the_weights(name):
    data = (importlib.resources.files("learned_optim.pretrained") / name / "theta.safetensors").read_bytes()
    assert _row(name, "sha256").strip("`") == hashlib.sha256(data).hexdigest()


@every_name
def test_card_has_the_required_rows(name):
    low, high = _horizon(name)
    assert 1 <= low <= high
    assert _row(name, "trained horizon") == (f"{low} steps" if low == high else f"{low}–{high} steps")
    for key in ("recipe", "seeds", "license"):
        assert _row(name, key)


@pytest.mark.optimized
@every_name
def test_golden_trajectory_of_the_released_weights(name):
    path = _GOLDENS / "released" / f"{name}.json"
    assert path.is_file(), f"no golden for {name}: run `{goldens.COMMAND}`"
    goldens.assert_matches(goldens.trajectory(*learned_optim.load_pretrained(name)), goldens.read(path)[name], name)


def test_every_golden_belongs_to_a_released_optimizer():
    """Released weights are not withdrawn."""
    assert {path.stem for path in (_GOLDENS / "released").glob("*.json")} == set(released.released_names())


@every_name
def test_weights_are_finite_float32(name):
    _, theta = learned_optim.load_pretrained(name)
    assert all(leaf.dtype == jnp.float32 and np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(theta))


@every_name
def test_learned_optimizer_lowers_a_loss(name):
    tx = optax.chain(optax.clip_by_global_norm(1.0), learned_optim.learned_optimizer(name))
    loss_fn = lambda params: jnp.sum(jnp.square(params["w"] - 1.0)) + jnp.square(params["b"] + 1.0)

    @jax.jit
    def step(params, state):
        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = tx.update(grads, state, params, value=loss)
        return optax.apply_updates(params, updates), state, loss

    params = {"b": jnp.zeros(()), "w": jnp.zeros((3, 2))}
    state, losses = tx.init(params), []
    for _ in range(100):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    assert losses[-1] < losses[0]


@every_name
def test_what_load_pretrained_returns_may_be_changed(name):
    _, theta = learned_optim.load_pretrained(name)
    before = jax.tree.map(np.copy, theta)
    for leaf in jax.tree.leaves(theta):
        leaf.fill(np.nan)
    theta.clear()
    jax.tree.map(np.testing.assert_array_equal, learned_optim.load_pretrained(name)[1], before)


def test_the_default_is_the_default():
    assert learned_optim.card() == learned_optim.card(released.DEFAULT)
    optimizer, theta = learned_optim.load_pretrained()
    named = learned_optim.load_pretrained(released.DEFAULT)
    assert optimizer.spec == named[0].spec
    jax.tree.map(np.testing.assert_array_equal, theta, named[1])

    params = jnp.arange(4.0)
    expected, _ = optimizer.transform(theta).update(params, optimizer.transform(theta).init(params), params)
    tx = learned_optim.learned_optimizer()
    np.testing.assert_array_equal(tx.update(params, tx.init(params), params)[0], expected)


@pytest.mark.parametrize("function", [released.learned_optimizer, released.load_pretrained, released.card])
def test_an_unknown_name_is_an_error_that_suggests_a_near_one(function):
    default = released.DEFAULT
    with pytest.raises(ValueError, match=rf"'{default}x'\. Did you mean '{default}'\? Released: .*{default}"):
        function(default + "x")
    with pytest.raises(
        ValueError,
        match=rf"'zzz'\. Released: .*{default}.*learned_optim\.load\(path\).*Weights of VeLO",
    ):
        function("zzz")
    for unsafe in ("", ".", "../pretrained", "__pycache__"):
        with pytest.raises(ValueError, match="there is no released optimizer"):
            function(unsafe)


def test_released_names_look_at_no_installed_package(monkeypatch):
    monkeypatch.setattr(installed, "offers", lambda group: pytest.fail(f"read the entry points of {group}"))
    released._load.cache_clear()
    for name in ("default", "mlp-digits-v1"):
        assert learned_optim.learned_optimizer(name) is not None
        assert learned_optim.card(name)


def test_a_file_is_used_like_a_name(tmp_path, unwarned):
    """By its path, or by a string that ends in .safetensors; no horizon is known of it, so there is no warning."""
    path = tmp_path / "mine.safetensors"
    optimizer, theta = learned_optim.load_pretrained("mlp-digits-v1")
    learned_optim.save(path, optimizer, theta)
    named = learned_optim.learned_optimizer("mlp-digits-v1", step_scale=0.5)
    expected, _ = named.update(PARAMS, named.init(PARAMS), PARAMS)
    for name in (path, str(path)):
        tx = learned_optim.learned_optimizer(name, num_steps=10**6, step_scale=0.5)
        jax.tree.map(np.testing.assert_array_equal, tx.update(PARAMS, tx.init(PARAMS), PARAMS)[0], expected)
    for name in (tmp_path / "other", "other.safetensors"):
        with pytest.raises(FileNotFoundError, match=r"no file .*other"):
            learned_optim.learned_optimizer(name)


@pytest.mark.parametrize("num_steps", [0, -1])
def test_num_steps_below_one_is_an_error(num_steps):
    with pytest.raises(ValueError, match=f"num_steps must be at least 1, got {num_steps}. It is the planned number"):
        learned_optim.learned_optimizer(num_steps=num_steps)


def test_options_reach_the_transformation():
    """Half of the step, less a decay of the matrix alone, with momenta in bfloat16."""
    params = {"b": jnp.ones(3), "w": jnp.full((2, 3), 2.0)}
    mask = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    plain = learned_optim.learned_optimizer()
    tx = learned_optim.learned_optimizer(step_scale=0.5, weight_decay=0.1, mask=mask, moment_dtype=jnp.bfloat16)
    expected, _ = plain.update(params, plain.init(params), params)
    updates, state = tx.update(params, tx.init(params), params)
    np.testing.assert_allclose(updates["b"], 0.5 * expected["b"], rtol=1e-2)
    np.testing.assert_allclose(updates["w"], 0.5 * (expected["w"] - 0.1 * params["w"]), rtol=1e-2)
    assert "bfloat16" in {leaf.dtype.name for leaf in jax.tree.leaves(state)}


PARAMS = {"b": jnp.ones(3), "w": jnp.full((2, 3), 2.0)}


def test_theta_of_load_pretrained_belongs_to_the_caller():
    """It may be changed in place and donated; the next one is whole."""
    _, theta = learned_optim.load_pretrained()
    assert {type(leaf) for leaf in jax.tree.leaves(theta)} == {np.ndarray}
    expected = jax.tree.map(np.copy, theta)
    jax.jit(lambda theta: jax.tree.map(jnp.negative, theta), donate_argnums=0)(jax.tree.map(jnp.asarray, theta))
    for leaf in jax.tree.leaves(theta):
        leaf[...] = np.nan
    jax.tree.map(np.testing.assert_array_equal, learned_optim.load_pretrained()[1], expected)
    state = learned_optim.learned_optimizer().init(PARAMS)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_the_first_use_may_be_inside_a_trace(monkeypatch):
    """As in programs that make the optimizer in two jitted functions; nothing of the first trace is kept."""
    released._load.cache_clear()
    tx = lambda: learned_optim.learned_optimizer(num_steps=100)
    state = jax.eval_shape(lambda params: tx().init(params), PARAMS)
    state = jax.jit(lambda params: tx().init(params))(PARAMS)
    updates, _ = jax.jit(lambda grads, state, params: tx().update(grads, state, params))(PARAMS, state, PARAMS)
    expected, _ = jax.jit(tx().update)(PARAMS, state, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_num_steps_may_be_traced(unwarned):
    """In the range or not, for its value is not known; below 1 it counts as None."""
    update = jax.jit(
        lambda num_steps, state: learned_optim.learned_optimizer(num_steps=num_steps).update(PARAMS, state, PARAMS)[0]
    )
    for num_steps in (None, 500):
        tx = learned_optim.learned_optimizer(num_steps=num_steps)
        state = tx.init(PARAMS)
        expected = tx.update(PARAMS, state, PARAMS)[0]
        made = update(jnp.asarray(num_steps or 0), state)
        jax.tree.map(lambda have, want: np.testing.assert_allclose(have, want, rtol=1e-5), made, expected)


@pytest.mark.optax_promotion
def test_hyperparameters_may_be_injected():
    """`optax.inject_hyperparams` finds no schedule among the defaults, and what it injects can be changed."""
    with warnings.catch_warnings(action="error"):
        bare = optax.inject_hyperparams(learned_optim.learned_optimizer)()
        assert bare.init(PARAMS).hyperparams == {}
    schedule = lambda count: jnp.where(count == 0, 0.5, 0.25)
    tx = optax.inject_hyperparams(learned_optim.learned_optimizer)(
        num_steps=1000, step_scale=schedule, weight_decay=1e-3
    )
    state = tx.init(PARAMS)
    assert set(state.hyperparams) == {"num_steps", "step_scale", "weight_decay"}
    plain = learned_optim.learned_optimizer(num_steps=1000, step_scale=0.5, weight_decay=1e-3)
    updates, state = jax.jit(tx.update)(PARAMS, state, PARAMS)
    expected, _ = jax.jit(plain.update)(PARAMS, plain.init(PARAMS), PARAMS)
    jax.tree.map(lambda have, want: np.testing.assert_allclose(have, want, rtol=1e-6), updates, expected)
    state.hyperparams["num_steps"] = jnp.asarray(100)
    updates, _ = jax.jit(tx.update)(PARAMS, state, PARAMS)
    plain = learned_optim.learned_optimizer(num_steps=100, step_scale=0.25, weight_decay=1e-3)
    expected, _ = jax.jit(plain.update)(PARAMS, state.inner_state, PARAMS)
    jax.tree.map(lambda have, want: np.testing.assert_allclose(have, want, rtol=1e-6), updates, expected)


@every_name
def test_inside_the_trained_horizon_nothing_is_said(name, unwarned):
    with warnings.catch_warnings(action="error"):
        for num_steps in (None, *_horizon(name)):
            learned_optim.learned_optimizer(name, num_steps=num_steps)


@every_name
@pytest.mark.parametrize("side", ["below", "above"])
def test_outside_the_trained_horizon_one_warning_names_the_card(name, side, unwarned):
    low, high = _horizon(name)
    num_steps = low - 1 if side == "below" and low > 1 else high + 1
    message = (
        rf"'{name}' was made for runs of {low} to {high} steps; num_steps={num_steps} is outside.*"
        rf"python -m learned_optim card {name}$"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        learned_optim.learned_optimizer(name, num_steps=num_steps)
    assert [pathlib.Path(warning.filename).name for warning in caught] == [pathlib.Path(__file__).name]
    with warnings.catch_warnings(action="error"):
        learned_optim.learned_optimizer(name, num_steps=num_steps)
        learned_optim.learned_optimizer(name, num_steps=high + 5)


def test_command_line_lists_every_released_optimizer(capsys):
    assert command_line.main(["list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "kind", "weights", "sizes"]
    assert [line.split()[0] for line in lines] == list(learned_optim.list_pretrained())
    for line in lines:
        name, kind, count, rest = line.split(maxsplit=3)
        optimizer, theta = learned_optim.load_pretrained(name)
        assert kind == optimizer.spec["kind"]
        assert int(count.replace(",", "")) == sum(leaf.size for leaf in jax.tree.leaves(theta))
        sizes = json.loads(rest.removesuffix("(default)"))
        assert sizes.items() <= optimizer.spec.items()
        assert rest.endswith("(default)") == (name == released.DEFAULT)


@every_name
def test_command_line_prints_a_card(name, capsys):
    assert command_line.main(["card", name]) == 0
    assert capsys.readouterr().out == learned_optim.card(name) + "\n"


def test_command_line_prints_the_default_card(capsys):
    assert command_line.main(["card"]) == 0
    assert capsys.readouterr().out == learned_optim.card() + "\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["card", "mlp-digit-v1"], "there is no released optimizer 'mlp-digit-v1'. Did you mean"),
        (["show"], "invalid choice: 'show'"),
        ([], "the following arguments are required"),
    ],
)
def test_command_line_refuses_bad_arguments_with_status_2(argv, message, capsys):
    with pytest.raises(SystemExit) as error:
        command_line.main(argv)
    captured = capsys.readouterr()
    assert (error.value.code, captured.out) == (2, "")
    assert message in captured.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_scale": "a"}, "step_scale must be"),
        ({"step_scale": float("nan")}, "step_scale must be a finite number, got nan"),
        ({"step_scale": jnp.ones(2)}, r"step_scale must be a scalar, got an array of float32 with shape \(2,\)"),
        ({"weight_decay": "a"}, "weight_decay must be"),
        ({"weight_decay": jnp.sin}, "weight_decay must be a number, got the function .*A schedule as step_scale"),
        ({"name": 1000}, "there is no released optimizer 1000. Did you mean num_steps=1000"),
    ],
)
def test_options_that_make_no_sense_are_an_error(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        learned_optim.learned_optimizer(**options)
