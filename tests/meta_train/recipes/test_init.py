"""Recipes: found by name or file, and trained on meta-training tasks only."""

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import Problem
from meta_train import data
from meta_train import estimators
from meta_train import recipes
from meta_train import tasks
from meta_train import truncation
from meta_train.recipes import lstm_on_cifar
from meta_train.tasks.source import Source

ON_CIFAR = ("coordinatewise_lstm_cifar_v1", "coordinatewise_lstm_cifar_single_v1")
"""They repeat an experiment of a paper: for one network on CIFAR-10, which the recipes of general optimizers avoid."""


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_trains_on_meta_training_tasks_only(monkeypatch, name):
    draw, labels = np.random.default_rng(0), np.arange(40, dtype=np.int32) % 10

    def made_up(*shape):  # in place of files
        pictures = draw.random((40, *shape), np.float32)
        return data.Dataset(pictures, labels, pictures, labels)

    files = {"mnist": made_up(28, 28, 1), "fashion_mnist": made_up(8, 8, 1), "cifar10": made_up(32, 32, 3)}
    load = Source.load
    monkeypatch.setattr(
        Source, "load", lambda self, folder: files[self.name] if self.name in files else load(self, folder)
    )
    recipe = recipes.get(name, num_steps=3)
    assert recipe.num_steps == 3
    assert recipe.seed == 0  # as `train --help` says
    if recipe.optimizer is None:
        return  # nothing that could be evaluated on tasks
    names = {estimator.name.removesuffix(" held-out") for estimator in recipe.estimators}
    allowed = {*tasks.suite("meta-train"), *tasks.suite("broad")}
    assert names == {lstm_on_cifar.TASK} if name in ON_CIFAR else names <= allowed
    assert jax.tree.structure(recipe.theta) == jax.tree.structure(recipe.optimizer.init(jax.random.key(0)))


def test_each_recipe_has_a_line_with_its_outer_steps():
    lines = recipes.descriptions()
    assert tuple(lines) == recipes.names()
    assert lines["prodigy_residual_schedule_v1"] == (
        "Prodigy with a learned schedule and mix, 26 weights, on ten families; 400 outer steps."
    )
    for name, line in lines.items():
        defaults = inspect.signature(importlib.import_module(f"meta_train.recipes.{name}").recipe).parameters
        assert line.endswith(f"; {defaults['num_steps'].default:,} outer steps."), name


def test_the_seed_draws_theta():
    first, second, again = (recipes.get("demo", seed=seed).theta for seed in (1, 2, 1))
    leaves = [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(theta)]) for theta in (first, second, again)]
    np.testing.assert_array_equal(leaves[0], leaves[2])
    assert np.any(leaves[0] != leaves[1])


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no recipe 'dmo'. Did you mean 'demo'\?"):
        recipes.get("dmo")


def test_a_recipe_from_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from meta_train.recipes import demo\n\n"
        "def recipe(num_steps=7, seed=0):\n"
        "    return demo.recipe(num_steps, seed)\n"
    )
    assert recipes.get(str(path)).num_steps == 7
    assert recipes.get(str(path), num_steps=9).num_steps == 9
    for source, message in (
        ("answer = 42\n", "returns a Recipe, and defines none"),
        ("def recipe(num_steps=1, seed=0):\n    return 42\n", "returns a Recipe, and it returned int"),
        ("def recipe(num_steps=1):\n    pass\n", "cannot be called with seed: got an unexpected keyword"),
    ):
        path.write_text(source)
        with pytest.raises(ValueError, match=message):
            recipes.get(str(path), seed=1)
    with pytest.raises(ValueError, match="no recipe file"):
        recipes.get(str(tmp_path / "missing.py"))


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_is_above_0_and_at_most_1(tmp_path, share):
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got"):
        recipes.run(recipes.get("demo")._replace(share=share), run_dir=tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_share_of_the_way(tmp_path):
    problem = Problem(
        init=lambda key, theta, num_steps: jnp.ones(2),
        step=lambda key, theta, w, data: (w - theta["rate"] * w, jnp.sum((w - theta["rate"] * w) ** 2)),
    )
    backprop = estimators.truncated_backprop(problem, num_particles=2, unroll_length=2, horizon=truncation.constant(4))
    theta = {"rate": np.array([0.1, 0.2], np.float32)}
    whole = recipes.Recipe(None, theta, (backprop,), optax.sgd(0.1), num_steps=2, seed=0)
    first = theta["rate"]
    last = recipes.run(whole, run_dir=tmp_path / "whole").theta["rate"]
    between = recipes.run(whole._replace(share=0.25), run_dir=tmp_path / "part").theta["rate"]
    assert np.all(abs(last - first) > 1e-3)
    assert between.dtype == np.float32
    np.testing.assert_allclose(between, first + 0.25 * (last - first), rtol=1e-6, atol=1e-7)
