"""What is refused of a user's functions: the rule, what came, how to mend it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.tasks import user_checks
from meta_train.tasks.user_checks import RuleError

BATCH = np.ones(4, np.float32)


def _init(key):
    return {"w": jax.random.normal(key, (4,))}


def _loss(params, batch, key):
    return jnp.mean((params["w"] * batch) ** 2) + 1.0


def _check(init=_init, loss=_loss, metrics=None, **rest):
    return user_checks.check_step(init, loss, metrics, BATCH, BATCH, **rest)


def test_what_is_right_passes():
    metrics = lambda params, batch: {"error": jnp.mean(batch), "count": 3, "all": jnp.all(batch > 0)}
    assert _check(metrics=metrics) > 1.0
    assert _check(suspect=("batch 2", 2 * BATCH)) > 1.0
    assert _check(init=lambda key: np.ones(4), loss=lambda w, batch, key: jnp.float32(2.0)) == 2.0


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (lambda key: {}, "must return a pytree of floating-point arrays, and it has no array"),
        (lambda key: {"w": jnp.ones((0, 3)), "b": jnp.ones(0)}, "must return parameters to train, .* have no elements"),
        (lambda key: {"w": jnp.ones(4), "step": jnp.zeros((), int)}, r"got int32\[\] at params\['step'\]. Keep"),
        (lambda key: {"w": jnp.ones(4), "key": key}, r"got key<fry>\[\] at params\['key'\]"),
        (lambda key: {"w": jnp.ones(4), "f": jnp.tanh}, r"got a \w+ at params\['f'\]. Keep functions, counters"),
        (lambda key: {"w": jnp.full(4, jnp.inf)}, r"init.key. must give finite parameters, got inf in params\['w'\]"),
    ],
    ids=["empty", "no elements", "counter", "key", "function", "infinite"],
)
def test_parameters(init, message):
    with pytest.raises(RuleError, match=message):
        _check(init=init)


def _kink(params, batch, key):
    return 1.0 + jnp.sqrt(jnp.sum((0.0 * params["w"]) ** 2))


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda w, batch, key: w["w"] * batch, r"one floating-point number, got float32\[4\]. Take the mean over the"),
        (lambda w, batch, key: (_loss(w, batch, key), {}), "got a tuple. Other numbers belong into metrics"),
        (lambda w, batch, key: None, "got None. Other"),
        (lambda w, batch, key: jnp.sum(batch > 0), r"got int32\[\]"),
        (
            lambda w, batch, key: jnp.log(-jnp.sum(w["w"] ** 2)),
            r"must be finite at the initial parameters, got nan. Lo",
        ),
        (lambda w, batch, key: -_loss(w, batch, key), r"must be positive at the initial parameters, got -.*: curves"),
        (_kink, r"the gradient of loss must be finite at the initial parameters, got nan in params\['w'\]. A square"),
    ],
    ids=["no mean", "tuple", "None", "integer", "NaN", "negative", "gradient"],
)
def test_losses(loss, message):
    with pytest.raises(RuleError, match=message):
        _check(loss=loss)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (lambda params, batch: jnp.mean(batch), r"must return a dict of numbers by name, got float32\[\]."),
        (lambda params, batch: {"error": batch}, r"got float32\[4\] for 'error'. Take a mean, with jnp.mean."),
        (lambda params, batch: {"error": "none"}, "got a str for 'error'"),
        (lambda params, batch: {1: 0.0}, "by name, got a dict"),
    ],
    ids=["no dict", "no scalar", "text", "no name"],
)
def test_metrics(metrics, message):
    with pytest.raises(RuleError, match=message):
        _check(metrics=metrics)


def test_numbers_that_are_not_finite_may_be_masked_but_not_reach_the_loss():
    bad = np.array([1.0, np.nan, 1.0, 1.0], np.float32)
    with pytest.raises(RuleError, match=r"loss\(params, batch, key\) on batch 7 must be finite .*, got nan"):
        _check(suspect=("batch 7", bad))
    masked = lambda params, batch, key: _loss(params, jnp.where(jnp.isnan(batch), 0.0, batch), key)
    assert _check(loss=masked, suspect=("batch 7", bad)) > 1.0


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("init", None, r"init must be a function init\(key\), got nothing"),
        ("loss", 3.0, r"loss must be a function loss\(params, batch, key\), got float"),
        ("loss", lambda params, batch: 0.0, r"loss\(params, batch, key\), but it is loss\(params, batch\): too many"),
        ("held_out", lambda: 0.0, r"held_out must be a function held_out\(key\), but it is held_out\(\)"),
        ("metrics", lambda params, batch, key: {}, "but it is metrics.*: missing a required argument: 'key'"),
    ],
)
def test_functions(name, function, message):
    with pytest.raises(RuleError, match=message):
        user_checks.check_functions(**{"init": _init, "loss": _loss, name: function})
    user_checks.check_functions(init=_init, loss=_loss, held_out=None, metrics=max)  # a builtin may say nothing
