"""The search for an architecture: `fit` finds the operation that the data need, and resumes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import estimators
from meta_train import fit
from meta_train import problems
from meta_train.problems.cell_network import CellNetwork
from meta_train.problems.cell_operations import Operation

none = lambda key, channels: ()
SPACE = problems.cell_space(
    [Operation("sine", none, lambda params, x: jnp.sin(3 * x)), Operation("identity", none, lambda params, x: x)],
    num_nodes=1,
)


def _apply(params, architecture, inputs):
    score = problems.apply_cell(SPACE, params["cell"], architecture, inputs) @ params["w"]
    return jnp.concatenate([score, -score], axis=1)


NETWORK = CellNetwork(
    lambda key, inputs: {"cell": problems.init_cell(key, SPACE, 1), "w": jnp.ones((1, 1))}, _apply, SPACE
)
X = np.linspace(-2, 2, 200, dtype=np.float32)[:, None]
Y = (np.sin(3 * X[:, 0]) < 0).astype(np.int32)  # what a sine separates, and a line does not
DATA = problems.TrustedData(X, Y, X, Y)


@pytest.mark.optax_promotion
@pytest.mark.parametrize("way", ["first order", "second order", "implicit"])
def test_the_search_finds_the_operation_and_resumes(way, tmp_path):
    bilevel = problems.architecture(DATA, NETWORK, batch_size=32)
    options = {"inner_optimizer": optax.sgd(0.1), "inner_steps": 1}
    estimator = {
        "first order": lambda: estimators.darts(bilevel, rate=0.0, **options),
        "second order": lambda: estimators.darts(bilevel, rate=0.1, **options),
        "implicit": lambda: estimators.implicit(
            bilevel, solver=estimators.linear_solvers.neumann(num_terms=2, step_size=0.1), **options
        ),
    }[way]()

    def run(num_steps, **arguments):
        theta = np.asarray(problems.even_logits(SPACE))
        return fit(
            estimator, theta, optax.adam(0.1), num_steps=num_steps, steps_per_dispatch=10, progress=False, **arguments
        )

    found = run(40)
    assert problems.describe_cell(SPACE, problems.discretize(SPACE, found.theta)) == "1 = sine(0)"
    losses = [record["loss"] for record in found.metrics]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
    if way == "second order":
        run(20, run_dir=tmp_path)
        np.testing.assert_array_equal(run(40, run_dir=tmp_path, resume=True).theta, found.theta)


def test_the_losses_are_those_of_the_softmax_on_either_half():
    halves = DATA._replace(trusted_y=1 - Y)
    bilevel = problems.architecture(halves, NETWORK, batch_size=4000)
    theta = jnp.array([[0.0, 1.0, -1.0]])
    p = np.exp([0.0, 1.0, -1.0]) / np.exp([0.0, 1.0, -1.0]).sum()
    score = p[1] * np.sin(3 * X[:, 0]) + p[2] * X[:, 0]
    params, key = bilevel.init(jax.random.key(0), theta), jax.random.key(1)
    for loss, sign in ((bilevel.inner_loss, 1 - 2 * Y), (bilevel.outer_loss, 2 * Y - 1)):
        expected = np.mean(np.log1p(np.exp(-2 * score * sign)))
        assert float(loss(params, theta, key, bilevel.data)) == pytest.approx(expected, abs=0.04)  # rows are drawn


def test_bad_batch_size():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        problems.architecture(DATA, NETWORK, batch_size=0)
