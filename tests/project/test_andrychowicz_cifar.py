"""The figures of the LSTMs on CIFAR-10: which optimizer runs, which rate is the best, and what is averaged."""

import argparse
import json
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import tasks

FIGURE = runpy.run_path(str(pathlib.Path(__file__).parents[2] / "benchmarks" / "andrychowicz_cifar.py"))
BASELINES = {"SGD": optax.sgd, "Adam": optax.adam}


@pytest.fixture(scope="module")
def slope():
    """The loss is the sum of the parameters, from 0 on; what is held out is twice that."""
    return tasks.quadratic()._replace(
        data=(),
        sample=lambda key: (),
        init=lambda key, config: jnp.zeros(3),
        loss=lambda params, key, data, config: jnp.sum(params),
        evaluate=lambda params, key, data, config: {"loss": 2 * jnp.sum(params), "accuracy": jnp.min(params)},
    )


@pytest.mark.optax_promotion
def test_one_program_runs_all_baselines(slope):
    """Steps of rate 1 and 2: SGD and Adam both go down by the rate in each step."""
    make = FIGURE["chosen_baseline"](tuple(BASELINES.values()))
    arguments = jnp.array([0, 1, 1]), jnp.array([1.0, 1.0, 2.0])
    made = FIGURE["run"](FIGURE["program"](slope, make, 4), arguments, jax.random.split(jax.random.key(0), 3), ())
    np.testing.assert_allclose(made.losses, -3.0 * np.outer([1.0, 1.0, 2.0], np.arange(4.0)), rtol=1e-5)
    np.testing.assert_allclose(made.held_out, [-24.0, -24.0, -48.0], rtol=1e-5)
    np.testing.assert_allclose(made.accuracy, [-4.0, -4.0, -8.0], rtol=1e-5)


@pytest.mark.optax_promotion
def test_the_best_rate_of_each_measure(slope):
    """The parameters should be 1 after many steps: a rate of .1 gets there last, one of .5 at once and stays."""
    sizes = FIGURE["Sizes"](num_steps=40, num_runs=2, num_tuning=2, first_look=3, num_kept=2, rates=(0.1, 0.5, 3.0))
    bowl = slope._replace(loss=lambda params, key, data, config: jnp.sum((params - 1.0) ** 2))
    look, compiled = (FIGURE["program"](bowl, FIGURE["chosen_baseline"]((optax.sgd,)), steps) for steps in (3, 40))
    seen = []

    def counted(arguments, keys, data):
        seen.extend(np.asarray(arguments[1]).tolist())
        return compiled(arguments, keys, data)

    found = FIGURE["tuned"](look, counted, (), {"SGD": optax.sgd}, sizes, jax.random.key(0))
    assert sorted(set(seen)) == pytest.approx([0.1, 0.5])  # the third diverges at once
    assert found == {"step 40": {"SGD": 0.5}, "mean of 40 steps": {"SGD": 0.5}}


def test_a_run_that_diverged_is_the_worst():
    losses = np.array([[1.0, np.nan], [2.0, 3.0]])
    of_mean = FIGURE["measures"](2)["mean of 2 steps"]
    assert of_mean(losses).tolist() == [np.inf, 2.5]


def test_curves_are_means_of_steps_in_a_row():
    losses = np.arange(50.0)[None]
    np.testing.assert_allclose(FIGURE["smooth"](losses, 20)[0], 9.5 + np.arange(31.0))
    assert FIGURE["smooth"](losses, 30) is losses


def test_rates_found_with_all_labels_serve_a_part_of_them(tmp_path):
    rates, own = {"step 9": {"SGD": 0.5}}, {"step 9": {"SGD": 0.1}}
    figures = {"andrychowicz-cifar": {"learning_rate": rates}, "andrychowicz-cifar-5": {"learning_rate": own}}
    (tmp_path / "figures.json").write_text(json.dumps({"figures": figures}))
    parser = argparse.ArgumentParser()
    FIGURE["add_options"](parser)
    given = parser.parse_args(["--rates-of", str(tmp_path / "figures.json")])
    found = {name: FIGURE["options"](f"andrychowicz-cifar{name}", given)["rates"] for name in ("", "-5", "-2")}
    assert found == {"": rates, "-5": own, "-2": rates}
    assert FIGURE["options"]("andrychowicz-cifar", parser.parse_args([]))["rates"] is None
